"""Defenses by name: a detector, robust trainings, the vicinal defense, and these together.

`pca` leaves suspects out of what any model is trained on and of all neighborhoods, `rmf` trains
robustly, and `rvd` repairs at inference whatever was trained: `pca+rmf+rvd`.
"""

from dataclasses import dataclass, replace
from typing import Final

from common.errors import InputError
from common.names import unknown
from common.vicinal.settings import VicinalSettings
<<<<<<< HEAD
from server.training.methods import (
    ASSUMED_FAKES,
    UNRATED_WEIGHTS,
    Apr,
    Ltsmf,
    Pca,
    Rmf,
    Robust,
    Training,
    Unrated,
    Vat,
)
from server.training.pca import suspect_count
=======
from server.baselines import BASELINES, require_no_defense
from server.training.methods import Apr, Ltsmf, Rmf, Robust, Unrated
>>>>>>> baselines
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
    "vat": Vat(),
    "pca": Pca(),
}


@dataclass(frozen=True)
class Defense:
    """A defense: the robust training of the model, if any, and whether RVD follows.

    A detector is a training that leaves suspects out, whatever it trains the others with.
    """

    robust: Robust | None
    rvd: bool

    @property
    def name(self) -> str:
        """As --defense takes it, in the order in which its parts work."""
        parts: list[str] = []
        robust = self.robust
        if isinstance(robust, Pca):
            parts.append(robust.method)
            robust = robust.then
        if robust is not None:
            parts.append(robust.method)
        return "+".join(parts + [RVD] * self.rvd) or NO_DEFENSE

    def neighbors_of(self, users: int) -> int:
        """How many of some real users are left to be neighbors, at least."""
        if not isinstance(self.robust, Pca):
            return users
        return max(1, users - suspect_count(users, self.robust.share))

    def settings(self, settings: VicinalSettings) -> VicinalSettings:
        """What devices are to be told: without RVD, to rank with the model as it is."""
        if self.rvd:
            return settings
        return replace(settings, neighbors=1, steps=0, unrated_weight=0.0, min_support=1)


def defense_named(text: str, *, model: str = "mf", assume_fakes: float = ASSUMED_FAKES) -> Defense:
    """Parse `rmf`, `rvd`, `rmf+rvd`, `pca+rmf+rvd`, …, for a model.

    assume_fakes  fakes ÷ real users that a detector expects

    Raises InputError for an unknown name, parts that do not go together, and a defense that the
    model does not have.
    """
    names = text.split("+")
    for name in names:
        if name not in DEFENSES:
            both = ", or parts of them, as in rmf+rvd or pca+rmf+rvd"
            raise unknown("defense", name, DEFENSES, more=both)
<<<<<<< HEAD
    methods = [robust for name in names if (robust := DEFENSES[name]) is not None]
    trainings: list[Training] = [each for each in methods if not isinstance(each, Pca)]
    detectors, others = len(methods) - len(trainings), len(names) - len(methods)
    lonely = NO_DEFENSE in names and len(names) > 1
    if max(len(trainings), detectors, others) > 1 or lonely:
        raise InputError(
            f"defense {text!r}: combine one robust training with rvd, as in rmf+rvd or pca+rmf+rvd"
        )
    then = trainings[0] if trainings else None
    if isinstance(then, Unrated) and model in UNRATED_WEIGHTS:
        then = Unrated(weight=UNRATED_WEIGHTS[model])
    robust = Pca(share=assume_fakes, then=then) if detectors else then
=======
    trainings = [robust for name in names if (robust := DEFENSES[name]) is not None]
    others = len(names) - len(trainings)
    if len(trainings) > 1 or others > 1 or (NO_DEFENSE in names and len(names) > 1):
        raise InputError(f"defense {text!r}: combine one robust training with rvd, as in rmf+rvd")
    robust = trainings[0] if trainings else None
    if model in BASELINES and text != NO_DEFENSE:
        require_no_defense(model)
>>>>>>> baselines
    require_trainable(model, robust)
    return Defense(robust, RVD in names)


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
