"""`flwr run` without preparation: the app over a grid in this process."""

import fcntl
import json
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import client.flower_app
import sims.fleet.app
from client.device import answer
from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.vicinal.settings import capped, preset
from common.wire.fleet import prepared_folder
from server.model_store import ModelStore
from sims.evaluation.defenses import defense_named
from sims.evaluation.experiment import Experiment, prepare
from sims.fleet.app import PREFERRED, SYNTHETIC, Preparation, fleet_size
from sims.fleet.history import read_history
from tests.support.in_process_grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[3]
DATASET = "synthetic:48x40"
SETTLED = "sims.fleet.app.SETTLED_SECONDS"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    monkeypatch.setattr(SETTLED, 0.0)
    return tmp_path


def run(nodes: int, **changes: Any) -> InProcessGrid:
    """A run of the app as `flwr run` starts it: every key of the run config is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    defaults = project["tool"]["flwr"]["app"]["config"]
    config = {**defaults, "dataset": DATASET, "list-length": 10, "reply-timeout": 0.3}
    config.update({key.replace("_", "-"): value for key, value in changes.items()})
    grid = InProcessGrid(client.flower_app.app, nodes, dict(config))
    context = Context(run_id=7, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    for each in grid.contexts.values():
        each.run_id = 7
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        sims.fleet.app.app(grid, context)
    return grid


def in_process(folder: Path, seed: int) -> Counts:
    prepared = prepare(Experiment(dataset=DATASET, list_length=10, seed=seed))
    with ModelStore(folder / "store") as store:
        recommender = prepared.train(store, robust=defense_named("rvd", preset="vicinal").robust)
    settings, counts = capped(preset("vicinal"), 48), Counts.none(len(prepared.watched))
    for user in range(recommender.user_count):
        counts += answer(
            recommender.version,
            recommender.neighborhood(user, settings),
            settings,
            rated=prepared.local.train.items_of(user),
            held_out=prepared.local.held_out_of(user),
            watched=prepared.watched,
            list_length=10,
        ).counts
    return counts


@pytest.mark.parametrize(("nodes", "seed"), [(1, 0), (5, 3)])
def test_a_run_without_preparation_counts_what_one_process_counts(
    nodes: int, seed: int, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(nodes, seed=seed)
    result = json.loads((home / "vicinal" / "7" / "result.json").read_bytes())
    expected = in_process(tmp_path / "mine", seed)
    assert expected.user_hits > 0
    assert result["counts"]["user_hits"] == expected.user_hits
    assert result["counts"]["hits"] == list(expected.hits)
    assert result["counts"]["liked_hits"] == expected.liked_hits
    assert (result["clients"], result["users"]) == (nodes, 48)
    said = capsys.readouterr().out
    assert f"vicinal: defended: HR@10 {expected.hit_ratio:.3f}" in said
    assert "vicinal: undefended: HR@10" in said
    # Ratings and keys are gone, the result stays.
    assert {path.name for path in (home / "vicinal" / "7").iterdir()} == {
        ".vicinal",
        "result.json",
        "run-config.toml",
    }


def test_a_result_goes_where_it_is_asked_for(tmp_path: Path) -> None:
    run(2, result=str(tmp_path / "mine.json"), watched_items="3 17")
    assert json.loads((tmp_path / "mine.json").read_bytes())["watched"] == [3, 17]


def test_a_result_that_cannot_be_written_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.served", None)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"run config: result: .* cannot be written"):
        run(2, result=str(tmp_path / "file" / "mine.json"))


def test_what_fails_leaves_no_ratings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_call: object) -> None:
        raise VicinalError("no client is left")

    monkeypatch.setattr("server.flower_app.measured", fails)
    with pytest.raises(VicinalError, match="no client is left"):
        run(2)
    left = {path.name for path in (home / "vicinal" / "7").iterdir()}
    assert "result.json" in left
    assert left.isdisjoint({"deployment", "devices", "store", "models"})


def test_another_number_of_clients_is_refused(home: Path) -> None:
    with pytest.raises(InputError, match="2 are connected, not 3: leave it out"):
        run(2, clients=3)
    assert not (home / "vicinal").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"neighbours": 3}, "run config: unknown key 'neighbours': did you mean neighbors"),
        ({"seed": -1}, "run config: seed: .*greater than or equal to 0"),
        ({"dataset": "nowhere"}, "unknown data set 'nowhere'|nowhere"),
        ({"attack": "mixrnd"}, "mixrnd"),
        ({"model": "mff"}, "mff"),
        ({"datset": "ml-100k"}, "unknown key 'datset': did you mean dataset"),
        ({"atack_from": 3}, "unknown key 'atack-from': did you mean attack-from"),
        ({"report_privacy": "secag"}, "report privacy 'secag': write none, secagg"),
        ({"watched_items": "3 x"}, "watched-items: give indices"),
        ({"held_back": 0.3}, "held-back is of several rounds: give rounds, too"),
        ({"rounds": 2, "deployment": "/x"}, "rounds are made where no deployment is named"),
    ],
)
def test_a_bad_run_config_is_refused_before_a_training(
    changes: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.preparation.ModelStore", None)
    result = tmp_path / "mine.json"
    result.write_text('{"hit_ratio": 0.0}', encoding="utf-8")
    with pytest.raises(InputError, match=says):
        run(1, result=str(result), run="this", **changes)
    # What an earlier run found is not taken for this one's.
    told = json.loads(result.read_bytes())
    assert told.keys() == {"run", "error"} and told["run"] == "this"


def test_what_clients_cannot_be_is_refused_before_a_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sims.fleet.preparation.ModelStore", None)
    with pytest.raises(InputError, match="49 clients for 48 users: choose 1–48"):
        run(49)
    with pytest.raises(InputError, match="min replies 4: there are 3 clients"):
        run(3, min_replies=4)
    with pytest.raises(InputError, match="secagg: 2 clients"):
        run(2, report_privacy="secagg")


def test_a_client_on_another_machine_is_told_what_it_lacks(home: Path) -> None:
    context = Context(
        run_id=8,
        node_id=1,
        node_config={"partition-id": 0, "num-partitions": 1},
        state=RecordDict(),
        run_config={"device-ratings": ""},
    )
    assert not prepared_folder(8).exists()
    with pytest.raises(InputError, match=r"give device-ratings.*--prepare-only"):
        client.flower_app._own_ratings(context)


@pytest.mark.realdata
def test_real_ratings_are_taken_where_they_are_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Preparation().chosen() == PREFERRED
    assert Preparation(dataset=DATASET).chosen() == DATASET
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    assert Preparation().chosen() == SYNTHETIC


def test_without_real_ratings_they_are_synthetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    assert Preparation().chosen() == SYNTHETIC
    monkeypatch.setenv("VICINAL_DATA", str(tmp_path))
    assert Preparation().chosen() == SYNTHETIC


def test_the_fleet_is_who_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTLED, 0.3)
    grid = InProcessGrid(client.flower_app.app, 3, {})
    came: list[int] = []

    def get_node_ids() -> list[int]:
        came.append(len(came))
        return came[: min(len(came) - 1, 3)]

    monkeypatch.setattr(grid, "get_node_ids", get_node_ids)
    assert fleet_size(grid, 5.0) == 3
    monkeypatch.setattr(grid, "get_node_ids", list)
    with pytest.raises(VicinalError, match="no client is connected"):
        fleet_size(grid, 0.2)


def test_a_run_that_was_killed_is_cleared_up_by_the_next(home: Path) -> None:
    killed, working = home / "vicinal" / "5", home / "vicinal" / "6"
    for folder in (killed, working):
        for name in ("deployment", "devices", "models", "store"):
            (folder / name).mkdir(parents=True)
        (folder / "lock").touch()
        (folder / "result.json").write_text("{}")
    with (working / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(1)
        assert {path.name for path in killed.iterdir()} == {"result.json"}
        assert (working / "devices").is_dir()
    assert stat.S_IMODE((home / "vicinal" / "7").stat().st_mode) == 0o700


def test_rounds_without_preparation_leave_a_history(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(4, rounds=3, attack_from=2, absent=0.5, appear=1.0, fraction=0.5)
    folder = home / "vicinal" / "7"
    history = read_history(folder)
    assert [point.present for point in history.of("defended")][1:] == [4, 4]
    assert [point.fakes for point in history.of("defended")] == [0, 1, 1]
    assert history.fraction == 0.5 and history.clients == 4
    said = capsys.readouterr().out
    assert f"vicinal: round 3, defended: HR@10 {history.rounds[-1].hit_ratio:.3f}" in said
    left = {path.name for path in folder.iterdir()}
    assert left.isdisjoint({"deployment", "devices", "models", "rounds", "store"})
    with pytest.raises(InputError, match="attack starts in round 4 of 3"):
        run(4, rounds=3, attack_from=4)
