"""Defenses by name: a detector, robust trainings, the vicinal defense, and these together.

`pca` leaves suspects out of what any model is trained on and of all neighborhoods, `rmf` trains
robustly, and `rvd` repairs at inference whatever was trained: `pca+rmf+rvd`.
"""

from dataclasses import dataclass
from typing import Final

from common.errors import InputError
from common.names import unknown
from common.vicinal.settings import CLOSED_FORM_RULE, VicinalSettings, untuned
from server.baselines import UNDEFENDED, require_no_defense
from server.training.bases import base_training
from server.training.methods import (
    ASSUMED_FAKES,
    UNRATED_WEIGHTS,
    Apr,
    Ltsmf,
    Pca,
    Rmf,
    Robust,
    Unrated,
    Vat,
)
from server.training.pca import suspect_count
from server.training.ranking import Ials
from server.training.train import require_trainable

RVD: Final = "rvd"
NO_DEFENSE: Final = "none"
# A training as it was published, where a preset has another.
PLAIN: Final = "plain"
# The detector.
PCA: Final = "pca"
# Where settings are asked for and nothing is fine-tuned.
NO_FINE_TUNE: Final = VicinalSettings(neighbors=1, unrated_weight=0.0, steps=0)

# What each name trains; none and rvd leave the training as it is.
DEFENSES: Final[dict[str, Robust | None]] = {
    NO_DEFENSE: None,
    RVD: None,
    PLAIN: None,
    "apr": Apr(),
    "ials": Ials(),
    "ltsmf": Ltsmf(),
    "rmf": Rmf(),
    "unrated": Unrated(),
    "vat": Vat(),
    PCA: Pca(),
}


@dataclass(frozen=True)
class Defense:
    """A defense: the robust training of the model, if any, and whether RVD follows.

    A detector is a training that leaves suspects out, whatever it trains the others with.

    named  the training as it was asked for: none where the preset has decided it
    """

    robust: Robust | None
    rvd: bool
    named: str = ""

    @property
    def name(self) -> str:
        """As --defense takes it, in the order in which its parts work."""
        parts = [self.named] if self.named else []
        return "+".join(parts + [RVD] * self.rvd) or NO_DEFENSE

    def neighbors_of(self, users: int) -> int:
        """How many of some real users are left to be neighbors, at least."""
        if not isinstance(self.robust, Pca):
            return users
        return max(1, users - suspect_count(users, self.robust.share))

    def settings(self, settings: VicinalSettings) -> VicinalSettings:
        """What devices are to be told: without RVD, to rank with the model as it is.

        Raises InputError where there is none.
        """
        if self.rvd:
            return settings
        if settings.step_rule == CLOSED_FORM_RULE:
            raise InputError(
                "a model without parameters is on no device as it is: use --defense rvd, or "
                "measure it with evaluate"
            )
        return untuned(settings)


def defense_named(
    text: str, *, model: str = "mf", preset: str = "", assume_fakes: float = ASSUMED_FAKES
) -> Defense:
    """Parse `rmf`, `rvd`, `rmf+rvd`, `pca+rmf+rvd`, …, for a model.

    preset        whose training is meant where rvd is asked for without one; `plain+rvd` is none
    assume_fakes  fakes ÷ real users that a detector expects

    Raises InputError for an unknown name, parts that do not go together, and a robust training
    that the model does not have.
    """
    names = text.split("+")
    for name in names:
        if name not in DEFENSES:
            both = ", or parts of them, as in rmf+rvd or pca+rmf+rvd"
            raise unknown("defense", name, DEFENSES, more=both)
    trainings = [name for name in names if name not in (NO_DEFENSE, RVD, PCA)]
    rvd, detector = RVD in names, PCA in names
    lonely = NO_DEFENSE in names and len(names) > 1
    if len(trainings) > 1 or len(set(names)) < len(names) or lonely or text == PLAIN:
        raise InputError(
            f"defense {text!r}: combine one robust training with rvd, as in rmf+rvd or pca+rmf+rvd"
        )
    if model in UNDEFENDED and text != NO_DEFENSE:
        require_no_defense(model)
    then = base_training(model, preset) if rvd and not trainings else None
    for name in trainings:
        method = DEFENSES[name]
        assert not isinstance(method, Pca)
        then = method
    if isinstance(then, Unrated) and trainings and model in UNRATED_WEIGHTS:
        then = Unrated(weight=UNRATED_WEIGHTS[model])
    robust = Pca(share=assume_fakes, then=then) if detector else then
    require_trainable(model, robust)
    named = "+".join([PCA] * detector + trainings)
    return Defense(robust, rvd, named)


def training_named(text: str, *, model: str = "mf") -> Robust:
    """Parse a defense without rvd: `rmf`, `pca`, `pca+rmf`. Raises InputError."""
    trainings = [name for name, robust in DEFENSES.items() if robust is not None]
    for name in text.split("+"):
        if name not in trainings:
            raise unknown("robust training", name, trainings)
    robust = defense_named(text, model=model).robust
    assert robust is not None  # no other name is left
    return robust


def own_defense(text: str) -> Defense:
    """Parse a defense of a model of one's own: none or rvd. Raises InputError for others."""
    defense = defense_named(text)
    if defense.robust is not None:
        raise InputError(
            f"defense {text}: a model of your own has a training of its own; choose none or rvd"
        )
    return defense
