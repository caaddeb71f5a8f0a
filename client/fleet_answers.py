"""What a client of a fleet answers: the users of one message, from packages or from a book."""

from client.device import answer, answer_from_book
from client.stores.ratings import LocalRatings
from common.errors import InputError
from common.ranking import Counts
from common.versions.version import ModelVersion
from common.vicinal.book import BookReader, ItemBook
from common.wire import fleet_pb2 as wire
from common.wire.messages import neighborhood_from_wire, preset_from_wire
from common.wire.sealing import OtherRatingsError


def answer_all(
    work: wire.Work, version: ModelVersion, book: ItemBook | None, local: LocalRatings
) -> list[Counts]:
    """Counts of each user of a message. Raises InputError."""
    manifest, watched = version.manifest, tuple(work.watched_items)
    if (local.train.item_count, local.train.scale) != (manifest.items, manifest.scale):
        raise InputError("device ratings: they are over other items or another scale")
    if work.list_length < 1 or any(item >= manifest.items for item in watched):
        raise InputError("recommend: the message asks for no items or watches unknown ones")
    settings = preset_from_wire(work.preset)
    reader = None if book is None else BookReader(version.served, book)
    counts = []
    for each in work.users:
        own = local.own(each.user)
        if reader is not None:
            counts.append(
                answer_from_book(
                    reader,
                    own.ratings,
                    held_out=local.held_out_of(each.user),
                    watched=watched,
                    list_length=work.list_length,
                ).counts
            )
            continue
        try:
            opened = own.unseal(each.neighborhood.sealed, version.digest)
        except OtherRatingsError:
            raise InputError(
                "device ratings: not the ones that the server trained on; prepare both together"
            ) from None
        found = answer(
            version,
            neighborhood_from_wire(
                each.neighborhood, manifest, opened, own.ratings, settings
            ).neighborhood,
            settings,
            rated=own.ratings.items,
            held_out=local.held_out_of(each.user),
            watched=watched,
            list_length=work.list_length,
        )
        counts.append(found.counts)
    return counts
