"""`vicinal.train` and `vicinal.defend`: a trained model that recommends."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.names import unknown
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.threads import one_thread
from common.vicinal.settings import PRESETS, VicinalSettings, capped
from server.baselines import UNDEFENDED, BaselineRecommender, require_no_defense
from server.data.datasets import Dataset
from server.model_store import ModelStore
from server.preparing import trained
from server.recommending.certificate import UNREACHABLE, Certificate
from server.recommending.own_model import GenericVicinal, Loss
from server.recommending.recommender import Recommender
from server.training.bases import base_training
from server.training.train import TrainingSettings
from sims.api.data import load
from sims.api.ids import Id, Ids
from sims.api.surroundings import reporting, store_folder
from sims.attacks.profiles import Profiles
from sims.evaluation.defenses import DEFENSES, NO_DEFENSE, RVD, training_named
from sims.evaluation.experiment import NAMED
from sims.evaluation.own_model import SETTINGS, OwnModel, model_in_file, own_model, ready
from sims.functions import is_function
from sims.numbers import seed_of, whole

if TYPE_CHECKING:
    import polars as pl
    import torch

VICINAL: Final = "vicinal"
# How a model is trained, by the preset that it is trained for.
TRAININGS: Final = (VICINAL, "paper")


class Scorer(Protocol):
    """A trained model: server.recommending's Recommender or GenericVicinal."""

    @property
    def ratings(self) -> RatingMatrix:
        """What it was trained on, real users first."""
        ...

    @property
    def user_count(self) -> int:
        """Real users."""
        ...

    def scores(self, user: int, settings: VicinalSettings) -> NDArray[np.float32]:
        """Of every item after fine-tuning, [I]."""
        ...

    def plain_scores(self, user: int) -> NDArray[np.float32]:
        """Of every item by the model as it is, [I]."""
        ...

    def user_embeddings(self) -> NDArray[np.float32]:
        """Where all users lie, real ones first, [U, d]."""
        ...


@final
@dataclass(frozen=True, repr=False)
class Recommendations:
    """The best items for one user, best first.

    defense  the preset that they were repaired with, or none
    items    ids
    indices  int64 [K], of the same items in the rating matrix
    scores   float32 [K], that they were ranked by: about ratings as fractions of the maximum

    tolerated_fakes  f: how many of all accounts may be fakes and still hold up no item alone; 0
                     where nothing is assumed
    required_raters  M: how many accounts rated every item that is there for its raters
    """

    user: Id
    defense: str
    items: tuple[Id, ...]
    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    tolerated_fakes: int = 0
    required_raters: int = 0

    def __iter__(self) -> Iterator[tuple[Id, float]]:
        return iter(zip(self.items, self.scores.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        shown = ", ".join(f"{item}: {score:.3f}" for item, score in list(self)[:10])
        more = f", … {len(self) - 10} more" if len(self) > 10 else ""
        return f"Recommendations(user {self.user}, defense {self.defense}: {shown}{more})"

    def frame(self) -> "pl.DataFrame":
        """Columns item and score, best first."""
        import polars as pl  # noqa: PLC0415 - heavy, and for this only

        return pl.DataFrame({"item": list(self.items), "score": self.scores})

    def _repr_html_(self) -> str:
        return str(self.frame()._repr_html_())


@final
class Model:
    """A trained model with the ratings that it was trained on; `train` and `defend` give one.

    name      of a model or a baseline (see `train`), or of a model of one's own
    data      the ratings of real users
    fakes     fake users that it was trained on as well
    digest    SHA-256 of what training gave; of a baseline, of its name and its ratings
    settings  ways to fine-tune, by the name that `recommend` takes
    own       how a model of one's own is trained; None for a built-in one
    """

    def __init__(
        self,
        name: str,
        scorer: Scorer,
        data: Dataset,
        *,
        digest: str,
        settings: Mapping[str, VicinalSettings],
        own: OwnModel | None = None,
    ) -> None:
        self.name, self.data, self.digest, self.own = name, data, digest, own
        self.fakes = scorer.ratings.user_count - scorer.user_count
        self.settings = {key: capped(each, scorer.user_count) for key, each in settings.items()}
        self._scorer = scorer
        self._certificates: dict[str, Certificate] = {}
        self._users, self._items = Ids.of_users(data), Ids.of_items(data)

    def __repr__(self) -> str:
        ratings = self.data.ratings
        presets = ", ".join(
            f"{name} (k = {each.neighbors}, α = {each.unrated_weight:g}, {each.steps} steps)"
            for name, each in self.settings.items()
        )
        fakes = f" and {self.fakes} fakes" if self.fakes else ""
        return (
            f"Model({self.name} of {self.data.name}: {ratings.user_count} users{fakes} × "
            f"{ratings.item_count} items; defenses {presets}; digest {self.digest[:12]})"
        )

    def embeddings(self) -> NDArray[np.float32]:
        """Where users lie for the neighbor search, [U + F, d]: real users first, then fakes."""
        with one_thread():
            return self._scorer.user_embeddings()

    def recommend(self, user: Id, list_length: int = 10, defense: str = VICINAL) -> Recommendations:
        """The best items that a user has not rated.

        user         an id of the data, as a number or as text; in data without ids the zero-based
                     index
        list_length  K, items at most
        defense      vicinal or paper: repaired for this user by fine-tuning on the neighborhood,
                     with the preset of that name; rvd, as `evaluate` calls it, is vicinal; none:
                     the model as it was trained

        The ids are those of the data: numbers where all of them are, else text. Raises InputError
        for an unknown user or defense and for a list_length below 1.
        """
        list_length = whole("list_length", list_length, least=1)
        defense = self._preset(defense)
        index = self._users.index(user)
        with one_thread():
            if defense == NO_DEFENSE:
                scores = self._scorer.plain_scores(index)
            else:
                scores = self._scorer.scores(index, self.settings[defense])
        best = top_items(scores, self.data.ratings.items_of(index), list_length)
        (name,) = self._users.named([index])
        items = tuple(self._items.named(best.tolist()))
        found = Recommendations(name, defense, items, best, scores[best])
        if defense == NO_DEFENSE:
            return found
        settings, accounts = self.settings[defense], self._scorer.ratings.user_count
        fakes, required = settings.tolerated_fakes(accounts), settings.required_raters(accounts)
        return replace(found, tolerated_fakes=fakes, required_raters=required)

    def price(self, user: Id, item: Id, defense: str = VICINAL) -> int | None:
        """How many more fakes it takes at least to have an item recommended to a user.

        With fewer, whatever they rate, the list has it by exploration or in its random tail only
        (docs/theory.md, Certificate). 0: it needs none. None: no number of fakes does it, as the
        user rated the item. The ratings that the model was trained on are taken for genuine.

        Raises InputError for an unknown user, item or defense.
        """
        defense = self._preset(defense)
        index, wanted = self._users.index(user), self._items.index(item)
        if defense == NO_DEFENSE:
            return None if wanted in self.data.ratings.items_of(index) else 0
        if defense not in self._certificates:
            certificate = Certificate(self._scorer.ratings, self.settings[defense])
            self._certificates[defense] = certificate
        price = self._certificates[defense].price(index, wanted)
        return None if price == UNREACHABLE else price

    def _preset(self, defense: str) -> str:
        """Its name, or none. Raises InputError."""
        if self.name in UNDEFENDED and defense in (VICINAL, RVD):
            require_no_defense(self.name)
        if defense == RVD:
            return VICINAL
        if defense == NO_DEFENSE or defense in self.settings:
            return defense
        names = [name for name in defense.split("+") if name != RVD]
        if all(DEFENSES.get(name) is not None for name in names):
            raise InputError(
                f"defense {defense}: is a way to train: vicinal.train(…, "
                f"robust={'+'.join(names)!r})"
            )
        raise unknown("defense", defense, [*self.settings, RVD, NO_DEFENSE])


def train(
    data: Any,
    fakes: Profiles | RatingMatrix | None = None,
    *,
    model: Any = "mf",
    robust: str | None = None,
    preset: str = VICINAL,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = False,
) -> Model:
    """Train a model on all ratings, and on those of fake users.

    data      what `load` gives or takes
    fakes     what `attack` gives
    model     mf, nsvd, autorec or cdae; ials, bpr or lightgcn, served as mf; userknn, itemknn,
              ease or popularity, which cannot be defended; `PATH.py:FUNCTION`, or a function
              fit(ratings, *, seed) that gives a trained torch.nn.Module
              (docs/how-to/own-model.md)
    robust    apr, ials, ltsmf, rmf, vat: how mf is trained instead; unrated: how any model is; pca:
              it leaves suspects out of any training, as in pca+unrated; None: as `preset` says
    preset    vicinal: as the defense trains the model that it tunes; paper: as it was published,
              which is what `evaluate` calls undefended (docs/defenses.md)
    seed      of training
    store     folder that keeps trained models, so that the same is not trained twice
    progress  whether to show bars

    Raises InputError, VicinalError when training diverges, OSError.
    """
    seed = seed_of(seed)
    loaded = load(data, seed=seed)
    ratings = with_fakes(loaded, fakes)
    own = own_of(model)
    if own is not None:
        if robust is not None or store is not None:
            raise InputError("a model of your own is trained by its function: no robust, no store")
        with one_thread():
            generic = own.train(ratings, loaded.ratings.user_count, seed=seed)
        return of_own(own, generic, loaded)
    name = built_in(model)
    if preset not in TRAININGS:
        raise unknown("preset", preset, TRAININGS)
    how = base_training(name, preset) if robust is None else training_named(robust, model=name)
    if name in UNDEFENDED:
        with one_thread():
            fitted = BaselineRecommender(model, ratings, loaded.ratings.user_count)
        named = hashlib.sha256(f"{model}{ratings.digest()}".encode()).hexdigest()
        return Model(model, fitted, loaded, digest=named, settings={})
    settings = TrainingSettings.on(loaded.name, model=model, seed=seed, robust=how)
    with one_thread(), store_folder(store) as folder, ModelStore(folder) as opened:
        with reporting(progress) as report:
            stored = trained(
                ratings,
                settings,
                opened,
                progress=lambda done, epochs: report("train", done, epochs),
            )
        recommender = Recommender(stored, ratings, loaded.ratings.user_count)
    digest = recommender.version.digest
    return Model(model, recommender, loaded, digest=digest, settings=PRESETS[model])


def defend(
    model: "torch.nn.Module | Any",
    data: Any,
    fakes: Profiles | RatingMatrix | None = None,
    *,
    neighbors: int = SETTINGS.neighbors,
    steps: int = SETTINGS.steps,
    learning_rate: float = SETTINGS.learning_rate,
    unrated_weight: float = SETTINGS.unrated_weight,
    loss: Loss | None = None,
    name: str | None = None,
    seed: int = 0,
) -> Model:
    """Defend a model of one's own; `recommend` and `evaluate` take it as any other.

    model           a trained torch.nn.Module with methods embed and forward, which answers as it
                    is, or a function fit(ratings, *, seed) that trains one
                    (docs/how-to/own-model.md)
    data            the ratings that it is trained on: what `load` gives or takes
    fakes           those of fake users that it is trained on as well
    neighbors       k, the user itself included
    steps           of Adam
    learning_rate   of Adam
    unrated_weight  α
    loss            of predicted ratings and rows, instead of the vicinal loss with α
    name            that is shown; the class's or the function's unless given
    seed            of training, for a function

    Raises InputError.
    """
    import torch  # noqa: PLC0415 - the signature can be read without it

    seed = seed_of(seed)
    loaded = load(data, seed=seed)
    ratings = with_fakes(loaded, fakes)
    settings = VicinalSettings(
        whole("neighbors", neighbors, least=1),
        unrated_weight,
        whole("steps", steps, least=0),
        step_rule="adam",
        learning_rate=learning_rate,
    )
    own = replace(own_model(model, name=name), settings=settings, loss=loss)
    users = loaded.ratings.user_count
    with one_thread():
        if isinstance(model, torch.nn.Module):
            generic = GenericVicinal(ready(model), ratings, users, loss=loss)
        else:
            generic = own.train(ratings, users, seed=seed)
    return of_own(own, generic, loaded)


def of_own(own: OwnModel, generic: GenericVicinal, data: Dataset) -> Model:
    """A model of one's own, trained."""
    settings = {VICINAL: own.settings}
    return Model(own.name, generic, data, digest=generic.digest, settings=settings, own=own)


def own_of(model: Any) -> OwnModel | None:
    """The model of one's own that somebody gives; None for the name of a built-in one.

    Raises InputError.
    """
    if isinstance(model, Model):
        if model.own is None:
            raise InputError(f"{model.name} is trained anew for a study: give its name alone")
        return model.own
    if not isinstance(model, str):
        return own_model(model)
    return model_in_file(model) if is_function(model) else None


def built_in(model: str) -> str:
    """Raises InputError for a name that no built-in model has."""
    if model not in NAMED:
        raise unknown("model", model, NAMED, more=", or PATH.py:FUNCTION")
    return model


def with_fakes(data: Dataset, fakes: Profiles | RatingMatrix | None) -> RatingMatrix:
    """Real users first, then fakes. Raises InputError for fakes over other items."""
    if fakes is None:
        return data.ratings
    below = fakes.ratings if isinstance(fakes, Profiles) else fakes
    if not isinstance(below, RatingMatrix):
        raise InputError(f"fakes: a {type(fakes).__name__}: give what vicinal.attack gives")
    return data.ratings.stack(below)
