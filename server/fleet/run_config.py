"""The run config: every key of [tool.flwr.app.config] in pyproject.toml, typed and checked."""

from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from common.errors import InputError
from common.names import unknown
from common.report_privacy import ReportPrivacy
from common.vicinal.settings import VicinalSettings, space_named
from common.vicinal.settings import preset as preset_named

Config = TypeVar("Config", bound=BaseModel)


def checked(kind: type[Config], run_config: dict[str, Any], *, where: str = "run config") -> Config:
    """Raises InputError naming the first key that is unknown, missing or out of range."""
    try:
        return kind(**run_config)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise unknown("key", key, keys_of(kind), where=where) from error
        raise InputError(f"{where}: {key}: {first['msg']}") from error


def keys_of(kind: type[BaseModel]) -> list[str]:
    """Names of its fields, as a run config has them."""
    return [field.alias or name for name, field in kind.model_fields.items()]


class RunConfig(BaseModel):
    """Configuration of a run; every key with `-` for `_`, all but the paths with a default.

    neighbors, steps, unrated_weight, min_support: −1 keeps the preset's value.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-")
    )

    deployment: str = Field(
        description="folder with the model version and training ratings; empty: one is prepared"
    )
    device_ratings: str = Field(
        default="", description="folder with one device file per client, read by them alone"
    )
    plan: str = Field(
        default="", description="file of rounds, as `vicinal simulate --rounds` writes; empty: one"
    )
    learning: str = Field(
        default="",
        description="file of a training in the fleet, as `vicinal simulate --train federated` "
        "writes: the run trains, and asks nobody",
    )
    learning_seed: int = Field(
        default=-1,
        ge=-1,
        description="of what clients draw when they train, in a simulation; -1: by themselves",
    )
    result: str = Field(
        description="JSON file that the server app writes; empty: below `FLWR_HOME`"
    )
    run: str = Field(default="", description="a name that the result repeats")
    clients: int = Field(
        default=0,
        ge=0,
        description="how many clients to wait for; 0: as many as are there when the run starts",
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of the clients there that are asked"
    )
    min_clients: int = Field(
        default=1, ge=1, description="how many must be there, and how many are asked at least"
    )
    min_replies: int = Field(
        default=1,
        ge=0,
        description="partitions whose users must all be answered, or the run fails; 0: all",
    )
    accept_failures: bool = Field(
        default=True, description="false: the first client that fails for good ends the run"
    )
    under_way: int = Field(
        default=0, ge=0, description="messages under way at a time; 0: one per client"
    )
    resume: bool = Field(
        default=True, description="go on where a run that asked the same was broken off"
    )
    report_privacy: str = Field(
        default="none",
        description="what reports keep to themselves: none, secagg, central:EPSILON, local:EPSILON",
    )
    preset: str = Field(default="vicinal", description="settings of the vicinal defense, by name")
    neighbors: int = Field(default=-1, ge=-1, description="k; -1 keeps the preset's")
    steps: int = Field(default=-1, ge=-1, description="T; -1 keeps the preset's")
    unrated_weight: float = Field(default=-1.0, ge=-1, description="α; -1 keeps the preset's")
    min_support: int = Field(default=-1, ge=-1, description="m; -1 keeps the preset's")
    neighbors_by: str = Field(default="", description="ratings, embedding or random; empty: preset")
    assumed_fakes: float = Field(default=-1.0, ge=-1, description="φ; -1 keeps the preset's")
    row_cap: int = Field(
        default=0, ge=0, description="ratings of a neighbor that are sent, at most; 0: all"
    )
    fold_in: bool = Field(
        default=False, description="send no vectors of users: clients make them of the rows"
    )
    list_length: int = Field(default=50, ge=1, description="K: items in a recommendation")
    watched_items: str = Field(
        default="", description="items whose hit ratio is measured, as in '1485 1320'"
    )
    models: str = Field(
        default="",
        description="folder of model versions that a machine's clients share; empty: each has its "
        "own",
    )
    reply_timeout: float = Field(
        default=300.0,
        gt=0,
        description="seconds to wait for a client, and for each reply before it is asked again",
    )

    @field_validator("report_privacy")
    @classmethod
    def _parsed(cls, text: str) -> str:
        return str(ReportPrivacy.parse(text))

    @field_validator("watched_items")
    @classmethod
    def _indices(cls, text: str) -> str:
        _items(text)
        return text

    @classmethod
    def of(cls, run_config: dict[str, Any]) -> Self:
        """Raises InputError as checked() does, and where a path is missing."""
        config = checked(cls, run_config)
        if not config.deployment or not config.result:
            raise InputError(
                "run config: give deployment and result; "
                "`vicinal simulate --prepare-only` writes a run config with both"
            )
        return config

    def settings(self, model: str) -> VicinalSettings:
        """For one model, whose presets these are. Raises InputError."""
        return preset_named(
            self.preset,
            model=model,
            neighbors=None if self.neighbors < 0 else self.neighbors,
            steps=None if self.steps < 0 else self.steps,
            unrated_weight=None if self.unrated_weight < 0 else self.unrated_weight,
            min_support=None if self.min_support < 0 else self.min_support,
            neighbors_by=space_named(self.neighbors_by) if self.neighbors_by else None,
            assumed_fakes=None if self.assumed_fakes < 0 else self.assumed_fakes,
            row_cap=self.row_cap,
            fold_in=self.fold_in,
        )

    def watched(self, item_count: int) -> tuple[int, ...]:
        """Raises InputError for anything but indices of items."""
        items = _items(self.watched_items)
        if any(not 0 <= item < item_count for item in items):
            raise InputError(f"run config: watched-items: items lie in 0–{item_count - 1}")
        return items


def _items(text: str) -> tuple[int, ...]:
    """Raises InputError."""
    words = text.replace(",", " ").split()
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise InputError("run config: watched-items: give indices, as in '3 17'")
    return tuple(map(int, words))
