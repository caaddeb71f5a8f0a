"""A Flower grid without Flower's processes: every message is handled where it is pushed."""

import copy
import uuid
from collections.abc import Callable, Iterable
from typing import final

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run

# What happens to a message on its way: given a message, the reply to it, or None if it is lost.
Deliver = Callable[[Message], Message | None]
# Wraps the delivery to a node, for faults.
Fault = Callable[[Message, Deliver], Message | None]


@final
class InProcessGrid(Grid):
    """Virtual nodes 1000, 1001, …; node 1000 + p plays partition p.

    faults  by node id
    gone    nodes that left, and are sent nothing
    late    of how many pulls nothing comes before one that brings a reply
    sent    every message pushed, in order; `replies` every reply that was not lost
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: int,
        run_config: dict[str, bool | float | int | str],
        faults: dict[int, Fault] | None = None,
    ) -> None:
        self._app = app
        self._faults = faults or {}
        self.contexts = {
            1000 + partition: Context(
                run_id=1,
                node_id=1000 + partition,
                node_config={"partition-id": partition, "num-partitions": nodes},
                state=RecordDict(),
                run_config=run_config,
            )
            for partition in range(nodes)
        }
        self.sent: list[Message] = []
        self.replies: list[Message] = []
        self.late = 0
        self.most_unanswered = 0
        self._pulls = 0
        self.gone: set[int] = set()
        self._ready: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        accepted = []
        for message in messages:
            identity = str(uuid.uuid4())
            message.metadata.__dict__["_message_id"] = identity
            accepted.append(identity)
            self.sent.append(message)
            fault = self._faults.get(message.metadata.dst_node_id)
            reply = self._deliver(message) if fault is None else fault(message, self._deliver)
            if reply is not None:
                self.replies.append(reply)
                self._ready[identity] = reply
        return accepted

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.most_unanswered = max(self.most_unanswered, len(self._ready))
        self._pulls += 1
        if self._pulls % (self.late + 1):
            return []
        # One at a time, the last first: a server must not rely on the order.
        for identity in reversed(list(message_ids)):
            if identity in self._ready:
                return [self._ready.pop(identity)]
        return []

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.contexts if node not in self.gone]

    def bring(self, message: Message, reply: Message | None) -> None:
        """A reply that was held back arrives."""
        assert reply is not None
        self._ready[message.metadata.message_id] = reply

    def add(self, node: int, partition: int) -> None:
        """A node comes, as a client that was restarted: under another name."""
        first = next(iter(self.contexts.values()))
        config = {**first.node_config, "partition-id": partition}
        self.contexts[node] = Context(1, node, config, RecordDict(), first.run_config)

    def _deliver(self, message: Message) -> Message:
        """As Flower's simulation does: what a handler raises becomes an error reply."""
        # What a mod takes out of a message is still in the others'.
        message = copy.deepcopy(message)
        try:
            return self._app(message, self.contexts[message.metadata.dst_node_id])
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(code=2, reason=reason), reply_to=message)

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        raise NotImplementedError

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        raise NotImplementedError
