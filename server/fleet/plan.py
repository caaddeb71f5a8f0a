"""A fleet's rounds, planned before they are run: which version is asked of whom in each.

    FOLDER/plan.json                       the plan
    FOLDER/rounds/R/CONDITION/             a deployment (server.versions.deployment)
    FOLDER/devices/round-R/P-of-N...       the devices' own ratings, as they are in that round

Versions are named in the plan by their digests, so that counts of one plan are of no other.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from common.errors import InputError
from common.files import read_file

MAX_BYTES: Final = 256 << 20
PLAN_FILE: Final = "plan.json"

Condition = Literal["undefended", "defended"]
CONDITIONS: Final[tuple[Condition, ...]] = ("undefended", "defended")


class PlannedRound(BaseModel):
    """Who is asked in a round, and the versions that answer.

    asked     partitions, ascending
    versions  digest of the model version by condition
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: Annotated[int, Field(ge=1)]
    asked: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    versions: dict[Condition, str]


class Plan(BaseModel):
    """Rounds in their order, of so many clients.

    tuned  whether devices fine-tune where they are defended
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    clients: Annotated[int, Field(ge=1)]
    tuned: bool
    rounds: list[PlannedRound]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if [each.number for each in self.rounds] != [*range(1, len(self.rounds) + 1)]:
            raise ValueError("rounds are not numbered from 1")
        for each in self.rounds:
            if each.asked != sorted(set(each.asked)) or each.asked[-1] >= self.clients:
                raise ValueError(f"round {each.number}: partitions ascend below {self.clients}")
            if set(each.versions) != set(CONDITIONS):
                raise ValueError(f"round {each.number}: a version for each condition is needed")
        return self

    @property
    def askings(self) -> Iterator[tuple[PlannedRound, Condition]]:
        """Everything that is asked, in turn."""
        return ((each, condition) for each in self.rounds for condition in CONDITIONS)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_plan(path: Path) -> Plan:
    """Raises InputError for what is none."""
    try:
        return Plan.model_validate_json(read_file(path, most=MAX_BYTES))
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path}: no plan of rounds; `vicinal simulate --rounds` writes one"
        ) from error


def deployment_of(plan: Path, server_round: int, condition: Condition) -> Path:
    """The folder of a round's deployment, beside the plan."""
    return plan.parent / "rounds" / str(server_round) / condition


def progress_file(result: Path, server_round: int, condition: Condition) -> Path:
    """What was counted so far, beside the result."""
    return result.with_suffix(f".{server_round}-{condition}.progress.jsonl")
