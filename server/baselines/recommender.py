"""A fitted baseline where a trained model is asked: in evaluations and by `import vicinal`.

Shapes: U users, I items, B users asked, K recommended items.
"""

from typing import NoReturn, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.settings import Space, VicinalSettings
from server.baselines.registry import BASELINES


def require_no_defense(name: str) -> NoReturn:
    """Raises InputError: this baseline cannot be defended."""
    raise InputError(f"{name} has nothing to train robustly or to fine-tune: use --defense none")


@final
class BaselineRecommender:
    """A baseline by name with the ratings that it was fitted to.

    ratings     every row that it was fitted to; the first `user_count` can be asked for
    user_count  real users

    Raises InputError for ratings that the baseline cannot be fitted to.
    """

    def __init__(self, name: str, ratings: RatingMatrix, user_count: int) -> None:
        self.name, self.ratings, self.user_count = name, ratings, user_count
        self._scorer = BASELINES[name](ratings)

    def recommend_undefended(self, user: int, list_length: int) -> NDArray[np.int64]:
        """The top K among what the user has not rated, best first. Raises InputError."""
        return top_items(self.plain_scores(user), self.ratings.items_of(user), list_length)

    def plain_scores(self, user: int) -> NDArray[np.float32]:
        """Of every item, [I]. Raises InputError for an unknown user."""
        if not 0 <= user < self.user_count:
            raise InputError(f"unknown user {user}: choose 0–{self.user_count - 1}")
        return self._scorer.scores(user)

    def recommend(
        self, _user: int, _settings: VicinalSettings, _list_length: int
    ) -> NDArray[np.int64]:
        """Raises InputError."""
        require_no_defense(self.name)

    def scores(self, _user: int, _settings: VicinalSettings) -> NDArray[np.float32]:
        """Raises InputError."""
        require_no_defense(self.name)

    def nearest(
        self, _users: NDArray[np.int64], _count: int, _space: Space = "embedding"
    ) -> NDArray[np.int64]:
        """Raises InputError."""
        require_no_defense(self.name)

    def user_embeddings(self) -> NDArray[np.float32]:
        """Raises InputError."""
        raise InputError(f"{self.name} has no embeddings of users")
