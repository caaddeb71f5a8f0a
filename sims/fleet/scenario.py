"""How a fleet changes over rounds; keys of the run config. sims.fleet.world lives through them."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from common.errors import InputError
from server.fleet.run_config import checked, keys_of


class Scenario(BaseModel):
    """Rounds, and rates of what changes from one to the next; keys of the run config."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )

    rounds: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="without a deployment: rounds, in each of which the server trains again; 1: "
        "nothing changes",
    )
    attack_from: int = Field(
        default=1, ge=1, description="of several rounds: the first with fakes among the users"
    )
    held_back: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of several rounds: share of each user's ratings that arrive after the first",
    )
    arrive: Literal["random", "time"] = Field(
        default="random",
        description="of several rounds: whether these are drawn, or are the user's newest",
    )
    retrain: Literal["warm", "anew"] = Field(
        default="warm",
        description="of several rounds: whether the plain training goes on from the version before",
    )
    absent: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of several rounds: share of clients that are not there in the first",
    )
    leave: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="of several rounds: chance of a client that is there to leave before each",
    )
    appear: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="of several rounds: chance of a client that is not there to appear before each",
    )

    @classmethod
    def taken(cls, run_config: dict[str, Any]) -> Self:
        """Its keys, taken out of a run config. Raises InputError naming the first wrong one."""
        given = {key: run_config.pop(key) for key in keys_of(cls) if key in run_config}
        found = checked(cls, given)
        if found.rounds == 1 and found != cls():
            usual = cls().model_dump(by_alias=True)
            told = found.model_dump(by_alias=True)
            key = next(key for key in usual if told[key] != usual[key])
            raise InputError(f"run config: {key} is of several rounds: give rounds, too")
        return found
