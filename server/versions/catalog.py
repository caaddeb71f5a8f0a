"""The model versions that a server answers for: the current one, and earlier ones for a while.

Kept by the front in one event loop. A version is immutable, so an answer for it is right however
many newer ones there are; it is refused once its grace period is over.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, final

from common.errors import InputError
from common.files import remove_folder, write_file
from common.versions.encodings import Encoding, Form, encoding_named
from common.versions.transfers import pack
from common.versions.version import version_digest
from common.wire import offload_pb2 as wire
from common.wire.description import (
    MAX_HELD,
    Description,
    Transfer,
    description_to_wire,
    transfer_to_wire,
)
from server.versions.folder import (
    FORMS_FOLDER,
    current_version,
    make_current,
    read_description,
    read_edition,
    read_survey,
)

GRACE_SECONDS: Final = 600.0
# Versions that are answered for at once, so that fast rotation does not fill memory and disk.
MAX_VERSIONS: Final = 8
# Versions whose forms are kept as what devices have, after their grace period too.
MAX_BASES: Final = 8

_log = logging.getLogger(__name__)


class VersionGoneError(Exception):
    """A version is not, or not any more, answered for."""


class Blob(NamedTuple):
    """A file that devices may fetch."""

    path: Path
    size: int


@dataclass
class Served:
    """A version that is answered for.

    users     real users who can be asked for: those of the description, and who came later
    until     when its grace period ends, on the catalog's clock; None while it is current
    eligible  per watched item, the real users who have not rated it
    survey    by preset, what a look at it found (server.recommending.survey); empty: none was taken
    """

    description: Description
    eligible: tuple[int, ...]
    message: wire.Description
    users: int
    until: float | None = None
    survey: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@final
class Catalog:
    """The versions of a serving folder (server.versions.folder); starts with its current one.

    grace  seconds for which a version is answered for after it was replaced

    Raises InputError when the folder is not whole.
    """

    def __init__(
        self,
        folder: Path,
        *,
        grace: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._grace = grace
        self._clock = clock
        self._served: dict[str, Served] = {}
        self._bases: dict[str, dict[str, Form]] = {}
        self._deltas: dict[tuple[str, str], asyncio.Task[Transfer]] = {}
        self._blobs: dict[str, dict[str, Blob]] = {}
        self._current = self._add(current_version(folder))

    @property
    def current(self) -> Served:
        return self._current

    def publish(self, version: str) -> Served:
        """Make a version of the folder current; the one before goes into its grace period.

        Raises InputError when it is not whole, OSError.
        """
        if version == self._current.description.version:
            return self._current
        added = self._add(version)
        make_current(self._folder, version)
        self._current.until = self._clock() + self._grace
        self._current = added
        added.until = None
        self.expire()
        return added

    def keep(self, version: str, seconds: float) -> Served:
        """Answer for a version of the folder that was replaced before, for so long.

        Raises InputError when it is not whole.
        """
        current = self._current.description.version
        kept = self._add(version)
        kept.until = self._clock() + seconds
        self._served[current] = self._served.pop(current)
        return kept

    def refreshed(self) -> Served:
        """The current version, with the users that its last edition has. Raises InputError."""
        edition = read_edition(self._folder, self._current.description.version)
        self._current.users, self._current.eligible = edition.users, edition.eligible
        return self._current

    def find(self, version: str) -> Served:
        """Raises VersionGoneError."""
        served = self._served.get(version)
        if served is None or (served.until is not None and served.until <= self._clock()):
            raise VersionGoneError
        return served

    def serves(self, version: str) -> bool:
        """Whether a version is answered for; from any thread."""
        try:
            self.find(version)
        except VersionGoneError:
            return False
        return True

    def surveys(self) -> dict[str, Mapping[str, Mapping[str, float]]]:
        """What looks at the versions that are answered for found; from any thread."""
        served = list(self._served.items())
        return {version: each.survey for version, each in served if self.serves(version)}

    def expire(self) -> None:
        """Drop what is past its grace period, and the oldest when there are too many."""
        now = self._clock()
        old = [version for version, served in self._served.items() if served.until is not None]
        gone = [version for version in old if (self._served[version].until or now) <= now]
        spare = [version for version in old if version not in gone]
        gone += spare[: max(0, len(spare) + 1 - MAX_VERSIONS)]
        for version in gone:
            del self._served[version]
            remove_folder(self._folder / version)
            _log.info("version %s is no longer served", version[:12])
        for version in list(self._bases)[: max(0, len(self._bases) - MAX_BASES)]:
            if version not in self._served:
                self._forget(version)

    def blob(self, version: str, digest: str) -> Blob:
        """What a device may fetch for a version; an empty digest is the version's own bytes.

        Raises VersionGoneError.
        """
        self.find(version)
        blob = self._blobs[version].get(digest or version)
        if blob is None:
            raise VersionGoneError
        return blob

    async def describe(self, encoding: str, held: Sequence[str]) -> wire.Description:
        """The current version, with what changed of its form since one that is held.

        Raises InputError for an encoding that there is not.
        """
        served = self._current
        form = served.description.form(encoding_named(encoding or "float32"))
        if form.digest in held:
            return served.message
        known = (self._base(digest, form.encoding) for digest in held[:MAX_HELD])
        base = next(filter(None, known), None)
        delta = None if base is None else await self._delta(served, form, base)
        if delta is None:
            return served.message
        message = wire.Description()
        message.CopyFrom(served.message)
        message.transfers.append(transfer_to_wire(delta))
        return message

    def _add(self, version: str) -> Served:
        description, _ = read_description(self._folder, version)
        edition = read_edition(self._folder, version)
        message = description_to_wire(description)
        survey = read_survey(self._folder, version)
        served = Served(description, edition.eligible, message, edition.users, survey=survey)
        # Last, so that the order is that of publication.
        self._served.pop(version, None)
        self._served[version] = served
        forms = {form.digest: form for form in description.all_forms}
        self._bases.pop(version, None)
        self._bases[version] = forms
        files: tuple[Form | Transfer, ...] = (*description.all_forms, *description.transfers)
        self._blobs[version] = {
            each.digest: Blob(self._path(each.digest), each.size) for each in files
        }
        if (book := description.book) is not None:
            self._blobs[version][book.digest] = Blob(self._path(book.digest), book.size)
        return served

    def _forget(self, version: str) -> None:
        """Delete what devices could fetch of a version, and stop taking it as a base."""
        del self._bases[version]
        for blob in self._blobs.pop(version).values():
            blob.path.unlink(missing_ok=True)
        forms = self._forms()
        self._deltas = {key: task for key, task in self._deltas.items() if key[0] in forms}

    def _forms(self) -> dict[str, Form]:
        return {digest: form for forms in self._bases.values() for digest, form in forms.items()}

    def _base(self, digest: str, encoding: Encoding) -> Form | None:
        form = self._forms().get(digest)
        return form if form is not None and form.encoding == encoding else None

    def _path(self, digest: str) -> Path:
        return self._folder / FORMS_FOLDER / digest

    async def _delta(self, served: Served, form: Form, base: Form) -> Transfer | None:
        """Computed once, in a thread.

        None when it is not smaller than the packed form, or the two are of different items.
        """
        key = (form.digest, base.digest)
        if key not in self._deltas:
            work = asyncio.to_thread(self._written_delta, form, base)
            self._deltas[key] = asyncio.create_task(work)
        try:
            delta = await asyncio.shield(self._deltas[key])
        except InputError:
            # With more items tables are longer: such a version is fetched whole.
            return None
        except OSError:
            _log.exception("a delta could not be made")
            return None
        ways = served.description.transfers
        packed = min((way.size for way in ways if way.form == form.digest), default=form.size)
        if delta.size >= packed:
            return None
        blob = Blob(self._path(delta.digest), delta.size)
        self._blobs[served.description.version][delta.digest] = blob
        return delta

    def _written_delta(self, form: Form, base: Form) -> Transfer:
        data, before = (self._path(one.digest).read_bytes() for one in (form, base))
        packed = pack(data, form.encoding, before)
        digest = version_digest(packed)
        write_file(self._path(digest), packed)
        return Transfer(form.digest, base.digest, digest, len(packed))
