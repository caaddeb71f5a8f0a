"""What devices reported, added up."""

from collections import OrderedDict
from threading import Lock
from typing import Final, final

from common.errors import InputError
from common.ranking import Counts

# A retried report comes within seconds. Remembering this many bounds the memory, and so does
# the length of a key.
MAX_KEYS: Final = 65_536
MAX_KEY_LENGTH: Final = 64


@final
class Tally:
    """Sums of counts by model version and preset; safe to use from many threads.

    eligible  per watched item, the real users who have not rated it: no report can count more
    users     real users
    """

    def __init__(self, *, users: int, eligible: tuple[int, ...]) -> None:
        self._most = Counts(eligible, eligible, users, users, users, users)
        self._totals: dict[tuple[str, str], tuple[int, Counts]] = {}
        self._keys: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()

    def add(self, version: str, preset: str, key: str, counts: Counts) -> bool:
        """Add a report, unless its key is known already; whether it was added.

        Raises InputError for a key that is empty or too long, and for counts that no device
        could have come to.
        """
        if not 0 < len(key) <= MAX_KEY_LENGTH:
            raise InputError(f"report: its key needs 1–{MAX_KEY_LENGTH} characters")
        self._check(counts)
        with self._lock:
            if key in self._keys:
                return False
            self._keys[key] = None
            if len(self._keys) > MAX_KEYS:
                self._keys.popitem(last=False)
            reports, total = self._total(version, preset)
            self._totals[version, preset] = reports + 1, total + counts
            return True

    def total(self, version: str, preset: str) -> tuple[int, Counts]:
        """Reports counted so far, and their sum."""
        with self._lock:
            return self._total(version, preset)

    def _total(self, version: str, preset: str) -> tuple[int, Counts]:
        none = Counts.none(len(self._most.eligible))
        return self._totals.get((version, preset), (0, none))

    def _check(self, counts: Counts) -> None:
        most = self._most
        if len(counts.eligible) != len(most.eligible):
            raise InputError(
                f"report: counts of {len(counts.eligible)} watched items, not {len(most.eligible)}"
            )
        if counts.users > most.users:
            raise InputError(f"report: {counts.users} users, but there are {most.users}")
        for eligible, limit in zip(counts.eligible, most.eligible, strict=True):
            if eligible > limit:
                raise InputError(f"report: {eligible} eligible users, but there are {limit}")
