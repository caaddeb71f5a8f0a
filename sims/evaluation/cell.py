"""One cell: an experiment, a defense on it, and who is asked.

`vicinal evaluate` measures one cell, `vicinal grid` many of them with much in common: what is
measured once goes into a memo, and is not measured again for a cell that needs the same.
"""

import time
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple, Protocol, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.processes import core_count
from common.vicinal.book import Release
from common.vicinal.settings import VicinalSettings, capped, capped_note
from server.baselines import UNDEFENDED, BaselineRecommender
from server.model_store import ModelStore
from server.recommending.book import BookRecommender
from server.recommending.recommender import Recommender
from server.training.alternating import MANY_RATINGS
from server.training.methods import Robust
from sims.evaluation.asked import AskedUsers, chosen
from sims.evaluation.baselines import POPULARITY, USUAL, measure_baseline, refused
from sims.evaluation.defenses import NO_DEFENSE, Defense
from sims.evaluation.experiment import Experiment, Prepared, not_attacked
from sims.evaluation.measuring import (
    Condition,
    EvaluationSetup,
    Measurable,
    Measured,
    Source,
)
from sims.evaluation.own_model import OwnModel
from sims.evaluation.report import Evaluation
from sims.processes.threads import in_threads
from sims.progress import Report, quiet

# Conditions under which a cell's defense is at work.
DEFENDED: Final = ("clean_defended", "defended")

# Answers users [U] under conditions: evaluation.measure or evaluation.measure_here.
Measurer = Callable[
    [EvaluationSetup, Sequence[Condition], NDArray[np.int64]], dict[Condition, Measured]
]
Memo = MutableMapping[str, Measured]


class Train(Protocol):
    """Gives the model of the clean or the poisoned ratings, robustly trained or plainly."""

    def __call__(self, *, clean: bool, robust: Robust | None, progress: Report) -> Measurable: ...


@dataclass(frozen=True)
class Cell:
    """What is measured.

    defense    a robust training, the fine-tune, both or neither
    preset     what `settings` began as; in a grid empty without the vicinal defense
    settings   of the vicinal defense; without it, nothing reads them
    users      size of a random sample, or users by name; None asks everybody
    baselines  that are measured beside it, by name (sims.evaluation.baselines)
    release    what devices are given where rvd defends: rows of neighbors, or a book
    """

    experiment: Experiment
    defense: Defense
    preset: str
    settings: VicinalSettings
    users: AskedUsers = None
    baselines: tuple[str, ...] = USUAL
    release: Release = "rows"

    def memo_key(self, condition: Condition, watched: tuple[int, ...]) -> str:
        """Everything that decides what is measured under a condition."""
        clean, defended = condition.startswith("clean"), condition in DEFENDED
        experiment = self.experiment
        if clean:
            experiment = replace(not_attacked(experiment), attack_size=0, targets=watched)
        # What is not defended is the plainly trained model.
        robust = self.defense if defended else None
        settings = self.settings if defended else None
        release = self.release if defended else None
        return repr((condition, experiment, robust, watched, settings, self.users, release))

    def baseline_key(self, name: str, watched: tuple[int, ...]) -> str:
        """Everything that decides what is measured of a baseline: the model does not."""
        return repr((name, replace(self.experiment, model=""), watched, self.users))

    def capped(self, prepared: Prepared) -> "Cell":
        """With k of at most the real users: the clean model has no others."""
        users = self.defense.neighbors_of(prepared.user_count)
        return replace(self, settings=capped(self.settings, users))


def evaluate_cell(
    cell: Cell,
    prepared: Prepared,
    store: ModelStore,
    measurer: Measurer,
    *,
    own: OwnModel | None = None,
    memo: Memo | None = None,
    progress: Report = quiet,
) -> Evaluation:
    """Train, or take from the store, and measure; `prepared` is of the cell's experiment.

    own  a model of one's own, instead of the one that the experiment names

    k is capped at the users there are. Raises VicinalError when training diverges.
    """
    asked, cell = cell, cell.capped(prepared)
    users = sample(prepared, cell.users)
    memo = {} if memo is None else memo
    train = _training(prepared, store, own)
    models = _measure_models(_Run(cell, prepared, train, measurer, memo, progress), users)
    beside, left_out = measure_beside(cell, prepared, memo, progress=progress)
    return Evaluation.of(
        prepared,
        models.measured,
        beside,
        defense=cell.defense.name,
        preset=cell.preset,
        settings=cell.settings,
        release=cell.release,
        notes=_notes(asked, cell)
        + prepared.notes
        + (prepared.training_notes(store) if own is None else own.notes)
        + left_out,
        fake_neighbor_share=models.fake_neighbor_share,
        train_seconds=models.train_seconds,
        defend_seconds=models.defend_seconds,
    )


def measure_clean(
    cell: Cell,
    prepared: Prepared,
    store: ModelStore,
    measurer: Measurer,
    memo: Memo,
    *,
    own: OwnModel | None = None,
) -> None:
    """Measure into `memo` what all attacks on the same data, model and seed share."""
    cell = cell.capped(prepared)
    users = sample(prepared, cell.users)
    conditions: list[Condition] = ["clean"]
    if cell.defense.name != NO_DEFENSE:
        conditions.append("clean_defended")
    train = _training(prepared, store, own)
    _Run(cell, prepared, train, measurer, memo, quiet).measured(conditions, users)


def measure_beside(
    cell: Cell, prepared: Prepared, memo: Memo, *, progress: Report = quiet
) -> tuple[dict[str, Measured], tuple[str, ...]]:
    """Popularity and the cell's baselines on the attacked ratings; a line for each left out.

    What is measured goes into `memo`, for all models and defenses under the same attack.
    """
    users, watched = sample(prepared, cell.users), prepared.watched
    names = list(dict.fromkeys((POPULARITY, *cell.baselines)))
    keys = {name: cell.baseline_key(name, watched) for name in names}
    found, left_out = dict[str, Measured](), list[str]()
    missing = [name for name in names if keys[name] not in memo]
    ratings = prepared.poisoned if missing else prepared.split.train
    length = cell.experiment.list_length
    for name in missing:
        what = f"baseline {name}"
        progress(what, 0, 1)
        try:
            memo[keys[name]] = measure_baseline(
                name, ratings, prepared.local, users, watched, length
            )
        except InputError as error:
            left_out.append(refused(name, error))
        progress(what, 1, 1)
    for name in names:
        if keys[name] in memo:
            found[name] = memo[keys[name]]
    return found, tuple(left_out)


def _notes(asked: Cell, cell: Cell) -> tuple[str, ...]:
    """What was measured otherwise than it was asked for."""
    if not cell.defense.rvd or asked.settings.neighbors == cell.settings.neighbors:
        return ()
    return (capped_note(asked.settings, cell.settings),)


def sample(prepared: Prepared, asked: AskedUsers) -> NDArray[np.int64]:
    """Users in order: those who are named, or drawn from the experiment's seed, or all."""
    return chosen(asked, prepared.split.train, seed=prepared.experiment.seed)


def book_key(seed: int) -> bytes:
    """Of the noise of an experiment's books; a server has one that nobody knows."""
    return f"experiment {seed}".encode()


def _training(prepared: Prepared, store: ModelStore, own: OwnModel | None) -> Train:
    """How the models of a cell come about."""
    named = prepared.experiment.model
    if own is None and named not in UNDEFENDED:
        return partial(prepared.train, store)

    def train(*, clean: bool, robust: Robust | None, progress: Report) -> Measurable:
        assert robust is None  # what Study.cell refuses
        what = f"train {named if own is None else own.name}{' on clean ratings' if clean else ''}"
        progress(what, 0, 1)
        ratings, users = prepared.split.train if clean else prepared.poisoned, prepared.user_count
        model: Measurable
        if own is None:
            model = BaselineRecommender(named, ratings, users)
        else:
            model = own.train(ratings, users, seed=prepared.experiment.seed)
        progress(what, 1, 1)
        return model

    return train


class _Measurements(NamedTuple):
    """Of a cell's models, which are gone before baselines take their memory."""

    measured: dict[Condition, Measured]
    fake_neighbor_share: float
    train_seconds: float
    defend_seconds: float


def _measure_models(run: "_Run", users: NDArray[np.int64]) -> _Measurements:
    """Train and ask."""
    cell = run.cell
    conditions: list[Condition] = ["clean", "undefended"]
    if cell.defense.name != NO_DEFENSE:
        conditions += ["clean_defended", "defended"]
    run.train_at_once(conditions)
    poisoned = run.recommender(clean=False)
    start, trained_before, share = time.perf_counter(), run.train_seconds, 0.0
    if cell.defense.rvd:
        nearest = run.recommender(clean=False, defended=True).nearest(
            users, cell.settings.neighbors, cell.settings.neighbors_by
        )[:, 1:]
        share = float((nearest >= poisoned.user_count).mean()) if nearest.size else 0.0
    measured = run.measured(conditions, users)
    trained_since = run.train_seconds - trained_before
    defend_seconds = time.perf_counter() - start - trained_since
    return _Measurements(measured, share, run.train_seconds, defend_seconds)


@final
class _Run:
    """One cell's models and measurements, each made when it is first asked for."""

    def __init__(
        self,
        cell: Cell,
        prepared: Prepared,
        train: Train,
        measurer: Measurer,
        memo: Memo,
        progress: Report,
    ) -> None:
        self.cell, self._prepared, self._train = cell, prepared, train
        self._measurer, self._memo, self._progress = measurer, memo, progress
        self._models: dict[tuple[bool, bool], Measurable] = {}
        self._with_book: dict[bool, BookRecommender] = {}
        self.train_seconds = 0.0

    def recommender(self, *, clean: bool, defended: bool = False) -> Measurable:
        """Trained plainly, or as the defense trains."""
        robust = self.cell.defense.robust if defended else None
        key = clean, robust is not None
        if key not in self._models:
            start = time.perf_counter()
            self._models[key] = self._train(clean=clean, robust=robust, progress=self._progress)
            seconds = time.perf_counter() - start
            self.train_seconds += seconds
        if not defended or not self.cell.defense.rvd or self.cell.release == "rows":
            return self._models[key]
        if clean not in self._with_book:
            model = self._models[key]
            assert isinstance(model, Recommender)  # what Study.cell refuses
            secret = book_key(self.cell.experiment.seed)
            self._with_book[clean] = BookRecommender(model, self.cell.settings, secret)
        return self._with_book[clean]

    def train_at_once(self, conditions: Sequence[Condition]) -> None:
        """The plainly trained models of the clean and the attacked ratings, on a core each.

        Only of many ratings: a training of one thread takes minutes then, and of fewer it is over
        before that pays.
        """
        many = len(self._prepared.split.train) >= MANY_RATINGS
        if not many or core_count() < 2 or "clean" not in self._missing(conditions):
            return
        start = time.perf_counter()

        def of_clean(report: Report) -> Measurable:
            return self._train(clean=True, robust=None, progress=report)

        def of_poisoned(report: Report) -> Measurable:
            return self._train(clean=False, robust=None, progress=report)

        models = in_threads([of_poisoned, of_clean], self._progress)
        self._models[False, False], self._models[True, False] = models
        self.train_seconds += time.perf_counter() - start

    def _missing(self, conditions: Sequence[Condition]) -> dict[Condition, str]:
        """What is not measured yet, with its key in the memo."""
        watched = self._prepared.watched
        keys = {name: self.cell.memo_key(name, watched) for name in conditions}
        return {name: key for name, key in keys.items() if key not in self._memo}

    def measured(
        self, conditions: Sequence[Condition], users: NDArray[np.int64]
    ) -> dict[Condition, Measured]:
        watched = self._prepared.watched
        keys = {name: self.cell.memo_key(name, watched) for name in conditions}
        missing = list(self._missing(conditions))
        if missing:
            setup = EvaluationSetup(
                self._models_of(missing, defended=False),
                self._prepared.local,
                self.cell.settings,
                watched,
                self.cell.experiment.list_length,
                self._models_of(missing, defended=True),
                self.cell.defense.rvd,
            )
            for name, part in self._measurer(setup, missing, users).items():
                self._memo[keys[name]] = part
        return {name: self._memo[key] for name, key in keys.items()}

    def _models_of(
        self, conditions: Sequence[Condition], *, defended: bool
    ) -> dict[Source, Measurable]:
        """The models that some conditions ask, by what they were trained on."""
        wanted = [name for name in conditions if (name in DEFENDED) == defended]
        return {
            "clean" if clean else "poisoned": self.recommender(clean=clean, defended=defended)
            for clean in {name.startswith("clean") for name in wanted}
        }
