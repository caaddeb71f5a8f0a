"""The server app and clients that fail, lie, come and go: what is answered, and what is said."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord

import client.flower_app
from common.errors import VicinalError
from common.wire import fleet_pb2 as wire
from common.wire.fleet import METRICS, MODEL, PAYLOAD
from sims.fleet.files import FleetFiles
from tests.support.fleets import (
    CLIENTS,
    SETTINGS,
    Fleet,
    in_process,
    payload,
    run,
    run_config,
    serve,
    write_files,
)
from tests.support.in_process_grid import Deliver, Fault, InProcessGrid

FAULTY = 1007


def grid_of(
    files: FleetFiles,
    faults: dict[int, Fault] | None = None,
    changes: dict[str, float | str] | None = None,
) -> InProcessGrid:
    config = {**run_config(files), "reply-timeout": 0.3, **(changes or {})}
    return InProcessGrid(client.flower_app.app, CLIENTS, config, faults)


def result_of(grid: InProcessGrid) -> dict[str, Any]:
    config = next(iter(grid.contexts.values())).run_config
    serve(grid, config)
    result: dict[str, Any] = json.loads(Path(str(config["result"])).read_bytes())
    return result


def lose(message: Message, deliver: Deliver) -> None:
    deliver(message)


def lose_work(message: Message, deliver: Deliver) -> Message | None:
    return None if message.metadata.message_type == "query.recommend" else deliver(message)


def forget_the_model(message: Message, deliver: Deliver) -> Message | None:
    if message.metadata.message_type == "query.recommend":
        message.metadata.__dict__["_message_type"] = "query.unheard_of"
    return deliver(message)


def flip_a_bit(message: Message, deliver: Deliver) -> Message | None:
    if MODEL in message.content:
        array = message.content.array_records[MODEL][MODEL]
        data = array.data[:-5] + bytes(5)
        tampered = Array(array.dtype, array.shape, array.stype, data)
        # The array is shared by all clients' messages; only this one's is tampered with.
        message.content[MODEL] = ArrayRecord({MODEL: tampered})
    return deliver(message)


def run_other_code(message: Message, deliver: Deliver) -> Message | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.flower_app, "SOURCE_DIGEST", "0" * 64)
        return deliver(message)


def answer_for_fewer(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        answered = wire.Answered.FromString(payload(reply))
        answered.users -= 1
        reply.content.config_records[PAYLOAD][PAYLOAD] = answered.SerializeToString()
    return reply


def count_too_many(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        counts = reply.content.metric_records[METRICS]
        counts["eligible"] = counts["hits"] = [49] * 5
    return reply


def count_words(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        reply.content.metric_records[METRICS]["eligible"] = 0.5
    return reply


def take_no_time(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        reply.content.metric_records[METRICS]["computed-ms"] = float("nan")
    return reply


def begin_never(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "query.recommend":
        answered = wire.Answered.FromString(payload(reply))
        answered.begun = float("nan")
        reply.content.config_records[PAYLOAD][PAYLOAD] = answered.SerializeToString()
    return reply


def play_nobody(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "train.install":
        installed = wire.Installed.FromString(payload(reply))
        installed.partition = installed.partitions = 10**9
        reply.content.config_records[PAYLOAD][PAYLOAD] = installed.SerializeToString()
    return reply


def play_another(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None and message.metadata.message_type == "train.install":
        installed = wire.Installed.FromString(payload(reply))
        installed.partition = 3
        reply.content.config_records[PAYLOAD][PAYLOAD] = installed.SerializeToString()
    return reply


def reply_with_noise(message: Message, deliver: Deliver) -> Message | None:
    reply = deliver(message)
    if reply is not None:
        reply.content.config_records[PAYLOAD][PAYLOAD] = b"\xff\xff"
    return reply


def expected_without(fleet: Fleet, *partitions: int) -> list[int]:
    """Hits of all users but those of some partitions."""
    there = [user for user in range(48) if user % CLIENTS not in partitions]
    return list(in_process(fleet, SETTINGS["vicinal"], there).hits)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lose, "no client plays it"),
        (lose_work, "no reply in 0.3 s"),
        (forget_the_model, "error 2: .*unheard_of"),
        (flip_a_bit, "error 2: .*damaged or truncated"),
        (run_other_code, "runs other code"),
        (answer_for_fewer, "answered something that it was not asked"),
        (count_too_many, "answered something that it was not asked"),
        (count_words, "eligible is no count"),
        (take_no_time, "computed-ms is no time"),
        (begin_never, "begun is no time"),
        (reply_with_noise, "not a Installed"),
        (play_nobody, "set partition-id and num-partitions"),
        (play_another, "no client plays it"),
    ],
)
def test_one_bad_client_of_twelve_costs_its_own_users(
    fault: Fault, says: str, fleet: Fleet, tmp_path: Path
) -> None:
    _, result = run(write_files(tmp_path, fleet), {FAULTY: fault})
    assert (result["answered"], result["users"]) == (44, 48)
    assert result["counts"]["hits"] == expected_without(fleet, 7)
    assert [each["answered"] for each in result["partitions"]] == [4] * 7 + [0] + [4] * 4
    reasons = [each["reason"] for each in result["failures"]]
    assert any(re.search(says, reason) for reason in reasons), reasons
    assert 7 in [each["partition"] for each in result["failures"]]
    assert all("\n" not in reason for reason in reasons)


@pytest.mark.parametrize("record", [MetricRecord({"x": 1}), ConfigRecord({"x": 1})])
def test_what_a_client_says_beside_is_not_read(
    record: MetricRecord | ConfigRecord, fleet: Fleet, tmp_path: Path
) -> None:
    def say_more(message: Message, deliver: Deliver) -> Message | None:
        reply = deliver(message)
        if reply is not None and message.metadata.message_type == "train.install":
            reply.content[METRICS] = record
        return reply

    _, result = run(write_files(tmp_path, fleet), {FAULTY: say_more})
    assert result["answered"] == 48 and result["failures"] == []


@pytest.mark.parametrize(
    "changes", [{"min-replies": 12}, {"min-replies": 0}, {"accept-failures": False}]
)
def test_too_few_replies_end_a_run_and_mark_its_result(
    changes: dict[str, float | str], fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    with pytest.raises(VicinalError, match=r"client 1007 of partition 7: no reply in 0.3 s"):
        run(files, {FAULTY: lose_work}, changes)
    assert "of partition 7" in json.loads(files.result.read_bytes())["error"]


def test_a_run_goes_on_where_it_was_broken_off(fleet: Fleet, tmp_path: Path) -> None:
    files = write_files(tmp_path, fleet)
    with pytest.raises(VicinalError, match="44 of 48 users"):
        run(files, {FAULTY: lose_work}, {"min-replies": 0})
    ledger = files.result.with_suffix(".progress.jsonl")
    with ledger.open("ab") as torn:
        torn.write(ledger.read_bytes().splitlines()[-1][:40])
    grid, result = run(files)
    works = [m for m in grid.sent if m.metadata.message_type == "query.recommend"]
    assert [m.metadata.dst_node_id for m in works] == [FAULTY]
    assert (result["answered"], result["resumed"]) == (48, 44)
    assert result["counts"]["hits"] == expected_without(fleet)
    assert not ledger.exists()
    assert run(files)[1]["resumed"] == 0


def test_a_run_that_asks_something_else_begins_anew(fleet: Fleet, tmp_path: Path) -> None:
    files = write_files(tmp_path, fleet)
    for changes in ({"list-length": 5}, {"steps": 1}, {"list-length": 5, "resume": False}):
        run(files, {FAULTY: lose_work})
        _, result = run(files, changes=changes)
        assert (result["answered"], result["resumed"]) == (48, 0)


def test_another_client_with_the_partition_stands_in(fleet: Fleet, tmp_path: Path) -> None:
    for fault in (lose_work, forget_the_model, answer_for_fewer, count_too_many):
        grid = grid_of(write_files(tmp_path / fault.__name__, fleet), {FAULTY: fault})
        grid.add(7, 7)
        result = result_of(grid)
        assert result["answered"] == 48 and result["failures"] == []
        assert result["counts"]["hits"] == expected_without(fleet)
        assert result["resent"] >= 1 and result["failed"] >= 1


def test_work_waits_for_a_client_that_comes_back(fleet: Fleet, tmp_path: Path) -> None:
    def die(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "query.recommend":
            grid.gone.add(FAULTY)
            grid.add(3007, 7)
            return Message(Error(code=5, reason="Node unavailable"), reply_to=message)
        return deliver(message)

    grid = grid_of(write_files(tmp_path, fleet), {FAULTY: die}, {"reply-timeout": 30.0})
    result = result_of(grid)
    assert result["answered"] == 48 and result["failures"] == []
    assert result["counts"]["hits"] == expected_without(fleet)


def test_a_client_without_memory_gets_the_model_again(fleet: Fleet, tmp_path: Path) -> None:
    forgot: list[ArrayRecord] = []

    def forget(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "query.recommend" and not forgot:
            forgot.append(grid.contexts[FAULTY].state.array_records.pop(MODEL))
        return deliver(message)

    grid = grid_of(write_files(tmp_path, fleet), {FAULTY: forget})
    assert result_of(grid)["answered"] == 48
    with_model = [m.metadata.dst_node_id for m in grid.sent if MODEL in m.content]
    assert len(forgot) == 1 and with_model.count(FAULTY) == 2


def test_a_straggler_s_answer_counts_once(fleet: Fleet, tmp_path: Path) -> None:
    kept: list[Message] = []

    def answer_late(message: Message, deliver: Deliver) -> Message | None:
        reply = deliver(message)
        if message.metadata.message_type == "query.recommend":
            kept.append(message)
            if len(kept) == 1:
                late.append(reply)
                return None
            # Both arrive now: the one that was asked first, and this one.
            grid.bring(kept[0], late[0])
        return reply

    late: list[Message | None] = []
    grid = grid_of(write_files(tmp_path, fleet), {FAULTY: answer_late})
    result = result_of(grid)
    assert len(kept) == 2 and result["answered"] == 48
    assert result["counts"]["hits"] == expected_without(fleet)


def test_a_dead_process_is_not_its_client_s_fault(fleet: Fleet, tmp_path: Path) -> None:
    """As a dead actor in Ray's pool: whoever's message it gets, at once an error."""
    deaths = iter([True, False, True, True, False, True] * 40)

    def perhaps(message: Message, deliver: Deliver) -> Message | None:
        if next(deaths):
            return Message(Error(code=0, reason="The actor died"), reply_to=message)
        return deliver(message)

    _, result = run(write_files(tmp_path, fleet), {1000 + p: perhaps for p in range(CLIENTS)})
    assert result["answered"] == 48 and result["failures"] == []
    assert result["counts"]["hits"] == expected_without(fleet)


def test_a_fleet_without_any_process_left_ends(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.fleet.delivery.MOST_PAUSE_SECONDS", 0.01)

    def dead(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "query.recommend" and len(grid.replies) > 20:
            return Message(Error(code=0, reason="The actor died"), reply_to=message)
        return deliver(message)

    grid = grid_of(write_files(tmp_path, fleet), {1000 + p: dead for p in range(CLIENTS)})
    result = result_of(grid)
    assert 0 < result["answered"] < 48
    assert result["broken_off"] == "error 0: The actor died"


def test_the_reason_is_found_in_a_traceback(fleet: Fleet, tmp_path: Path) -> None:
    def fail_as_ray_does(message: Message, deliver: Deliver) -> Message:
        reason = (
            "<class 'ray.exceptions.RayTaskError(ClientAppException)'>:<'ray::Actor.run()\n"
            '  File "device.py", line 3, in answer\n'
            "common.errors.InputError: no battery\n\n"
            "The above exception was the direct cause of the following exception:\n\n"
            "flwr.clientapp.client_app.ClientAppException: \n"
            "Exception ClientAppException occurred. Message: no battery'>"
        )
        return Message(Error(code=2, reason=reason), reply_to=message)

    _, result = run(write_files(tmp_path, fleet), {FAULTY: fail_as_ray_does})
    assert "error 2: common.errors.InputError: no battery" in [
        each["reason"] for each in result["failures"]
    ]


def test_a_fleet_that_is_too_small_is_answered_as_far_as_it_goes(
    fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    for clients in (11, 13):
        assert run(files, changes={"clients": clients})[1]["answered"] == 48
    with pytest.raises(VicinalError, match="12 of 13 clients are connected"):
        run(files, changes={"clients": 13, "min-clients": 13})
    grid = grid_of(files)
    grid.gone = {1003, 1005}
    result = result_of(grid)
    assert result["counts"]["hits"] == expected_without(fleet, 3, 5)
    assert [each["partition"] for each in result["failures"]] == [3, 5]


def swap_devices(folder: Path) -> None:
    first, second = (folder / "devices" / f"{p}-of-{CLIENTS}.safetensors" for p in (0, 1))
    second.write_bytes(first.read_bytes())


def remove_devices(folder: Path) -> None:
    (folder / "devices" / f"5-of-{CLIENTS}.safetensors").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (swap_devices, "client 1001 of partition 1: .*they are not of user 1"),
        (remove_devices, "client 1005 of partition 5: .*5-of-12.safetensors: cannot be read"),
    ],
)
def test_a_client_with_wrong_ratings_says_so(
    damage: Callable[[Path], None], says: str, fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    damage(tmp_path)
    with pytest.raises(VicinalError, match=says):
        run(files, changes={"min-replies": 0})
