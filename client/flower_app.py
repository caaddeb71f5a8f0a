"""The devices of a share of the users, as a Flower client app.

`install` keeps the model version, once: in a folder that all clients of a machine share, where the
node or the run names one, else in the client's own state. `recommend` answers for some of its users
and replies with counts. Own ratings come from a device file that the node names, never from a
message. Messages share nothing else: in a simulation module globals leak from client to client, in
a deployment every message is a new process.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod

import common
from client.device import answer
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.errors import InputError
from common.files import write_file
from common.ranking import Counts
from common.source import source_digest
from common.threads import limit_threads
from common.versions.version import ModelVersion, decode_version, map_version
from common.wire import fleet_pb2 as wire
from common.wire.fleet import (
    COMPUTED,
    CONFIG,
    EXAMPLES,
    INSTALL,
    METRICS,
    MODEL,
    PAYLOAD,
    PROCESSOR,
    RECOMMEND,
    ROUND,
    counts_to_metrics,
    parse,
    partition_file_name,
    prepared_folder,
    round_folder,
)
from common.wire.messages import neighborhood_from_wire, preset_from_wire
from common.wire.sealing import OtherRatingsError

# Taken when the code is loaded: what runs, not what lies on the disk later.
SOURCE_DIGEST: Final = source_digest(
    Path(str(common.__file__)).parent, Path(__file__).resolve().parent
)


def client_app(mods: Sequence[Mod] = ()) -> ClientApp:
    """The app, with mods of Flower's or your own around all that it does."""
    made = ClientApp(mods=list(mods))
    made.train(INSTALL)(install)
    made.query(RECOMMEND)(recommend)
    return made


def install(message: Message, context: Context) -> Message:
    """Verify a model version and keep it; without one, say whether it is held."""
    expected = parse(wire.Install, _payload(message)).version
    arrays = message.content.array_records.get(MODEL)
    if arrays is not None:
        _keep(arrays, expected, context)
    held = arrays is not None or _held(expected, context) is not None
    partition, partitions = _partition(context)
    installed = wire.Installed(
        source_digest=SOURCE_DIGEST,
        version=expected if held else "",
        partition=partition,
        partitions=partitions,
    )
    return _reply(message, installed.SerializeToString())


def recommend(message: Message, context: Context) -> Message:
    """Answer for the users in the message; the top K stays here, the counts go back."""
    begun, clock, processor = time.time(), time.perf_counter(), time.process_time()
    limit_threads()
    work = parse(wire.Work, _payload(message))
    answered = wire.Answered(source_digest=SOURCE_DIGEST, begun=begun)
    version = _held(work.version, context)
    if version is None:
        return _reply(message, answered.SerializeToString())
    counts = _answer_all(work, version, _own_ratings(context, _round(message)))
    answered.version, answered.users = work.version, len(work.users)
    metrics = MetricRecord(
        {
            **counts_to_metrics(counts),
            EXAMPLES: len(work.users),
            COMPUTED: 1000 * (time.perf_counter() - clock),
            PROCESSOR: 1000 * (time.process_time() - processor),
        }
    )
    return _reply(message, answered.SerializeToString(), metrics)


app = client_app()


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


def _keep(arrays: ArrayRecord, digest: str, context: Context) -> None:
    """Raises InputError for what is not the version of that name."""
    if list(arrays) != [MODEL]:
        raise InputError("install: the message carries no model version")
    data = arrays[MODEL].data
    decode_version(data, expected_digest=digest)
    if folder := _models(context):
        write_file(VersionStore(Path(folder)).path(digest), data)
    else:
        context.state[MODEL] = arrays


def _held(digest: str, context: Context) -> ModelVersion | None:
    """The version of that name; None where this client has none, or another one."""
    if folder := _models(context):
        return _mapped(VersionStore(Path(folder)).path(digest), digest)
    arrays = context.state.array_records.get(MODEL)
    if arrays is None:
        return None
    try:
        return decode_version(arrays[MODEL].data, expected_digest=digest)
    except InputError:
        return None


def _models(context: Context) -> str:
    """The folder of model versions that this machine's clients share; empty: none."""
    named = context.node_config.get("models") or context.run_config.get("models")
    return named if isinstance(named, str) else ""


def _mapped(path: Path, digest: str) -> ModelVersion | None:
    if not path.exists():
        return None
    try:
        return _verified(path, digest)
    except InputError:  # damaged: to be sent again
        path.unlink(missing_ok=True)
        return None


@lru_cache(maxsize=2)
def _verified(path: Path, digest: str) -> ModelVersion:
    # A version never changes: all clients of a process may have the same one, verified once.
    return map_version(path, expected_digest=digest)


def _partition(context: Context) -> tuple[int, int]:
    partition = context.node_config.get("partition-id")
    partitions = context.node_config.get("num-partitions")
    if not (isinstance(partition, int) and isinstance(partitions, int)):
        raise InputError("node config: give partition-id and num-partitions")
    if not 0 <= partition < partitions:
        raise InputError(f"node config: partition-id {partition} is not in 0–{partitions - 1}")
    return partition, partitions


def _round(message: Message) -> int:
    """Of a plan; 0 without one. Raises InputError."""
    record = message.content.config_records.get(CONFIG)
    number = 0 if record is None else record.get(ROUND, 0)
    if not isinstance(number, int) or number < 0:
        raise InputError("recommend: the message is of no round")
    return number


def _own_ratings(context: Context, server_round: int = 0) -> LocalRatings:
    # A node that has a file of its own names it; a simulation has a folder of all of them.
    named = context.node_config.get("device-ratings") or context.run_config.get("device-ratings")
    if isinstance(named, str) and named:
        path = Path(named)
    else:
        # Of a server app on this machine that prepared the run itself.
        path = prepared_folder(context.run_id) / "devices"
        if not path.is_dir():
            raise InputError(
                "node config: give device-ratings, the path of this node's device file; "
                "`vicinal simulate --prepare-only` writes it"
            )
    if not path.is_dir():
        return read_local_ratings(path)
    folder = round_folder(path, server_round) if server_round else path
    return read_local_ratings(folder / partition_file_name(*_partition(context)))


def _payload(message: Message) -> object:
    record = message.content.config_records.get(PAYLOAD)
    return None if record is None else record.get(PAYLOAD)


def _reply(message: Message, payload: bytes, metrics: MetricRecord | None = None) -> Message:
    content = RecordDict({PAYLOAD: ConfigRecord({PAYLOAD: payload})})
    if metrics is not None:
        content[METRICS] = metrics
    return Message(content, reply_to=message)
