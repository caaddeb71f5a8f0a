"""Rounds over a grid in this process and without one: the same counts; broken off and gone on."""

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import client.flower_app
import sims.fleet.rounds
import sims.fleet.tallies
from common.errors import InputError, VicinalError
from server.fleet.plan import CONDITIONS, Plan, read_plan
from server.model_store import ModelStore
from server.preparing import warm_started
from server.versions.deployment import read_deployment
from sims.evaluation.cell import Cell
from sims.evaluation.experiment import Prepared, prepare
from sims.evaluation.study import Study
from sims.figures.history import history_figure
from sims.figures.style import save
from sims.fleet.history import History, frame_of, history_of, read_history, write_history
from sims.fleet.rounds import Rounds, prepare_rounds
from sims.fleet.scenario import Scenario
from sims.fleet.tallies import Tallies, answered_here, tallies_of
from sims.fleet.world import World
from tests.support.fleets import serve
from tests.support.in_process_grid import InProcessGrid

CLIENTS = 6
SCENARIO = Scenario(rounds=4, attack_from=3, held_back=0.3, absent=0.4, leave=0.2, appear=0.5)
STUDY = Study(
    dataset="synthetic:48x40", list_length=10, attack_size=0.1, k=12, steps=4, min_support=2
)
Config = dict[str, bool | float | int | str]


@dataclasses.dataclass(frozen=True)
class Lived:
    prepared: Prepared
    cell: Cell
    rounds: Rounds
    here: Tallies


def made(folder: Path, study: Study = STUDY, scenario: Scenario = SCENARIO) -> Lived:
    cell = study.cell()
    prepared = prepare(cell.experiment)
    with ModelStore(folder / "store") as store:
        rounds = prepare_rounds(
            folder / "fleet", prepared, cell, store, scenario, clients=CLIENTS, fraction=0.7
        )
    return Lived(prepared, cell, rounds, answered_here(rounds, processes=1))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return made(tmp_path_factory.mktemp("rounds"))


def config_of(rounds: Rounds) -> Config:
    written = tomllib.loads(rounds.files.run_config.read_text(encoding="utf-8"))
    return {**written, "reply-timeout": 0.3, "min-replies": 0}


def in_grid(rounds: Rounds, changes: Config | None = None) -> tuple[InProcessGrid, dict[str, Any]]:
    config = {**config_of(rounds), **(changes or {})}
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config)
    serve(grid, config)
    return grid, json.loads(rounds.files.result.read_bytes())


@pytest.mark.parametrize("models", ["shared", ""])
def test_a_fleet_counts_what_one_process_counts(lived: Lived, models: str) -> None:
    changes: Config = {} if models else {"models": ""}
    grid, result = in_grid(lived.rounds, changes)
    assert tallies_of(result) == lived.here
    assert (result["plan"], result["clients"]) == (lived.rounds.plan.digest, CLIENTS)
    for one, (planned, condition) in zip(result["rounds"], lived.rounds.plan.askings, strict=True):
        assert (one["round"], one["condition"]) == (planned.number, condition)
        assert [part["partition"] for part in one["partitions"]] == planned.asked
        assert one["users"] == one["answered"] == 8 * len(planned.asked)
        assert one["failures"] == []
    # Who is not asked gets no work.
    worked = [
        message.metadata.dst_node_id - 1000
        for message in grid.sent
        if message.metadata.message_type == "query.recommend"
    ]
    assert worked.count(0) == 2 * sum(0 in each.asked for each in lived.rounds.plan.rounds)
    assert not list(lived.rounds.files.folder.glob("*.progress.jsonl"))


def test_devices_know_what_the_server_knows(lived: Lived) -> None:
    world = World(lived.prepared, SCENARIO, clients=CLIENTS, fraction=0.7)
    for scene, planned in zip(world, lived.rounds.plan.rounds, strict=True):
        for condition in CONDITIONS:
            folder = lived.rounds.files.folder / "rounds" / str(scene.number) / condition
            model = read_deployment(folder)
            assert model.version.digest == planned.versions[condition]
            assert model.ratings.digest() == scene.ratings.digest()
            # Who has rated nothing is nobody's neighbor.
            assert model.stored.left_out.tolist() == scene.unseen.tolist()
    versions = [each.versions["undefended"] for each in lived.rounds.plan.rounds]
    assert len(set(versions)) == len(versions)
    assert [each.warm["undefended"] for each in lived.rounds.scenes] == [False, True, True, True]


def test_fakes_keep_their_rows_as_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[tuple[int, int, int]]()

    def noted(before: Any, ratings: Any, users: int, **more: Any) -> Any:
        seen.append((before.user_count, ratings.user_count, users))
        return warm_started(before, ratings, users, **more)

    monkeypatch.setattr("sims.fleet.rounds.warm_started", noted)
    scenario = Scenario(rounds=3, attack_from=2)
    found = made(tmp_path / "warm", STUDY, scenario)
    accounts = 48 + found.rounds.scenes[-1].fakes
    assert seen == [(48, accounts, accounts), (accounts, accounts, accounts)]
    anew = made(tmp_path / "anew", STUDY, scenario.model_copy(update={"retrain": "anew"}))
    assert len(seen) == 2 and not any(each.warm["undefended"] for each in anew.rounds.scenes)
    versions = [each.versions["undefended"] for each in anew.rounds.plan.rounds]
    assert versions[0] != versions[1] == versions[2]


def test_a_run_that_was_broken_off_goes_on(lived: Lived, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[tuple[int, str, int]]()
    answered = sims.fleet.tallies._answered

    def breaks(*call: Any) -> Any:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(call[2:])
        return answered(*call)

    def noted(*call: Any) -> Any:
        asked.append(call[2:])
        return answered(*call)

    monkeypatch.setattr(sims.fleet.tallies, "_answered", breaks)
    with pytest.raises(KeyboardInterrupt):
        answered_here(lived.rounds, processes=1)
    first = list(asked)
    asked.clear()
    monkeypatch.setattr(sims.fleet.tallies, "_answered", noted)
    assert answered_here(lived.rounds, processes=1) == lived.here
    everything = 2 * sum(len(each.asked) for each in lived.rounds.plan.rounds)
    assert len(first) == 5 and len(asked) == everything - 5
    assert not set(first) & set(asked)


def test_a_fleet_that_was_broken_off_goes_on(lived: Lived) -> None:
    config = config_of(lived.rounds)
    grid = InProcessGrid(client.flower_app.app, CLIENTS, config)
    planned = lived.rounds.plan.rounds[1]
    grid._faults[1000 + planned.asked[0]] = lambda message, deliver: (
        None
        if message.metadata.message_type == "query.recommend"
        and message.content.config_records["config"]["round"] == 2
        else deliver(message)
    )
    with pytest.raises(VicinalError, match="round 2, undefended: "):
        serve(grid, config)
    result = json.loads(lived.rounds.files.result.read_bytes())
    assert len(result["rounds"]) == 3 and "round 2" in result["error"]
    _, result = in_grid(lived.rounds)
    assert tallies_of(result) == lived.here
    resumed = [one["resumed"] for one in result["rounds"]]
    assert resumed[:2] == [one["users"] for one in result["rounds"][:2]]
    assert 0 < resumed[2] < result["rounds"][2]["users"]
    assert not any(resumed[3:])


def history(lived: Lived) -> History:
    return history_of(
        lived.prepared,
        lived.rounds,
        lived.here,
        SCENARIO,
        defense="rvd",
        preset="vicinal",
        fraction=0.7,
    )


def test_a_history_has_a_line_for_each_round(lived: Lived, tmp_path: Path) -> None:
    found = history(lived)
    fakes = [point.fakes for point in found.of("defended")]
    assert fakes[:2] == [0, 0] and fakes[2] == fakes[3] > 0
    for point in found.rounds:
        counts = list(lived.here[point.round, point.condition].values())
        hits, users = sum(c.user_hits for c in counts), sum(c.users for c in counts)
        assert point.accuracy == hits / users and point.users == users
        shares = np.array([c.user_hits / c.users for c in counts])
        if point.accuracy_low is not None and point.accuracy_high is not None:
            assert shares.min() <= point.accuracy_low <= point.accuracy <= point.accuracy_high
            assert point.accuracy_high <= shares.max()
    write_history(tmp_path, found)
    assert read_history(tmp_path) == read_history(tmp_path / "history.json") == found
    frame = pl.read_parquet(tmp_path / "history.parquet")
    assert frame.to_dicts() == [point.model_dump() for point in found.rounds]
    assert frame_of(found).height == 8
    (tmp_path / "history.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="no history of rounds"):
        read_history(tmp_path)


def test_a_history_is_drawn(lived: Lived, tmp_path: Path) -> None:
    found = history(lived)
    save(history_figure(found), tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "attack begins" in text and "undefended" in text
    once = found.model_copy(update={"rounds": found.rounds[:2]})
    with pytest.raises(InputError, match="one round: nothing to draw"):
        history_figure(once)


def test_a_plan_is_checked(lived: Lived, tmp_path: Path) -> None:
    text = (lived.rounds.files.folder / "plan.json").read_text(encoding="utf-8")
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    assert read_plan(path) == lived.rounds.plan
    told = json.loads(text)
    for change in ({"clients": 1}, {"rounds": told["rounds"][1:]}, {"more": 1}):
        path.write_text(json.dumps({**told, **change}), encoding="utf-8")
        with pytest.raises(InputError, match="no plan of rounds"):
            read_plan(path)
    other = lived.rounds.plan.rounds[0].model_copy(
        update={"versions": dict.fromkeys(CONDITIONS, "0" * 64)}
    )
    wrong = Plan(clients=CLIENTS, tuned=True, rounds=[other, *lived.rounds.plan.rounds[1:]])
    right = lived.rounds.path.read_bytes()
    lived.rounds.path.write_text(wrong.model_dump_json(), encoding="utf-8")
    try:
        with pytest.raises(InputError, match="round 1 has another version: prepare anew"):
            in_grid(lived.rounds)
    finally:
        lived.rounds.path.write_bytes(right)
    with pytest.raises(InputError, match="fraction: the plan says"):
        in_grid(lived.rounds, {"fraction": 0.5})


def test_without_a_defense_devices_rank_as_it_was_trained(tmp_path: Path) -> None:
    study = Study(dataset="synthetic:48x40", list_length=10, attack_size=0.1, defense="none")
    scenario = Scenario(rounds=2, absent=0.5, appear=1.0)
    found = made(tmp_path, study, scenario)
    for number in (1, 2):
        assert found.here[number, "defended"] == found.here[number, "undefended"]
    _, result = in_grid(found.rounds)
    assert tallies_of(result) == found.here


def test_what_is_not_trained_here_is_refused(tmp_path: Path) -> None:
    for study, says in ((Study(model="userknn", defense="none"), "userknn is not trained here"),):
        with pytest.raises(InputError, match=says):
            sims.fleet.rounds.require_rounds(study.cell())
