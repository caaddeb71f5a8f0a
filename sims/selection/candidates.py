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

# Beside the settings of the preset, each in its turn.
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

# One at a time, each of a fine-tune's settings.
CHANGES: Final[tuple[dict[str, Any], ...]] = (
    *({"neighbors": k} for k in (16, 24, 32, 48, 80, 150)),
    *({"steps": steps} for steps in (0, 1, 2, 4)),
    {"neighbors": 32, "steps": 2},
    *({"unrated_weight": weight} for weight in (0.1, 0.2, 0.5, 0.7, 1.0)),
    *({"proximal_weight": weight} for weight in (0.0003, 0.03)),
)
# And each of what admits items and finds neighbors.
COMMON_CHANGES: Final[tuple[dict[str, Any], ...]] = (
    *({"margin": margin} for margin in (1, 12)),
    *({"candidates": candidates} for candidates in (150, 300)),
    *({"exploration": exploration} for exploration in (0.0, 0.04)),
    *({"min_support": support} for support in (2, 4)),
    *({"neighbors_by": space} for space in ("embedding", "random")),
    *({"assumed_fakes": share} for share in (0.0, 0.04, 0.05, 0.1)),
)


def vicinal_candidates(model: str) -> Iterator[Candidate]:
    """The preset, other trainings with it, and each setting of it at a time; k × λ for EASE."""
    middle = PRESETS[model]["vicinal"]
    first, *others = TRAININGS.get(model, (None,))
    if model in CLOSED_FORM:
        for k, penalty in product(CLOSED_SIZES, PENALTIES):
            yield Candidate(None, replace(middle, neighbors=k, proximal_weight=penalty))
        changes = [each for each in COMMON_CHANGES if each.get("neighbors_by") != "embedding"]
    else:
        yield Candidate(first, middle)
        yield from (Candidate(training, middle) for training in (*others, None))
        changes = [*CHANGES, *COMMON_CHANGES]
    changed = (replace(middle, **change) for change in changes)
    yield from (Candidate(first, each) for each in changed if each != middle)


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
