"""A version's book as bytes, which a device gets with the version; hostile ones are refused.

Shapes: I items.
"""

from typing import Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from common.errors import InputError
from common.versions.version import Manifest
from common.vicinal.book import ItemBook
from common.wire import offload_pb2 as wire
from common.wire.packing import MAX_VARINT, decode_varints, encode_varints, pack, unpack

# Beside the items: a name and five numbers, each with a tag.
_HEAD: Final = 256


def encode_book(book: ItemBook, version: str) -> bytes:
    """The bytes of a version's book; the same book gives the same bytes."""
    gaps = _gaps(book.items)
    message = wire.ItemBook(
        version=version,
        users=book.users,
        cap=book.cap,
        threshold=book.threshold,
        sigma=book.sigma,
        listed=len(book.items),
        items=pack(encode_varints(gaps)),
    )
    return message.SerializeToString(deterministic=True)


def _gaps(items: NDArray[np.int32]) -> NDArray[np.int64]:
    before = np.concatenate([[-1], items[:-1]])
    gaps: NDArray[np.int64] = items.astype(np.int64) - before[: len(items)] - 1
    return gaps


def most_bytes(items: int) -> int:
    """That the book of a version of so many items may take."""
    return 2 * MAX_VARINT * items + _HEAD


def decode_book(data: bytes, manifest: Manifest, version: str) -> ItemBook:
    """The book of a version, from a disk or a network.

    Raises InputError for bytes that are none, that are of another version, or that list what the
    version has not. No more memory is taken than a list of all items needs.
    """
    if len(data) > most_bytes(manifest.items):
        raise InputError(f"book: {len(data)} bytes are more than {manifest.items} items need")
    try:
        message = wire.ItemBook.FromString(data)
    except DecodeError as error:
        raise InputError("book: the bytes are no message") from error
    if message.version != version or message.users != manifest.users:
        raise InputError("book: it is of another model version")
    if message.listed > manifest.items:
        raise InputError(f"book: it lists {message.listed} of {manifest.items} items")
    gaps = decode_varints(unpack(message.items, most=MAX_VARINT * message.listed), message.listed)
    if len(gaps) and gaps.max() >= manifest.items:
        raise InputError("book: it lists an item that the version has not")
    items = np.cumsum(gaps + 1) - 1
    if len(items) and items[-1] >= manifest.items:
        raise InputError("book: it lists an item that the version has not")
    return ItemBook(
        message.users,
        manifest.items,
        items.astype(np.int32),
        message.cap,
        message.threshold,
        message.sigma,
    )
