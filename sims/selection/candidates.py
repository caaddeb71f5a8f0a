"""What is tried when presets and robust trainings are chosen (sims.selection.presets)."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from common.models import CLOSED_FORM
from common.vicinal.settings import PRESETS, StepRule, VicinalSettings
from server.training.methods import Apr, Ltsmf, Pca, Rmf, Robust, Training, Unrated, Vat
from server.training.ranking import Ials
from server.training.train import TrainingSettings

# Around the middle candidate of each model, k × (steps, λ), and then one thing at a time.
TRAININGS: Final[dict[str, tuple[Training, ...]]] = {
    "mf": (
        Ials(confidence=4.0, regularization=40.0),
        Ials(confidence=4.0, regularization=20.0),
        Ials(confidence=10.0, regularization=30.0),
        Ials(confidence=10.0, regularization=60.0),
        Ials(confidence=2.0, regularization=25.0),
    ),
    "nsvd": tuple(Unrated(weight=weight) for weight in (0.05, 0.1, 0.2, 0.4)),
    "autorec": tuple(Unrated(weight=weight) for weight in (0.05, 0.1, 0.2, 0.4)),
    "cdae": tuple(Unrated(weight=weight) for weight in (0.05, 0.1, 0.2)),
}
SIZES: Final = {"mf": (40, 80, 150), "nsvd": (40, 80), "autorec": (40, 80), "cdae": (40, 80)}
STEPS: Final = ((2, 0.003), (2, 0.03), (4, 0.003))
MIDDLE: Final = VicinalSettings(
    80,
    0.4,
    2,
    min_support=2,
    proximal_weight=0.003,
    neighbors_by="ratings",
    assumed_fakes=0.03,
    margin=12,
    candidates=300,
    exploration=0.02,
)
UNRATED_WEIGHTS: Final = (0.01, 0.05, 0.1, 0.2, 0.4)

# Of the optimizer that trains the model (server.training.train). Without mf's own rate there, 10:
# with it the steps of a fine-tune diverge.
RATES: Final[dict[StepRule, tuple[float, ...]]] = {
    "adagrad": (0.03, 0.1, 0.3, 1.0),
    "adam": (0.01, 0.03, 0.1, 0.3),
}


@dataclass(frozen=True)
class Candidate:
    """A training, plain without one, and the fine-tune; robust trainings alone have none."""

    training: Robust | None
    settings: VicinalSettings | None


# Of a closed form, k × λ.
CLOSED_SIZES: Final = (150, 300, 600, 900)
PENALTIES: Final = (200.0, 400.0, 800.0)


def closed_form_candidates(model: str) -> Iterator[Candidate]:
    """K × λ, and each other setting of the preset at a time."""
    middle = PRESETS[model]["vicinal"]
    for k, penalty in product(CLOSED_SIZES, PENALTIES):
        yield Candidate(None, replace(middle, neighbors=k, proximal_weight=penalty))
    changes: list[dict[str, Any]] = [
        *({"margin": margin} for margin in (4, 24)),
        *({"candidates": candidates} for candidates in (0, 150)),
        *({"exploration": exploration} for exploration in (0.0, 0.04)),
        *({"min_support": support} for support in (1, 4, 8)),
        {"neighbors_by": "random"},
        {"assumed_fakes": 0.0, "min_support": 12},
    ]
    yield from (Candidate(None, replace(middle, **change)) for change in changes)


def vicinal_candidates(model: str) -> Iterator[Candidate]:
    """Trainings; k × steps of the first one; and each other setting of it at a time."""
    if model in CLOSED_FORM:
        yield from closed_form_candidates(model)
        return
    first, *others = TRAININGS[model]
    yield from (Candidate(training, MIDDLE) for training in (*others, None))
    for k, (steps, weight) in product(SIZES[model], STEPS):
        changed = replace(MIDDLE, neighbors=k, steps=steps, proximal_weight=weight)
        yield Candidate(first, changed)
    changes: list[dict[str, Any]] = [
        *({"margin": margin} for margin in (4, 24)),
        *({"candidates": candidates} for candidates in (0, 100, 150)),
        *({"exploration": exploration} for exploration in (0.0, 0.04)),
        *({"unrated_weight": weight} for weight in (0.1, 0.2, 0.7)),
        *({"min_support": support} for support in (1, 4, 8)),
        *({"neighbors_by": space} for space in ("embedding", "random")),
        *({"steps": steps} for steps in (0, 1, 8)),
        {"assumed_fakes": 0.0, "min_support": 6},
        {"assumed_fakes": 0.05},
    ]
    yield from (Candidate(first, replace(MIDDLE, **change)) for change in changes)


def paper_candidates(model: str) -> Iterator[Candidate]:
    """The paper's objective and k with training's optimizer, and with curvature steps."""
    k, rule = PRESETS[model]["paper"].neighbors, TrainingSettings(model=model).optimizer
    for steps, rate in product((25, 60), RATES[rule]):
        tuned = VicinalSettings(k, 0.0, steps, step_rule=rule, learning_rate=rate)
        yield Candidate(None, tuned)
    yield Candidate(None, VicinalSettings(k, 0.0, 25))


def robust_candidates(model: str) -> Iterator[Candidate]:
    """Each robust training that the model has with its main option at several values."""
    found: list[Robust] = [Unrated(weight=weight) for weight in UNRATED_WEIGHTS]
    found += [Pca(components=components) for components in (1, 2, 3, 5)]
    if model == "mf":
        found += [Apr(epsilon=epsilon) for epsilon in (0.005, 0.05, 0.1, 0.5)]
        found += [Ltsmf(trimmed=trimmed) for trimmed in (0.05, 0.1, 0.2, 0.4)]
        found += [Rmf(rank=rank) for rank in (6, 12, 24)]
        found += [Rmf(biases=True, damping=damping) for damping in (25.0, 400.0)]
        found += [Vat(epsilon=epsilon) for epsilon in (0.05, 0.2, 0.5, 1.0, 2.0)]
    return (Candidate(each, None) for each in found)


CANDIDATES: Final[dict[str, Callable[[str], Iterable[Candidate]]]] = {
    "vicinal": vicinal_candidates,
    "paper": paper_candidates,
    "robust": robust_candidates,
}
