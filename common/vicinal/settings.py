"""Settings of the vicinal defense, and two presets for each model."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from common.errors import InputError
from common.models import SERVED_AS
from common.names import unknown

StepRule = Literal["curvature", "adagrad", "adam"]
STEP_RULES: Final = ("curvature", "adagrad", "adam")


@dataclass(frozen=True)
class VicinalSettings:
    """One way to fine-tune on a neighborhood (paper, Algorithm 1, lines 7–13).

    neighbors       k: rows in a neighborhood, the user itself included
    unrated_weight  α: weight of the items that a neighbor did not rate, pulled towards 0;
                    0 is the paper's objective
    steps           T: fine-tuning steps
    step_rule       curvature: every row steps by a bound of its own curvature, no learning rate;
                    adagrad, adam: an optimiser of training, from a fresh state
    learning_rate   of adagrad and adam; curvature has none
    min_support     m: an item's ratings count only if at least m of the k neighbors rated it;
                    above 1, items without that support rank last
    proximal_weight λ of λ‖θ − θ₀‖², which holds the copy near the model
    """

    neighbors: int
    unrated_weight: float
    steps: int
    step_rule: StepRule = "curvature"
    learning_rate: float = 0.0
    min_support: int = 1
    proximal_weight: float = 0.0

    def __post_init__(self) -> None:
        def require(holds: bool, what: str) -> None:
            if not holds:
                raise InputError(f"vicinal settings: {what}")

        require(self.neighbors >= 1, f"k must be at least 1, got {self.neighbors}")
        require(
            0 <= self.unrated_weight <= 1,
            f"unrated weight must lie in 0–1, got {self.unrated_weight}",
        )
        require(self.steps >= 0, f"steps must not be negative, got {self.steps}")
        require(self.step_rule in STEP_RULES, f"step rule must be one of {', '.join(STEP_RULES)}")
        require(
            self.learning_rate == 0
            if self.step_rule == "curvature"
            else 0 < self.learning_rate < float("inf"),
            "adagrad and adam need a positive learning rate, curvature takes none",
        )
        require(
            1 <= self.min_support <= self.neighbors,
            f"min support must lie in 1–k, got {self.min_support} of {self.neighbors}",
        )
        require(
            0 <= self.proximal_weight < float("inf"),
            f"proximal weight must not be negative, got {self.proximal_weight}",
        )


# By model, then by name. `paper` has the k of the paper's Table 2 on ML-100K, its objective and
# training's optimizer. What is left open is chosen on validation items (sims/selection/presets.py).
PRESETS: Final[dict[str, dict[str, VicinalSettings]]] = {
    "mf": {
        "paper": VicinalSettings(12, 0.0, 25, step_rule="adagrad", learning_rate=0.3),
        "vicinal": VicinalSettings(300, 0.4, 4, min_support=24),
    },
    "nsvd": {
        "paper": VicinalSettings(25, 0.0, 25, step_rule="adagrad", learning_rate=1.0),
        "vicinal": VicinalSettings(150, 0.4, 4, min_support=30),
    },
    "autorec": {
        "paper": VicinalSettings(12, 0.0, 25, step_rule="adam", learning_rate=0.03),
        "vicinal": VicinalSettings(300, 0.4, 4, min_support=36),
    },
    "cdae": {
        "paper": VicinalSettings(12, 0.0, 60, step_rule="adam", learning_rate=0.1),
        "vicinal": VicinalSettings(40, 0.2, 4, min_support=3),
    },
}

PRESETS.update({name: PRESETS[model] for name, model in SERVED_AS.items()})


def preset(
    name: str,
    *,
    model: str = "mf",
    neighbors: int | None = None,
    steps: int | None = None,
    unrated_weight: float | None = None,
    min_support: int | None = None,
) -> VicinalSettings:
    """A model's preset by name, with some of its values replaced. Raises InputError.

    Another number of neighbors takes min_support along in proportion, unless none is asked for.
    """
    if model not in PRESETS:
        raise unknown("model", model, PRESETS)
    presets = PRESETS[model]
    if name not in presets:
        raise unknown("preset", name, presets)
    chosen = presets[name]
    if neighbors is not None:
        chosen = _resized(chosen, neighbors)
    return replace(
        chosen,
        steps=chosen.steps if steps is None else steps,
        unrated_weight=chosen.unrated_weight if unrated_weight is None else unrated_weight,
        min_support=chosen.min_support if min_support is None else min_support,
    )


def capped(settings: VicinalSettings, users: int) -> VicinalSettings:
    """With k of at most the users there are, and min support in proportion.

    >>> few = capped(PRESETS["mf"]["vicinal"], 100)
    >>> few.neighbors, few.min_support
    (100, 8)
    """
    return settings if settings.neighbors <= users else _resized(settings, users)


def capped_note(asked: VicinalSettings, given: VicinalSettings) -> str:
    """What is to be said where `capped` changed something."""
    return (
        f"k = {asked.neighbors} is more than the {given.neighbors} users there are: "
        f"k = {given.neighbors}, min support {given.min_support}"
    )


def _resized(settings: VicinalSettings, neighbors: int) -> VicinalSettings:
    """Another k; the share of neighbors who must have rated an item stays, where one is asked."""
    share = settings.min_support / settings.neighbors if settings.min_support > 1 else 0.0
    # 0 neighbors are refused with their own message.
    support = min(max(1, round(share * neighbors)), max(1, neighbors))
    return replace(settings, neighbors=neighbors, min_support=support)
