"""One experiment: a data set, an attack on it, and the models trained with and without.

The steps of a study (sims.evaluation.study) before it measures: load, split, attack, train.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.errors import InputError
from common.models import IMPORTED, MODELS, SERVED_AS
from common.names import unknown
from common.ratings import RatingMatrix
from server.baselines import BASELINES, UNDEFENDED
from server.data.datasets import Dataset, load_dataset
from server.data.doubts import Doubt
from server.data.ids import data_digest, item_indices, item_names
from server.data.reading_options import ReadingOptions
from server.importing.imported import ImportedModel, imported_model
from server.model_store import ModelStore
from server.preparing import trained
from server.recommending.offload import Search
from server.recommending.recommender import Recommender
from server.training.methods import Robust
from server.training.train import TrainingSettings
from sims.attacks import Attack, attack_named, make_profiles, targets_of
from sims.attacks.budget import ATTACK_SIZE, least_popular_note
from sims.attacks.kept import KeptAttacks
from sims.attacks.options import TARGETS, Value, resolve
from sims.attacks.profiles import Profiles, read_profiles
from sims.attacks.provenance import made_for_others, of_data
from sims.evaluation.splits import Split, leave_one_out, nothing_held_out
from sims.federated.model import FleetTraining
from sims.functions import is_function, label
from sims.progress import Report, quiet
from sims.terminal import notes_wanted

NO_ATTACK: Final = "none"
FILE_PREFIX: Final = "file:"
# What --model takes, beside functions in files; baselines have no parameters.
TRAINED: Final = (*MODELS, *SERVED_AS)
NAMED: Final = (*TRAINED, *BASELINES)
# A held-out item was liked from this share of the maximum on: 4 of 5, 6 of 8.
LIKED: Final = 0.75
# Models of what a rating is, and not of which items are rated.
RATING_MODELS: Final = ("mf", "nsvd", "autorec", "cdae")


@dataclass(frozen=True)
class Experiment:
    """What is attacked and how; its fields are those of sims.evaluation.study.Study.

    Targets may be `id:B104729` until the ratings are there (with_indices).

    fleet  how clients train the model together, and poison it; None: it is trained in one place
    """

    dataset: str = "ml-100k"
    model: str = "mf"
    attack: str = "mixrand"
    seed: int = 0
    targets: tuple[int | str, ...] | None = None
    attack_size: float = ATTACK_SIZE
    list_length: int = 50
    attack_options: Mapping[str, Value] = field(default_factory=dict)
    reading: ReadingOptions = field(default_factory=ReadingOptions)
    fleet: FleetTraining | None = None


def with_indices(experiment: Experiment, ratings: RatingMatrix) -> Experiment:
    """The same with its targets by index. Raises InputError for an id that no item has."""
    if experiment.targets is None:
        return experiment
    return replace(experiment, targets=item_indices(ratings, experiment.targets))


def not_attacked(experiment: Experiment) -> Experiment:
    """The same without its attack, whose options go with it."""
    fleet = experiment.fleet and experiment.fleet.clean
    return replace(experiment, attack=NO_ATTACK, attack_options={}, fleet=fleet)


@dataclass(frozen=True)
class Prepared:
    """Ratings, profiles and what to measure; train() gives the models.

    watched  target items, whose hit ratio is measured
    local    what the users' devices know: own ratings and the held-out item
    dataset  the ratings before the split, and what has to be known of them
    notes    what was chosen where the options left it open
    """

    experiment: Experiment
    source: str
    split: Split
    profiles: Profiles | None
    watched: tuple[int, ...]
    local: LocalRatings
    dataset: Dataset
    notes: tuple[str, ...] = ()

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What looks wrong in the ratings, or in what is done with them."""
        found = self.dataset.doubts
        if self.dataset.read_as.implicit and self.experiment.model in RATING_MODELS:
            text = (
                f"every rating is 1, which {self.experiment.model} is fitted to: it learns little "
                "of who likes what; take --model ials, bpr, lightgcn or ease"
            )
            found += (Doubt("implicit-model", text),)
        return found

    def read(self) -> dict[str, Any]:
        """Which ratings these are, how they were read, what looks wrong, and the targets' ids."""
        dataset = self.dataset
        reading = {
            "options": dataset.reading.told(),
            "notes": list(dataset.notes),
            "shift": dataset.shift,
        }
        return {
            "data_digest": data_digest(dataset.ratings),
            "target_ids": item_names(dataset.ratings, self.watched),
            "target_items": dataset.item_names.told(self.watched),
            "reading": reading,
            "warnings": [doubt.told() for doubt in self.doubts],
        }

    @cached_property
    def poisoned(self) -> RatingMatrix:
        """What a server trains on: real users first, then fakes."""
        real = self.split.train
        return real if self.profiles is None else real.stack(self.profiles.ratings)

    @property
    def user_count(self) -> int:
        return self.split.train.user_count

    @property
    def imported(self) -> ImportedModel | None:
        """The imported model that the experiment names; None for one that is trained here."""
        return imported_model(self.experiment.model)

    def training(self, robust: Robust | None = None) -> TrainingSettings:
        """How train() trains what is not imported. Raises InputError without parameters."""
        named = self.experiment
        require_parameters(named.model)
        return TrainingSettings.on(named.dataset, model=named.model, seed=named.seed, robust=robust)

    def training_notes(self, store: ModelStore) -> tuple[str, ...]:
        """What has to be known of an imported model, which was perhaps trained on other ratings."""
        if self.imported is None:
            return ()
        conditions = [("clean", self.split.train)]
        if self.profiles is not None:
            conditions.append(("attacked", self.poisoned))
        return tuple(
            f"{what} model: {note}"
            for what, ratings in conditions
            for note in self.imported.notes(ratings, store)
        )

    def train(
        self,
        store: ModelStore,
        *,
        clean: bool = False,
        robust: Robust | None = None,
        search: Search = "auto",
        progress: Report = quiet,
    ) -> Recommender:
        """The model of the poisoned (or the clean) ratings, from the store if it is there.

        `robust` is a robust training; None is the plain one. `search` is of neighbors.
        """
        ratings = self.split.train if clean else self.poisoned
        what = "train" if robust is None else f"train {robust.method}"
        what += " on clean ratings" if clean else ""
        fleet = self.experiment.fleet
        if fleet is not None:
            assert robust is None  # what Study.cell refuses
            fleet, seed = fleet.clean if clean else fleet, self.experiment.seed
            stored = fleet.version(
                ratings,
                store,
                real=self.user_count,
                targets=self.watched,
                seed=seed,
                progress=lambda _, done, rounds: progress(f"{what} in the fleet", done, rounds),
            )
            return Recommender(stored, ratings, self.user_count, search=search)
        stored = trained(
            ratings,
            self.imported or self.training(robust),
            store,
            progress=lambda done, epochs: progress(what, done, epochs),
        )
        return Recommender(stored, ratings, self.user_count, search=search)


def load(experiment: Experiment) -> Dataset:
    """The ratings that an experiment names, read as it says. Raises InputError."""
    return load_dataset(
        experiment.dataset,
        seed=experiment.seed,
        reading=experiment.reading,
        progress=notes_wanted(),
    )


def prepare(
    experiment: Experiment,
    profiles: Profiles | None = None,
    *,
    dataset: Dataset | None = None,
    attack: Attack | None = None,
    own_model: bool = False,
    hold_out: bool = True,
    kept: KeptAttacks | None = None,
    progress: Report = quiet,
) -> Prepared:
    """Load, split, attack. Raises InputError for anything that does not fit.

    Without an attack, an experiment of no targets, (), watches none.

    profiles   of the same experiment, or of one with another model: not made again; or any others
               over the same items, instead of the attack that the experiment names
    dataset    ratings at hand, instead of those that the experiment names
    attack     a function, instead of the attack that the experiment names
    own_model  whether the experiment's model is one's own, and its name only that
    hold_out   whether one rating of every user is withheld, to be found again
    kept       where the fakes of an attack are taken from, if they are there, and put otherwise
    """
    check(experiment, attack=attack, profiles=profiles, own_model=own_model)
    dataset = load(experiment) if dataset is None else dataset
    experiment = with_indices(experiment, dataset.ratings)
    if hold_out:
        split = leave_one_out(dataset, kind=dataset.reading.split, seed=experiment.seed)
    else:
        split = nothing_held_out(dataset.ratings)
    if hold_out and not len(split.held_out.users):
        raise InputError(
            f"{experiment.dataset}: no user has two ratings, so none can be held out to be found: "
            "serve them without --hold-out, or give ratings to hold out with --test FILE"
        )
    if profiles is None:
        profiles = attacked(experiment, split.train, attack=attack, kept=kept, progress=progress)
        if profiles is not None and not experiment.attack.startswith(FILE_PREFIX):
            profiles = of_data(profiles, dataset)
    doubts = dataset.doubts
    if profiles is not None:
        doubts += made_for_others(profiles, dataset)
    if (
        profiles is not None
        and profiles.audience
        and profiles.audience[-1] >= split.train.user_count
    ):
        raise InputError(
            f"audience: user {profiles.audience[-1]} is none of the {split.train.user_count} real "
            "ones: these profiles are of other ratings"
        )
    targets = _indices_of(experiment) if profiles is None else profiles.targets
    watched: tuple[int, ...] = ()
    if profiles is not None or targets != ():
        watched = targets_of(split.train, seed=experiment.seed, targets=targets)
    local = local_ratings(split)
    notes = (
        *_drawn_note(experiment, split.train, watched, profiles),
        *_length_note(experiment.list_length, split.train.item_count),
    )
    dataset = replace(dataset, doubts=doubts)
    return Prepared(experiment, dataset.source, split, profiles, watched, local, dataset, notes)


def _indices_of(experiment: Experiment) -> tuple[int, ...] | None:
    """Of an experiment whose targets are indices already."""
    if experiment.targets is None:
        return None
    return tuple(int(target) for target in experiment.targets)


def _drawn_note(
    experiment: Experiment,
    ratings: RatingMatrix,
    watched: tuple[int, ...],
    profiles: Profiles | None,
) -> tuple[str, ...]:
    """That drawn targets are more popular than those of the paper, where no others are there."""
    made = experiment.attack.startswith(FILE_PREFIX) or experiment.targets is not None
    promoted = profiles is None or profiles.goal == "promote"
    if made or not promoted or not watched or TARGETS in experiment.attack_options:
        return ()
    return least_popular_note(ratings, watched)


def _length_note(length: int, items: int) -> tuple[str, ...]:
    """That a list of most items has any target in it."""
    if 2 * length <= items:
        return ()
    return (
        f"a list of {length} is more than half of the {items} items, so that it holds most targets "
        f"anyway: give --list-length {max(items // 10, 1)}",
    )


def attacked(
    experiment: Experiment,
    ratings: RatingMatrix,
    *,
    attack: Attack | None = None,
    kept: KeptAttacks | None = None,
    progress: Report = quiet,
) -> Profiles | None:
    """The profiles of the experiment's attack on some ratings; None without an attack.

    kept  where they are taken from, if they are there, and put otherwise

    Raises InputError, OSError.
    """
    if attack is None and experiment.attack == NO_ATTACK:
        return None
    if attack is None and experiment.attack.startswith(FILE_PREFIX):
        path = Path(experiment.attack.removeprefix(FILE_PREFIX))
        targets = _indices_of(experiment)
        return read_profiles(path, ratings.item_count, ratings.scale, targets=targets)
    make: Callable[..., Profiles] = partial(make_profiles, attack=attack)
    if kept is not None and attack is None:
        make = kept.made
    return make(
        experiment.attack,
        ratings,
        seed=experiment.seed,
        targets=_indices_of(experiment),
        attack_size=experiment.attack_size,
        options=experiment.attack_options,
        progress=progress,
    )


def check(
    experiment: Experiment,
    *,
    attack: Attack | None = None,
    profiles: Profiles | None = None,
    own_model: bool = False,
) -> None:
    """What can be told before anything is loaded; parameters as those of prepare.

    Raises InputError.
    """
    if experiment.list_length < 1:
        raise InputError(f"K = {experiment.list_length}: recommend at least one item")
    if not own_model and not is_function(experiment.model):
        require_named(experiment.model)
    if experiment.fleet is not None:
        experiment.fleet.require("" if own_model else experiment.model, experiment.targets)
    if profiles is not None:
        return
    fixed = experiment.attack == NO_ATTACK or experiment.attack.startswith(FILE_PREFIX)
    if attack is not None or not fixed:
        function = attack or attack_named(experiment.attack)
        resolve(label(experiment.attack), function, experiment.attack_options)
    elif experiment.attack_options:
        raise InputError(f"attack {experiment.attack} has no options: leave them out")


def require_named(model: str) -> None:
    """Raises InputError for a name that no model has."""
    if model not in NAMED and not model.startswith(IMPORTED):
        raise unknown("model", model, NAMED, more=", or imported:NAME")


def require_parameters(model: str) -> None:
    """Raises InputError for a baseline, which can be measured and no more."""
    if model in UNDEFENDED:
        raise InputError(f"{model} has no parameters to serve or to show: measure it with evaluate")


def local_ratings(split: Split) -> LocalRatings:
    """What each user's own device knows in this split."""
    ids = split.train.user_ids
    return LocalRatings(split.train, split.held_out.items, liked(split), ids=ids)


def liked(split: Split) -> NDArray[np.bool_]:
    """Whether each user's held-out rating reaches the threshold, [U]."""
    fractions = split.train.scale.fractions[split.held_out.levels]
    return (fractions >= LIKED) & (split.held_out.items >= 0)
