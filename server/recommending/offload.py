"""Neighborhoods for offloading: the anonymous rows that a user's device fine-tunes on.

Shapes: U users (fakes among them, unknown to the server), k neighbors, I items.
"""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingMatrix
from common.vicinal.neighborhood import Neighborhood, own_row, without_levels
from common.vicinal.settings import CLOSED_FORM_RULE, Space, VicinalSettings
from common.wire.rounding import rounded
from server.recommending.admission import Admission
from server.recommending.neighbor_cache import NeighborCache
from server.recommending.neighbors import LISTS_FROM, NeighborIndex, with_user_first
from server.recommending.rated_neighbors import RandomNeighborIndex, RatedNeighborIndex

Index = NeighborIndex | RatedNeighborIndex | RandomNeighborIndex
Search = Literal["auto", "exact", "borrowed"]
SEARCHES: Final[tuple[Search, ...]] = ("auto", "exact", "borrowed")


def search_named(name: str) -> Search:
    """Raises InputError for a name that is not in SEARCHES."""
    for search in SEARCHES:
        if name == search:
            return search
    raise unknown("neighbor search", name, SEARCHES)


@final
class Offloader:
    """Builds neighborhoods from the ratings and user parameters that a server keeps.

    embeddings  gives where users lie [U, d], once a search in them is asked for
    version  names what neighbors are found in, for `cache`
    left_out users who are nobody's neighbors, but have neighbors themselves
    search   auto: exact for few users, in inverted lists for many; exact: always exact;
             borrowed: a user gets the neighbors of the nearest other user, who may be a fake
             (the paper's approximation for users it was not trained on)
    before   of ratings of before, whose search by ratings is brought up to date
    """

    def __init__(
        self,
        ratings: RatingMatrix,
        user_parameters: Mapping[str, NDArray[np.float32]],
        embeddings: Callable[[], NDArray[np.float32]],
        *,
        version: str,
        left_out: NDArray[np.int64] | None = None,
        search: Search = "auto",
        cache: NeighborCache | None = None,
        before: "Offloader | None" = None,
    ) -> None:
        # The search, and not all that the other one holds.
        self._rated_before = None if before is None else before.__dict__.get("_rated")
        self.ratings = ratings
        self.user_parameters = user_parameters
        self._embeddings = embeddings
        self._lists_from = math.inf if search == "exact" else LISTS_FROM
        self.cache = NeighborCache() if cache is None else cache
        self._left_out = np.zeros(ratings.user_count, dtype=bool)
        if left_out is not None:
            self._left_out[left_out] = True
        self._borrowed = search == "borrowed"
        self._key = f"{version}/{'exact' if search == 'exact' else 'auto'}"

    def index(self, space: Space) -> Index:
        """Search in a space; made when it is first asked for."""
        if space == "embedding":
            return self._embedded
        return self._rated if space == "ratings" else self._random

    @cached_property
    def _embedded(self) -> NeighborIndex:
        return NeighborIndex(self._embeddings(), lists_from=self._lists_from)

    @cached_property
    def _rated(self) -> RatedNeighborIndex:
        before, self._rated_before = self._rated_before, None
        if isinstance(before, RatedNeighborIndex):
            return before.updated(self.ratings)
        return RatedNeighborIndex(self.ratings)

    @cached_property
    def _random(self) -> RandomNeighborIndex:
        return RandomNeighborIndex(self.ratings)

    @cached_property
    def admission(self) -> Admission:
        """Who counts raters, among all but those who were left out."""
        return Admission(self.ratings, np.flatnonzero(~self._left_out), self.nearest)

    def nearest(self, user: int, count: int, space: Space = "embedding") -> NDArray[np.int64]:
        """The user itself and its `count` - 1 neighbors, nearest first; read-only, [k].

        Raises InputError when there are fewer than `count` users.
        """
        if count == 1:
            return np.array([user])  # nobody has to be found
        if self._borrowed:
            lender = int(self._found(user, 2, space)[1])
            return with_user_first(user, self._found(lender, count, space))
        return self._found(user, count, space)

    def _found(self, user: int, count: int, space: Space) -> NDArray[np.int64]:
        return self.cache.get(
            f"{self._key}/{space}", user, count, lambda: self._searched(user, count, space)
        )

    def _searched(self, user: int, count: int, space: Space) -> NDArray[np.int64]:
        """The search's own answer, with others in the place of those who were left out."""
        index = self.index(space)
        hidden, total = np.count_nonzero(self._left_out), len(self._left_out)
        if not hidden:
            nearest: NDArray[np.int64] = index.neighbors([user], count)[0]
            return nearest
        if count > total - hidden:
            raise InputError(
                f"k = {count} neighbors asked of {total - hidden} users, as {hidden} of {total} "
                f"are suspected: choose 1–{total - hidden}"
            )
        asked = count
        while True:
            asked = min(total, 2 * asked)
            found: NDArray[np.int64] = index.neighbors([user], asked)[0]
            shown = ~self._left_out[found]
            shown[0] = True  # the user itself
            found = found[shown][:count]
            if len(found) == count:
                return found

    def neighborhood(self, user: int, settings: VicinalSettings) -> Neighborhood:
        """Raises InputError when k is larger than the number of users."""
        if not 0 <= user < self.ratings.user_count:
            raise InputError(f"unknown user {user}: choose 0–{self.ratings.user_count - 1}")
        members = self.nearest(user, settings.neighbors, settings.neighbors_by)
        ratings = supported(self.ratings.rows(members), settings.min_support)
        if settings.assumed_fakes > 0:
            ratings = ratings.of_items(self._shown(user, settings))
        if settings.row_cap:
            others = self.cut(ratings.rows(np.arange(1, len(members))), settings)
            ratings = own_row(ratings.rows([0]), others, settings).stack(others)
        if settings.step_rule == CLOSED_FORM_RULE:
            ratings = without_levels(ratings)
        # Rounded here, and not on the way, so that the server's own answers are the device's.
        tables = {
            name: rounded(rows[members])
            for name, rows in self.user_parameters.items()
            if not settings.fold_in
        }
        order = order_by_content(ratings, tables)
        return Neighborhood(
            ratings.rows(order), {name: rows[order] for name, rows in tables.items()}
        )

    def cut(self, ratings: RatingMatrix, settings: VicinalSettings) -> RatingMatrix:
        """Rows as they are shipped: of each the most rated items, settings.row_cap at most.

        The same ones in every package, as far as it has them: put together, many packages say no
        more of a row than one.
        """
        if not settings.row_cap:
            return ratings
        popular = self._raters[ratings.items]
        order = np.lexsort((ratings.items, -popular, ratings.users))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order)) - ratings.indptr[:-1][ratings.users[order]]
        kept = place < settings.row_cap
        return RatingMatrix.from_triples(
            ratings.users[kept],
            ratings.items[kept],
            ratings.levels[kept],
            user_count=ratings.user_count,
            item_count=ratings.item_count,
            scale=ratings.scale,
        )

    @cached_property
    def _raters(self) -> NDArray[np.int64]:
        return self.ratings.item_counts()

    def hidden(
        self, user: int, settings: VicinalSettings, neighborhood: Neighborhood
    ) -> NDArray[np.bool_]:
        """Items of a user's neighborhood that are there because of what the user rated, [I].

        Too few others rated them to have them shown to anybody else: that a package has them says
        that the user rated them, or was drawn to be shown them, and the draw is made of all that
        the user rated. Whoever knew nearly all of that could try the rest.
        """
        own = self.ratings.items_of(user)
        hidden = np.zeros(self.ratings.item_count, dtype=bool)
        if settings.min_support > 1:
            others = neighborhood.ratings.rows(np.arange(1, len(neighborhood))).item_counts()
            hidden[own] = others[own] < settings.min_support
        if settings.assumed_fakes > 0:
            hidden |= ~self.admission.rated_enough(user, settings)
        return hidden

    def _shown(self, user: int, settings: VicinalSettings) -> NDArray[np.bool_]:
        """Items whose ratings a neighborhood has: what is admitted, and what the user rated."""
        shown = self.admission.admitted(user, settings)
        shown[self.ratings.items_of(user)] = True
        return shown


def order_by_content(
    ratings: RatingMatrix, tables: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.int64]:
    """Row 0, then the others by their length, items, levels and parameters, [k].

    An order that the rows decide alone says nothing that they do not say: not who is nearest,
    nor, over many packages, who comes before whom in the server's tables.
    """

    def content(row: int) -> tuple[int | bytes, ...]:
        start, end = ratings.indptr[row], ratings.indptr[row + 1]
        own = [table[row].tobytes() for _, table in sorted(tables.items())]
        items, levels = ratings.items[start:end], ratings.levels[start:end]
        return int(end - start), items.tobytes(), levels.tobytes(), *own

    return np.array([0, *sorted(range(1, ratings.user_count), key=content)], dtype=np.int64)


def supported(ratings: RatingMatrix, min_support: int) -> RatingMatrix:
    """The ratings of items that at least `min_support` rows rated.

    An item that hardly anybody in a neighborhood rated is where a single fake decides, and
    where a row could be recognized.
    """
    if min_support <= 1:
        return ratings
    return ratings.of_items(ratings.item_counts() >= min_support)
