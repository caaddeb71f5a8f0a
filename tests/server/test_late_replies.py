"""Replies whose objects come late or never: nobody else waits, and what is no message is told."""

import time
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_objects,
)

from server.fleet.late import LateReplies, is_malformed, put_late_aside
from tests.support.fleets import task_identity


@pytest.fixture(autouse=True)
def identity() -> Iterator[None]:
    with task_identity():
        yield


def objects_of(message: Message) -> dict[str, bytes]:
    """As a node pushes them, children first."""
    nested = get_all_nested_objects(message)
    return {name: nested[name].deflate() for name in nested if name != message.object_id} | {
        message.object_id: message.deflate()
    }


def message_of(number: int) -> Message:
    content = RecordDict({"at": ConfigRecord({"number": number})})
    return Message(content, number, "query.ping")


class Store:
    """What has arrived of what was announced; None stands for what is given up."""

    def __init__(self) -> None:
        self.there: dict[str, bytes | None] = {}

    def pull(self, name: str) -> bytes:
        if name not in self.there:
            raise ObjectUnavailableError(name)
        found = self.there[name]
        if found is None:
            raise ObjectPullError(name, "the object could not be found.")
        return found


class Grid:
    """Flower's pulling of announced replies, one after the other, as its grid does it."""

    def __init__(self, store: Store) -> None:
        module: Any = SimpleNamespace(pull_objects=pull_objects)
        put_late_aside(module)
        self.module, self.store, self.late = module, store, LateReplies()

    def replies(self, *announced: Iterable[str]) -> list[Message]:
        return self.late.collect(lambda: map(self._taken, announced))

    def until_replies(self) -> list[Message]:
        deadline = time.monotonic() + 60
        while not (found := self.replies()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return found

    def _taken(self, announced: Iterable[str]) -> Message:
        names = [*announced]
        try:
            found = self.module.pull_objects(object_ids=names, pull_object_fn=self.store.pull)
        except ObjectPullError as error:
            return Message(Error(3, f"unavailable. {error}"), reply_to=message_of(0))
        inflated = inflate_object_from_contents(names[-1], found)
        assert isinstance(inflated, Message)
        return inflated


def numbers(replies: Iterable[Message]) -> list[object]:
    return [each.content.config_records["at"]["number"] for each in replies]


def test_who_announces_and_sends_nothing_holds_up_nobody() -> None:
    grid = Grid(Store())
    silent, honest = objects_of(message_of(1)), objects_of(message_of(2))
    grid.store.there.update(honest)
    # Flower alone would not come to the second before the first is there.
    assert numbers(grid.replies(silent, honest)) == [2]
    assert grid.replies() == []


def test_a_reply_that_comes_later_comes_whole_and_once() -> None:
    grid, message = Grid(Store()), message_of(2)
    objects = objects_of(message)
    assert grid.replies(objects) == []
    # All but the last are no message yet.
    *first, last = objects
    grid.store.there.update({name: objects[name] for name in first})
    time.sleep(0.05)
    assert grid.replies() == []
    grid.store.there[last] = objects[last]
    (came,) = grid.until_replies()
    assert numbers([came]) == [2] and came.metadata.message_id == message.object_id
    time.sleep(0.05)
    assert grid.replies() == []


def test_one_that_never_comes_is_an_error_of_its_own_message() -> None:
    grid = Grid(Store())
    lost, honest = objects_of(message_of(3)), objects_of(message_of(4))
    assert grid.replies(lost, honest) == []
    grid.store.there.update(dict.fromkeys(lost))
    (error,) = grid.until_replies()
    assert "could not be found" in str(error.error.reason) and not is_malformed(error)
    grid.store.there.update(honest)
    assert numbers(grid.until_replies()) == [4]


def test_an_error_of_a_client_hides_no_late_reply() -> None:
    grid, objects = Grid(Store()), objects_of(message_of(5))
    forged = Message(Error(3, "its objects are under way"), reply_to=message_of(6))
    taken = grid.late.collect(lambda: [forged, grid._taken(objects)])
    assert taken == [forged]
    grid.store.there.update(objects)
    assert numbers(grid.until_replies()) == [5]


@pytest.mark.parametrize("late", [False, True])
def test_what_is_no_message_is_told_as_that(late: bool) -> None:
    grid = Grid(Store())
    records = {
        name: body
        for name, body in objects_of(message_of(7)).items()
        if body.startswith(b"ConfigRecord")
    }
    for name, body in (("a", b""), ("b", b"MetricRecord  3\x00{,}"), *records.items()):
        if late:
            assert grid.replies([name]) == []
        grid.store.there[name] = body
        (error,) = grid.until_replies() if late else grid.replies([name])
        assert is_malformed(error)
    assert "no message of Flower's: ConfigRecord" in str(error.error.reason)


def test_others_wait_as_flower_does() -> None:
    grid = Grid(Store())
    with pytest.raises(ObjectPullError, match="timeout"):
        grid.module.pull_objects(["a"], grid.store.pull, max_time=0.0)
