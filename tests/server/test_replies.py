"""Replies of nodes that come late, never, broken or forged, through Flower's own SuperLink."""

import threading
import time
from collections import Counter

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_object_tree

from server.fleet.accounts import Accounts
from server.fleet.delivery import TRIES
from server.fleet.replies import Replies
from server.fleet.secure_sum import _Prompt
from tests.support.fleets import steady
from tests.support.superlink import (
    SuperLink,
    answer_of,
    hashed,
    numbers,
    objects_of,
    playing,
    question,
    records,
    until,
    wait_for,
)


def test_who_announces_and_sends_nothing_holds_up_nobody(link: SuperLink) -> None:
    silent, honest = link.node(), link.node()
    asked, replies = link.ask(silent, honest), Replies(link.grid)
    link.announce(silent, answer_of(link.take(silent), 1))
    link.answer(honest, answer_of(link.take(honest), 2))
    # Flower alone waits for the first, whichever that is.
    assert numbers(until(lambda: replies.pull(asked))) == [2]


def test_a_reply_that_comes_later_comes_whole_and_is_not_kept(link: SuperLink) -> None:
    node = link.node()
    asked, replies = link.ask(node), Replies(link.grid)
    reply = answer_of(link.take(node), 3)
    *first, last = objects_of(reply)
    session = link.announce(node, reply)
    for _ in range(3):
        assert replies.pull(asked) == []
        time.sleep(0.03)
    link.push(node, session, first)
    assert replies.pull(asked) == []
    link.push(node, session, [last])
    assert numbers(until(lambda: replies.pull(asked))) == [3]
    assert not link.stored() & {name for name, _ in objects_of(reply)}
    (lost,) = replies.pull(asked)
    assert lost.error.code == 3


def test_slow_senders_are_asked_once_and_all_counted(link: SuperLink) -> None:
    nodes, computed = [link.node() for _ in range(3)], list[int]()
    done = threading.Event()

    def work(node: int) -> None:
        while not done.is_set():
            if (asked := link.take(node)) is None:
                time.sleep(0.01)
                continue
            computed.append(node)
            reply = answer_of(asked, len(computed))
            session, objects = link.announce(node, reply), objects_of(reply)
            link.push(node, session, objects[:-1])
            time.sleep(1.0)
            link.push(node, session, objects[-1:])

    for node in nodes:
        threading.Thread(target=work, args=(node,), daemon=True).start()
    grid = steady(link.grid)
    found = list(grid.send_and_receive(map(question, nodes), timeout=60))
    done.set()
    assert sorted(map(str, numbers(found))) == ["1", "2", "3"]
    assert sorted(computed) == sorted(nodes) and grid.broken_off is None


def test_what_was_fetched_is_not_fetched_again(link: SuperLink) -> None:
    node = link.node()
    asked, replies = link.ask(node), Replies(link.grid)
    taken = link.take(node)
    assert taken is not None
    reply = Message(records(50), reply_to=taken)
    session, objects = link.announce(node, reply), objects_of(reply)
    link.push(node, session, [objects[-1], *objects[1:-1]])
    while link.calls["PullObject"] < len(objects):
        assert replies.pull(asked) == []
    before = link.calls["PullObject"]
    time.sleep(0.1)
    assert replies.pull(asked) == []
    assert link.calls["PullObject"] - before == 1
    link.push(node, session, objects[:1])
    (whole,) = until(lambda: replies.pull(asked))
    assert len(whole.content) == 50


def test_what_is_given_up_is_an_error_of_its_own(link: SuperLink) -> None:
    silent, honest = link.node(), link.node()
    asked, replies = link.ask(silent, honest), Replies(link.grid)
    reply = answer_of(link.take(silent), 1)
    link.announce(silent, reply)
    assert replies.pull(asked) == []
    # As Flower does when the time to push is over.
    link.state.object_store.delete(reply.object_id)
    (error,) = until(lambda: replies.pull(asked))
    assert error.metadata.reply_to_message_id == asked[0]
    assert error.metadata.src_node_id == silent
    assert error.error.reason == "it announced a reply and did not send it"


def test_what_is_asked_no_more_is_dropped(link: SuperLink) -> None:
    silent, honest = link.node(), link.node()
    asked, replies = link.ask(silent, honest), Replies(link.grid)
    link.announce(silent, answer_of(link.take(silent), 1))
    assert replies.pull(asked) == [] and len(replies._announced) == 1
    assert replies.pull(asked[1:]) == [] and replies._announced == []


def chain(name: str, levels: int, bottom: ObjectTree) -> ObjectTree:
    for level in range(levels):
        bottom = ObjectTree(object_id=hashed(f"{name}{level}"), children=[bottom])
    return bottom


@pytest.mark.parametrize("depth", [100, 101, 102, 160])
def test_what_the_server_cannot_tell_costs_its_sender_alone(link: SuperLink, depth: int) -> None:
    """At 101 levels the server tells what no client can read, with more it fails itself."""
    hostile, honest, done = link.node(), link.node(), threading.Event()

    def work() -> None:
        number = 0
        while not done.is_set():
            if (asked := link.take(hostile)) is not None:
                number += 1
                first = chain(f"a{number}", depth // 2, ObjectTree(object_id=hashed("leaf")))
                # The store puts the first chain below the second: deeper than can be read.
                bottom = ObjectTree(object_id=first.object_id)
                second = chain(f"b{number}", (depth - 1) // 2 - 1, bottom)
                root = ObjectTree(object_id=hashed(f"r{number}"), children=[first, second])
                link.announce(hostile, answer_of(asked, number), root)
            if (asked := link.take(honest)) is not None:
                link.answer(honest, answer_of(asked, number))
            time.sleep(0.005)

    playing(work)
    grid = steady(link.grid)
    found = list(grid.send_and_receive(map(question, (hostile, honest)), timeout=4))
    done.set()
    assert sorted(each.has_content() for each in found) == [False, True]


def test_a_server_that_fails_for_once_costs_nobody(link: SuperLink) -> None:
    node = link.node()
    asked, replies = link.ask(node), Replies(link.grid)
    link.answer(node, answer_of(link.take(node), 1))
    link.failing.update({"PullMessages": 1, "PullObject": 5, "ConfirmMessageReceived": 1})
    assert numbers(until(lambda: replies.pull(asked))) == [1]
    assert not +link.failing


def test_a_server_that_cannot_give_a_reply_is_asked_for_the_others(
    link: SuperLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = link.node(), link.node()
    asked, replies = link.ask(first, second), Replies(link.grid)
    link.answer(first, answer_of(link.take(first), 1))
    monkeypatch.setattr("server.fleet.replies.FAULTY_SECONDS", 0.2)
    link.failing["PullObject"] = 10**6
    (error,) = until(lambda: replies.pull(asked))
    assert error.error.reason == "its objects cannot be had"
    link.failing.clear()
    link.answer(second, answer_of(link.take(second), 2))
    assert numbers(until(lambda: replies.pull(asked[1:]))) == [2]


def test_who_is_there_to_be_fetched_is_not_late(link: SuperLink) -> None:
    nodes, taken, done = [link.node() for _ in range(12)], Counter[int](), threading.Event()
    link.slow = 0.2

    def work() -> None:
        while not done.is_set():
            for node in nodes:
                if (asked := link.take(node)) is not None:
                    taken[node] += 1
                    link.answer(node, Message(records(8, node % 100), reply_to=asked))
            time.sleep(0.005)

    playing(work)
    grid = steady(link.grid)
    # To fetch them all takes longer than each may take.
    found = list(grid.send_and_receive(map(question, nodes), timeout=3))
    done.set()
    assert len(found) == len(nodes) and all(each.has_content() for each in found)
    assert grid.frozen == set() and set(taken.values()) == {1}


def test_what_nobody_asked_for_is_no_reply(link: SuperLink) -> None:
    hostile, honest = link.node(), link.node()
    unsolicited = Message(RecordDict({"x": ConfigRecord({"a": 1})}), 1, "query.ping")
    unsolicited.metadata.__dict__.update(_src_node_id=1, _run_id=link.run_id)
    link.answer(hostile, unsolicited, source=1)

    def work() -> None:
        link.answer(honest, answer_of(wait_for(link, honest), 2))

    playing(work)
    prompt = _Prompt(steady(link.grid), Accounts())
    found = prompt.send_and_receive([question(honest)], timeout=60)
    assert numbers(found) == [2]


def test_a_reply_is_of_who_sent_it_whatever_it_says(link: SuperLink) -> None:
    hostile, victim = link.node(), link.node()
    asked, replies = link.ask(hostile, victim), Replies(link.grid)
    reply = answer_of(link.take(hostile), 1)
    reply.metadata.__dict__.update(_src_node_id=victim, _reply_to_message_id=asked[1])
    # What is announced is right, else the server refuses it; what is in the reply is not.
    objects, tree = objects_of(reply), get_object_tree(reply)
    reply.metadata.__dict__.update(_src_node_id=hostile, _reply_to_message_id=asked[0])
    link.push(hostile, link.announce(hostile, reply, tree), objects)
    (found,) = until(lambda: replies.pull(asked))
    assert numbers([found]) == [1]
    assert found.metadata.src_node_id == hostile
    assert found.metadata.reply_to_message_id == asked[0]


@pytest.mark.parametrize("code", [0, 3, 4, 5, 8, 99])
def test_who_claims_an_error_of_the_servers_is_asked_no_more_than_others(
    link: SuperLink, code: int
) -> None:
    node, taken, done = link.node(), list[Message](), threading.Event()

    def work() -> None:
        while not done.is_set():
            if (asked := link.take(node)) is not None:
                taken.append(asked)
                link.answer(node, Message(Error(code, str(len(taken))), reply_to=asked))
            time.sleep(0.005)

    playing(work)
    grid = steady(link.grid)
    (found,) = grid.send_and_receive([question(node)], timeout=60)
    done.set()
    assert found.has_error() and len(taken) == TRIES and grid.broken_off is None


def test_a_sum_under_masks_waits_for_no_silent_node(link: SuperLink) -> None:
    silent, honest = link.node(), link.node()

    def work() -> None:
        link.announce(silent, answer_of(wait_for(link, silent), 1))
        link.answer(honest, answer_of(wait_for(link, honest), 2))

    playing(work)
    prompt = _Prompt(steady(link.grid), Accounts())
    found = prompt.send_and_receive(map(question, (silent, honest)), timeout=5)
    assert numbers(found) == [2]
