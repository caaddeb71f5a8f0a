"""What a round's reports come to, also where they keep something to themselves."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from common.ranking import Counts
from common.report_privacy import (
    CENTRAL,
    LOCAL,
    Below,
    Estimate,
    ReportPrivacy,
    central_estimate,
    local_estimate,
)
from server.fleet.ledger import Entry, Ledger

_NOTHING_SPENT: Final = {"most": 0.0, "mean": 0.0}


@final
class PrivateReports:
    """Of a ledger.

    unrated  whether each user can be shown each watched item, which the server knows, [U, t]
    """

    def __init__(
        self, privacy: ReportPrivacy, ledger: Ledger, unrated: NDArray[np.bool_], draw: Below
    ) -> None:
        self._privacy, self._ledger, self._unrated, self._draw = privacy, ledger, unrated, draw
        self._estimates: dict[int, Estimate] = {}

    def eligible(self, users: Sequence[int]) -> tuple[int, ...]:
        """Of some users, how many can be shown each watched item."""
        return tuple(map(int, self._unrated[list(users)].sum(axis=0)))

    def measures(self, server_round: int) -> dict[str, Any]:
        """Counts, hit ratio and accuracy, for JSON; with noise, no counts but estimates."""
        counts = self._ledger.total(server_round, self._unrated.shape[1])
        if not self._privacy.noisy:
            return {**measures(counts), "report_privacy": self._told(None)}
        estimate = self._estimate(server_round, counts)
        found = estimate.measures(self.eligible(sorted(self._ledger.counted(server_round))))
        error = found.pop("error")
        told = {**self._told(error), "hits": estimate.hits, "outcomes": estimate.outcomes}
        return {"counts": None, **found, "report_privacy": told}

    def _told(self, error: object) -> dict[str, Any]:
        privacy = self._privacy
        return {
            "kind": privacy.kind,
            "epsilon": privacy.epsilon or None,
            "spent": self._spent(),
            "error": error,
            "hits": None,
            "outcomes": None,
        }

    def _estimate(self, server_round: int, counts: Counts) -> Estimate:
        """The same however often it is asked: each draw of noise would tell more."""
        found = self._estimates.get(server_round)
        if found is None:
            found = self._made(server_round, counts)
            self._estimates[server_round] = found
        return found

    def _made(self, server_round: int, counts: Counts) -> Estimate:
        if self._privacy.kind == LOCAL:
            rows = [each.answers for each in self._of(server_round) if each.answers is not None]
            width = 2 * self._unrated.shape[1] + 5
            added = np.sum([np.zeros(width, dtype=np.int64), *map(np.asarray, rows)], axis=0)
            return local_estimate(added.astype(int).tolist(), self._privacy.epsilon)
        self._ledger.release()
        users = len(self._ledger.counted(server_round))
        outcomes = outcomes_of(counts, users)
        return central_estimate(counts, outcomes, self._privacy.epsilon, self._draw)

    def _of(self, server_round: int) -> list[Entry]:
        return [entry for entry in self._ledger.entries if entry.round == server_round]

    def _spent(self) -> dict[str, float]:
        """Epsilon of a user at most and on average, receipt by receipt.

        A device spends it with each client that was asked, and again in each round; noise on sums
        with each result that was told after the user was counted.
        """
        entries, privacy = self._ledger.entries, self._privacy
        if not privacy.noisy or not entries:
            return dict(_NOTHING_SPENT)
        spent = np.zeros(len(self._unrated))
        for place, entry in enumerate(entries):
            times = entry.asked
            if privacy.kind == CENTRAL:
                times = sum(release.released > place for release in self._ledger.releases)
            spent[entry.users] += privacy.epsilon * times
        return {"most": float(spent.max()), "mean": float(spent[spent > 0].mean())}


def outcomes_of(counts: Counts, users: int) -> list[int]:
    """Users by what became of their held-out item (common.report_privacy.outcome)."""
    disliked_hits = counts.user_hits - counts.liked_hits
    return [
        users - counts.users,
        counts.users - counts.liked - disliked_hits,
        disliked_hits,
        counts.liked - counts.liked_hits,
        counts.liked_hits,
    ]


def measures(counts: Counts) -> dict[str, Any]:
    """Counts, and hit ratio and accuracy from them, for JSON."""
    return {
        "counts": dataclasses.asdict(counts),
        "hit_ratio": counts.hit_ratio,
        "hit_ratio_per_target": list(counts.hit_ratio_per_item),
        "accuracy": counts.accuracy,
        "accuracy_thresholded": counts.accuracy_thresholded,
    }
