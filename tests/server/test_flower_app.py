"""The server app against real client apps, over a grid in this process."""

import dataclasses
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp.mod import arrays_size_mod, message_size_mod
from flwr.clientapp.typing import ClientAppCallable
from hypothesis import given, settings
from hypothesis import strategies as st

import client.flower_app
from common.errors import InputError
from common.wire import fleet_pb2 as wire
from common.wire.fleet import METRICS, MODEL, PAYLOAD
from server.fleet.run_config import RunConfig
from server.fleet.work import BATCH_BYTES
from sims.fleet.app import Preparation
from sims.fleet.scenario import Scenario
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
from tests.support.in_process_grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_fleet_counts_what_one_process_counts(name: str, fleet: Fleet, tmp_path: Path) -> None:
    _, result = run(write_files(tmp_path, fleet, name))
    expected = in_process(fleet, SETTINGS[name])
    assert expected.users == 48 and 0 < expected.user_hits < 48
    assert result["counts"] == json.loads(json.dumps(dataclasses.asdict(expected)))
    assert result["hit_ratio"] == expected.hit_ratio
    assert (result["clients"], result["users"]) == (CLIENTS, 48)


def test_the_model_travels_once_a_client_and_only_counts_come_back(
    fleet: Fleet, tmp_path: Path
) -> None:
    grid, _ = run(write_files(tmp_path, fleet))
    with_model = [m.metadata.dst_node_id for m in grid.sent if MODEL in m.content]
    assert sorted(with_model) == sorted(grid.contexts)
    answers = [r for r in grid.replies if r.metadata.message_type == "query.recommend"]
    assert len(answers) == CLIENTS
    for reply in grid.replies:
        assert set(reply.content) <= {PAYLOAD, METRICS}
        assert list(reply.content.config_records[PAYLOAD]) == [PAYLOAD]
    for reply in answers:
        answered = wire.Answered.FromString(payload(reply))
        assert {field.name for field, _ in answered.ListFields()} == {
            "source_digest",
            "version",
            "users",
            "begun",
        }
        assert set(reply.content.metric_records[METRICS]) == {
            *("num-examples", "computed-ms", "processor-ms", "eligible", "hits"),
            *("users", "user-hits", "liked", "liked-hits", "on-device", "stale", "by-server"),
        }


def test_clients_of_a_machine_keep_one_copy_of_the_model(fleet: Fleet, tmp_path: Path) -> None:
    models = tmp_path / "models"
    changes: dict[str, float | str] = {"models": str(models), "under-way": 2}
    grid, result = run(write_files(tmp_path, fleet), changes=changes)
    assert len([m for m in grid.sent if MODEL in m.content]) < CLIENTS
    digest = fleet.recommender.version.digest
    assert [path.name for path in models.iterdir()] == [f"{digest}.safetensors"]
    assert all(not context.state.array_records for context in grid.contexts.values())
    assert result["hit_ratio"] == in_process(fleet, SETTINGS["vicinal"]).hit_ratio
    # What is damaged is sent again.
    path = models / f"{digest}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    client.flower_app._verified.cache_clear()
    assert run(write_files(tmp_path, fleet), changes={"models": str(models)})[1]["answered"] == 48


def test_mods_see_what_comes_and_what_goes(fleet: Fleet, tmp_path: Path) -> None:
    seen: list[float] = []

    def look(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        reply = call_next(message, context)
        if METRICS in reply.content:
            examples = reply.content.metric_records[METRICS]["num-examples"]
            assert isinstance(examples, int)
            seen.append(examples)
        return reply

    mods = [look, message_size_mod, arrays_size_mod]
    _, result = run(write_files(tmp_path, fleet), app=client.flower_app.client_app(mods))
    assert sum(seen) == result["answered"] == 48


def test_a_result_says_what_it_cost(fleet: Fleet, tmp_path: Path) -> None:
    grid, result = run(write_files(tmp_path, fleet))
    sizes = [sum(r.count_bytes() for r in m.content.values()) for m in grid.sent]
    answers = [sum(r.count_bytes() for r in m.content.values()) for m in grid.replies]
    assert result["bytes"] == {"down": sum(sizes), "up": sum(answers)}
    assert (result["messages"], result["resent"], result["failed"]) == (len(sizes), 0, 0)
    latency = result["latency"]
    assert latency["answers"] == CLIENTS and latency["ms"]["p99"] is None
    assert 0 < latency["computed_ms"]["p50"] <= latency["ms"]["p50"] <= latency["largest_ms"]
    assert result["device_processor_ms"] > 0 and result["server_processor_seconds"] > 0
    per_client = result["per_client"]
    assert {each["partition"] for each in per_client} == set(range(CLIENTS))
    assert sum(each["bytes"]["down"] for each in per_client) == sum(sizes)
    parts = result["partitions"]
    assert [each["users"] for each in parts] == [each["answered"] for each in parts] == [4] * 12
    hits = np.sum([each["counts"]["hits"] for each in parts], axis=0)
    assert hits.tolist() == result["counts"]["hits"]
    assert result["failures"] == []


@given(st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_few_messages_are_under_way_at_a_time(
    fleet: Fleet, tmp_path_factory: pytest.TempPathFactory, under_way: int, lazy: int
) -> None:
    """However late replies come, no more than so many are sent and not answered."""
    files = write_files(tmp_path_factory.mktemp("fleet"), fleet)
    config = {**run_config(files), "under-way": under_way}
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config)
    grid.late = lazy
    serve(grid, config)
    assert grid.most_unanswered <= under_way
    assert json.loads(files.result.read_bytes())["answered"] == 48


def test_large_neighborhoods_are_sent_in_several_messages(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.fleet.work.BATCH_BYTES", 1_500)
    grid, result = run(write_files(tmp_path, fleet))
    batches = [m for m in grid.sent if m.metadata.message_type == "query.recommend"]
    assert len(batches) > CLIENTS
    assert max(len(payload(m)) for m in batches) < BATCH_BYTES / 10
    assert result["hit_ratio"] == in_process(fleet, SETTINGS["vicinal"]).hit_ratio


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neighbours": 3}, "run config: unknown key 'neighbours': did you mean neighbors"),
        ({"clients": -1}, "run config: clients: .*greater than or equal to 0"),
        ({"min-reply": 3}, "unknown key 'min-reply': did you mean min-replies"),
        ({"accept-failures": "perhaps"}, "run config: accept-failures: .*boolean"),
        ({"fraction": 0.0}, "run config: fraction: .*greater than 0"),
        ({"watched-items": "3 x"}, "watched-items: give indices"),
        ({"watched-items": "40"}, "items lie in 0–39"),
        ({"deployment": ""}, "give deployment and result"),
        ({"deployment": "/nowhere"}, "/nowhere/server.safetensors: cannot be read"),
        ({"preset": "strong"}, "unknown preset 'strong'"),
        ({"neighbors": 1000}, "k = 1000 neighbors"),
    ],
)
def test_a_bad_run_config_is_refused(
    changes: dict[str, float | str], says: str, fleet: Fleet, tmp_path: Path
) -> None:
    files = write_files(tmp_path, fleet)
    files.result.write_text('{"hit_ratio": 0.0}', encoding="utf-8")
    with pytest.raises(InputError, match=says):
        run(files, changes=changes)
    told = json.loads(files.result.read_bytes())
    assert told.keys() == {"run", "error"} and told["run"] == files.run


def test_every_key_of_the_run_config_has_a_default_in_pyproject(fleet: Fleet) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    defaults = project["tool"]["flwr"]["app"]["config"]
    every = {**RunConfig.model_fields, **Preparation.model_fields, **Scenario.model_fields}
    fields = {name.replace("_", "-"): field for name, field in every.items()}
    assert defaults.keys() == fields.keys()
    for key, value in defaults.items():
        assert type(value) in (str, int, float, bool)
        if not fields[key].is_required():
            assert value == fields[key].default
