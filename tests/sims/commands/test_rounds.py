"""`vicinal simulate --rounds`: its options, and Flower's real processes beside one process."""

import json
from pathlib import Path

import pytest

from common.errors import InputError
from sims.cli import run
from sims.commands.rounds import RoundsFlags
from sims.fleet.scenario import Scenario
from tests.sims.commands.test_simulate import leftovers, mark, scratch, simulate

__all__ = ["mark", "scratch"]
ROUNDS = (
    *("--clients", "8", "--k", "30", "--list-length", "10", "--rounds", "3"),
    *("--attack-from", "2", "--held-back", "30%", "--absent", "25%", "--appear", "0.5"),
    *("--leave", "10%", "--fraction", "80%"),
)


@pytest.mark.slow
def test_a_fleet_lives_through_what_one_process_does(
    mark: str, scratch: Path, tmp_path: Path
) -> None:
    process = simulate(tmp_path, mark, *ROUNDS)
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    fleet = json.loads((tmp_path / "out.json").read_bytes())
    assert "HR@10" in out and "recommend round 3 of 3" in err
    assert leftovers(scratch) == []
    here = tmp_path / "here"
    arguments = ["--dataset", "synthetic:120x80", "--store", str(tmp_path / "store")]
    arguments += ["--folder", str(here), "--in-process", "--processes", "1"]
    assert run(["simulate", *arguments, *ROUNDS]) == 0
    alone = json.loads((here / "history.json").read_bytes())
    assert alone.pop("run")["command"] and {**alone, "run": fleet["run"]} == fleet
    assert sum(point["hit_ratio"] for point in fleet["rounds"]) > 0
    assert {path.name for path in here.glob("history.*")} == {
        *("history.json", "history.parquet", "history.svg")
    }


def test_options_are_a_scenario() -> None:
    flags = RoundsFlags(rounds=5, attack_from=3, held_back="30%", arrive="time", leave="0.1")
    assert flags.scenario() == Scenario(
        rounds=5, attack_from=3, held_back=0.3, arrive="time", leave=0.1
    )
    assert RoundsFlags().scenario() is None
    assert RoundsFlags(fraction="50%").asked_fraction == 0.5
    assert RoundsFlags(rounds=3).scenario() == Scenario(rounds=3)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (RoundsFlags(leave="5%"), "--leave is of several rounds: give --rounds, too"),
        (RoundsFlags(in_process=True), "--in-process is of several rounds"),
        (RoundsFlags(rounds=3, arrive="never"), "rounds: arrive: "),
        (RoundsFlags(rounds=3, held_back="100%"), "rounds: held-back: "),
        (RoundsFlags(rounds=3, absent="x"), "--absent 'x': give a share"),
    ],
)
def test_wrong_options_are_told(flags: RoundsFlags, says: str) -> None:
    with pytest.raises(InputError, match=says):
        flags.scenario()
    with pytest.raises(InputError, match="somebody has to be asked"):
        _ = RoundsFlags(rounds=3, fraction="0").asked_fraction
