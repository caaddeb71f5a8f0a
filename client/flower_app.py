"""The devices of a share of the users, as a Flower client app.

`install` keeps the model version, once: in a folder that all clients of a machine share, where the
node or the run names one, else in the client's own state, where the version's book is, too, if it
has one. `recommend` answers for some of its users and replies with counts. Own ratings come from a
device file that the node names, never from a message. Messages share nothing else: in a simulation
module globals leak from client to client, in a deployment every message is a new process.

`partition`, `learn` and `settle` are of a model that the fleet trains (server.fleet.learning).
"""

import time
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from numpy.typing import NDArray

import common
from client.federated import OwnRatings, local_update, own_vector
from client.fleet_answers import answer_all
from client.flower_sums import give_counts, reported
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.errors import InputError
from common.federated import (
    CLIENT,
    LAST,
    VECTOR,
    LocalTraining,
    Table,
    Update,
    first_rows,
    stream,
)
from common.files import write_file
from common.source import source_digest
from common.threads import limit_threads
from common.versions.version import ModelVersion, decode_version, map_version, version_digest
from common.vicinal.book import ItemBook
from common.wire import fleet_pb2 as wire
from common.wire.book import decode_book
from common.wire.fleet import (
    BOOK,
    COMPUTED,
    CONFIG,
    EXAMPLES,
    INSTALL,
    LEARN,
    METRICS,
    MODEL,
    PARTITION,
    PAYLOAD,
    PROCESSOR,
    RECOMMEND,
    ROUND,
    SETTLE,
    TABLE,
    UPDATES,
    VECTORS,
    parse,
    partition_file_name,
    prepared_folder,
    round_folder,
)

# Taken when the code is loaded: what runs, not what lies on the disk later.
SOURCE_DIGEST: Final = source_digest(
    Path(str(common.__file__)).parent, Path(__file__).resolve().parent
)


def client_app(mods: Sequence[Mod] = ()) -> ClientApp:
    """The app, with mods of Flower's or your own around all that it does."""
    made = ClientApp(mods=list(mods))
    made.train(INSTALL)(install)
    made.query(RECOMMEND)(recommend)
    made.query(PARTITION)(partition)
    made.train(LEARN)(learn)
    made.query(SETTLE)(settle)
    # What Flower's SecAgg+ asks for: its mod masks what the function gives.
    made.train(mods=[secaggplus_mod])(give_counts)
    return made


def install(message: Message, context: Context) -> Message:
    """Verify a model version and keep it; without one, say whether it is held."""
    asked = parse(wire.Install, _payload(message))
    expected = asked.version
    arrays = message.content.array_records.get(MODEL)
    if arrays is not None:
        _keep(arrays, expected, context)
    if asked.book:
        context.state[BOOK] = ConfigRecord({BOOK: asked.book})
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
    book = None if version is None or not work.book else _held_book(work.book, version, context)
    if version is None or (work.book and book is None):
        return _reply(message, answered.SerializeToString())
    counts = answer_all(work, version, book, _own_ratings(context, _round(message)))
    answered.version, answered.users = work.version, len(work.users)
    metrics = MetricRecord(
        {
            **reported(message, context, work, counts),
            EXAMPLES: len(work.users),
            COMPUTED: 1000 * (time.perf_counter() - clock),
            PROCESSOR: 1000 * (time.process_time() - processor),
        }
    )
    return _reply(message, answered.SerializeToString(), metrics)


def partition(message: Message, context: Context) -> Message:
    """Whose ratings are here, and which code runs."""
    own, of = _partition(context)
    told = ConfigRecord({"partition": own, "partitions": of, "source": SOURCE_DIGEST})
    return Message(RecordDict({CONFIG: told}), reply_to=message)


def learn(message: Message, context: Context) -> Message:
    """Local steps for some users: how they would change the items' table.

    A user's vector stays in the client's state.
    """
    limit_threads()
    config, table = _told(message), _table(message)
    number, width, local = _whole(config, ROUND), table.shape[1], _local(config)
    own, updates = _own_ratings(context), list[Update]()
    users = _users(config)
    _take_vectors(message, context, users, width)
    for user in users:
        vector = _vector(context, user, width)
        vector, update = local_update(
            table, vector, _rated(own, user), local, rng=_draws(context, CLIENT, number, user)
        )
        _keep_vector(context, user, vector)
        updates.append(update)
    none = np.zeros((0, width), dtype=np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "users": np.array(users, dtype=np.int64),
        "counts": np.array([len(each.items) for each in updates], dtype=np.int64),
        "items": np.concatenate([np.zeros(0, dtype=np.int64), *(each.items for each in updates)]),
        "rows": np.concatenate([none, *(each.rows for each in updates)]),
    }
    metrics = MetricRecord({EXAMPLES: int(arrays["counts"].sum())})
    return Message(RecordDict({UPDATES: _record(arrays), METRICS: metrics}), reply_to=message)


def settle(message: Message, context: Context) -> Message:
    """Vectors of some users here, fitted to the table once more, for who is to serve them."""
    limit_threads()
    config, table = _told(message), _table(message)
    own, local, steps = _own_ratings(context), _local(config), _whole(config, "last-steps")
    users, found = _users(config), {}
    _take_vectors(message, context, users, table.shape[1])
    for user in users:
        found[user] = own_vector(
            table,
            _vector(context, user, table.shape[1]),
            _rated(own, user),
            local,
            steps=steps,
            rng=_draws(context, LAST, user),
        )
    arrays: dict[str, NDArray[Any]] = {
        "users": np.array(list(found), dtype=np.int64),
        "rows": np.array(list(found.values()), dtype=np.float32).reshape(-1, table.shape[1]),
    }
    return Message(RecordDict({VECTORS: _record(arrays)}), reply_to=message)


app = client_app()


def _told(message: Message) -> ConfigRecord:
    record = message.content.config_records.get(CONFIG)
    if record is None:
        raise InputError("learn: the message says nothing of how")
    return record


def _table(message: Message) -> Table:
    """Raises InputError for anything but a table of finite numbers."""
    record = message.content.array_records.get(TABLE)
    if record is None or list(record) != [TABLE] or record[TABLE].dtype != "float32":
        raise InputError("learn: the message has no table of items")
    table: Table = record[TABLE].numpy()
    if table.ndim != 2 or table.dtype != np.float32 or not np.isfinite(table).all():
        raise InputError("learn: the table of items is none")
    return table


def _whole(config: ConfigRecord, key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 0:
        raise InputError(f"learn: {key} is no number")
    return value


def _users(config: ConfigRecord) -> list[int]:
    users = config.get("users")
    if not isinstance(users, list) or any(type(user) is not int for user in users):
        raise InputError("learn: the message names no users")
    return [int(user) for user in users]


def _local(config: ConfigRecord) -> LocalTraining:
    values: dict[str, Any] = {}
    for field in fields(LocalTraining):
        value = config.get(field.name.replace("_", "-"))
        if type(value) is not (int if field.name == "steps" else float) or not value >= 0:
            raise InputError(f"learn: {field.name} is no number")
        values[field.name] = value
    return LocalTraining(**values)


def _rated(own: LocalRatings, user: int) -> OwnRatings:
    row = own.row_of(user)
    return OwnRatings(row.items.astype(np.int64), row.ratings)


def _draws(context: Context, *place: int) -> np.random.Generator:
    """The run's seed decides in a simulation; elsewhere nobody else is to know what is drawn."""
    seed = context.run_config.get("learning-seed", -1)
    return stream(seed, *place) if type(seed) is int and seed >= 0 else np.random.default_rng()


def _vector(context: Context, user: int, width: int) -> Table:
    kept = context.state.array_records.get(VECTORS)
    if kept is not None and str(user) in kept:
        vector: Table = kept[str(user)].numpy()
        if vector.shape == (width,):
            return vector
    fresh: Table = first_rows(1, width, rng=_draws(context, VECTOR, user))[0]
    return fresh


def _take_vectors(message: Message, context: Context, users: Sequence[int], width: int) -> None:
    """Those of a training before, where there are none here. Raises InputError."""
    told = message.content.array_records.get(VECTORS, ArrayRecord())
    kept = context.state.array_records.get(VECTORS, ArrayRecord())
    if not told.keys() <= set(map(str, users)):
        raise InputError("learn: a vector is of a user who is not asked")
    for user, array in told.items():
        vector = array.numpy() if array.dtype == "float32" else None
        if (
            vector is None
            or vector.dtype != np.float32
            or vector.shape != (width,)
            or not np.isfinite(vector).all()
        ):
            raise InputError("learn: a vector of a user is none")
        if user not in kept:
            _keep_vector(context, int(user), vector)


def _keep_vector(context: Context, user: int, vector: Table) -> None:
    kept = context.state.array_records.get(VECTORS) or ArrayRecord()
    kept[str(user)] = Array(vector)
    context.state[VECTORS] = kept


def _record(arrays: dict[str, NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


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


def _held_book(digest: str, version: ModelVersion, context: Context) -> ItemBook | None:
    """The book of that name, which has to be the version's; None where there is another or none.

    Raises InputError for one that is no book of the version.
    """
    record = context.state.config_records.get(BOOK)
    data = None if record is None else record.get(BOOK)
    if not isinstance(data, bytes) or version_digest(data) != digest:
        return None
    return decode_book(data, version.manifest, version.digest)


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
