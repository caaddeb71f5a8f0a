"""Replies whose objects come late or never: nobody else waits, and what is no message is told."""

import time
from collections.abc import Iterable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    pull_objects,
)

from server.fleet.late import LateReplies, is_late, is_malformed, put_late_aside
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


@pytest.fixture
def grid() -> ModuleType:
    module: Any = SimpleNamespace(pull_objects=pull_objects)
    put_late_aside(module)
    found: ModuleType = module
    return found


def taken(grid: Any, late: LateReplies, store: Store, names: Iterable[str]) -> Message | None:
    """As Flower's grid does for one announced reply: None, or the error that it makes."""
    with late.put_aside():
        try:
            grid.pull_objects(object_ids=[*names], pull_object_fn=store.pull)
        except ObjectPullError as error:
            return Message(Error(3, f"unavailable. {error}"), reply_to=message_of(0))
    return None


def until_arrived(late: LateReplies) -> list[Message]:
    deadline = time.monotonic() + 60
    while not (found := late.arrived()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_a_reply_that_is_whole_is_taken_at_once(grid: ModuleType) -> None:
    late, store, objects = LateReplies(), Store(), objects_of(message_of(1))
    store.there.update(objects)
    assert taken(grid, late, store, objects) is None
    assert late.arrived() == []


def test_a_reply_that_comes_later_comes_whole(grid: ModuleType) -> None:
    late, store, message = LateReplies(), Store(), message_of(2)
    objects = objects_of(message)
    error = taken(grid, late, store, objects)
    assert error is not None and is_late(error) and not is_malformed(error)
    # All but the last are no message yet.
    *first, last = objects
    store.there.update({name: objects[name] for name in first})
    time.sleep(0.05)
    assert late.arrived() == []
    store.there[last] = objects[last]
    (came,) = until_arrived(late)
    assert came.content.config_records["at"]["number"] == 2
    assert came.metadata.message_id == message.object_id
    assert late.arrived() == []


def test_one_that_never_comes_is_forgotten_and_hides_no_other(grid: ModuleType) -> None:
    late, store = LateReplies(), Store()
    lost, honest = objects_of(message_of(3)), objects_of(message_of(4))
    assert taken(grid, late, store, lost) is not None
    assert taken(grid, late, store, honest) is not None
    store.there.update(dict.fromkeys(lost))
    store.there.update(honest)
    assert [came.content.config_records["at"]["number"] for came in until_arrived(late)] == [4]
    assert late._late == []


def test_what_is_no_message_is_an_error_of_its_own(grid: ModuleType) -> None:
    late, store = LateReplies(), Store()
    for name, body in (("a", b""), ("b", b"MetricRecord  3\x00{,}")):
        store.there[name] = body
        error = taken(grid, late, store, [name])
        assert error is not None and is_malformed(error) and not is_late(error)
    (record,) = [
        each for each in objects_of(message_of(5)).items() if each[1].startswith(b"ConfigRecord")
    ]
    store.there[record[0]] = record[1]
    error = taken(grid, late, store, [record[0]])
    assert error is not None and "no message of Flower's: ConfigRecord" in str(error.error.reason)


def test_outside_the_block_flower_waits_as_it_does(grid: ModuleType) -> None:
    store = Store()
    with pytest.raises(ObjectPullError, match="timeout"):
        grid.pull_objects(["a"], store.pull, max_time=0.0)
