"""Rounds whose model the clients train, or whose devices have books, or tell sums alone."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import client.flower_app
import sims.fleet.app
from common.errors import InputError
from common.ranking import Counts
from common.report_privacy import ReportPrivacy
from server.federated.settings import Federated
from server.model_store import ModelStore
from server.versions.deployment import read_deployment
from sims.evaluation.experiment import prepare
from sims.evaluation.study import Study
from sims.federated.model import Asked, FleetTraining, Trainer
from sims.federated.training import Trained
from sims.fleet.history import history_of, history_table
from sims.fleet.learning import LEARNED_FILE, read_learned, write_learning
from sims.fleet.rounds import Rounds, prepare_rounds
from sims.fleet.scenario import Scenario
from sims.fleet.tallies import Tallies, answered_here, tallies_of
from sims.fleet.world import World
from sims.progress import Report
from tests.sims.fleet.test_rounds import CLIENTS, SCENARIO, STUDY, in_grid
from tests.support.fleets import serve
from tests.support.in_process_grid import InProcessGrid

ROOT = Path(__file__).resolve().parents[3]
FLEET = FleetTraining(
    Federated(rounds=3, clients=24, width=6, last_steps=2), "pieck-uea", {"rounds": 1, "mined": 3}
)


def made(
    folder: Path,
    study: Study,
    scenario: Scenario = SCENARIO,
    *,
    trainer: Trainer | None = None,
    privacy: str = "none",
) -> Rounds:
    cell = study.cell()
    with ModelStore(folder / "store") as store:
        return prepare_rounds(
            folder / "fleet",
            prepare(cell.experiment),
            cell,
            store,
            scenario,
            clients=CLIENTS,
            fraction=0.7,
            trainer=trainer,
            privacy=ReportPrivacy.parse(privacy),
        )


def with_(study: Study, **changes: Any) -> Study:
    return Study(**{**vars(study), **changes})


def over_messages(folder: Path) -> Trainer:
    """Trains with client apps that a server app asks."""
    defaults = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    def train(asked: Asked, _progress: Report) -> Trained:
        files = write_learning(folder, asked, CLIENTS)
        written = tomllib.loads(files.run_config.read_text(encoding="utf-8"))
        config = {**defaults["tool"]["flwr"]["app"]["config"], **written, "reply-timeout": 0.3}
        grid = InProcessGrid(client.flower_app.app, CLIENTS, config)
        serve(grid, config, sims.fleet.app.app)
        assert json.loads(files.result.read_bytes())["lost"] == []
        return read_learned(folder / LEARNED_FILE, asked)

    return train


def nobody(_asked: Asked, _progress: Report) -> Trained:
    raise AssertionError("trained again")


def versions(rounds: Rounds) -> list[str]:
    return [each.versions["undefended"] for each in rounds.plan.rounds]


def test_clients_learn_in_every_round_what_one_process_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sims.fleet.app.SETTLED_SECONDS", 0.0)
    study = with_(STUDY, fleet=FLEET)
    here = made(tmp_path / "here", study)
    fleet = made(tmp_path / "there", study, trainer=over_messages(tmp_path / "learning"))
    assert versions(fleet) == versions(here)
    assert len(set(versions(here))) == SCENARIO.rounds
    assert [each.warm["defended"] for each in here.scenes] == [False, True, True, True]
    # What was trained is not trained again.
    assert versions(made(tmp_path / "there", study, trainer=nobody)) == versions(here)
    # Until the attack begins, updates are honest.
    calm = made(tmp_path / "calm", with_(study, fleet=FLEET.clean))
    assert versions(calm)[:2] == versions(here)[:2]
    assert versions(calm)[2] != versions(here)[2]
    # What clients count is the same, wherever they are asked.
    _, result = in_grid(fleet)
    assert tallies_of(result) == answered_here(here, processes=1)


def test_who_is_not_there_keeps_its_vector(tmp_path: Path) -> None:
    study = with_(STUDY, fleet=FLEET)
    rounds = made(tmp_path, study)
    world = World(prepare(study.cell().experiment), SCENARIO, clients=CLIENTS, fraction=0.7)
    before: Any = None
    absent = 0
    for scene in world:
        path = rounds.files.folder / "rounds" / str(scene.number) / "undefended"
        vectors = read_deployment(path).stored.user_parameters["user_embedding"]
        there = np.isin(np.arange(48) % CLIENTS, scene.present)
        if before is not None:
            assert (vectors[:48][~there] == before[:48][~there]).all()
            assert (vectors[:48][there] != before[:48][there]).any(axis=1).all()
            absent += int((~there).sum())
        before = vectors
    assert absent > 0


def test_malicious_clients_may_have_no_ratings(tmp_path: Path) -> None:
    alone = FleetTraining(FLEET.settings, "pieck-uea", {"rounds": 1, "mined": 3}, 0.1)
    study = with_(STUDY, attack="none", attack_size=None, fleet=alone)
    rounds = made(tmp_path, study)
    assert [each.fakes for each in rounds.scenes] == [0, 0, 4, 4]
    calm = made(tmp_path / "calm", with_(study, fleet=alone.clean))
    same = [a == b for a, b in zip(versions(rounds), versions(calm), strict=True)]
    assert same == [True, True, False, False]
    study_cell = study.cell()
    history = history_of(
        prepare(study_cell.experiment),
        rounds,
        answered_here(rounds, processes=1),
        SCENARIO,
        defense="rvd",
        preset="vicinal",
        fraction=0.7,
    )
    assert (history.train, history.update_attack) == ("federated", "pieck-uea")
    assert "federated mf · attack none + pieck-uea" in str(history_table(history).title)


def test_every_round_has_a_book_of_its_own(tmp_path: Path) -> None:
    rounds = made(tmp_path, with_(STUDY, release="book"))
    grid, result = in_grid(rounds)
    here = answered_here(rounds, processes=1)
    assert tallies_of(result) == here
    assert [each["release"] for each in result["rounds"]] == ["rows", "book"] * SCENARIO.rounds
    books = {path.read_bytes() for path in rounds.files.folder.glob("rounds/*/defended/book*")}
    assert len(books) == SCENARIO.rounds
    rows = made(tmp_path / "rows", STUDY)
    answered = answered_here(rows, processes=1)
    plain = {key: found for key, found in here.items() if key[1] == "undefended"}
    assert plain == {key: found for key, found in answered.items() if key[1] == "undefended"}
    assert here != answered and grid.sent


def total(tallies: Tallies) -> dict[Any, Counts]:
    return {
        key: sum(found.values(), Counts.none(len(next(iter(found.values())).hits)))
        for key, found in tallies.items()
    }


def test_rounds_are_added_up_under_masks(tmp_path: Path) -> None:
    scenario = SCENARIO.model_copy(update={"absent": 0.0, "leave": 0.0})
    rounds = made(tmp_path, STUDY, scenario, privacy="secagg")
    _, result = in_grid(rounds)
    here, found = answered_here(rounds, processes=1), tallies_of(result)
    for key, counts in total(here).items():
        told = found[key][0]
        assert (told.hits, told.users, told.user_hits) == (
            *(counts.hits, counts.users, counts.user_hits),
        )
    assert all(part["counts"] is None for one in result["rounds"] for part in one["partitions"])
    history = history_of(
        prepare(STUDY.cell().experiment),
        rounds,
        found,
        scenario,
        defense="rvd",
        preset="vicinal",
        fraction=0.7,
    )
    assert {point.accuracy_low for point in history.rounds} == {None}


def test_noise_and_too_few_clients_are_refused_before_a_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"local: every round would spend epsilon again"):
        made(tmp_path, STUDY, privacy="local:1")
    with pytest.raises(InputError, match=r"secagg: \d clients, .*choose more clients"):
        made(tmp_path, STUDY, SCENARIO.model_copy(update={"absent": 0.9}), privacy="secagg")
    assert not (tmp_path / "fleet" / "plan.json").exists()
    rounds = made(tmp_path, STUDY, Scenario(rounds=2))
    with pytest.raises(InputError, match=r"central: every round would spend epsilon again"):
        in_grid(rounds, {"report-privacy": "central:1"})
