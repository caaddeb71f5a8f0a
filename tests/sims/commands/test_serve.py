"""`vicinal serve` and `vicinal device` as real processes on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.device.environment import installed_bytes, make_environment
from benchmarks.device.install import MOST_BYTES
from client.link.connection import Connection
from client.stores.ratings import read_local_ratings
from common.ranking import Counts
from server.data.datasets import load_dataset
from server.reports.reading import read_counts
from sims.processes.children import Children
from sims.serving.process import ServeProcess
from tests.support.child_processes import children_of

ROOT = Path(__file__).resolve().parents[3]
DATASET = "synthetic:200x120"
# Other tests of this process load Flower, which asks gRPC to log.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
ENVIRONMENT["OMP_NUM_THREADS"] = "1"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "sims.cli", *map(str, arguments)]


def start(folder: Path, *arguments: str | Path) -> ServeProcess:
    """Start a server whose store and files lie in `folder`, and wait until it listens."""
    # Other tests of this process load Flower, which asks gRPC to log.
    os.environ.pop("GRPC_VERBOSITY", None)
    started = ServeProcess(Children(folder), folder, ["--dataset", DATASET, *map(str, arguments)])
    started.start()
    try:
        started.wait(240)
    except BaseException:
        started.kill()
        raise
    return started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    started = start(tmp_path_factory.mktemp("serve"), "--k", "30", "--min-support", "2")
    yield started
    started.kill()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("option", ["--port", "--metrics-port"])
def test_a_port_in_use_is_refused_before_anything_is_trained(option: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--open", "--dataset", DATASET, "--store", tmp_path / "s", option, port)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr and option in done.stderr
    assert not (tmp_path / "s").exists()


def test_devices_report_what_the_server_counts(server: ServeProcess, tmp_path: Path) -> None:
    at = ("--server", server.address, "--ratings", server.ratings)
    store = ("--store", tmp_path / "device")
    done = run("device", "--users", "0-9,30", *at, *store, "--json", tmp_path / "one.json")
    assert done.returncode == 0, done.stderr
    assert "users answered" in done.stdout and "bytes per request" in done.stdout
    first = json.loads((tmp_path / "one.json").read_text())
    assert first["users"] == 11 and first["bytes"]["cold"] > 0
    again = ("--users", "0-9,30", "--processes", "2", "--json", tmp_path / "two.json")
    assert run("device", *again, *at, *store).returncode == 0
    second = json.loads((tmp_path / "two.json").read_text())
    assert second["bytes"]["cold"] == 0
    assert second["counts"] == first["counts"]
    with Connection(server.address) as connection:
        description = connection.describe()
    _, total = read_counts(server.store / "tally.sqlite", description.version, "vicinal")
    assert (description.presets["vicinal"].neighbors, description.user_count) == (30, 200)
    counts = first["counts"] | {name: tuple(first["counts"][name]) for name in ("eligible", "hits")}
    assert total == Counts(**counts) + Counts(**counts)


def test_what_listens_holds_no_torch(server: ServeProcess) -> None:
    mapped = Path(f"/proc/{server.pid}/maps")
    if not mapped.exists():
        pytest.skip("looks into /proc")
    for unused in ("libtorch", "libllvmlite", "faiss"):
        assert unused not in mapped.read_text()
    assert "grpc" in mapped.read_text()


def test_a_device_needs_its_own_file_alone(server: ServeProcess, tmp_path: Path) -> None:
    at = ("--server", server.address, "--store", tmp_path / "device", "--users", "3")
    done = run("device", *at, "--ratings", server.ratings / "3.safetensors")
    assert done.returncode == 0, done.stderr
    other = run("device", *at, "--ratings", server.ratings / "4.safetensors")
    assert other.returncode == 2 and "not the device file of user 3" in other.stderr


def test_a_server_serves_the_ratings_as_they_are(server: ServeProcess) -> None:
    dataset = load_dataset(DATASET)
    with Connection(server.address) as connection:
        description = connection.describe()
    assert description.manifest.users == description.user_count == 200
    assert (description.watched, description.experiment) == ((), "")
    local = read_local_ratings(server.ratings)
    assert local.train.digest() == dataset.ratings.digest()
    assert (local.held_out == -1).all()


def test_what_is_not_measured_is_no_number(server: ServeProcess, tmp_path: Path) -> None:
    at = ("--server", server.address, "--store", tmp_path / "device", "--users", "0-4")
    done = run("device", *at, "--ratings", server.ratings, "--json", tmp_path / "json")
    found = json.loads((tmp_path / "json").read_text())
    assert [found[key] for key in ("hit_ratio", "accuracy", "accuracy_thresholded")] == [None] * 3
    assert "0.0000" not in done.stdout and "–" in done.stdout


def test_a_rating_of_every_user_is_withheld_without_an_attack(tmp_path: Path) -> None:
    rows = "".join(f"{u},{i},{(u + i) % 5 + 1}\n" for u in range(30) for i in range(12))
    (tmp_path / "ratings.csv").write_text("user,item,rating\n" + rows)
    # No item has few ratings, so that no targets could be drawn.
    arguments = ("--dataset", tmp_path / "ratings.csv", "--hold-out")
    experiment = start(tmp_path, *map(str, arguments))
    try:
        with Connection(experiment.address) as connection:
            description = connection.describe()
        at = ("--server", experiment.address, "--store", tmp_path / "device", "--users", "0-4")
        done = run(*("device", *at, "--ratings", experiment.ratings, "--json", tmp_path / "json"))
    finally:
        experiment.drain()
    assert description.experiment == "one rating of every user is withheld"
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "json").read_text())
    assert found["hit_ratio"] is None and found["accuracy"] is not None


def test_an_experiment_that_serves_says_so(tmp_path: Path) -> None:
    experiment = start(tmp_path, "--attack", "random", "--hold-out", "--k", "250")
    about = "attack random added 6 fake users, one rating of every user is withheld"
    try:
        with Connection(experiment.address) as connection:
            description = connection.describe()
        at = ("--server", experiment.address, "--store", tmp_path / "device", "--users", "0-4")
        table = run("device", *at, "--ratings", experiment.ratings, "--json", tmp_path / "json")
    finally:
        experiment.drain()
    assert description.experiment == about
    assert description.manifest.users == 206 and description.user_count == 200
    assert description.presets["vicinal"].neighbors == 200
    assert f"EXPERIMENT: {about}" in experiment.log.splitlines()
    assert "preset vicinal: k = 250 is more than the 200 users there are: k = 200" in experiment.log
    assert f"The server is an experiment: {about}" in " ".join(table.stdout.split())
    assert json.loads((tmp_path / "json").read_text())["experiment"] == about


def test_what_is_wrong_ends_in_one_line(server: ServeProcess, tmp_path: Path) -> None:
    port = server.address.rpartition(":")[2]
    at = ("--server", server.address, "--store", tmp_path / "device")
    ratings, other = ("--ratings", server.ratings), server.ratings / "0.safetensors"
    serve = ("serve", "--open", "--dataset", DATASET)
    cases: list[tuple[tuple[str | Path, ...], int, str]] = [
        (("device", "--users", "199-200", *at, *ratings), 2, "no device file of user 200"),
        (("device", "--users", "0", "--preset", "x", *at, *ratings), 2, "unknown preset 'x'"),
        (("device", "--users", "0-", *at, *ratings), 2, "indices and ranges"),
        (
            ("device", "--users", "0", *at, "--ratings", tmp_path / "no"),
            2,
            "--device-ratings` writes",
        ),
        (("device", "--users", "0", "--server", "here", *ratings), 2, "give HOST:PORT"),
        ((*serve, "--store", server.store), 2, "is in use by process"),
        (
            (*serve, "--store", tmp_path / "a", "--attack-option", "hubs=4"),
            2,
            "attack none has no options",
        ),
        (
            (*serve, "--store", tmp_path / "b", "--list-length", "0"),
            2,
            "list length 0: give a whole number",
        ),
        (
            (*serve, "--store", tmp_path / "d", "--presets", "vicinal,papr"),
            2,
            "unknown preset 'papr'",
        ),
        (
            (*serve, "--store", tmp_path / "e", "--device-ratings", other),
            2,
            "is there and no folder",
        ),
        (
            (*serve, "--store", tmp_path / "c", "--neighbor-search", "x"),
            2,
            "choose one of auto, exact, borrowed",
        ),
        (
            (*serve, "--store", tmp_path / "store", "--port", port),
            2,
            f"port {port} on 127.0.0.1 is in use",
        ),
    ]
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda case: run(*case[0]), cases))
    for (arguments, code, text), done in zip(cases, ended, strict=True):
        lines = done.stderr.splitlines()
        assert done.returncode == code, (arguments, done.stderr)
        assert lines[-1].startswith("vicinal: error: ") and text in lines[-1], done.stderr
        assert "Traceback" not in done.stderr
        # Nothing but progress comes before it.
        assert [line for line in lines[:-1] if not line.startswith(("attack", "train"))] == []
    # A port that is taken is told before anything is trained.
    assert not (tmp_path / "store").exists()


def test_a_dead_server_ends_in_one_line_in_time(server: ServeProcess) -> None:
    begun = time.monotonic()
    at = ("--server", "127.0.0.1:1", "--ratings", server.ratings)
    done = run("device", "--users", "0", *at)
    # Eight seconds of patience, and the start of a process on a busy machine.
    assert time.monotonic() - begun < 60
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "no answer from a server at 127.0.0.1:1" in done.stderr


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=60).close()
    except (ConnectionRefusedError, ConnectionResetError):  # reset: it closed meanwhile
        return False
    return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_signals_end_a_server_with_0_after_the_call_under_way(tmp_path: Path) -> None:
    few = ("--k", "30")
    first = start(tmp_path, *few)
    try:
        with Connection(first.address) as connection:
            description = connection.describe()
        first.child.signal(signal.SIGINT)
        assert (first.child.wait(60), "Traceback" in first.log) == (0, False), first.log
    finally:
        first.kill()
    second = start(tmp_path, *few, "--workers", "1", "--metrics-port", "0")
    try:
        assert "vicinal_workers_alive 1.0" in second.metrics()
        with (
            Connection(second.address, patience=60) as connection,
            Connection(second.address, patience=60) as other,
            ThreadPoolExecutor(2) as pool,
        ):
            (worker,) = children_of(second.pid, "server.workers.worker")
            os.kill(worker, signal.SIGSTOP)
            try:
                under_way = [
                    pool.submit(one.recommend, description, user, "vicinal")
                    for user, one in ((3, connection), (4, other))
                ]
                deadline = time.monotonic() + 60
                # Both are taken when one waits for the other.
                while "vicinal_queue_depth 1.0" not in second.metrics():
                    assert time.monotonic() < deadline
                second.child.signal(signal.SIGTERM)
                while listens(second.address):
                    assert time.monotonic() < deadline
            finally:
                os.kill(worker, signal.SIGCONT)
            assert [len(one.result(timeout=60)) for one in under_way] == [50, 50]
        assert second.child.wait(60) == 0, second.log
        # The version came from the store: nothing was trained, nothing is said of it.
        told = [line for line in second.log.splitlines() if not line.startswith("look at the")]
        listening, *notes, metrics = told
        assert listening == f"listening on {second.address}  version {description.version[:12]}…"
        assert notes[0] == "neighbors by ratings: cosine of rated items, exact over 200 users"
        assert notes[1].startswith("preset vicinal: stands 6 fakes among 200 accounts: an item ")
        assert metrics.startswith("metrics on ")
    finally:
        second.kill()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_workers_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    killed = start(tmp_path, "--workers", "2")
    workers = children_of(killed.pid, "server.workers.worker")
    assert len(workers) == 2
    killed.kill()
    deadline = time.monotonic() + 60
    while left := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"{left} are left"
        time.sleep(0.05)
    # What it wrote for them is no obstacle to the next.
    following = start(tmp_path, "--workers", "1")
    assert following.drain() == 0
    assert not (tmp_path / "store" / "serving").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_device_runs_where_there_is_no_torch_and_no_flower(
    server: ServeProcess, tmp_path: Path
) -> None:
    python = make_environment(tmp_path / "environment")
    assert sum(installed_bytes(python).values()) <= MOST_BYTES
    vicinal = str(python.with_name("vicinal"))
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}

    def in_venv(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            arguments,
            cwd=tmp_path,
            env={**environment, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    for absent in ("torch", "flwr", "faiss", "polars", "scipy", "pydantic"):
        assert "ModuleNotFoundError" in in_venv([str(python), "-c", f"import {absent}"]).stderr
    arguments = (
        *("device", "--users", "0-19", "--server", server.address, "--processes", "2"),
        *("--ratings", server.ratings, "--store", tmp_path / "device"),
        *("--json", tmp_path / "bare.json"),
    )
    bare = in_venv([vicinal, *map(str, arguments)])
    assert bare.returncode == 0, bare.stderr
    full = run(*arguments[:-1], tmp_path / "full.json")
    assert full.returncode == 0, full.stderr
    results = [json.loads((tmp_path / name).read_text()) for name in ("bare.json", "full.json")]
    assert results[0]["counts"] == results[1]["counts"]
    assert results[0]["users"] == 20
    for command_name, extra in (("evaluate", "server"), ("simulate", "all")):
        lacking = in_venv([vicinal, command_name])
        assert lacking.returncode == 1 and lacking.stderr.count("\n") == 1, lacking.stderr
        assert f"pip install 'vicinal[{extra}]'" in lacking.stderr
