"""mf learned by a fleet, as a strategy of Flower's: to be used, and to be subclassed.

In a round ("train") the users who are sampled are asked through the clients that play them, and
what their rows would change is put together (server.federated.aggregation). After the last round
("evaluate") every client fits its users' vectors once more. A client that does not answer is
missing from the round, and no more.

The same settings and seed give what sims.federated.training.train_in_fleet gives, to the last bit,
where every client answers and draws from the run's seed.

Shapes: U users of clients, I items, d embedding width.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, final

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import NDArray

from common.errors import InputError, VicinalError
from common.federated import ROUND as OF_ROUND
from common.federated import Table, Update, sampled, stream
from common.wire.fleet import (
    CONFIG,
    EXAMPLES,
    LEARN,
    PARTITION,
    ROUND,
    SETTLE,
    TABLE,
    UPDATES,
    VECTORS,
)
from server.federated.aggregation import aggregated
from server.federated.settings import Federated
from server.fleet.accounts import Accounts
from server.fleet.delivery import SteadyGrid
from server.fleet.messages import reason

_LEARN: Final = f"train.{LEARN}"
_PARTITION: Final = f"query.{PARTITION}"
_SETTLE: Final = f"query.{SETTLE}"

Report = Callable[[str, int, int], None]


class Adversary(Protocol):
    """Answers for users who are malicious clients."""

    @property
    def users(self) -> frozenset[int]:
        """Who they are; none of them is asked by a message."""
        ...

    def updates(
        self, number: int, table: Table, asked: Sequence[int], honest: Sequence[Update]
    ) -> dict[int, Update]:
        """By user, of those asked in a round, from 0; it sees what the honest ones sent."""
        ...


@final
class Nobody:
    """No malicious clients."""

    users: frozenset[int] = frozenset()

    def updates(
        self, number: int, table: Table, asked: Sequence[int], honest: Sequence[Update]
    ) -> dict[int, Update]:
        return {}


@final
class Addressed:
    """Every message is for its addressee alone (server.fleet.delivery.Fleet)."""

    def takers(self, message: Message) -> Sequence[int]:
        return [message.metadata.dst_node_id]

    def judge(self, sent: Message, reply: Message) -> Message | None:
        return None

    def told(self, reply: Message) -> tuple[float, float, float] | None:
        return None

    def greeting(self, node: int) -> Message | None:
        return None

    def sent(self, message: Message, node: int) -> None:
        """Nothing is told by chance."""

    def gone(self, node: int) -> None:
        pass

    def lost(self, message: Message, node: int, why: str) -> None:
        pass


class LearningStrategy(Strategy):
    """The items' table after all rounds, `table`, and the users' vectors, `vectors` by user.

    lost  why clients did not answer, one line each

    present  users who take part; None: everybody
    vectors  of users who have one from a training before, which their clients are told
    begun    rounds of that training
    """

    def __init__(
        self,
        settings: Federated,
        table: Table,
        *,
        users: int,
        clients: int,
        seed: int,
        source_digest: str,
        adversary: Adversary | None = None,
        present: Sequence[int] | None = None,
        vectors: Mapping[int, Table] | None = None,
        begun: int = 0,
        report: Report = lambda _what, _done, _total: None,
    ) -> None:
        self.settings, self.table, self.seed = settings, table, seed
        self.adversary: Adversary = adversary or Nobody()
        self.clients, self.source_digest, self.report = clients, source_digest, report
        self.present = list(range(users) if present is None else present)
        self.everybody = np.array(sorted({*self.present, *self.adversary.users}), dtype=np.int64)
        self.begun = begun
        self._untold = dict(vectors or {})
        self.vectors: dict[int, Table] = {}
        self.lost: list[str] = []
        self._nodes: dict[int, int] = {}
        self._asked: list[int] = []

    # Who is asked.

    def sample(self, server_round: int) -> list[int]:
        """Users of a round, from 1: of all, malicious ones among them."""
        rng = stream(self.seed, OF_ROUND, self.begun + server_round - 1)
        return sampled(self.everybody, self.settings.clients, rng=rng)

    def find(self, grid: Grid, timeout: float) -> None:
        """Which node plays which partition. Raises VicinalError where one is missing."""
        messages = [Message(RecordDict(), node, _PARTITION) for node in sorted(grid.get_node_ids())]
        for reply in self._received(grid.send_and_receive(messages, timeout=timeout)):
            node = reply.metadata.src_node_id
            told = reply.content.config_records.get(CONFIG, ConfigRecord())
            client = told.get("partition")
            if told.get("source") != self.source_digest:
                self.lost.append(
                    f"client {node} runs other code: start Flower from an empty folder, see "
                    "docs/how-to/flower.md"
                )
            elif told.get("partitions") == self.clients and isinstance(client, int):
                self._nodes.setdefault(client, node)
        missing = sorted(set(range(self.clients)) - set(self._nodes))
        if missing:
            why = f": {self.lost[0]}" if self.lost else ""
            raise VicinalError(f"no client plays partition {missing[0]} of {self.clients}{why}")

    # A round, in Flower's words.

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The table, to the clients whose users are asked."""
        self._asked = self.sample(server_round)
        number = self.begun + server_round - 1
        honest = [user for user in self._asked if user not in self.adversary.users]
        yield from self._messages(_LEARN, honest, arrays, {**config, ROUND: number})

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The table with what the round's clients agree on. Raises VicinalError."""
        updates = dict[int, Update]()
        for reply in self._received(replies):
            updates |= self._updates(reply)
        honest = [updates[user] for user in sorted(updates)]
        theirs = [user for user in self._asked if user in self.adversary.users]
        number = self.begun + server_round - 1
        updates |= self.adversary.updates(number, self.table, theirs, honest)
        settings = self.settings
        step = aggregated(
            [updates[user] for user in sorted(updates)],
            settings.aggregate,
            item_count=len(self.table),
            width=self.table.shape[1],
            malicious_share=settings.malicious_share,
            row_norm=settings.row_norm,
        )
        with np.errstate(over="ignore"):  # told below
            self.table[step.items] += step.rows
        if not np.isfinite(self.table).all():
            raise VicinalError(f"federated training diverged: lower the rate ({settings.rate:g})")
        self.report("learn", server_round, settings.rounds)
        found = MetricRecord({EXAMPLES: len(updates), "moved-rows": len(step.items)})
        found["moved"] = step.norm
        return table_record(self.table), found

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """After the last round, the table once more."""
        if server_round < self.settings.rounds:
            return
        last = {"last-steps": self.settings.last_steps}
        yield from self._messages(_SETTLE, self.present, arrays, last)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """The users' vectors."""
        for reply in self._received(replies):
            try:
                arrays = arrays_of(reply, VECTORS, {"users": np.int64, "rows": np.float32})
                users, rows = arrays["users"].tolist(), arrays["rows"]
                fits = rows.shape == (len(users), self.table.shape[1])
                known = self._own(reply, users) and set(users) <= set(self.present)
                if not fits or not np.isfinite(rows).all() or not known:
                    raise InputError("vectors: they are none of this client's users")
                self.vectors |= dict(zip(users, rows, strict=True))
            except InputError as error:
                self.lost.append(f"client {reply.metadata.src_node_id}: {error}")
        return MetricRecord({EXAMPLES: len(self.vectors)}) if self.vectors else None

    def summary(self) -> None:
        """Flower's lines of how it begins say what there is to say."""

    def learn(self, grid: Grid, *, timeout: float, under_way: int = 0) -> None:
        """All rounds. Raises VicinalError, also where a user's vector did not come.

        under_way  messages at a time; 0: one for each client
        """
        steady = SteadyGrid(grid, Addressed(), under_way=under_way, accounts=Accounts())
        self.find(steady, timeout)
        self.start(steady, table_record(self.table), self.settings.rounds, timeout)
        missing = [user for user in self.present if user not in self.vectors]
        if missing:
            why = f": {self.lost[-1]}" if self.lost else ""
            raise VicinalError(f"the vector of user {missing[0]} did not come{why}")

    def _messages(
        self, kind: str, asked: Sequence[int], arrays: ArrayRecord, config: Mapping[str, Any]
    ) -> Iterable[Message]:
        """The table to the clients that play some users, who are named, and what else is told."""
        told = {name.replace("_", "-"): value for name, value in vars(self.settings.local).items()}
        of_client = defaultdict[int, list[int]](list)
        for user in asked:
            of_client[user % self.clients].append(user)
        for client, users in sorted(of_client.items()):
            record = ConfigRecord({**told, **config, "users": users})
            content = RecordDict({TABLE: arrays, CONFIG: record})
            vectors = {str(user): self._untold.pop(user) for user in users if user in self._untold}
            if vectors:
                content[VECTORS] = ArrayRecord({name: Array(row) for name, row in vectors.items()})
            yield Message(content, self._nodes[client], kind)

    def _received(self, replies: Iterable[Message]) -> Iterable[Message]:
        """Those that are no errors."""
        for reply in replies:
            if reply.has_error():
                self.lost.append(f"client {reply.metadata.src_node_id}: {reason(reply)}")
            else:
                yield reply

    def _own(self, reply: Message, users: Iterable[int]) -> bool:
        """Whether all of these users are played by who replied."""
        node = reply.metadata.src_node_id
        return all(self._nodes.get(user % self.clients) == node for user in users)

    def _updates(self, reply: Message) -> dict[int, Update]:
        """By user. What is no update of a user who was asked is refused, with all of the reply."""
        kinds = {"users": np.int64, "counts": np.int64, "items": np.int64, "rows": np.float32}
        try:
            arrays = arrays_of(reply, UPDATES, kinds)
            users, counts = arrays["users"].tolist(), arrays["counts"]
            asked = set(self._asked) - self.adversary.users
            if (
                not set(users) <= asked
                or len(set(users)) != len(users)
                or not self._own(reply, users)
                or counts.shape != (len(users),)
                or (counts < 0).any()
                or counts.sum() != len(arrays["items"])
                or len(arrays["items"]) != len(arrays["rows"])
            ):
                raise InputError("update: it is not of the users who were asked")
            ends = np.cumsum(counts)[:-1]
            parts = zip(
                users, np.split(arrays["items"], ends), np.split(arrays["rows"], ends), strict=True
            )
            shape = self.table.shape
            return {user: Update(items, rows).of_table(*shape) for user, items, rows in parts}
        except InputError as error:
            self.lost.append(f"client {reply.metadata.src_node_id}: {error}")
            return {}


def table_record(table: Table) -> ArrayRecord:
    """As messages carry it."""
    return ArrayRecord({TABLE: Array(table)})


def arrays_of(reply: Message, name: str, kinds: Mapping[str, type[Any]]) -> dict[str, NDArray[Any]]:
    """A reply's arrays of these kinds. Raises InputError for anything else."""
    record = reply.content.array_records.get(name)
    if record is None or set(record) != set(kinds):
        raise InputError("update: the reply has no such arrays")
    found = {}
    for key, kind in kinds.items():
        try:
            # No archive, of which numpy would read all that it lists.
            if not record[key].data.startswith(MAGIC_PREFIX):
                raise ValueError("no array")
            array = record[key].numpy()
        except Exception as error:  # whatever numpy's reader makes of what a client wrote
            raise InputError("update: the reply's arrays cannot be read") from error
        if array.dtype != kind or array.ndim != (2 if key == "rows" else 1):
            raise InputError(f"update: {key} is of another kind")
        found[key] = array
    return found
