"""How mf is trained in a fleet; all settings are part of a training's digest.

What is left open here was chosen on validation items (sims/selection/federated.py and
docs/decisions/0032-federated-training.md).
"""

import math
from typing import Final, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from common.errors import InputError
from common.federated import LocalTraining
from common.names import unknown
from server.training.methods import ASSUMED_FAKES

# What --aggregate takes; server.federated.aggregation says what each does, and needs Flower.
AGGREGATIONS: Final = ("fedavg", "median", "trimmed-mean", "krum", "multikrum", "bulyan")


def rule_named(name: str) -> str:
    """The name. Raises InputError for one that no aggregation has."""
    if name not in AGGREGATIONS:
        raise unknown("aggregation", name, AGGREGATIONS)
    return name


def suspected(count: int, share: float) -> int:
    """f: how many of so many updates, or rows of an item, are taken for malicious.

    >>> suspected(100, 0.03), suspected(10, 0.03), suspected(10, 0.0)
    (3, 1, 0)
    """
    # 0.07 × 100 is a little more than 7 in binary.
    return math.ceil(round(share * count, 9))


@final
class Federated(BaseModel):
    """A federated mf: what a round is, and how updates are put together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aggregate: str = Field(default="fedavg", description="a name of server.federated.aggregation")
    rounds: int = Field(default=40, ge=1, le=100_000)
    clients: int = Field(default=256, ge=1, description="clients asked in a round; all, if fewer")
    steps: int = Field(default=1, ge=1, le=1000, description="local steps of a client in a round")
    rate: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="η of items' rows")
    user_rate: float = Field(
        default=5.0, gt=0, allow_inf_nan=False, description="η of a user's vector"
    )
    unrated: float = Field(
        default=8.0, ge=0, le=100, description="items not rated that are drawn for each rating"
    )
    unrated_weight: float = Field(default=0.4, ge=0, le=1, description="α of what is not rated")
    row_norm: float = Field(
        default=10.0, gt=0, allow_inf_nan=False, description="C: longest change of a row in a round"
    )
    malicious_share: float = Field(
        default=ASSUMED_FAKES,
        ge=0,
        lt=0.5,
        description="of clients, that robust rules take for malicious",
    )
    last_steps: int = Field(
        default=20, ge=0, le=10_000, description="of users' own vectors, after the last round"
    )
    width: int = Field(default=64, ge=1, le=4096, description="embedding width d")

    @field_validator("aggregate")
    @classmethod
    def _known(cls, name: str) -> str:
        return rule_named(name)

    @property
    def local(self) -> LocalTraining:
        """What a client is told."""
        return LocalTraining(
            steps=self.steps,
            rate=self.rate,
            user_rate=self.user_rate,
            unrated=self.unrated,
            unrated_weight=self.unrated_weight,
            row_norm=self.row_norm,
        )


def federated_of(**given: str | float | None) -> Federated:
    """The settings with what is given, None aside. Raises InputError for what they cannot be."""
    try:
        known = {name: value for name, value in given.items() if value is not None}
        return Federated.model_validate(known)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"federated training, {place}: {first['msg']}") from None
