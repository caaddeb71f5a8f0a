"""`vicinal simulate` with Flower's real processes: what it finds, and that nothing is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client.device import answer
from common.errors import VicinalError
from common.ranking import Counts
from common.vicinal.settings import capped, preset
from server.federated.settings import Federated
from server.model_store import ModelStore
from sims.evaluation.defenses import defense_named
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.study import Study, evaluate
from sims.federated.model import FleetTraining
from sims.fleet.run import CHECKOUT, checked_result, run_fleet
from sims.processes.lock import locked
from sims.processes.marked import marked_processes, stop_processes
from sims.progress import quiet
from tests.support.child_processes import command_of
from tests.support.modules import ENVIRONMENT, ROOT, command

DATASET = "synthetic:120x80"
VICINAL = [sys.executable, "-m", "sims.cli"]


@pytest.fixture
def mark() -> Iterator[str]:
    """An environment variable that everything started by a test inherits."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("marks are read from /proc")
    name = f"VICINAL_TEST_MARK={uuid.uuid4()}"
    yield name
    stop_processes(name, grace=0)


@pytest.fixture
def scratch(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The temporary folder of this test alone, short enough for Ray's sockets."""
    tmp_path_factory.getbasetemp()  # made once, and not in here
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as name:
        monkeypatch.setenv("TMPDIR", name)
        monkeypatch.setattr(tempfile, "tempdir", name)
        yield Path(name)


def simulate(folder: Path, mark: str, *options: str) -> subprocess.Popen[str]:
    name, _, value = mark.partition("=")
    arguments = ["--dataset", DATASET, "--store", str(folder / "store")]
    arguments += ["--folder", str(folder / "fleet"), "--json", str(folder / "out.json")]
    return subprocess.Popen(
        [*VICINAL, "simulate", *arguments, *options],
        cwd=folder,
        env={**os.environ, name: value, "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def leftovers(scratch: Path) -> list[Path]:
    return list(scratch.glob("vicinal-*"))


def until(condition: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def in_process(folder: Path, list_length: int) -> Counts:
    prepared = prepare(Experiment(dataset=DATASET, list_length=list_length))
    with ModelStore(folder / "store") as store:
        recommender = prepared.train(store, robust=defense_named("rvd", preset="vicinal").robust)
    asked = preset("vicinal", neighbors=30)
    settings, counts = capped(asked, prepared.user_count), Counts.none(len(prepared.watched))
    for user in range(recommender.user_count):
        counts += answer(
            recommender.version,
            recommender.neighborhood(user, settings),
            settings,
            rated=prepared.local.train.items_of(user),
            held_out=prepared.local.held_out_of(user),
            watched=prepared.watched,
            list_length=list_length,
        ).counts
    return counts


@pytest.mark.slow
def test_twenty_clients_count_what_one_process_counts(
    mark: str, scratch: Path, tmp_path: Path
) -> None:
    process = simulate(tmp_path, mark, "--clients", "20", "--k", "30", "--list-length", "10")
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    result = json.loads((tmp_path / "out.json").read_bytes())
    expected = in_process(tmp_path, 10)
    assert result["counts"]["hits"] == list(expected.hits)
    assert result["counts"]["eligible"] == list(expected.eligible)
    assert result["counts"]["user_hits"] == expected.user_hits > 0
    assert result["counts"]["liked_hits"] == expected.liked_hits
    assert result["accuracy"]["defended"] == expected.accuracy
    assert "HR@10" in out and "recommend" in err
    assert marked_processes(mark) == set()
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_fleet_trains_what_evaluate_trains(mark: str, scratch: Path, tmp_path: Path) -> None:
    options = ["--train", "federated", "--training-rounds", "3", "--aggregate", "median"]
    options += ["--update-attack", "pieck-uea", "--update-attack-option", "rounds=1"]
    asked = ["--k", "30", "--list-length", "10", "--defense", "rvd"]
    process = simulate(tmp_path, mark, "--clients", "8", *asked, *options)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    assert "learn: done (3)" in err
    fleet = json.loads((tmp_path / "out.json").read_bytes())
    # Nothing of the fleet's store is at hand here: it is trained again, in one process.
    study = Study(
        dataset=DATASET,
        k=30,
        list_length=10,
        fleet=FleetTraining(Federated(rounds=3, aggregate="median"), "pieck-uea", {"rounds": 1}),
    )
    cell = study.cell()
    prepared = prepare(cell.experiment)
    with ModelStore(tmp_path / "mine") as store:
        assert prepared.train(store).version.digest == fleet["version"]
    told = evaluate(study, tmp_path / "mine", processes=1).to_json()
    assert fleet["accuracy"]["defended"] == told["accuracy"]["defended"]
    assert fleet["hit_ratio"]["defended"] == told["hit_ratio"]["defended"]
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_fleet_with_a_book_counts_what_an_evaluation_does(mark: str, tmp_path: Path) -> None:
    process = simulate(tmp_path, mark, "--clients", "6", "--release", "book", "--list-length", "10")
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    result = json.loads((tmp_path / "out.json").read_bytes())
    study = Study(dataset=DATASET, release="book", list_length=10)
    expected = evaluate(study, tmp_path / "store", processes=1).outcomes["defended"].counts
    assert (result["release"], result["answered"]) == ("book", expected.users)
    for name in ("eligible", "hits", "users", "user_hits", "liked", "liked_hits"):
        assert result["counts"][name] == pytest.approx(getattr(expected, name)), name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(
    number: signal.Signals, mark: str, scratch: Path, tmp_path: Path
) -> None:
    process = simulate(tmp_path, mark, "--clients", "120", "--k", "30")
    # The command, the SuperLink, `flwr run`, the simulation, and Ray's daemons.
    assert until(lambda: len(marked_processes(mark)) >= 6, seconds=120)
    assert len(leftovers(scratch)) == 1
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.rstrip().endswith("vicinal: interrupted")
    assert marked_processes(mark) == set()
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_failed_run_says_why_and_leaves_nothing(scratch: Path, tmp_path: Path) -> None:
    # A checkout with an underscore, which Flower refuses as a name, and with a broken device.
    checkout = tmp_path / "my_checkout"
    for package in ("common", "server", "client"):
        shutil.copytree(CHECKOUT / package, checkout / package)
    shutil.copy(CHECKOUT / "pyproject.toml", checkout)
    device = checkout / "client" / "device.py"
    device.write_text(
        device.read_text().replace(
            "    items = top_items", "    raise ValueError('no battery')\n    items = top_items"
        )
    )
    prepared = prepare(Experiment(dataset=DATASET))
    with ModelStore(tmp_path / "store") as store:
        recommender = prepared.train(store)
    with pytest.raises(VicinalError, match=r"0 of 120 users.*no battery.*flower\.log"):
        run_fleet(
            tmp_path / "fleet",
            prepared,
            recommender,
            clients=3,
            preset="vicinal",
            settings=preset("vicinal", neighbors=30),
            report=quiet,
            checkout=checkout,
        )
    assert (tmp_path / "fleet" / "flower.log").stat().st_size > 0
    assert "no battery" in json.loads((tmp_path / "fleet" / "result.json").read_bytes())["error"]
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_nothing(mark: str, scratch: Path, tmp_path: Path) -> None:
    process = simulate(tmp_path, mark, "--clients", "120", "--k", "30")
    # The command, its guard, the SuperLink, `flwr run`, the simulation, and Ray's daemons.
    assert until(lambda: len(marked_processes(mark)) >= 7, seconds=120)
    process.kill()
    process.communicate(timeout=60)
    assert until(lambda: marked_processes(mark) == set(), seconds=60)
    assert leftovers(scratch) == []


@pytest.mark.slow
def test_a_process_of_ray_s_that_is_killed_costs_nobody(
    mark: str, scratch: Path, tmp_path: Path
) -> None:
    options = ("--clients", "40", "--k", "30", "--list-length", "10", "--processes", "2")
    process = simulate(tmp_path, mark, *options)

    def actors() -> list[int]:
        pids = [each.pid for each in marked_processes(mark)]
        return [pid for pid in pids if b"ray::ClientApp" in command_of(pid)]

    assert until(lambda: bool(actors()), seconds=120)
    os.kill(actors()[0], signal.SIGKILL)
    _, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    result = json.loads((tmp_path / "out.json").read_bytes())
    assert result["answered"] == 120 and result["resent"] > 0
    assert result["counts"]["hits"] == list(in_process(tmp_path, 10).hits)


@pytest.mark.slow
def test_a_cluster_of_two_nodes_counts_what_one_process_counts(
    mark: str, scratch: Path, tmp_path: Path
) -> None:
    name, _, value = mark.partition("=")
    cluster = subprocess.Popen(
        command("tests.support.ray_cluster", str(scratch / "ray")),
        cwd=ROOT,
        env={**ENVIRONMENT, name: value},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert cluster.stdout is not None
    try:
        address = next(line[8:].strip() for line in cluster.stdout if line.startswith("ADDRESS "))
        options = ("--clients", "20", "--k", "30", "--list-length", "10")
        process = simulate(tmp_path, mark, *options, "--ray-address", address)
        _, err = process.communicate(timeout=280)
        assert process.returncode == 0, err
    finally:
        cluster.communicate(timeout=120)
    result = json.loads((tmp_path / "out.json").read_bytes())
    assert result["counts"]["hits"] == list(in_process(tmp_path, 10).hits)
    # A client process on each of its nodes.
    logs = (scratch / "ray").rglob("worker-*.out")
    assert sum(b"ClientAppActor" in log.read_bytes() for log in logs if log.is_file()) == 2
    assert leftovers(scratch) == []


def test_processes_are_of_this_machine_alone(tmp_path: Path) -> None:
    options = ("--ray-address", "127.0.0.1:6379", "--processes", "2")
    process = simulate(tmp_path, "UNUSED=1", *options)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--processes is for this machine" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ray-address", "127.0.0.1:1"), "no Ray at 127.0.0.1:1: "),
        # No machine has as many.
        (("--num-gpus", "4096"), "it is to have --num-gpus 4096, and Ray finds "),
    ],
)
def test_what_is_not_there_is_told_before_a_model_is_trained(
    tmp_path: Path, options: tuple[str, str], told: str
) -> None:
    process = simulate(tmp_path, "UNUSED=1", "--clients", "7", "--k", "30", *options)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert told in err.splitlines()[-1] and err.count("\n") == 1
    assert not (tmp_path / "store").exists()


def test_a_folder_is_one_run_s_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "fleet"):
        process = simulate(tmp_path, "UNUSED=1", "--clients", "7", "--k", "30")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "works in" in err and "or choose another --folder" in err.splitlines()[-1]
    assert not (tmp_path / "store" / "trained").exists()


def test_another_run_s_result_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    asked = {"run": "abc", "clients": 3, "settings": {"neighbors": 3}}
    path.write_text(json.dumps({**asked, "hit_ratio": 0.5}))
    assert checked_result(path, asked, tmp_path)["hit_ratio"] == 0.5
    for name, other in (("run", "abd"), ("clients", 4), ("settings", {"neighbors": 4})):
        path.write_text(json.dumps({**asked, name: other}))
        with pytest.raises(VicinalError, match=rf"is not this run's: its {name} is"):
            checked_result(path, asked, tmp_path)
    path.write_text(json.dumps({**asked, "error": "no battery"}))
    with pytest.raises(VicinalError, match=r"^no battery \(log: "):
        checked_result(path, asked, tmp_path)
    for damaged in ("", "[" * 100_000):
        path.write_text(damaged)
        with pytest.raises(VicinalError, match="wrote no result"):
            checked_result(path, asked, tmp_path)


def test_what_a_client_may_take_reaches_flower(tmp_path: Path) -> None:
    options = ("--clients", "7", "--k", "30", "--prepare-only", "--cpus", "2", "--num-gpus", "0.5")
    process = simulate(tmp_path, "UNUSED=1", *options, "--processes", "3")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "client-resources-num-cpus=2 client-resources-num-gpus=0.5 init-args-num-cpus=6" in out


def test_more_clients_than_users_are_refused_before_a_model_is_trained(tmp_path: Path) -> None:
    process = simulate(tmp_path, "UNUSED=1", "--clients", "121", "--k", "30")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.splitlines()[-1] == "vicinal: error: 121 clients for 120 users: choose 1–120"
    assert not (tmp_path / "store" / "trained").exists()


def test_prepare_only_writes_files_and_prints_what_to_run(tmp_path: Path) -> None:
    options = ("--clients", "7", "--k", "30", "--prepare-only")
    process = simulate(tmp_path, "UNUSED=1", *options)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith(f"flwr run {CHECKOUT} ") and "num-supernodes=7" in out
    assert str(tmp_path / "fleet" / "run-config.toml") in out
    assert len(list((tmp_path / "fleet" / "devices").iterdir())) == 7
