"""The server app where reports keep something to themselves: what is told, counted and spent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message

import client.flower_app
from common.errors import VicinalError
from common.wire.fleet import METRICS
from tests.support.fleets import (
    CLIENTS,
    SETTINGS,
    Fleet,
    in_process,
    run,
    run_config,
    serve,
    write_files,
)
from tests.support.in_process_grid import Deliver, Fault, InProcessGrid

TIMES = {"num-examples", "computed-ms", "processor-ms"}


def metrics_of(grid: InProcessGrid) -> list[dict[str, Any]]:
    return [
        dict(reply.content.metric_records[METRICS])
        for reply in grid.replies
        if reply.has_content() and METRICS in reply.content
    ]


def test_sums_under_masks_are_those_of_one_process(fleet: Fleet, tmp_path: Path) -> None:
    grid, result = run(write_files(tmp_path, fleet), changes={"report-privacy": "secagg"})
    expected = in_process(fleet, SETTINGS["vicinal"])
    found = {**result["counts"], "on_device": 48}
    assert found == json.loads(json.dumps(asdict(expected)))
    assert result["hit_ratio"] == expected.hit_ratio
    assert result["answered"] == 48 and result["failures"] == []
    assert [each["counts"] for each in result["partitions"]] == [None] * CLIENTS
    # Nothing that any client sent tells its counts.
    assert [metrics.keys() for metrics in metrics_of(grid)] == [TIMES] * CLIENTS
    sums = [r for r in grid.replies if r.metadata.message_type == "train"]
    assert len(sums) == 4 * CLIENTS
    assert not any(record for reply in sums for record in reply.content.array_records.values())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_client_that_leaves_a_sum_costs_its_own_users(
    stage: int, fleet: Fleet, tmp_path: Path
) -> None:
    """Before its counts are in the sum; at the last step they are."""
    seen: list[Message] = []

    def leave(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "train":
            seen.append(message)
            if len(seen) > stage:
                return Message(Error(5, "gone"), reply_to=message)
        return deliver(message)

    files = write_files(tmp_path, fleet)
    _, result = run(files, {1007: leave}, {"report-privacy": "secagg"})
    there = range(48) if stage == 3 else [user for user in range(48) if user % CLIENTS != 7]
    assert result["answered"] == len(there)
    assert result["counts"]["hits"] == list(in_process(fleet, SETTINGS["vicinal"], there).hits)
    assert [each["client"] for each in result["failures"]] == ([] if stage == 3 else [1007])


@pytest.mark.parametrize("stage", [0, 1])
def test_a_process_that_dies_early_in_a_sum_costs_nobody(
    stage: int, fleet: Fleet, tmp_path: Path
) -> None:
    seen: list[Message] = []

    def die_once(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "train":
            seen.append(message)
            if len(seen) == stage + 1:
                return Message(Error(0, "the actor died"), reply_to=message)
        return deliver(message)

    _, result = run(write_files(tmp_path, fleet), {1007: die_once}, {"report-privacy": "secagg"})
    assert (result["answered"], result["failures"]) == (48, [])
    assert result["counts"]["hits"] == list(in_process(fleet, SETTINGS["vicinal"]).hits)


@pytest.mark.parametrize("stage", range(4))
def test_a_reply_that_is_none_of_the_protocols_is_a_line(
    stage: int, fleet: Fleet, tmp_path: Path
) -> None:
    seen: list[Message] = []

    def lie(message: Message, deliver: Deliver) -> Message | None:
        reply = deliver(message)
        if message.metadata.message_type == "train":
            assert reply is not None
            seen.append(message)
            if len(seen) == stage + 1:
                reply.content.clear()
        return reply

    files = write_files(tmp_path, fleet)
    with pytest.raises(VicinalError, match="a client's reply is none of the protocol's"):
        run(files, {1007: lie}, {"report-privacy": "secagg"})
    result = json.loads(files.result.read_bytes())
    assert result["answered"] == 0 and len(result["failures"]) == 12


def test_a_sum_of_too_few_clients_is_none(fleet: Fleet, tmp_path: Path) -> None:
    def leave(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "train":
            return Message(Error(5, "gone"), reply_to=message)
        return deliver(message)

    faults: dict[int, Fault] = {1000 + each: leave for each in range(CLIENTS - 2)}
    with pytest.raises(VicinalError, match="at least 3 have to, to the end"):
        run(write_files(tmp_path, fleet), faults, {"report-privacy": "secagg"})


def test_devices_answer_one_question_each(fleet: Fleet, tmp_path: Path) -> None:
    changes: dict[str, float | str] = {"report-privacy": "local:30"}
    grid, result = run(write_files(tmp_path, fleet), changes=changes)
    assert [metrics.keys() for metrics in metrics_of(grid)] == [TIMES | {"answers"}] * CLIENTS
    assert sum(sum(metrics["answers"]) for metrics in metrics_of(grid)) == 48
    expected, privacy = in_process(fleet, SETTINGS["vicinal"]), result["report_privacy"]
    # With so large an epsilon all say the truth; what is left is whom each question met.
    assert abs(result["accuracy"] - expected.accuracy) <= 5 * privacy["error"]["accuracy"]
    assert result["counts"] is None and result["answered"] == 48
    assert privacy["spent"] == {"most": 30.0, "mean": 30.0}
    assert [each["counts"] for each in result["partitions"]] == [None] * CLIENTS


def test_a_device_that_is_asked_again_says_the_same(fleet: Fleet, tmp_path: Path) -> None:
    lost: list[Message] = []

    def lose_the_first(message: Message, deliver: Deliver) -> Message | None:
        reply = deliver(message)
        if reply is not None and message.metadata.message_type == "query.recommend":
            lost.append(reply)
            return reply if len(lost) > 1 else None
        return reply

    files = write_files(tmp_path, fleet)
    _, result = run(files, {1007: lose_the_first}, {"report-privacy": "local:1"})
    first, second = (reply.content.metric_records[METRICS]["answers"] for reply in lost)
    assert first == second
    assert result["report_privacy"]["spent"] == {"most": 1.0, "mean": 1.0}


def test_another_client_that_is_asked_spends_its_own(fleet: Fleet, tmp_path: Path) -> None:
    config = {**run_config(write_files(tmp_path, fleet)), "reply-timeout": 0.3}
    config["report-privacy"] = "local:2"

    asked: list[Message] = []

    def lose_the_first(message: Message, deliver: Deliver) -> Message | None:
        if message.metadata.message_type == "query.recommend":
            asked.append(message)
            return None if len(asked) == 1 else deliver(message)
        return deliver(message)

    faults: dict[int, Fault] = dict.fromkeys((1007, 7007), lose_the_first)
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config, faults)
    grid.add(7007, 7)
    serve(grid, config)
    result = json.loads(Path(str(config["result"])).read_bytes())
    assert result["answered"] == 48
    assert result["report_privacy"]["spent"]["most"] == 4.0
    assert result["report_privacy"]["spent"]["mean"] == pytest.approx(2 + 2 * 4 / 48)


@pytest.mark.parametrize("reports", [[48], [-1, 49], [1.0] * 15, "many", [4] + [0] * 13])
def test_reports_that_cannot_be_are_refused(reports: object, fleet: Fleet, tmp_path: Path) -> None:
    def lie(message: Message, deliver: Deliver) -> Message | None:
        reply = deliver(message)
        if reply is not None and message.metadata.message_type == "query.recommend":
            record = reply.content.metric_records[METRICS]
            del record["answers"]
            if isinstance(reports, list):
                record["answers"] = reports
        return reply

    files = write_files(tmp_path, fleet)
    _, result = run(files, {1007: lie}, {"report-privacy": "local:1"})
    assert result["answered"] == 44
    assert "not the reports of 4 users" in str(result["failures"])


def test_sums_are_told_with_noise_and_each_telling_is_spent(
    fleet: Fleet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def lose_work(message: Message, deliver: Deliver) -> Message | None:
        return None if message.metadata.message_type == "query.recommend" else deliver(message)

    caplog.set_level("INFO", "flwr")
    files, changes = write_files(tmp_path, fleet), {"report-privacy": "central:0.5"}
    _, result = run(files, {1007: lose_work}, changes)
    assert result["report_privacy"]["spent"] == {"most": 0.5, "mean": 0.5}
    told = result["report_privacy"]["hits"]
    assert all(hit == int(hit) for hit in told) and result["counts"] is None
    assert result["hit_ratio_per_target"][0] == pytest.approx(
        told[0]
        / in_process(fleet, SETTINGS["vicinal"], [u for u in range(48) if u % 12 != 7]).eligible[0]
    )
    # The log of the run says nothing else.
    assert f"'hit-ratio': {result['hit_ratio']}" in caplog.text
    _, result = run(files, changes=changes)
    assert result["resumed"] == 44
    assert result["report_privacy"]["spent"] == {
        "most": 1.0,
        "mean": pytest.approx((44 * 1.0 + 4 * 0.5) / 48),
    }


def test_a_run_with_other_privacy_begins_anew(fleet: Fleet, tmp_path: Path) -> None:
    def lose_work(message: Message, deliver: Deliver) -> Message | None:
        return None if message.metadata.message_type == "query.recommend" else deliver(message)

    files = write_files(tmp_path, fleet)
    run(files, {1007: lose_work})
    assert run(files, changes={"report-privacy": "local:9"})[1]["resumed"] == 0
    with pytest.raises(VicinalError, match="report privacy"):
        run(files, changes={"report-privacy": "locl:9"})
