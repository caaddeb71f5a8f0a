"""Defenses by name: robust trainings, the vicinal defense, and both together.

`rvd` repairs at inference whatever was trained; `rmf+rvd` trains robustly and then repairs.
"""

from dataclasses import dataclass, replace
from typing import Final

from common.errors import InputError
from common.names import unknown
from common.vicinal.settings import VicinalSettings
from server.baselines import BASELINES, require_no_defense
from server.training.methods import Apr, Ltsmf, Rmf, Robust, Unrated
from server.training.train import require_trainable

RVD: Final = "rvd"
NO_DEFENSE: Final = "none"
# Where settings are asked for and nothing is fine-tuned.
NO_FINE_TUNE: Final = VicinalSettings(neighbors=1, unrated_weight=0.0, steps=0)

# What each name trains; none and rvd leave the training as it is.
DEFENSES: Final[dict[str, Robust | None]] = {
    NO_DEFENSE: None,
    RVD: None,
    "apr": Apr(),
    "ltsmf": Ltsmf(),
    "rmf": Rmf(),
    "unrated": Unrated(),
}


@dataclass(frozen=True)
class Defense:
    """A defense: the robust training of the model, if any, and whether RVD follows."""

    robust: Robust | None
    rvd: bool

    @property
    def name(self) -> str:
        """As --defense takes it, training first."""
        parts = [self.robust.method] if self.robust is not None else []
        return "+".join(parts + [RVD] * self.rvd) or NO_DEFENSE

    def settings(self, settings: VicinalSettings) -> VicinalSettings:
        """What devices are to be told: without RVD, to rank with the model as it is."""
        if self.rvd:
            return settings
        return replace(settings, neighbors=1, steps=0, unrated_weight=0.0, min_support=1)


def defense_named(text: str, *, model: str = "mf") -> Defense:
    """Parse `rmf`, `rvd`, `rmf+rvd`, …, for a model.

    Raises InputError for an unknown name, parts that do not go together, and a defense that the
    model does not have.
    """
    names = text.split("+")
    for name in names:
        if name not in DEFENSES:
            both = ", or a robust training and rvd, as in rmf+rvd"
            raise unknown("defense", name, DEFENSES, more=both)
    trainings = [robust for name in names if (robust := DEFENSES[name]) is not None]
    others = len(names) - len(trainings)
    if len(trainings) > 1 or others > 1 or (NO_DEFENSE in names and len(names) > 1):
        raise InputError(f"defense {text!r}: combine one robust training with rvd, as in rmf+rvd")
    robust = trainings[0] if trainings else None
    if model in BASELINES and text != NO_DEFENSE:
        require_no_defense(model)
    require_trainable(model, robust)
    return Defense(robust, RVD in names)


def own_defense(text: str) -> Defense:
    """Parse a defense of a model of one's own: none or rvd. Raises InputError for others."""
    defense = defense_named(text)
    if defense.robust is not None:
        raise InputError(
            f"defense {text}: a model of your own has a training of its own; choose none or rvd"
        )
    return defense
