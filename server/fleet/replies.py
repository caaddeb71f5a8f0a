"""Replies of a deployed fleet as they come, none of which another has to wait for.

A reply is announced before its objects are there. Flower's grid waits for all objects of one before
it looks at the next: who announces a reply and then dies, or sends nothing more, holds up everybody
until Flower gives the reply up, three minutes later; and what cannot be read ends the run. Here a
reply that is not whole yet is looked at again whenever replies are asked for, keeps what has come
of it, and is nobody's but its client's failure.

What a reply answers is what was announced, and not what the client wrote into it: a client has to
know the name of a message to answer it, and names cannot be guessed (SteadyGrid.push_messages).
Which objects a reply has is read from the objects, whose names are their digests: the tree that is
announced may be another client's.

Written against Flower 1.41.0.
"""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Final, final

import httpx
from flwr.app import Array, Error, Message, Metadata
from flwr.app.message import make_message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import HEAD_BODY_DIVIDER, SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import (
    get_object_body,
    get_object_children_ids_from_object_content,
    get_object_head_values_from_object_content,
    get_object_id,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflatable_class_registry,
    inflate_object_from_contents,
)
from flwr.superlink.grid.http_grid import HttpGrid

from common.errors import VicinalError
from common.text import one_line

# Flower's error codes of what a client did; others are its server's to give.
CLIENT_FAILED: Final = frozenset({1, 2, 6, 7})
# Of one reply: its objects, the values of its arrays, and all else, which takes up to forty times
# as much memory once it is read.
MOST_OBJECTS: Final = 4096
MOST_BYTES: Final = 64 << 20
MOST_BESIDE: Final = 4 << 20
# Of an object's names of others, before its body.
MOST_HEAD: Final = MOST_OBJECTS << 7
# Until a reply that is not whole is looked at again; it doubles up to the longest.
SHORTEST_WAIT: Final = 0.02
LONGEST_WAIT: Final = 2.0
# That are spent on all of them before others have their turn.
PULL_SECONDS: Final = 0.2
FETCHERS: Final = 4
# That the server may fail at one reply.
FAULTY_SECONDS: Final = 30.0
# What makes the server fail takes along all that was asked for with it.
APART_SECONDS: Final = 60.0
_KINDS: Final = frozenset(inflatable_class_registry)


@dataclass(eq=False)
class _Announced:
    """A reply that is announced, and what has come of it.

    asked     identity of the message that it answers
    missing   identities of objects; the last is looked for next
    rooted    it is a message: another object, which may be of somebody else, is not ours to delete
    beside    bytes of those that hold no values of arrays
    starving  the one that was looked for last was not there
    faulty    since when the server fails at it
    spent     seconds that looking for them took
    due       when they are looked for again
    found     the reply, or an error for one that cannot be
    """

    identity: str
    asked: str
    node: int
    missing: list[str]
    seen: set[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    beside: int = 0
    rooted: bool = False
    starving: bool = False
    faulty: float | None = None
    spent: float = 0.0
    wait: float = SHORTEST_WAIT
    due: float = 0.0
    found: Message | None = None

    def take(self, content: bytes) -> None:
        """The object that was looked for. Raises VicinalError for one that cannot be taken."""
        name = self.missing.pop()
        self.size += len(content)
        head = content[: MOST_HEAD + 1].partition(HEAD_BODY_DIVIDER)[0]
        kind = head.partition(b" ")[0].decode(errors="replace")
        self.beside += len(head) if kind == ArrayChunk.__qualname__ else len(content)
        if self.size > MOST_BYTES or self.beside > MOST_BESIDE:
            raise VicinalError(
                f"a reply of more than {MOST_BYTES >> 20} MiB, or {MOST_BESIDE >> 20} beside arrays"
            )
        right = kind == Message.__qualname__ if name == self.identity else kind in _KINDS
        if len(head) > MOST_HEAD or get_object_id(content) != name or not right:
            raise VicinalError("no message of Flower's: it has an object of another kind")
        self.contents[name], self.rooted = content, True
        self.missing += (fresh := [each for each in _children(content) if each not in self.seen])
        self.seen.update(fresh)
        if len(self.seen) > MOST_OBJECTS:
            raise VicinalError(f"a reply of more than {MOST_OBJECTS} objects")
        self.starving, self.faulty, self.wait = False, None, SHORTEST_WAIT

    def starve(self) -> None:
        """It was not there: look again later."""
        self.starving, self.due = True, time.monotonic() + self.wait
        self.wait = min(2 * self.wait, LONGEST_WAIT)


@final
class Replies:
    """Of one grid."""

    def __init__(self, grid: HttpGrid) -> None:
        self._grid = grid
        self._announced: list[_Announced] = []
        self._apart_until = 0.0
        # At what was announced to them alone, the server failed.
        self._doubted: set[str] = set()

    @property
    def _client(self) -> Any:
        return self._grid._runtime_client

    @property
    def coming(self) -> set[str]:
        """Messages whose replies may be there, and have only not been fetched yet."""
        now = time.monotonic()
        return {each.asked for each in self._announced if not each.starving or each.due < now}

    def pull(self, asked: Iterable[str], *, apart: bool = False) -> list[Message]:
        """Replies that are whole, and errors for those that cannot be, to some messages.

        apart  ask for each by itself: slower, but no other is lost with one that cannot be read

        What had been announced to others is dropped. Raises what Flower's grid raises where the
        server refuses to be asked.
        """
        wanted = set(asked)
        self._doubted &= wanted
        self._announced = [each for each in self._announced if each.asked in wanted]
        # Flower tells of a reply once, and calls it lost when it is asked again.
        fresh = sorted(wanted.difference(each.asked for each in self._announced))
        if apart or time.monotonic() < self._apart_until:
            for one in fresh:
                self._ask([one])
        elif fresh:
            self._ask(fresh)
        return list(self._whole())

    def _ask(self, asked: Collection[str]) -> None:
        """Take what has been announced."""
        try:
            told = self._client.PullMessages(PullAppMessagesRequest(message_ids=asked))
        except (httpx.HTTPStatusError, ValueError) as error:
            _require_fault(error)
            if len(asked) == 1:
                self._doubted.update(asked)
            else:
                self._apart_until = time.monotonic() + APART_SECONDS
            return
        waiting = set(asked)
        for message in told.messages_list:
            about = message.metadata
            name, answered = about.message_id, about.reply_to_message_id
            if answered in waiting:
                waiting.remove(answered)
                self._announced.append(
                    _Announced(name, answered, about.src_node_id, [name], {name})
                )
        # Of the others there is nothing yet, nor was anything lost.
        self._doubted -= waiting

    def _whole(self) -> Iterator[Message]:
        """Of those that are due, those that have become whole, and errors."""
        now = time.monotonic()
        due = [each for each in self._announced if each.due <= now]
        # One after the other; what takes long lets others pass.
        due.sort(key=lambda each: (each.starving, int(each.spent)))
        self._fetch_all(due, now + PULL_SECONDS)
        for each in due:
            if each.found is None:
                continue
            self._announced.remove(each)
            if each.rooted:
                self._confirm(each.identity)
            if each.asked in self._doubted and _is_lost(each.found):
                yield _error(each, "what it announced cannot be read")
            else:
                yield each.found

    def _fetch_all(self, due: Sequence[_Announced], until: float) -> None:
        """By several threads, for none of which a process waits that ends."""
        waiting, failed = iter(due), list[Exception]()

        def work() -> None:
            try:
                for each in waiting:
                    if each.found is None:
                        each.found = self._fetched(each, until)
            except Exception as error:  # noqa: BLE001 - raised again below
                failed.append(error)

        helpers = [Thread(target=work, daemon=True) for _ in range(min(FETCHERS, len(due)) - 1)]
        for each in helpers:
            each.start()
        work()
        for each in helpers:
            each.join()
        if failed:
            raise failed[0]

    def _fetched(self, reply: _Announced, until: float) -> Message | None:
        """The reply, or an error for one that cannot be; None while it is not whole."""
        begun = time.monotonic()
        try:
            self._fetch(reply, until)
            return None if reply.missing else _message(reply)
        except VicinalError as error:
            return _error(reply, str(error))
        except (httpx.HTTPStatusError, ValueError) as error:
            _require_fault(error)
            reply.faulty = reply.faulty or begun
            if begun > reply.faulty + FAULTY_SECONDS:
                return _error(reply, "its objects cannot be had")
            reply.starve()
            return None
        finally:
            reply.spent += time.monotonic() - begun

    def _fetch(self, reply: _Announced, until: float) -> None:
        """What is there, until then. Raises VicinalError where the rest will not come."""
        while reply.missing and time.monotonic() < until:
            told = self._client.PullObject(
                PullObjectRequest(
                    node=self._grid.node,
                    run_id=self._grid.run.run_id,
                    object_id=reply.missing[-1],
                )
            )
            if not told.object_found:
                raise VicinalError("it announced a reply and did not send it")
            if not told.object_available:
                reply.starve()
                return
            reply.take(told.object_content)

    def _confirm(self, identity: str) -> None:
        """The server needs to keep it no longer; whether it can let it go is nobody's failure."""
        with suppress(httpx.HTTPStatusError, ValueError):
            self._client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(
                    node=self._grid.node,
                    run_id=self._grid.run.run_id,
                    message_object_id=identity,
                )
            )


def _require_fault(error: httpx.HTTPStatusError | ValueError) -> None:
    """Raises it again, unless the server failed or what it said cannot be read."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status < httpx.codes.INTERNAL_SERVER_ERROR and (
            status != httpx.codes.REQUEST_ENTITY_TOO_LARGE
        ):
            raise error


def _children(content: bytes) -> list[str]:
    """The names of an object's children. Raises VicinalError."""
    try:
        return list(dict.fromkeys(get_object_children_ids_from_object_content(content)))
    except ValueError:
        raise VicinalError("no message of Flower's: it has an object without a head") from None


def _is_lost(reply: Message) -> bool:
    """Whether Flower's server says so."""
    return reply.has_error() and reply.error.code == ErrorCode.MESSAGE_UNAVAILABLE


def _array_bytes(contents: Mapping[str, bytes]) -> int:
    """What arrays will take in memory: a part of one may be named any number of times.

    Raises all sorts of errors for what is no array.
    """
    total = 0
    for content in contents.values():
        kind, children, _ = get_object_head_values_from_object_content(content)
        if kind == Array.__qualname__:
            # What is no chunk may be larger than it is here, as another array.
            sizes = [len(get_object_body(contents[each], ArrayChunk)) for each in children]
            places = json.loads(get_object_body(content, Array))["arraychunk_ids"]
            total += sum(sizes[place] for place in places)
    return total


def _message(reply: _Announced) -> Message:
    """Raises VicinalError for what is no message of Flower's."""
    try:
        if _array_bytes(reply.contents) > MOST_BYTES:
            raise VicinalError(f"a reply with arrays of more than {MOST_BYTES >> 20} MiB")
        found = inflate_object_from_contents(reply.identity, reply.contents)
    except VicinalError:
        raise
    except Exception as error:  # noqa: BLE001 - what a client sent may make it raise anything
        what = one_line(f"{type(error).__name__}: {str(error)[:200]}")
        raise VicinalError(f"no message of Flower's: {what}") from None
    if not isinstance(found, Message):
        raise VicinalError(f"no message of Flower's: {type(found).__name__}")
    client = reply.node != SUPERLINK_NODE_ID
    if client and found.has_error() and found.error.code not in CLIENT_FAILED:
        # It may call itself gone, or its message lost: that is the server's to say.
        return _error(reply, str(found.error.reason))
    found.metadata.__dict__.update(
        _message_id=reply.identity, _reply_to_message_id=reply.asked, _src_node_id=reply.node
    )
    return found


def _error(reply: _Announced, why: str) -> Message:
    """As of a client that failed at a message."""
    about = Metadata(
        run_id=0,
        message_id="",
        src_node_id=reply.node,
        dst_node_id=0,
        reply_to_message_id=reply.asked,
        group_id="",
        created_at=time.time(),
        ttl=0,
        message_type=SYSTEM_MESSAGE_TYPE,
    )
    return make_message(about, error=Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, why))
