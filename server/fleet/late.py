"""Replies that were announced and whose objects are not all there: nobody else waits for them.

Flower's server app waits for the objects of one announced reply before it looks at the next. Who
announces a reply and then dies, or sends nothing more, would hold up the whole fleet until Flower
gives the reply up, three minutes later. Here a reply that is not whole soon is put aside, and
looked at again whenever replies are collected; until then the client has not answered. One that
cannot be read is an error of its client alone, where Flower would end the run.

Written against Flower 1.41.0.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, final

from flwr.app import Error, Message
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
)

from common.flower_waits import SHORTEST_WAIT

# How long everybody waits for one reply, and the longest time between two looks at a late one.
SOON_SECONDS: Final = 0.2
LONGEST_WAIT: Final = 2.0
MALFORMED: Final = "no message of Flower's"

Pull = Callable[..., dict[str, bytes]]


@dataclass(eq=False)
class _Late:
    """A reply that was put aside.

    objects  identities, its own last
    again    gives their contents. Raises ObjectPullError
    error    what Flower's grid made of it
    """

    objects: Sequence[str]
    again: Callable[[float], dict[str, bytes]]
    error: Message | None = None
    wait: float = SHORTEST_WAIT
    due: float = 0.0

    def pulled(self, seconds: float) -> dict[str, bytes] | None:
        """None where they are not all there in time. Raises ObjectPullError if they never will."""
        try:
            return self.again(seconds)
        except ObjectPullError as error:
            if "timeout" not in str(error):
                raise
        self.wait = min(2 * self.wait, LONGEST_WAIT)
        self.due = time.monotonic() + self.wait
        return None


@final
class LateReplies:
    """What one grid has put aside."""

    def __init__(self) -> None:
        self._late: list[_Late] = []

    def collect(self, pull: Callable[[], Iterable[Message]]) -> list[Message]:
        """What `pull` gives, without what is late; and what was late and has come, or never will.

        An error says that a reply never will, or that it cannot be read (is_malformed).
        """
        with self._collecting():
            replies = [*pull()]
        return [*(each for each in replies if not self._is_late(each)), *self._arrived()]

    def pulled(
        self, objects: Sequence[str], again: Callable[[float], dict[str, bytes]]
    ) -> dict[str, bytes]:
        """The objects of a reply. Raises ObjectPullError."""
        late = _Late(objects, again)
        found = late.pulled(SOON_SECONDS)
        if found is None:
            self._late.append(late)
            raise ObjectPullError(objects[-1], "they are under way")
        _message(objects[-1], found)
        return found

    @contextmanager
    def _collecting(self) -> Iterator[None]:
        token = _collector.set(self)
        try:
            yield
        finally:
            _collector.reset(token)

    def _is_late(self, reply: Message) -> bool:
        """Whether it is the error of one that was just put aside, which is kept with it."""
        if reply.has_error():
            for late in self._late:
                if late.error is None and late.objects[-1] in (reply.error.reason or ""):
                    late.error = reply
                    return True
        return False

    def _arrived(self) -> Iterator[Message]:
        now = time.monotonic()
        for late in [each for each in self._late if each.due <= now]:
            try:
                found = late.pulled(0.0)
                if found is None:
                    continue
                yield _message(late.objects[-1], found)
            except ObjectPullError as error:
                if late.error is not None:
                    late.error.error = Error(late.error.error.code, str(error))
                    yield late.error
            self._late.remove(late)


_collector: ContextVar[LateReplies | None] = ContextVar("late_replies", default=None)


def put_late_aside(module: ModuleType) -> None:
    """Let Flower's grid, of this module, put replies aside for LateReplies.collect()."""
    pull_all: Pull = module.pull_objects

    def pull_objects(
        object_ids: Sequence[str], pull_object_fn: Callable[[str], bytes], **options: Any
    ) -> dict[str, bytes]:
        def again(seconds: float) -> dict[str, bytes]:
            return pull_all(
                object_ids, pull_object_fn, max_time=seconds, initial_backoff=SHORTEST_WAIT
            )

        late = _collector.get()
        if late is None:
            return pull_all(object_ids, pull_object_fn, **options)
        return late.pulled(object_ids, again)

    setattr(module, "pull_objects", pull_objects)  # noqa: B010 - mypy knows no such attribute


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
