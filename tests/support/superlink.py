"""Flower's own SuperLink and grid in one process: what nodes announce and push is up to a test.

State, object store and what answers requests are Flower's; between them and the grid stands no
HTTP server. Nodes are played: they may do whatever the SuperLink lets them.
"""

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, final

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import NOOP_FLWR_AID
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate.in_memory_linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation.noop_federation_manager import NoOpFederationManager
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from google.protobuf.message import DecodeError

_HANDLERS: Final[dict[str, Any]] = {
    "PushMessages": runtime_handlers.push_messages,
    "PullMessages": runtime_handlers.pull_messages,
    "PushObject": runtime_handlers.push_object,
    "PullObject": runtime_handlers.pull_object,
    "ConfirmMessageReceived": runtime_handlers.confirm_message_received,
    "GetNodes": runtime_handlers.get_nodes,
}
_ONLINE_SECONDS: Final = 1e6


@final
class SuperLink:
    """One run.

    calls    what the grid asked, counted
    failing  how many of its next questions of a kind the server fails at
    slow     seconds that each object takes
    """

    def __init__(self) -> None:
        self.state = InMemoryLinkState(NoOpFederationManager(), InMemoryObjectStore())
        self.run_id = self.state.create_run(
            "vicinal/vicinal", "1", "h", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID,
            "flwr-serverapp",
        )  # fmt: skip
        record = self.state.run_ids[self.run_id].run
        task_id = record.primary_task_id
        assert task_id is not None
        self.task: Any = SimpleNamespace(run_id=self.run_id, task_id=task_id, type="flwr-serverapp")
        self.state.task_store[task_id].status.status = "running"
        self.calls = Counter[str]()
        self.failing = Counter[str]()
        self.slow = 0.0
        self.grid = HttpGrid(token="token")
        client: Any = SimpleNamespace(**{name: self._call(name) for name in _HANDLERS})
        self.grid._client = client
        self.grid.set_run(record)

    def _call(self, name: str) -> Any:
        def call(request: Any) -> Any:
            self.calls[name] += 1
            time.sleep(self.slow * (name == "PullObject"))
            try:
                if self.failing[name] > 0:
                    self.failing[name] -= 1
                    raise OSError("out of order")
                given = _HANDLERS[name](
                    type(request).FromString(request.SerializeToString()), self.state, self.task
                )
                sent = given.SerializeToString()
            except Exception as error:  # as the HTTP server says it
                asked = httpx.Request("POST", f"http://superlink/{name}")
                raise httpx.HTTPStatusError(
                    str(error), request=asked, response=httpx.Response(500, request=asked)
                ) from error
            try:
                return type(given).FromString(sent)
            except DecodeError as error:  # as Flower's client says it
                raise ValueError("Invalid protobuf response payload") from error

        return call

    def node(self) -> int:
        """One that is there, and stays."""
        node = self.state.create_node(NOOP_FLWR_AID, "x", os.urandom(16), _ONLINE_SECONDS)
        self.state.activate_node(node, _ONLINE_SECONDS)
        return node

    def ask(self, *nodes: int) -> list[str]:
        """A message to each; their identities."""
        return list(self.grid.push_messages([question(node) for node in nodes]))

    def take(self, node: int) -> Message | None:
        """What a node is asked next, without its content."""
        told = fleet_handlers.pull_messages(
            PullMessagesRequest(node=Node(node_id=node)), self.state, self.state.object_store
        )
        return message_from_proto(told.messages_list[0]) if told.messages_list else None

    def announce(
        self, node: int, reply: Message, tree: ObjectTree | None = None, source: int | None = None
    ) -> str:
        """A reply, and which objects it has; the session to push them in.

        source  whose it says that it is; by default the node's
        """
        tree = get_object_tree(reply) if tree is None else tree
        told = message_to_proto(remove_content_from_message(reply))
        told.metadata.message_id = tree.object_id
        told.metadata.src_node_id = node if source is None else source
        request = PushMessagesRequest(
            node=Node(node_id=node), messages_list=[told], message_object_trees=[tree]
        )
        return str(fleet_handlers.push_messages(request, self.state).session_id)

    def push(self, node: int, session: str, objects: Iterable[tuple[str, bytes]]) -> None:
        for name, content in objects:
            fleet_handlers.push_object(
                PushObjectRequest(
                    node=Node(node_id=node),
                    run_id=self.run_id,
                    object_id=name,
                    object_content=content,
                    session_id=session,
                ),
                self.state,
            )

    def answer(self, node: int, reply: Message, source: int | None = None) -> None:
        """All at once."""
        self.push(node, self.announce(node, reply, source=source), objects_of(reply))

    def stored(self) -> set[str]:
        """Identities of objects that it keeps."""
        store = self.state.object_store
        assert isinstance(store, InMemoryObjectStore)
        return set(store.store)


@contextmanager
def superlink() -> Iterator[SuperLink]:
    with pytest.MonkeyPatch.context() as patch:
        # Only as long as the block lasts; nodes and the server app share this process.
        patch.setattr(fleet_handlers, "check_abort", lambda *_given: None)
        found = SuperLink()
        for name, value in (("run", found.run_id), ("node", 1), ("task", found.task.task_id)):
            patch.setattr(TaskIdentity, f"_{name}_id", value)
        yield found


def question(node: int) -> Message:
    return Message(RecordDict({"of": ConfigRecord({"node": node % 1000})}), node, "query.ping")


def answer_of(asked: Message | None, number: int) -> Message:
    assert asked is not None
    return Message(RecordDict({"at": ConfigRecord({"number": number})}), reply_to=asked)


def objects_of(reply: Message) -> list[tuple[str, bytes]]:
    """As a node pushes them: the reply's own is the last."""
    return [(name, each.deflate()) for name, each in get_all_nested_objects(reply).items()]


def raw_object(kind: str, body: bytes, children: Iterable[str] = ()) -> tuple[str, bytes]:
    """What claims to be an object of Flower's, as the SuperLink lets it pass."""
    content = f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body
    return get_object_id(content), content


def numbers(replies: Iterable[Message]) -> list[object]:
    return [each.content.config_records["at"]["number"] for each in replies]


def until(find: Callable[[], list[Message]]) -> list[Message]:
    deadline = time.monotonic() + 60
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def playing(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def records(many: int, first: int = 0) -> RecordDict:
    return RecordDict({str(each): ConfigRecord({"n": first + each}) for each in range(many)})


def hashed(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def wait_for(link: SuperLink, node: int) -> Message | None:
    """What a node is asked next, when it is."""
    while (asked := link.take(node)) is None:
        time.sleep(0.005)
    return asked
