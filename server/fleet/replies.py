"""Replies of a deployed fleet as they come, none of which another has to wait for.

A reply is announced before its objects are there. Flower's grid waits for all objects of one before
it looks at the next: who announces a reply and then dies, or sends nothing more, holds up everybody
until Flower gives the reply up, three minutes later; and what cannot be read ends the run. Here a
reply that is not whole yet is looked at again whenever replies are asked for, keeps what has come
of it, and is nobody's but its client's failure. Whose it is, and what it answers, is what Flower's
server checked when it was announced, and not what the client wrote into it.

Written against Flower 1.41.0.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, final

import httpx
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.superlink.grid.http_grid import HttpGrid

from common.errors import VicinalError
from common.text import one_line

# Of one reply.
MOST_OBJECTS: Final = 4096
MOST_BYTES: Final = 1 << 30
# Until a reply that is not whole is looked at again; it doubles up to the longest.
SHORTEST_WAIT: Final = 0.02
LONGEST_WAIT: Final = 2.0
# That are spent on one reply, and on all of them, before others have their turn.
SLICE_SECONDS: Final = 0.05
PULL_SECONDS: Final = 0.2


@dataclass(eq=False)
class _Announced:
    """A reply that is announced, and what has come of it.

    asked    identity of the message that it answers
    missing  identities of objects; the last is looked for next
    due      when
    """

    identity: str
    asked: str
    node: int
    missing: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    wait: float = SHORTEST_WAIT
    due: float = 0.0


@final
class Replies:
    """Of one grid."""

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._announced: list[_Announced] = []
        self._apart = False

    @property
    def _client(self) -> Any:
        return self._grid._runtime_client

    def pull(self, asked: Iterable[str]) -> list[Message]:
        """Replies that are whole, and errors for those that cannot be, to some messages.

        What had been announced to others is dropped. Raises what Flower's grid raises where the
        server refuses to be asked.
        """
        wanted = set(asked)
        self._announced = [each for each in self._announced if each.asked in wanted]
        # Flower tells of a reply once, and calls it lost when it is asked again.
        fresh = sorted(wanted.difference(each.asked for each in self._announced))
        found = list[Message]()
        for group in [[each] for each in fresh] if self._apart else [fresh] * bool(fresh):
            found += self._ask(group)
        return [*found, *self._whole()]

    def _ask(self, asked: Collection[str]) -> Iterator[Message]:
        """Take what has been announced. Errors are of what cannot even be announced."""
        try:
            told = self._client.PullMessages(PullAppMessagesRequest(message_ids=asked))
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status < httpx.codes.INTERNAL_SERVER_ERROR and (
                status != httpx.codes.REQUEST_ENTITY_TOO_LARGE
            ):
                raise
            # One of them made the server fail. Which it was shows when each is asked for alone.
            if self._apart:
                yield from (_error(each, 0, "what it announced cannot be read") for each in asked)
            self._apart = True
            return
        for message, tree in zip(told.messages_list, told.message_object_trees, strict=True):
            about = message.metadata
            names = [each.object_id for each in islice(iterate_object_tree(tree), MOST_OBJECTS + 1)]
            announced = _Announced(
                about.message_id,
                about.reply_to_message_id,
                about.src_node_id,
                list(dict.fromkeys(names)),
            )
            if len(names) > MOST_OBJECTS:
                yield self._failed(announced, f"a reply of more than {MOST_OBJECTS} objects")
            else:
                self._announced.append(announced)

    def _whole(self) -> Iterator[Message]:
        """Of those that are due, those that have become whole, and errors."""
        begun = time.monotonic()
        for each in sorted(self._announced, key=lambda each: each.due):
            now = time.monotonic()
            if each.due > now or now > begun + PULL_SECONDS:
                break
            try:
                self._fetch(each, now + SLICE_SECONDS)
                if each.missing:
                    continue
                found = _message(each)
            except VicinalError as error:
                found = self._failed(each, str(error))
            else:
                self._confirm(each)
            self._announced.remove(each)
            yield found

    def _fetch(self, reply: _Announced, until: float) -> None:
        """What is there, until then. Raises VicinalError where the rest will not come."""
        while reply.missing:
            told = self._client.PullObject(
                PullObjectRequest(
                    node=self._grid.node,
                    run_id=self._grid.run.run_id,
                    object_id=reply.missing[-1],
                )
            )
            if not told.object_found:
                raise VicinalError("it announced a reply and did not send it")
            now = time.monotonic()
            if not told.object_available:
                reply.due = now + reply.wait
                reply.wait = min(2 * reply.wait, LONGEST_WAIT)
                return
            reply.contents[reply.missing.pop()] = told.object_content
            reply.size += len(told.object_content)
            if reply.size > MOST_BYTES:
                raise VicinalError(f"a reply of more than {MOST_BYTES >> 20} MiB")
            reply.wait, reply.due = SHORTEST_WAIT, now
            if now > until:
                return

    def _failed(self, reply: _Announced, why: str) -> Message:
        self._confirm(reply)
        return _error(reply.asked, reply.node, why)

    def _confirm(self, reply: _Announced) -> None:
        """The server needs to keep it no longer."""
        self._client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(
                node=self._grid.node,
                run_id=self._grid.run.run_id,
                message_object_id=reply.identity,
            )
        )


def _message(reply: _Announced) -> Message:
    """Raises VicinalError for what is no message of Flower's."""
    try:
        found = inflate_object_from_contents(reply.identity, reply.contents)
    except Exception as error:  # noqa: BLE001 - what a client sent may make it raise anything
        what = one_line(f"{type(error).__name__}: {str(error)[:200]}")
        raise VicinalError(f"no message of Flower's: {what}") from None
    if not isinstance(found, Message):
        raise VicinalError(f"no message of Flower's: {type(found).__name__}")
    found.metadata.__dict__.update(
        _message_id=reply.identity, _reply_to_message_id=reply.asked, _src_node_id=reply.node
    )
    return found


def _error(asked: str, node: int, why: str) -> Message:
    """As of a client that failed at a message."""
    about = Metadata(
        run_id=0,
        message_id="",
        src_node_id=node,
        dst_node_id=0,
        reply_to_message_id=asked,
        group_id="",
        created_at=time.time(),
        ttl=0,
        message_type=SYSTEM_MESSAGE_TYPE,
    )
    return make_message(about, error=Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, why))
