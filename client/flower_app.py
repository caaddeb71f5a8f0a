"""The devices of a share of the users, as a Flower client app.

`install` stores the model version in the client's own state, once; `recommend` answers for
some of its users and replies with counts. Own ratings come from a device file that the node
names, never from a message. Messages share nothing but Flower's context: in a simulation
module globals leak from client to client, in a deployment every message is a new process.
"""

from pathlib import Path
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import common
from client.device import answer
from client.stores.ratings import LocalRatings, read_local_ratings
from common.errors import InputError
from common.ranking import Counts
from common.source import source_digest
from common.threads import limit_threads
from common.versions.version import ModelVersion, decode_version
from common.wire import fleet_pb2 as wire
from common.wire.fleet import INSTALL, MODEL, PAYLOAD, RECOMMEND, parse, partition_file_name
from common.wire.messages import counts_to_wire, neighborhood_from_wire, preset_from_wire
from common.wire.sealing import OtherRatingsError

# Taken when the code is loaded: what runs, not what lies on the disk later.
SOURCE_DIGEST: Final = source_digest(
    Path(str(common.__file__)).parent, Path(__file__).resolve().parent
)

app = ClientApp()


@app.train(INSTALL)
def install(message: Message, context: Context) -> Message:
    """Verify a model version and keep it in the client's state."""
    expected = parse(wire.Install, _payload(message)).version
    arrays = message.content.array_records.get(MODEL)
    if arrays is None:
        raise InputError("install: the message carries no model version")
    _decode(arrays, expected)
    context.state[MODEL] = arrays
    partition, partitions = _partition(context)
    installed = wire.Installed(
        source_digest=SOURCE_DIGEST, version=expected, partition=partition, partitions=partitions
    )
    return _reply(message, installed.SerializeToString())


@app.query(RECOMMEND)
def recommend(message: Message, context: Context) -> Message:
    """Answer for the users in the message; the top K stays here, the counts go back."""
    limit_threads()
    work = parse(wire.Work, _payload(message))
    arrays = context.state.array_records.get(MODEL)
    if arrays is None:
        raise InputError("recommend: no model version is installed on this client")
    counts = _answer_all(work, _decode(arrays, work.version), _own_ratings(context))
    answered = wire.Answered(
        source_digest=SOURCE_DIGEST,
        version=work.version,
        users=len(work.users),
        counts=counts_to_wire(counts),
    )
    return _reply(message, answered.SerializeToString())


def _answer_all(work: wire.Work, version: ModelVersion, local: LocalRatings) -> Counts:
    manifest, watched = version.manifest, tuple(work.watched_items)
    if (local.train.item_count, local.train.scale) != (manifest.items, manifest.scale):
        raise InputError("device ratings: they are over other items or another scale")
    if work.list_length < 1 or any(item >= manifest.items for item in watched):
        raise InputError("recommend: the message asks for no items or watches unknown ones")
    settings = preset_from_wire(work.preset)
    counts = Counts.none(len(watched))
    for each in work.users:
        own = local.own(each.user)
        try:
            opened = own.unseal(each.neighborhood.sealed, version.digest)
        except OtherRatingsError:
            raise InputError(
                "device ratings: not the ones that the server trained on; prepare both together"
            ) from None
        counts += answer(
            version,
            neighborhood_from_wire(
                each.neighborhood, manifest, opened, own.ratings, settings
            ).neighborhood,
            settings,
            rated=own.ratings.items,
            held_out=local.held_out_of(each.user),
            watched=watched,
            list_length=work.list_length,
        ).counts
    return counts


def _decode(arrays: ArrayRecord, digest: str) -> ModelVersion:
    if list(arrays) != [MODEL]:
        raise InputError("install: the message carries no model version")
    return decode_version(arrays[MODEL].data, expected_digest=digest)


def _partition(context: Context) -> tuple[int, int]:
    partition = context.node_config.get("partition-id")
    partitions = context.node_config.get("num-partitions")
    if not (isinstance(partition, int) and isinstance(partitions, int)):
        raise InputError("node config: give partition-id and num-partitions")
    if not 0 <= partition < partitions:
        raise InputError(f"node config: partition-id {partition} is not in 0–{partitions - 1}")
    return partition, partitions


def _own_ratings(context: Context) -> LocalRatings:
    # A node that has a file of its own names it; a simulation has a folder of all of them.
    named = context.node_config.get("device-ratings") or context.run_config.get("device-ratings")
    if not isinstance(named, str) or not named:
        raise InputError("node config: give device-ratings, the path of this node's device file")
    path = Path(named)
    return read_local_ratings(
        path / partition_file_name(*_partition(context)) if path.is_dir() else path
    )


def _payload(message: Message) -> object:
    record = message.content.config_records.get(PAYLOAD)
    return None if record is None else record.get(PAYLOAD)


def _reply(message: Message, payload: bytes) -> Message:
    return Message(RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})}), reply_to=message)
