"""A federated mf as a model version: what stands where a training does in an experiment."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from common.errors import InputError
from common.ratings import RatingMatrix
from common.versions.version import Manifest
from server.federated.settings import Federated
from server.model_store import ModelStore, StoredModel, TrainedModel, tables_digest
from sims.attacks.options import Value
from sims.federated.attacker import Attacker
from sims.federated.registry import NO_UPDATE_ATTACK, attacker_of, resolved_options
from sims.federated.training import Stage, Trained, train_in_fleet
from sims.functions import label
from sims.progress import Report, quiet

# What can be trained in a fleet, and is served afterwards.
MODEL: Final = "mf"
# What --train takes.
CENTRAL: Final = "central"
FEDERATED: Final = "federated"
# Of how settings become numbers: another one is another version.
_REVISION: Final = 2


@final
@dataclass(frozen=True)
class FleetTraining:
    """How a fleet trains, and what its malicious clients do.

    update_attack    a name of sims.federated.registry; `none`: they keep to the protocol, and what
                     harm their ratings do is all that they do
    options          of the update attack, by name
    malicious_share  malicious clients ÷ real users, where no attack has put fakes into the ratings:
                     its fakes are the malicious clients otherwise
    """

    settings: Federated
    update_attack: str = NO_UPDATE_ATTACK
    options: Mapping[str, Value] = field(default_factory=dict)
    malicious_share: float = 0.0

    def __post_init__(self) -> None:
        """Raises InputError for what no fleet has."""
        resolved_options(self.update_attack, self.options)
        if not 0 <= self.malicious_share <= 0.5:
            raise InputError(
                f"malicious share {self.malicious_share:g}: choose a share of users in 0–0.5"
            )

    def require(self, model: str, targets: tuple[int | str, ...] | None) -> None:
        """Raises InputError for what no fleet trains, and for an update attack without targets.

        model  a name; one's own has none
        """
        if model != MODEL:
            shown = label(model) or "a model of your own"
            raise InputError(f"--train federated trains {MODEL} only, not {shown}")
        if self.attacks and targets == ():
            raise InputError("an update attack needs targets: name at least one")

    @property
    def clean(self) -> "FleetTraining":
        """The same without an update attack."""
        return FleetTraining(self.settings)

    @property
    def attacks(self) -> bool:
        """Whether updates are attacked."""
        return self.update_attack != NO_UPDATE_ATTACK

    def version(
        self,
        ratings: RatingMatrix,
        store: ModelStore,
        *,
        real: int,
        targets: tuple[int, ...],
        seed: int,
        trainer: "Trainer | None" = None,
        stage: Stage | None = None,
        progress: Report = quiet,
    ) -> StoredModel:
        """The model of some ratings, of which the first `real` users are no fakes.

        trainer  who trains it, None: this process. All of them give the same numbers
        stage    who takes part, and what it goes on from; None: everybody, and nothing

        From the store where it is there, else trained and kept. Raises InputError for a rule that
        needs more clients, VicinalError when training diverges, OSError.
        """
        controlled = self.controlled(ratings.user_count, real)
        attacked = self.attacks and bool(controlled)
        told = {
            "train": FEDERATED,
            "revision": _REVISION,
            "settings": self.settings.model_dump(),
            "seed": seed,
            "ratings": ratings.digest(),
        }
        if stage is not None:
            told["stage"] = stage.digest
        if attacked:
            told["attack"] = [
                self.update_attack,
                resolved_options(self.update_attack, self.options),
            ]
            told["malicious"] = [controlled.start, controlled.stop]
            told["targets"] = targets
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        stored = store.find(digest)
        if stored is not None:
            return stored
        malicious = controlled if attacked else range(0)
        asked = Asked(self, ratings, real, targets, seed, malicious, stage)
        found = trained_here(asked, progress) if trainer is None else trainer(asked, progress)
        own = {"user_embedding": found.users}
        scale = ratings.scale
        manifest = Manifest(
            model=MODEL,
            users=ratings.user_count,
            items=ratings.item_count,
            width=self.settings.width,
            minimum=float(scale.minimum),
            maximum=float(scale.maximum),
            step=float(scale.step),
            training_digest=digest,
            user_digest=tables_digest(own),
        )
        return store.save(TrainedModel(manifest, {"item_embedding": found.items}, own))

    def controlled(self, users: int, real: int) -> range:
        """Malicious clients: the fakes among the users, or others beside them without ratings."""
        if users > real:
            return range(real, users)
        return range(users, users + int(self.malicious_share * real))


@final
@dataclass(frozen=True)
class Asked:
    """A training that is to be done; `malicious` are users, or numbers above theirs."""

    fleet: FleetTraining
    ratings: RatingMatrix
    real: int
    targets: tuple[int, ...]
    seed: int
    malicious: range
    stage: Stage | None = None

    def attacker(self) -> Attacker | None:
        """Whoever controls the malicious clients."""
        if not self.malicious:
            return None
        return attacker_of(
            self.fleet.update_attack,
            self.ratings.rows(range(self.real)),
            self.targets,
            width=self.fleet.settings.width,
            seed=self.seed,
            options=self.fleet.options,
        )


# Does what is asked.
Trainer = Callable[[Asked, Report], Trained]


def trained_here(asked: Asked, progress: Report) -> Trained:
    """In this process. Raises VicinalError, InputError."""
    return train_in_fleet(
        asked.ratings,
        asked.fleet.settings,
        seed=asked.seed,
        attacker=asked.attacker(),
        malicious=asked.malicious,
        stage=asked.stage,
        progress=progress,
    )


def fleet_told(fleet: FleetTraining | None) -> dict[str, Any]:
    """The keys of a result that say how the model was trained."""
    settings, options = dict[str, Any](), dict[str, Value]()
    if fleet is not None:
        settings = fleet.settings.model_dump()
        options = resolved_options(fleet.update_attack, fleet.options)
    return {
        "train": CENTRAL if fleet is None else FEDERATED,
        "federated": " ".join(f"{key}={value}" for key, value in settings.items()),
        "update_attack": NO_UPDATE_ATTACK if fleet is None else fleet.update_attack,
        "update_attack_options": " ".join(f"{key}={value}" for key, value in options.items()),
        "malicious_share": 0.0 if fleet is None else fleet.malicious_share,
    }


def fleet_title(fleet: FleetTraining | None) -> str:
    """Part of a table's title; empty where the model was trained in one place."""
    if fleet is None:
        return ""
    attack = f" · update attack {fleet.update_attack}" if fleet.attacks else ""
    return f"federated, {fleet.settings.aggregate}{attack} · "
