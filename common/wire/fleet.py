"""How Flower's messages carry the contract of fleet.proto: names, limits, parsing.

A message holds one record PAYLOAD with one value of the same name, the serialized contract
message; `install` holds the record MODEL besides, with the version's bytes as its one array.
"""

from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from common.errors import InputError

# Actions of the client app: train.install and query.recommend.
INSTALL: Final = "install"
RECOMMEND: Final = "recommend"

PAYLOAD: Final = "vicinal"
MODEL: Final = "model"
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


def partition_file_name(partition: int, partitions: int) -> str:
    """Name of the device file of one client: the users u with u mod partitions = partition."""
    return f"{partition}-of-{partitions}.safetensors"
