"""What a device takes from a server, checked against what it had asked for.

The checks are here because a package is read twice: when it arrives, and again from the disk.
"""

from typing import Final

from common.errors import InputError
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.messages import Received, neighborhood_from_wire
from common.wire.sealing import OwnRow

# Of a receipt, which a device keeps for every answer until it is reported; servers send 32.
MAX_RECEIPT_BYTES: Final = 64


def checked_package(
    message: wire.OffloadPackage, description: Description, preset: str, own: OwnRow
) -> tuple[Received, wire.Own]:
    """A package's neighborhood, and what was sealed in it.

    Raises OtherRatingsError for one that was made of other ratings of the user, InputError when it
    is not what was asked for.
    """
    settings = description.preset(preset)
    # A device's file may be older or newer than the version, and items are only ever added.
    own = own.over_items(description.manifest.items)
    if message.version != description.version:
        raise InputError("the package is of another model version")
    _check_receipt(message.receipt)
    if 1 + len(message.neighborhood.row_lengths) != settings.neighbors:
        rows = len(message.neighborhood.row_lengths)
        raise InputError(f"the package has {rows} rows of others, which are not k less one")
    opened = own.unseal(message.neighborhood.sealed, description.version)
    received = neighborhood_from_wire(
        message.neighborhood, description.manifest, opened, own.ratings, settings
    )
    return received, opened


def checked_items(message: wire.Recommendation, description: Description) -> list[int]:
    """The items of a server's answer, best first. Raises InputError when it cannot be one."""
    if message.version != description.version:
        raise InputError("the recommendation is of another model version")
    _check_receipt(message.receipt)
    # Counted before they are made Python's own: a message may hold millions.
    items = list(message.items[: description.list_length + 1])
    if len(items) > description.list_length or len(set(items)) != len(items):
        raise InputError(f"the recommendation is not of {description.list_length} different items")
    if items and max(items) >= description.manifest.items:
        raise InputError("the recommendation names an item that there is not")
    return items


def _check_receipt(receipt: bytes) -> None:
    if len(receipt) > MAX_RECEIPT_BYTES:
        raise InputError(
            f"its receipt has {len(receipt)} bytes, and this device keeps {MAX_RECEIPT_BYTES}"
        )


def checked_receipts(message: wire.ReceiptsReply, users: int) -> list[bytes]:
    """One receipt a user. Raises InputError for what was not asked for."""
    if len(message.receipts) != users:
        raise InputError(f"{len(message.receipts)} receipts for {users} users")
    for receipt in message.receipts:
        _check_receipt(receipt)
    return list(message.receipts)
