"""Which items a user may be recommended: those that the assumed number of fakes cannot hold up.

Of N accounts a share φ may be fakes, f = ⌈φN⌉. An item is *admitted* where M = f + s accounts
rated it, so that at least s of them are genuine, whatever the fakes did. Raters are counted over
all users, or where `candidates` are asked for over the nearest users alone, of whom as few are
taken as give a user so many admitted items to choose from. An item without enough raters is
admitted for a share ρ of users, which no rating moves: it may be shown, but never to many.

docs/theory.md has the proofs, and what they do not cover.

Shapes: N users, fakes among them; I items.
"""

from collections.abc import Callable
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.vicinal.settings import Space, VicinalSettings
from common.vicinal.support import draws
from server.recommending.rated_neighbors import supporting

# The `count` nearest users of a user in a space, itself first, [count].
Nearest = Callable[[int, int, Space], NDArray[np.int64]]
# Users among whom candidates are looked for first; then twice as many, and so on.
FIRST_USERS: Final = 128


@final
class Admission:
    """Counts raters in a rating matrix, which it holds.

    counted  users whose ratings count, ascending
    nearest  how neighbors among them are found
    """

    def __init__(self, ratings: RatingMatrix, counted: NDArray[np.int64], nearest: Nearest) -> None:
        self._ratings, self._counted, self._nearest = ratings, counted, nearest
        self._raters = ratings.rows(counted).item_counts()

    def admitted(self, user: int, settings: VicinalSettings) -> NDArray[np.bool_]:
        """Whether each item may be recommended to a user, [I]."""
        ratings, admitted = self._ratings, self.rated_enough(user, settings)
        if settings.assumed_fakes > 0 and settings.exploration > 0:
            drawn = draws(ratings.item_count, ratings.items_of(user), purpose=1)
            admitted |= drawn < settings.exploration
        return admitted

    def rated_enough(self, user: int, settings: VicinalSettings) -> NDArray[np.bool_]:
        """Whether each item is admitted for its raters, [I]."""
        ratings, required = self._ratings, settings.required_raters(self._ratings.user_count)
        if required == 0:
            return np.ones(ratings.item_count, dtype=bool)
        enough: NDArray[np.bool_] = self.counted_raters(user, settings) >= required
        return enough

    def counted_raters(self, user: int, settings: VicinalSettings) -> NDArray[np.int64]:
        """How many accounts rated each item, of those that are counted for a user, [I]."""
        if settings.candidates and settings.assumed_fakes > 0:
            return self._ratings.rows(self.raters_of(user, settings)).item_counts()
        return self._raters

    def raters_of(self, user: int, settings: VicinalSettings) -> NDArray[np.int64]:
        """The users among whom raters are counted for a user, [n].

        Where candidates are asked for, the fewest nearest users among whom so many unrated items
        have enough raters; everybody where there are none such.
        """
        ratings, required = self._ratings, settings.required_raters(self._ratings.user_count)
        if settings.candidates == 0:
            return self._counted
        unrated = np.ones(ratings.item_count, dtype=bool)
        unrated[ratings.items_of(user)] = False
        total = len(self._counted)
        count = min(total, max(FIRST_USERS, 2 * required))
        while True:
            order = self._nearest(user, count, settings.neighbors_by)
            taken = supporting(ratings, order, unrated, required, settings.candidates)
            if taken < count:
                return order[:taken]
            if count == total:
                return self._counted
            count = min(total, 2 * count)
