"""Replies that were announced and whose objects are not all there: nobody else waits for them.

Flower's server app waits for the objects of one announced reply before it looks at the next. Who
announces a reply and then dies, or sends nothing more, would hold up the whole fleet until Flower
gives the reply up, three minutes later. Here a reply that is not whole soon is put aside, and
looked at again whenever replies are collected; until then the client has not answered. One that is
no message of Flower's is an error of its client alone.

Written against Flower 1.41.0.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, final

from flwr.app import Message
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
)

from common.flower_waits import SHORTEST_WAIT

# How long everybody waits for one reply, and the longest time between two looks at a late one.
SOON_SECONDS: Final = 0.2
LONGEST_WAIT: Final = 2.0
# In the error that Flower's grid makes of a reply that was put aside.
UNDER_WAY: Final = "its objects are under way"
# In that of one that cannot be read.
MALFORMED: Final = "no message of Flower's"

Pull = Callable[..., dict[str, bytes]]


@dataclass
class _Late:
    """A reply's objects, its own last, and when they are looked at again."""

    objects: Sequence[str]
    pull: Callable[[str], bytes]
    wait: float
    due: float


@final
class LateReplies:
    """What was put aside."""

    def __init__(self) -> None:
        self._pull: Pull | None = None
        self._late: list[_Late] = []

    @contextmanager
    def put_aside(self) -> Iterator[None]:
        """In the block, in this thread, replies that are not whole soon become errors()."""
        token = _collecting.set(self)
        try:
            yield
        finally:
            _collecting.reset(token)

    def pulled(
        self, pull_all: Pull, objects: Sequence[str], pull: Callable[[str], bytes]
    ) -> dict[str, bytes]:
        """The objects of a reply. Raises ObjectPullError."""
        self._pull = pull_all
        late = _Late(objects, pull, SHORTEST_WAIT, 0.0)
        found = self._attempt(late, SOON_SECONDS)
        if found is None:
            late.due = time.monotonic() + late.wait
            self._late.append(late)
            raise ObjectPullError(objects[-1], UNDER_WAY)
        _message(objects[-1], found)
        return found

    def arrived(self) -> list[Message]:
        """Replies that have become whole."""
        came, now = list[Message](), time.monotonic()
        for late in [each for each in self._late if each.due <= now]:
            try:
                found = self._attempt(late, 0.0)
                if found is not None:
                    came.append(_message(late.objects[-1], found))
            except ObjectPullError:  # given up by Flower, or no message: nothing was answered
                found = {}
            if found is None:
                late.wait = min(2 * late.wait, LONGEST_WAIT)
                late.due = time.monotonic() + late.wait
            else:
                self._late.remove(late)
        return came

    def _attempt(self, late: _Late, seconds: float) -> dict[str, bytes] | None:
        """None where they are not there yet. Raises ObjectPullError where they will not be."""
        assert self._pull is not None
        try:
            return self._pull(
                late.objects, late.pull, max_time=seconds, initial_backoff=SHORTEST_WAIT
            )
        except ObjectPullError as error:
            if "timeout" not in str(error):
                raise
            return None


_collecting: ContextVar[LateReplies | None] = ContextVar("late_replies", default=None)


def put_late_aside(module: ModuleType) -> None:
    """Let Flower's grid, of this module, put replies aside within LateReplies.put_aside()."""
    pull_all: Pull = module.pull_objects

    def pull_objects(
        object_ids: Sequence[str], pull_object_fn: Callable[[str], bytes], **options: Any
    ) -> dict[str, bytes]:
        late = _collecting.get()
        if late is None:
            return pull_all(object_ids, pull_object_fn, **options)
        return late.pulled(pull_all, object_ids, pull_object_fn)

    setattr(module, "pull_objects", pull_objects)  # noqa: B010 - no name of its own for mypy


def is_late(reply: Message) -> bool:
    """Whether an error of Flower's grid says that the reply was put aside."""
    return reply.has_error() and UNDER_WAY in (reply.error.reason or "")


def is_malformed(reply: Message) -> bool:
    """Whether an error of Flower's grid says that the reply cannot be read."""
    return reply.has_error() and MALFORMED in (reply.error.reason or "")


def _message(identity: str, objects: dict[str, bytes]) -> Message:
    """What Flower makes of a reply's objects, which stay. Raises ObjectPullError."""
    try:
        found = inflate_object_from_contents(identity, objects, keep_object_contents=True)
    except Exception as error:  # noqa: BLE001 - what a client sent may make it raise anything
        raise ObjectPullError(identity, f"{MALFORMED}: {error!r}") from None
    if not isinstance(found, Message):
        raise ObjectPullError(identity, f"{MALFORMED}: {type(found).__name__}")
    found.metadata.__dict__["_message_id"] = identity
    return found
