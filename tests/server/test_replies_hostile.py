"""Objects of replies that no honest client sends, through Flower's own SuperLink."""

import json
import time

import pytest
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.proto.message_pb2 import ObjectTree

from server.fleet.messages import byte_count
from server.fleet.replies import MOST_BYTES, Replies
from tests.support.fleets import steady
from tests.support.superlink import (
    SuperLink,
    answer_of,
    hashed,
    numbers,
    objects_of,
    question,
    raw_object,
    records,
    until,
)


@pytest.mark.parametrize(
    ("kind", "body"),
    [("RecordDict", b"{}"), ("Message", b"[]"), ("Message", b"\xff" * 100_000)],
)
def test_what_is_no_message_is_its_senders_failure(link: SuperLink, kind: str, body: bytes) -> None:
    hostile, honest = link.node(), link.node()
    asked, replies = link.ask(hostile, honest), Replies(link.grid)
    name, content = raw_object(kind, body)
    reply = answer_of(link.take(hostile), 1)
    link.push(hostile, link.announce(hostile, reply, ObjectTree(object_id=name)), [(name, content)])
    link.answer(honest, answer_of(link.take(honest), 2))
    found = {each.metadata.reply_to_message_id: each for each in replies.pull(asked)}
    assert numbers([found[asked[1]]]) == [2]
    told = found[asked[0]].error
    assert told.code == 2 and (told.reason or "").startswith("no message of Flower's: ")
    assert len(told.reason or "") < 300
    # What is no message may be a part of another client's, and is left where it is.
    assert (name in link.stored()) == (kind != "Message")


def test_what_is_announced_below_a_reply_is_not_believed(link: SuperLink) -> None:
    node = link.node()
    asked, replies = link.ask(node), Replies(link.grid)
    tree = ObjectTree(object_id=hashed("leaf"))
    # Twelve objects by name, 2¹² by place: the server gives each child its children.
    for level in range(12):
        tree = ObjectTree(
            object_id=hashed(str(level)),
            children=[tree, ObjectTree(object_id=tree.object_id)],
        )
    link.announce(node, answer_of(link.take(node), 1), tree)
    assert replies.pull(asked) == [] and link.calls["PullObject"] == 1


@pytest.mark.parametrize("withheld", [False, True])
def test_what_another_announces_of_an_honest_reply_changes_nothing(
    link: SuperLink, withheld: bool
) -> None:
    hostile, honest = link.node(), link.node()
    asked, replies = link.ask(hostile, honest), Replies(link.grid)
    reply = answer_of(link.take(honest), 2)
    (content,) = [name for name, each in objects_of(reply) if each.startswith(b"RecordDict")]
    children = [ObjectTree(object_id=hashed("never sent"))] * withheld
    poisoned = ObjectTree(object_id=content, children=children)
    root = ObjectTree(object_id=hashed("root"), children=[poisoned])
    link.announce(hostile, answer_of(link.take(hostile), 1), root)
    link.answer(honest, reply)
    assert numbers(until(lambda: replies.pull(asked))) == [2]


def of_array(places: list[int], parts: list[tuple[str, bytes]]) -> tuple[str, bytes]:
    about = {"dtype": "u1", "shape": [1], "stype": "x", "arraychunk_ids": places}
    return raw_object("Array", json.dumps(about).encode(), [name for name, _ in parts])


MEBIBYTE = raw_object("ArrayChunk", b"x" * (1 << 20))
TWENTY = of_array([0] * 20, [MEBIBYTE])


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        # One mebibyte, named so often that all of it takes more than is allowed.
        ([MEBIBYTE, of_array([0] * 65, [MEBIBYTE])], f"arrays of more than {MOST_BYTES >> 20} MiB"),
        # An array in place of a part of one.
        ([MEBIBYTE, TWENTY, of_array([0] * 20, [TWENTY])], "object type (Array) do not match"),
        ([of_array([0], [])], "IndexError"),
    ],
)
def test_an_array_takes_no_more_than_it_may_whatever_it_names(
    link: SuperLink, objects: list[tuple[str, bytes]], told: str
) -> None:
    hostile = link.node()
    asked, replies = link.ask(hostile), Replies(link.grid)
    reply = answer_of(link.take(hostile), 1)
    sent, tree = list(objects), None
    for kind, name in (("ArrayRecord", "a"), ("RecordDict", "r"), ("Message", "")):
        below, _ = sent[-1]
        sent.append(raw_object(kind, json.dumps({name: below}).encode(), [below]))
    for name, _ in sent:
        tree = ObjectTree(object_id=name, children=[] if tree is None else [tree])
    link.push(hostile, link.announce(hostile, reply, tree), sent)
    (error,) = until(lambda: replies.pull(asked))
    assert told in (error.error.reason or "")


def test_a_chunk_that_is_all_head_is_refused_unread(link: SuperLink) -> None:
    hostile = link.node()
    asked, replies = link.ask(hostile), Replies(link.grid)
    chunk = raw_object("ArrayChunk", b"", [hashed("x")] * 100_000)
    root = raw_object("Message", b"{}", [chunk[0]])
    tree = ObjectTree(object_id=root[0], children=[ObjectTree(object_id=chunk[0])])
    reply = answer_of(link.take(hostile), 1)
    link.push(hostile, link.announce(hostile, reply, tree), [chunk, root])
    (error,) = until(lambda: replies.pull(asked))
    assert error.error.reason == "no message of Flower's: it has an object of another kind"


def test_a_record_of_many_names_is_counted_once(link: SuperLink) -> None:
    record = ConfigRecord({"n": [1] * 100_000})
    node = link.node()
    message = question(node)
    message.content = RecordDict({str(each): record for each in range(5000)})
    # Each by itself it would take minutes.
    assert byte_count(message) == 5000 * (1 + 8 * 100_000)


def test_a_message_has_a_name_that_cannot_be_guessed(
    link: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Metadata, "created_at", time.time())
    node = link.node()
    grid = steady(link.grid)
    first, second = grid.push_messages([question(node), question(node)])
    assert first != second


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ("MOST_OBJECTS", "a reply of more than 3 objects"),
        ("MOST_BYTES", "a reply of more than 0 MiB, or 4 beside arrays"),
        ("MOST_BESIDE", "a reply of more than 64 MiB, or 0 beside arrays"),
    ],
)
def test_a_reply_has_limits(
    link: SuperLink, limit: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"server.fleet.replies.{limit}", 3)
    node = link.node()
    asked, replies = link.ask(node), Replies(link.grid)
    taken = link.take(node)
    assert taken is not None
    link.answer(node, Message(records(4), reply_to=taken))
    (error,) = until(lambda: replies.pull(asked))
    assert error.error.reason == told
