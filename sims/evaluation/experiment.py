"""One experiment: a data set, an attack on it, and the models trained with and without.

Everything that measures or serves starts here, so that `evaluate`, `serve`, `simulate` and
`demo` speak of the same ratings, targets and model versions when their options agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.errors import InputError
from common.models import model_named
from common.ratings import RatingMatrix
from server.data.datasets import load_dataset
from server.model_store import ModelStore
from server.recommending.offload import Search
from server.recommending.recommender import Recommender
from server.training import Robust
from server.training.train import TrainingSettings, train
from sims.attacks import attack_named, make_profiles, targets_of
from sims.attacks.budget import ATTACK_SIZE
from sims.attacks.options import Value, resolve
from sims.attacks.profiles import Profiles, read_profiles
from sims.evaluation.splits import Split, leave_one_out
from sims.progress import Report, quiet

NO_ATTACK: Final = "none"
FILE_PREFIX: Final = "file:"
# A held-out item was liked from this share of the maximum on: 4 of 5, 6 of 8.
LIKED: Final = 0.75


@dataclass(frozen=True)
class Experiment:
    """What is attacked and how.

    dataset         a name or a file (server.data.datasets)
    attack          a name of sims.attacks, `none`, or `file:PATH` of a profiles file
    seed            of split, targets, attack and training; each draws from a stream of its own
    targets         zero-based item indices; None draws five unpopular items from the seed
    attack_size     fakes as a share of real users
    list_length     K
    attack_options  of the attack, by name (sims.attacks.options)
    """

    dataset: str = "ml-100k"
    model: str = "mf"
    attack: str = "mixrand"
    seed: int = 0
    targets: tuple[int, ...] | None = None
    attack_size: float = ATTACK_SIZE
    list_length: int = 50
    attack_options: Mapping[str, Value] = field(default_factory=dict)


def not_attacked(experiment: Experiment) -> Experiment:
    """The same without its attack, whose options go with it."""
    return replace(experiment, attack=NO_ATTACK, attack_options={})


@dataclass(frozen=True)
class Prepared:
    """Ratings, profiles and what to measure; train() gives the models.

    watched  target items, whose hit ratio is measured
    local    what the users' devices know: own ratings and the held-out item
    """

    experiment: Experiment
    source: str
    split: Split
    profiles: Profiles | None
    watched: tuple[int, ...]
    local: LocalRatings

    @property
    def poisoned(self) -> RatingMatrix:
        """What a server trains on: real users first, then fakes."""
        real = self.split.train
        return real if self.profiles is None else real.stack(self.profiles.ratings)

    @property
    def user_count(self) -> int:
        return self.split.train.user_count

    def training(self, robust: Robust | None = None) -> TrainingSettings:
        """How train() trains."""
        named = self.experiment
        return TrainingSettings.on(named.dataset, model=named.model, seed=named.seed, robust=robust)

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
        settings = self.training(robust)
        stored = store.find(settings.digest(ratings))
        if stored is None:
            what = "train" if robust is None else f"train {robust.method}"
            what += " on clean ratings" if clean else ""
            stored = store.save(
                train(ratings, settings, progress=lambda done, all_: progress(what, done, all_))
            )
        return Recommender(stored, ratings, self.user_count, search=search)


def prepare(
    experiment: Experiment, profiles: Profiles | None = None, *, progress: Report = quiet
) -> Prepared:
    """Load, split and attack. Raises InputError for anything that does not fit.

    `profiles` of the same experiment, or of one with another model, are not made again.
    """
    if experiment.list_length < 1:
        raise InputError(f"K = {experiment.list_length}: recommend at least one item")
    model_named(experiment.model)
    if experiment.attack != NO_ATTACK and not experiment.attack.startswith(FILE_PREFIX):
        resolve(experiment.attack, attack_named(experiment.attack), experiment.attack_options)
    elif experiment.attack_options:
        raise InputError(f"attack {experiment.attack} has no options: leave out --attack-option")
    dataset = load_dataset(experiment.dataset, seed=experiment.seed, progress=True)
    split = leave_one_out(dataset, seed=experiment.seed)
    if not len(split.held_out.users):
        raise InputError(
            f"{experiment.dataset}: no user has two ratings, so none can be held out to find again"
        )
    profiles = profiles or _profiles(experiment, split.train, progress)
    named = experiment.targets if profiles is None else profiles.targets
    watched = targets_of(split.train, seed=experiment.seed, targets=named)
    return Prepared(experiment, dataset.source, split, profiles, watched, local_ratings(split))


def local_ratings(split: Split) -> LocalRatings:
    """What each user's own device knows in this split."""
    return LocalRatings(split.train, split.held_out.items, liked(split))


def liked(split: Split) -> NDArray[np.bool_]:
    """Whether each user's held-out rating reaches the threshold, [U]."""
    fractions = split.train.scale.fractions[split.held_out.levels]
    return (fractions >= LIKED) & (split.held_out.items >= 0)


def _profiles(
    experiment: Experiment, train_ratings: RatingMatrix, progress: Report
) -> Profiles | None:
    if experiment.attack == NO_ATTACK:
        return None
    if experiment.attack.startswith(FILE_PREFIX):
        path = Path(experiment.attack.removeprefix(FILE_PREFIX))
        return read_profiles(
            path, train_ratings.item_count, train_ratings.scale, targets=experiment.targets
        )
    return make_profiles(
        experiment.attack,
        train_ratings,
        seed=experiment.seed,
        targets=experiment.targets,
        attack_size=experiment.attack_size,
        options=experiment.attack_options,
        progress=progress,
    )
