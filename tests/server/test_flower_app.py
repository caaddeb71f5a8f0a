"""The server app against real client apps, over a grid in this process."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from common.errors import InputError
from common.wire import fleet_pb2 as wire
from common.wire.fleet import MODEL, PAYLOAD
from server.fleet.serve import BATCH_BYTES
from server.flower_app import RunConfig
from tests.support.fleets import (
    CLIENTS,
    SETTINGS,
    Fleet,
    in_process,
    make_fleet,
    payload,
    run,
    write_files,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return make_fleet(tmp_path_factory.mktemp("store"))


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
        assert list(reply.content) == [PAYLOAD]
        assert list(reply.content.config_records[PAYLOAD]) == [PAYLOAD]
    for reply in answers:
        answered = wire.Answered.FromString(payload(reply))
        assert {field.name for field, _ in answered.ListFields()} == {
            "source_digest",
            "version",
            "users",
            "counts",
        }


def test_large_neighborhoods_are_sent_in_several_messages(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.fleet.serve.BATCH_BYTES", 1_500)
    monkeypatch.setattr("server.fleet.serve.WAVE_BYTES", 6_000)
    grid, result = run(write_files(tmp_path, fleet))
    batches = [m for m in grid.sent if m.metadata.message_type == "query.recommend"]
    assert len(batches) > CLIENTS
    assert max(len(payload(m)) for m in batches) < BATCH_BYTES / 10
    assert result["hit_ratio"] == in_process(fleet, SETTINGS["vicinal"]).hit_ratio


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neighbours": 3}, "run config: unknown key 'neighbours': did you mean neighbors"),
        ({"clients": 0}, "run config: clients: .*greater than or equal to 1"),
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
    with pytest.raises(InputError, match=says):
        run(write_files(tmp_path, fleet), changes=changes)


def test_every_key_of_the_run_config_has_a_default_in_pyproject(fleet: Fleet) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    defaults = project["tool"]["flwr"]["app"]["config"]
    fields = {name.replace("_", "-"): field for name, field in RunConfig.model_fields.items()}
    assert defaults.keys() == fields.keys()
    for key, value in defaults.items():
        assert type(value) in (str, int, float)
        if not fields[key].is_required():
            assert value == fields[key].default
