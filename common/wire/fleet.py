"""How Flower's messages carry the contract of fleet.proto: names, limits, parsing.

A message holds one record PAYLOAD with one value of the same name, the serialized contract
message; `install` holds the record MODEL besides, with the version's bytes as its one array. A
reply to `recommend` holds the record METRICS besides: plain numbers, which Flower's mods and tools
understand.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message

from common.errors import InputError
from common.ranking import Counts
from common.report_privacy import OUTCOMES

# Actions of the client app: train.install and query.recommend.
INSTALL: Final = "install"
RECOMMEND: Final = "recommend"
# When mf is trained in the fleet: query.partition, train.learn and query.settle.
PARTITION: Final = "partition"
LEARN: Final = "learn"
SETTLE: Final = "settle"

PAYLOAD: Final = "vicinal"
MODEL: Final = "model"
# Records of a training: the items' table, and what comes back of each user.
TABLE: Final = "table"
UPDATES: Final = "updates"
VECTORS: Final = "vectors"
# A record of what else is told with work; in it, of which round of a plan it is, from 1.
CONFIG: Final = "config"
ROUND: Final = "round"
# What a client keeps beside the model: the bytes of its book.
BOOK: Final = "book"
METRICS: Final = "metrics"
# Besides counts: users answered under the name by which Flower weighs replies, and milliseconds of
# the work, by the clock and of processors.
EXAMPLES: Final = "num-examples"
COMPUTED: Final = "computed-ms"
PROCESSOR: Final = "processor-ms"
# Of `recommend`, what a report keeps to itself and in which round (common.report_privacy); with
# local privacy, reports by question and answer, and no counts.
PRIVACY: Final = "report-privacy"
SERVER_ROUND: Final = "server-round"
ANSWERS: Final = "answers"
# Of Flower's secure aggregation: what is to be added up, by the groups of its messages.
RECEIPTS: Final = "receipts"
MAX_PAYLOAD_BYTES: Final = 64 << 20

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: object) -> M:
    """Raises InputError for anything but the serialized bytes of a message of that kind."""
    name = kind.DESCRIPTOR.name
    if not isinstance(data, bytes) or len(data) > MAX_PAYLOAD_BYTES:
        raise InputError(f"fleet message: not a {name} of at most {MAX_PAYLOAD_BYTES} bytes")
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise InputError(f"fleet message: not a {name}") from error


_COUNTED: Final = tuple((each.name.replace("_", "-"), each.name) for each in fields(Counts))


def counts_to_metrics(counts: Counts) -> dict[str, int | list[int]]:
    """By the names of Counts, with `-` for `_`."""
    values = ((key, getattr(counts, name)) for key, name in _COUNTED)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values}


def counts_from_metrics(metrics: Mapping[str, Any]) -> Counts:
    """Raises InputError for anything but counts that can be."""
    found: dict[str, Any] = {}
    for key, name in _COUNTED:
        value = metrics.get(key)
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, list) != (name in {"eligible", "hits"}) or not all(
            type(number) is int for number in numbers
        ):
            raise InputError(f"fleet message: {key} is no count")
        found[name] = tuple(numbers) if isinstance(value, list) else value
    try:
        return Counts(**found)
    except ValueError as error:
        raise InputError("fleet message: impossible counts") from error


def answers_from_metrics(metrics: Mapping[str, Any], watched: int, users: int) -> list[int]:
    """Reports of so many users. Raises InputError for anything else."""
    found = metrics.get(ANSWERS)
    if (
        not isinstance(found, list)
        or len(found) != 2 * watched + OUTCOMES
        or not all(type(number) is int and number >= 0 for number in found)
        or sum(found) != users
    ):
        raise InputError(f"fleet message: these are not the reports of {users} users")
    return found


def milliseconds(metrics: Mapping[str, Any], key: str) -> float:
    """A time that a client tells. Raises InputError for what is none."""
    value = metrics.get(key)
    if not isinstance(value, float) or not math.isfinite(value) or value < 0:
        raise InputError(f"fleet message: {key} is no time")
    return value


def partition_file_name(partition: int, partitions: int) -> str:
    """Name of the device file of one client: the users u with u mod partitions = partition."""
    return f"{partition}-of-{partitions}.safetensors"


def round_folder(devices: Path, server_round: int) -> Path:
    """Where device files are that are as of a round, among those of all rounds."""
    return devices / f"round-{server_round}"


def prepared_folder(run: int) -> Path:
    """Where a server app that prepares a run itself puts its files, for clients of this machine."""
    home = os.environ.get("FLWR_HOME")
    return (Path(home) if home else Path.home() / ".flwr").absolute() / "vicinal" / str(run)
