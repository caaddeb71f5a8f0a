"""Settings of the vicinal defense, and two presets for each model."""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from common.errors import InputError
from common.models import SERVED_AS, Model, model_named
from common.names import unknown

StepRule = Literal["curvature", "adagrad", "adam", "closed-form"]
STEP_RULES: Final = ("curvature", "adagrad", "adam", "closed-form")
CLOSED_FORM_RULE: Final = "closed-form"
# In what users are near each other: what they rated, or the model's embeddings; random is the
# choice that both have to beat.
Space = Literal["ratings", "embedding", "random"]
SPACES: Final[tuple[Space, ...]] = ("ratings", "embedding", "random")
# Of few users no item has many raters.
USERS_PER_MARGIN: Final = 50
# Of all accounts: where half of them are fakes, nothing is left to hold on to.
MAX_ASSUMED: Final = 0.5
# As many items as a model may have; the wire's field is not much wider.
MAX_ROW_CAP: Final = 2**31 - 1


@dataclass(frozen=True)
class VicinalSettings:
    """One way to fine-tune on a neighborhood (paper, Algorithm 1, lines 7–13).

    neighbors       k: rows in a neighborhood, the user itself included
    unrated_weight  α: weight of the items that a neighbor did not rate, pulled towards 0;
                    0 is the paper's objective
    steps           T: fine-tuning steps
    step_rule       curvature: every row steps by a bound of its own curvature, no learning rate;
                    adagrad, adam: an optimiser of training, from a fresh state;
                    closed-form: no steps, a model without parameters is solved
                    (common.vicinal.ease)
    learning_rate   of adagrad and adam; the others have none
    min_support     m: an item's ratings count only if at least m of the k neighbors rated it;
                    above 1, items without that support rank last
    proximal_weight λ of λ‖θ − θ₀‖², which holds the copy near the model; of a closed form λ‖B‖²
    neighbors_by    the space in which users are near each other

    What rows show (docs/private-offload.md):

    row_cap         ratings of a neighbor that are sent, at most, those of the most rated items; 0:
                    all
    fold_in         vectors of users are not sent: they follow from the rows that are
                    (common.vicinal.fold_in)

    Admission: which items a user can be recommended (server.recommending.admission).

    assumed_fakes   φ: share of all accounts that may be fakes, by whose number f an item has to
                    be out of their reach; 0 admits every item
    margin          s: raters that an item needs beyond f
    candidates      C: unrated items that are looked for among the nearest users, of whom as few
                    are counted as it takes; 0 counts all users
    exploration     ρ: share of users for whom an item needs no raters, drawn for user and item
    """

    neighbors: int
    unrated_weight: float
    steps: int
    step_rule: StepRule = "curvature"
    learning_rate: float = 0.0
    min_support: int = 1
    proximal_weight: float = 0.0
    neighbors_by: Space = "embedding"
    assumed_fakes: float = 0.0
    margin: int = 1
    candidates: int = 0
    exploration: float = 0.0
    row_cap: int = 0
    fold_in: bool = False

    @property
    def only_supported(self) -> bool:
        """Whether items that nobody in a neighborhood rated rank last."""
        return self.min_support > 1 or self.assumed_fakes > 0

    def tolerated_fakes(self, users: int) -> int:
        """f: how many of `users` accounts may be fakes."""
        # A share of a count that is whole in decimals stays whole.
        return math.ceil(round(self.assumed_fakes * users, 6))

    def required_raters(self, users: int) -> int:
        """M = f + s: how many raters admit an item; 0 where every item is admitted."""
        return self.tolerated_fakes(users) + self.margin if self.assumed_fakes > 0 else 0

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
            if self.step_rule in ("curvature", CLOSED_FORM_RULE)
            else 0 < self.learning_rate < float("inf"),
            "adagrad and adam need a positive learning rate, the others take none",
        )
        require(
            1 <= self.min_support <= self.neighbors,
            f"min support must lie in 1–k, got {self.min_support} of {self.neighbors}",
        )
        require(
            0 <= self.proximal_weight < float("inf"),
            f"proximal weight must not be negative, got {self.proximal_weight}",
        )
        require(
            self.step_rule != CLOSED_FORM_RULE
            or (self.steps == 0 and self.unrated_weight == 0 and self.proximal_weight > 0),
            "a closed form takes no steps and no unrated weight, and needs a positive "
            "proximal weight",
        )
        require(self.neighbors_by in SPACES, f"neighbors are sought by {', '.join(SPACES)}")
        require(
            0 <= self.assumed_fakes <= MAX_ASSUMED,
            f"assumed fakes must be a share in 0–{MAX_ASSUMED}, got {self.assumed_fakes}",
        )
        require(self.margin >= 1, f"margin must be at least 1, got {self.margin}")
        require(self.candidates >= 0, f"candidates must not be negative, got {self.candidates}")
        require(
            0 <= self.exploration <= 1,
            f"exploration must be a share in 0–1, got {self.exploration}",
        )
        require(
            0 <= self.row_cap <= MAX_ROW_CAP,
            f"row cap must lie in 0–{MAX_ROW_CAP}, got {self.row_cap}",
        )


# What the presets `vicinal` of all models have in common.
_VICINAL: Final = VicinalSettings(
    32,
    0.7,
    2,
    proximal_weight=0.003,
    neighbors_by="ratings",
    assumed_fakes=0.03,
    margin=4,
    exploration=0.02,
)

# By model, then by name. `paper` has the k of the paper's Table 2 on ML-100K, its objective and
# training's optimizer. What is left open is chosen on validation items (sims/selection/presets.py).
PRESETS: Final[dict[str, dict[str, VicinalSettings]]] = {
    "mf": {
        "paper": VicinalSettings(12, 0.0, 25, step_rule="adagrad", learning_rate=0.3),
        "vicinal": replace(_VICINAL, neighbors=24, steps=1),
    },
    "nsvd": {
        "paper": VicinalSettings(25, 0.0, 25, step_rule="adagrad", learning_rate=1.0),
        "vicinal": replace(_VICINAL, unrated_weight=0.2),
    },
    "autorec": {
        "paper": VicinalSettings(12, 0.0, 25, step_rule="adam", learning_rate=0.03),
        "vicinal": replace(_VICINAL, unrated_weight=0.2),
    },
    "cdae": {
        "paper": VicinalSettings(12, 0.0, 60, step_rule="adam", learning_rate=0.1),
        "vicinal": replace(_VICINAL, unrated_weight=0.5),
    },
    # The paper fine-tunes parameters, which a closed form does not have.
    "ease": {
        "vicinal": replace(
            _VICINAL,
            neighbors=600,
            unrated_weight=0.0,
            steps=0,
            step_rule=CLOSED_FORM_RULE,
            proximal_weight=400.0,
        ),
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
    neighbors_by: Space | None = None,
    assumed_fakes: float | None = None,
    row_cap: int | None = None,
    fold_in: bool = False,
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
    if fold_in:
        check_fold_in(model_named(SERVED_AS.get(model, model)), chosen.step_rule)
    return replace(
        chosen,
        steps=chosen.steps if steps is None else steps,
        unrated_weight=chosen.unrated_weight if unrated_weight is None else unrated_weight,
        min_support=chosen.min_support if min_support is None else min_support,
        neighbors_by=chosen.neighbors_by if neighbors_by is None else neighbors_by,
        assumed_fakes=chosen.assumed_fakes if assumed_fakes is None else assumed_fakes,
        row_cap=chosen.row_cap if row_cap is None else row_cap,
        fold_in=chosen.fold_in or fold_in,
    )


def check_fold_in(model: Model, step_rule: StepRule) -> None:
    """Raises InputError where there are no vectors of users, or they alone are what defends."""
    if not model.user_vector:
        raise InputError(f"{model.name} sends no vectors of users: leave out --fold-in")
    if model.inputs == "none" and step_rule != "curvature":
        raise InputError(
            f"{model.name} by {step_rule}, as in preset paper, is defended by trained vectors "
            "alone: leave out --fold-in, or take --preset vicinal"
        )


def space_named(name: str) -> Space:
    """Raises InputError for a name that is not in SPACES."""
    for space in SPACES:
        if name == space:
            return space
    raise unknown("space of neighbors", name, SPACES)


def untuned(settings: VicinalSettings) -> VicinalSettings:
    """What devices are told where they rank with the model as it was trained."""
    return replace(
        settings,
        neighbors=1,
        steps=0,
        unrated_weight=0.0,
        min_support=1,
        assumed_fakes=0.0,
        row_cap=0,
        fold_in=False,
    )


def capped(settings: VicinalSettings, users: int) -> VicinalSettings:
    """With k of at most the users there are, and min support and margin in proportion.

    >>> few = capped(VicinalSettings(300, 0.4, 4, min_support=24, margin=12), 100)
    >>> few.neighbors, few.min_support, few.margin
    (100, 8, 2)
    """
    margin = min(settings.margin, max(1, users // USERS_PER_MARGIN))
    fitting = settings if settings.neighbors <= users else _resized(settings, users)
    return replace(fitting, margin=margin)


def capped_note(asked: VicinalSettings, given: VicinalSettings) -> str:
    """What is to be said where `capped` gave another k."""
    return (
        f"k = {asked.neighbors} is more than the {given.neighbors} users there are: "
        f"k = {given.neighbors}, min support {given.min_support}"
    )


def tolerated_note(settings: VicinalSettings, users: int) -> str:
    """How many fakes among `users` accounts an answer stands, in words, where some are assumed."""
    fakes, required = settings.tolerated_fakes(users), settings.required_raters(users)
    explored = (
        f", but for {100 * settings.exploration:g} % of users" if settings.exploration else ""
    )
    return (
        f"stands {fakes} fakes among {users} accounts: an item needs {required} raters to be "
        f"recommended{explored}"
    )


def _resized(settings: VicinalSettings, neighbors: int) -> VicinalSettings:
    """Another k; the share of neighbors who must have rated an item stays, where one is asked."""
    share = settings.min_support / settings.neighbors if settings.min_support > 1 else 0.0
    # 0 neighbors are refused with their own message.
    support = min(max(1, round(share * neighbors)), max(1, neighbors))
    return replace(settings, neighbors=neighbors, min_support=support)
