"""The server's side of the defense: neighborhoods for devices, or whole answers.

Shapes: U users (fakes among them, unknown to the server), I items, K recommended items.
"""

from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import Space, VicinalSettings
from common.vicinal.tuning import ServedModel, tuned_scores
from server.model_store import StoredModel
from server.recommending.admission import Admission
from server.recommending.certificate import Certificate, Form
from server.recommending.neighbor_cache import NeighborCache
from server.recommending.neighbors import NeighborIndex
from server.recommending.offload import Offloader, Search

if TYPE_CHECKING:
    from server.baselines import Scorer

# Dense rows of ratings that are encoded at a time: 100 MB at 100,000 items.
USERS_PER_CHUNK: Final = 256

# What common.vicinal.tuning.tuned_scores is.
Tune = Callable[[ServedModel, Neighborhood, VicinalSettings], NDArray[np.float32]]


def _unmarked(_stage: str) -> None:
    """For callers who do not time stages."""


@final
class Recommender:
    """A model version with the ratings that it was trained on.

    ratings     every row that training saw; the first `user_count` can be asked for
    user_count  real users; what comes after them is only ever somebody's neighbor
    search      how neighbors are found (server.recommending.offload)
    cache       of neighbors found; to be shared by the versions of one server, or its own
    before      of the same version with fewer users, whose searches are brought up to date
    """

    def __init__(
        self,
        stored: StoredModel,
        ratings: RatingMatrix,
        user_count: int,
        *,
        search: Search = "auto",
        cache: NeighborCache | None = None,
        before: "Recommender | None" = None,
    ) -> None:
        manifest = stored.version.manifest
        if (manifest.users + stored.later, manifest.items) != (
            ratings.user_count,
            ratings.item_count,
        ):
            raise InputError("the model version was trained on other ratings")
        self.stored = stored
        self.version = stored.version
        self.path = stored.path
        self.ratings = ratings
        self.user_count = user_count
        self.search = search
        self._certificates: dict[VicinalSettings, Certificate] = {}
        self._answered: tuple[int, VicinalSettings, Neighborhood] | None = None
        self._offloader: Offloader = Offloader(
            ratings,
            stored.user_parameters,
            partial(embeddings, stored, ratings),
            version=self.version.digest,
            left_out=stored.left_out,
            search=search,
            cache=cache,
            before=None if before is None else before._offloader,
        )

    @property
    def neighbors(self) -> int:
        """Users who can be asked for and be somebody's neighbor: those not left out of training."""
        return self.user_count - int((self.stored.left_out < self.user_count).sum())

    def neighbor_search(self, space: Space) -> str:
        """One line on how neighbors are searched in a space, and with what recall.

        It prepares that search, and the first answer does not have to.
        """
        return self._offloader.index(space).description

    @property
    def neighbor_cache(self) -> NeighborCache:
        """Lists of neighbors found so far; counts its hits and misses."""
        return self._offloader.cache

    def neighborhood(self, user: int, settings: VicinalSettings) -> Neighborhood:
        """What a device needs to answer for one user.

        Raises InputError for an unknown user, and for more neighbors than there are users.
        """
        self._check_user(user)
        return self._offloader.neighborhood(user, settings)

    def cut(self, rows: RatingMatrix, settings: VicinalSettings) -> RatingMatrix:
        """Rows of neighbors as they are shipped, of items that a package shows."""
        return self._offloader.cut(rows, settings)

    def hidden(
        self, user: int, settings: VicinalSettings, neighborhood: Neighborhood
    ) -> NDArray[np.bool_]:
        """Items of a neighborhood that say what its user rated, [I]."""
        return self._offloader.hidden(user, settings, neighborhood)

    def recommend(
        self,
        user: int,
        settings: VicinalSettings,
        list_length: int,
        *,
        tune: Tune = tuned_scores,
        mark: Callable[[str], None] = _unmarked,
    ) -> NDArray[np.int64]:
        """The top K that the user's device would find, best first. Raises InputError.

        `tune` fine-tunes: here or in compiled loops (server.recommending.compiled), up to rounding
        the same. `mark` is called when a stage has ended: neighbors, tune, rank.
        """
        neighborhood = self.neighborhood(user, settings)
        self._answered = user, settings, neighborhood
        mark("neighbors")
        scores = tune(self.version.served, neighborhood, settings)
        mark("tune")
        items = top_items(scores, self.ratings.items_of(user), list_length)
        mark("rank")
        return items

    def supported(self, user: int, settings: VicinalSettings) -> NDArray[np.bool_]:
        """Whether each item has ratings in the user's neighborhood, after min support, [I].

        At once for the user whom `recommend` answered last. Raises InputError.
        """
        latest = self._answered
        if latest is None or latest[:2] != (user, settings):
            latest = user, settings, self.neighborhood(user, settings)
        found = np.zeros(self.ratings.item_count, dtype=bool)
        found[latest[2].ratings.items] = True
        return found

    def recommend_undefended(self, user: int, list_length: int) -> NDArray[np.int64]:
        """The top K of the model as it was trained. Raises InputError."""
        return top_items(self.plain_scores(user), self.ratings.items_of(user), list_length)

    def scores(self, user: int, settings: VicinalSettings) -> NDArray[np.float32]:
        """What `recommend` ranks by: scores of every item after fine-tuning, [I]."""
        return tuned_scores(self.version.served, self.neighborhood(user, settings), settings)

    def plain_scores(self, user: int) -> NDArray[np.float32]:
        """Scores of every item by the model as it was trained, [I]. Raises InputError."""
        self._check_user(user)
        if not self.version.served.model.tables:
            return self._fitted.scores(user)
        # As it was trained: not rounded, as what is sent to devices is.
        own = {name: rows[[user]] for name, rows in self.stored.user_parameters.items()}
        alone = Neighborhood(self.ratings.rows([user]), own)
        return self.version.served.plain_scores(alone)

    @cached_property
    def _fitted(self) -> "Scorer":
        """What a model without parameters is where nobody defends it. Raises InputError."""
        from server.baselines import BASELINES  # noqa: PLC0415 - scipy, of no use to a worker

        return BASELINES[self.version.manifest.model](self.ratings)

    @property
    def admission(self) -> Admission:
        """Which items may be recommended to whom."""
        return self._offloader.admission

    def certificate(self, settings: VicinalSettings) -> Certificate | None:
        """Prices of promotion here, if all ratings are genuine; None where nothing is proved.

        Nothing is where some users are suspected and are nobody's neighbors. Raises InputError.
        """
        if len(self.stored.left_out):
            return None
        if settings not in self._certificates:
            index = None
            if settings.neighbors_by != "embedding":
                found = self._offloader.index(settings.neighbors_by)
                assert not isinstance(found, NeighborIndex)
                index = found
            # Borrowed neighbors are near somebody else.
            form: Form | None = "any" if self.search == "borrowed" else None
            self._certificates[settings] = Certificate(
                self.ratings, settings, form=form, index=index
            )
        return self._certificates[settings]

    def nearest(
        self, users: NDArray[np.int64], count: int, space: Space = "embedding"
    ) -> NDArray[np.int64]:
        """Indices of the nearest users in a space, [B, k]; from `user_count` on they are fakes."""
        nearest = np.empty((len(users), count), dtype=np.int64)
        for row, user in zip(nearest, users.tolist(), strict=True):
            row[:] = self._offloader.nearest(user, count, space)
        return nearest

    def user_embeddings(self) -> NDArray[np.float32]:
        """Where all users lie for the neighbor search, real ones first, [U, d]."""
        return embeddings(self.stored, self.ratings)

    def _check_user(self, user: int) -> None:
        if not 0 <= user < self.user_count:
            raise InputError(f"unknown user {user}: choose 0–{self.user_count - 1}")


def embeddings(stored: StoredModel, ratings: RatingMatrix) -> NDArray[np.float32]:
    """Where the users of `ratings` lie for the neighbor search, [U, d].

    Raises InputError for a model without parameters.
    """
    version = stored.version
    model, users = version.served.model, np.arange(ratings.user_count)
    if not model.tables:
        raise InputError(f"{model.name} has no embeddings of users: seek neighbors by ratings")
    parts = []
    for rows in np.split(users, range(USERS_PER_CHUNK, len(users), USERS_PER_CHUNK)):
        own = {name: table[rows] for name, table in stored.user_parameters.items()}
        seen = None if model.inputs == "none" else ratings.rows(rows).dense()
        parts.append(model.encode({**version.parameters, **own}, seen))
    encoded: NDArray[np.float32] = np.concatenate(parts)
    return encoded
