"""The certificate: how many fakes it takes to have an item recommended to a user.

The *price of promotion* of (user, item) is a number of fakes below which no fake profiles, whatever
they rate, have the item recommended to the user outside exploration, nor outside the random tail of
a list. It is computed from ratings that are taken for genuine, and counts accounts that are added
to them. docs/theory.md (Certificate) has the assumptions and the proofs; in its words N_i is the
number of accounts that rated item i, and S_i(n) that among the first n of the user's clean order.

Shapes: N accounts, I items, u users asked about.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.recommending.rated_neighbors import RandomNeighborIndex, RatedNeighborIndex, supporting

# any: whatever the neighbors are, also where fakes bend who is near whom. pairwise: where fakes
# come in between, and leave genuine users in their order.
Form = Literal["any", "pairwise"]
# The price of what no number of fakes attains.
UNREACHABLE: Final = int(np.iinfo(np.int64).max)


@final
class Certificate:
    """Prices of promotion in a rating matrix, which it holds.

    form   the stronger one that holds for the settings, unless one is asked for
    index  of the settings' neighbors in these ratings, where there is one already
    """

    def __init__(
        self,
        ratings: RatingMatrix,
        settings: VicinalSettings,
        *,
        form: Form | None = None,
        index: RatedNeighborIndex | RandomNeighborIndex | None = None,
    ) -> None:
        """Raises InputError for more neighbors than users, and for a form that does not hold."""
        if settings.neighbors > ratings.user_count:
            raise InputError(
                f"k = {settings.neighbors} neighbors of {ratings.user_count} users: choose fewer"
            )
        best: Form = "any" if settings.neighbors_by == "embedding" else "pairwise"
        if form == "pairwise" and best == "any":
            raise InputError(
                "the pairwise certificate needs neighbors by ratings or random: fakes move "
                "embeddings"
            )
        self.ratings, self.settings = ratings, settings
        self.form: Form = best if form is None else form
        self._raters = ratings.item_counts()
        self._index: RatedNeighborIndex | RandomNeighborIndex | None = None
        if self.form == "pairwise":
            by_ratings = settings.neighbors_by == "ratings"
            self._index = index or (RatedNeighborIndex if by_ratings else RandomNeighborIndex)(
                ratings
            )

    def price(self, user: int, item: int) -> int:
        """How many fakes it takes at least; UNREACHABLE where none do. Raises InputError."""
        if not 0 <= item < self.ratings.item_count:
            raise InputError(f"unknown item {item}: choose 0–{self.ratings.item_count - 1}")
        return int(self.prices(user)[item])

    def prices(self, user: int) -> NDArray[np.int64]:
        """Of every item, [I]; what the user rated is UNREACHABLE, as nothing recommends it.

        0 is an item that needs no fakes. Raises InputError for an unknown user.
        """
        ratings = self.ratings
        if not 0 <= user < ratings.user_count:
            raise InputError(f"unknown user {user}: choose 0–{ratings.user_count - 1}")
        order = None
        if self._index is not None:
            order = self._index.neighbors([user], ratings.user_count)[0]
        unrated = np.ones(ratings.item_count, dtype=bool)
        unrated[ratings.items_of(user)] = False
        # An item needs both, and more fakes never lose what fewer attain.
        prices = np.maximum(self._of_admission(order, unrated), self._of_support(order))
        prices[~unrated] = UNREACHABLE
        return prices

    def _of_admission(
        self, order: NDArray[np.int64] | None, unrated: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """The least g with genuine raters + g ≥ M(N + g), [I]."""
        ratings, settings = self.ratings, self.settings
        prices = np.full(ratings.item_count, UNREACHABLE, dtype=np.int64)
        if settings.assumed_fakes == 0:
            return np.zeros_like(prices)

        def required_with(fakes: int) -> int:
            return settings.required_raters(ratings.user_count + fakes)

        first = 0
        while (prices == UNREACHABLE).any():
            # Numbers of fakes from `first` to `last` all make the same M; M fakes always suffice.
            required, last = required_with(first), first
            while last < required and required_with(last + 1) == required:
                last += 1
            least = np.maximum(first, required - self._counted(order, unrated, required))
            reached = (prices == UNREACHABLE) & (least <= last)
            prices[reached] = least[reached]
            first = last + 1
        return prices

    def _counted(
        self, order: NDArray[np.int64] | None, unrated: NDArray[np.bool_], required: int
    ) -> NDArray[np.int64]:
        """Of each item, the most genuine raters that are counted, whoever is added, [I]."""
        candidates = self.settings.candidates
        if order is None or candidates == 0:
            return self._raters
        taken = supporting(self.ratings, order, unrated, required, candidates)
        return self.ratings.rows(order[:taken]).item_counts()

    def _of_support(self, order: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The least g with S_i(k - g) + g ≥ m, [I]."""
        least, k = self.settings.min_support, self.settings.neighbors
        if least <= 1:
            return np.zeros(self.ratings.item_count, dtype=np.int64)
        # Where k is all users, more accounts may bring more neighbors (settings' `capped`).
        if order is None or k >= self.ratings.user_count:
            return np.maximum(0, least - self._raters)
        prices = np.full(self.ratings.item_count, UNREACHABLE, dtype=np.int64)
        raters = self.ratings.rows(order[:k]).item_counts()
        for fakes in range(min(least + 1, k)):  # the user itself stays
            prices[(prices == UNREACHABLE) & (raters + fakes >= least)] = fakes
            raters[self.ratings.items_of(int(order[k - 1 - fakes]))] -= 1
        return prices


@final
@dataclass(frozen=True)
class Shares:
    """What `fakes` fakes cannot reach: whatever they rate, it is not promoted.

    pairs       share of all (user, unrated item)
    unpopular   the same of unpopular items
    items       share of items that they reach for no user
    users       share of users for whom they reach no unrated unpopular item
    """

    fakes: int
    pairs: float
    unpopular: float
    items: float
    users: float


def _unreported(_done: int) -> None:
    """For callers who show no progress."""


def shares(
    certificate: Certificate,
    users: NDArray[np.int64],
    fakes: Sequence[int],
    unpopular: NDArray[np.bool_],
    *,
    advance: Callable[[int], None] = _unreported,
) -> list[Shares]:
    """Shares over `users` [u], for each number of fakes.

    unpopular  items that nobody expects in a list, [I]: what an attacker promotes
    advance    is called with 1 after each user

    Raises InputError for an unknown user, and for no users.
    """
    if not len(users):
        raise InputError("a certificate of no users: ask about at least one")
    return beyond(certificate, users, fakes, unpopular, advance=advance).shares


@final
@dataclass(frozen=True)
class Beyond:
    """What so many fakes cannot reach, counted over some users; added up with that of others.

    fakes     numbers of fakes, [n]
    pairs     unrated items, and unpopular ones among them, that they cannot reach, [2, n]
    asked     how many such items there are, [2]
    cheapest  least price of each item, [I]
    safe      users for whom they reach no unrated unpopular item, [n]
    users     how many were asked about
    """

    fakes: NDArray[np.int64]
    pairs: NDArray[np.int64]
    asked: NDArray[np.int64]
    cheapest: NDArray[np.int64]
    safe: NDArray[np.int64]
    users: int

    def __add__(self, other: "Beyond") -> "Beyond":
        return Beyond(
            self.fakes,
            self.pairs + other.pairs,
            self.asked + other.asked,
            np.minimum(self.cheapest, other.cheapest),
            self.safe + other.safe,
            self.users + other.users,
        )

    @property
    def shares(self) -> list[Shares]:
        """For each number of fakes."""
        pairs = self.pairs / np.maximum(self.asked, 1)[:, np.newaxis]
        return [
            Shares(
                int(count),
                float(pairs[0, at]),
                float(pairs[1, at]),
                float((self.cheapest > count).mean()),
                float(self.safe[at] / self.users),
            )
            for at, count in enumerate(self.fakes)
        ]


def beyond(
    certificate: Certificate,
    users: NDArray[np.int64],
    fakes: Sequence[int],
    unpopular: NDArray[np.bool_],
    *,
    advance: Callable[[int], None] = _unreported,
) -> Beyond:
    """Counts over `users` [u]; parameters and errors as those of shares()."""
    ratings, counts = certificate.ratings, np.asarray(fakes, dtype=np.int64)
    if unpopular.shape != (ratings.item_count,):
        raise InputError(f"unpopular items: {unpopular.shape}, not ({ratings.item_count},)")
    pairs = np.zeros((2, len(counts)), dtype=np.int64)
    totals = np.zeros(2, dtype=np.int64)
    cheapest = np.full(ratings.item_count, UNREACHABLE, dtype=np.int64)
    safe_users = np.zeros(len(counts), dtype=np.int64)
    for user in users.tolist():
        prices = certificate.prices(user)
        cheapest = np.minimum(cheapest, prices)
        unrated = np.ones(ratings.item_count, dtype=bool)
        unrated[ratings.items_of(user)] = False
        for row, asked in enumerate((unrated, unrated & unpopular)):
            ordered = np.sort(prices[asked])
            found = len(ordered) - np.searchsorted(ordered, counts, side="right")
            pairs[row] += found
            totals[row] += len(ordered)
        safe_users += found == len(ordered)  # of unpopular items, which came last
        advance(1)
    return Beyond(counts, pairs, totals, cheapest, safe_users, len(users))
