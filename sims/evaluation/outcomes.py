"""What came of asking users: of each one, where the items that matter stood in the list.

Shapes: B users asked, I items, t target items, L recommended items that are looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.ranking import Counts
from common.ratings import RatingMatrix

# Ranks are known so far, however short a list is: metrics at 10 and 50 need them.
REACH: Final = 50
# Where a rank, or a number of items, means nothing.
NOTHING: Final = -1
Ranks = NDArray[np.int32]


def reach_of(list_length: int) -> int:
    """How many recommended items are looked at, L, where K = `list_length` are shown."""
    return max(list_length, REACH)


@dataclass(frozen=True)
class Outcomes:
    """One row a user, all under one condition.

    users         their indices, [B]
    list_length   K
    ranks         of the held-out item, from 1; 0 beyond the first L, −1 where none was held out,
                  [B]
    liked         whether the held-out item was liked, [B]
    target_ranks  of each target, from 1; 0 beyond the first L, −1 where the user has rated it,
                  [B, t]
    lengths       how many items the user was shown: K, or as many as were left to show, [B]
    unsupported   how many of them no support spoke for; −1 where the model does not say, [B]
    shown         how many users were shown an item, [I]; empty where it is not known
    """

    users: NDArray[np.int64]
    list_length: int
    ranks: Ranks
    liked: NDArray[np.bool_]
    target_ranks: Ranks
    lengths: Ranks
    unsupported: Ranks
    shown: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        users: NDArray[np.int64],
        lists: Ranks,
        local: LocalRatings,
        watched: Sequence[int],
        list_length: int,
        unsupported: Ranks | None = None,
    ) -> "Outcomes":
        """From recommended items, best first, with −1 where there were no more, [B, L]."""
        held_out = local.held_out[users]
        ranks = np.where(held_out < 0, NOTHING, _rank(lists, held_out))
        targets = np.full((len(users), len(watched)), NOTHING, dtype=np.int32)
        for column, item in enumerate(watched):
            open_to = ~raters(local.train, item)[users]
            targets[open_to, column] = _rank(lists[open_to], np.full(open_to.sum(), item))
        shown = lists[:, :list_length]
        return cls(
            users,
            list_length,
            ranks.astype(np.int32),
            local.held_out_liked[users] & (held_out >= 0),
            targets,
            (shown >= 0).sum(axis=1, dtype=np.int32),
            np.full(len(users), NOTHING, dtype=np.int32) if unsupported is None else unsupported,
            np.bincount(shown[shown >= 0], minlength=local.train.item_count),
        )

    def hits(self, count: int | None = None) -> NDArray[np.bool_]:
        """Whether each target is among the first `count` (None: K), [B, t]."""
        return _within(self.target_ranks, self.list_length if count is None else count)

    def found(self, count: int | None = None) -> NDArray[np.bool_]:
        """Whether the held-out item is among the first `count` (None: K), [B]."""
        return _within(self.ranks, self.list_length if count is None else count)

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """Whether the user has not rated a target, [B, t]."""
        return np.not_equal(self.target_ranks, NOTHING)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """Whether the user has a held-out item, [B]."""
        return np.not_equal(self.ranks, NOTHING)

    @property
    def counts(self) -> Counts:
        """The sums that a fleet of devices reports of the same answers."""
        found, hits, eligible = self.found(), self.hits(), self.eligible
        return Counts(
            tuple(eligible.sum(axis=0).tolist()),
            tuple(hits.sum(axis=0).tolist()),
            int(self.asked.sum()),
            int(found.sum()),
            int(self.liked.sum()),
            int((found & self.liked).sum()),
        )


def raters(ratings: RatingMatrix, item: int) -> NDArray[np.bool_]:
    """Who has rated an item, [U]."""
    rated = np.zeros(ratings.user_count, dtype=bool)
    rated[ratings.users[ratings.items == item]] = True
    return rated


def _within(ranks: Ranks, count: int) -> NDArray[np.bool_]:
    return (ranks > 0) & (ranks <= count)


def _rank(lists: Ranks, items: NDArray[np.integer]) -> Ranks:
    """Where in its list each item stands, from 1; 0 where it does not, [B]."""
    here = lists == items[:, None]
    if not here.size:
        return np.zeros(len(lists), dtype=np.int32)
    return np.where(here.any(axis=1), here.argmax(axis=1) + 1, 0).astype(np.int32)
