"""Versions that rotate while requests fly, against a real server process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from client.device import answer
from client.link.connection import Connection, VersionRefusedError
from client.session import Session
from client.stores.ratings import LocalRatings, read_local_ratings
from client.stores.versions import VersionStore
from common.versions.version import ModelVersion
from common.wire.description import Description
from server.recommending.recommender import Recommender
from server.reports.reading import read_counts
from server.versions.folder import read_serving
from sims.attacks.profiles import write_profiles
from sims.evaluation.experiment import Experiment, prepare

ROOT = Path(__file__).resolve().parents[3]
DATASET = "synthetic:120x90"
USERS = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP"),
]


class Server(NamedTuple):
    """A running `vicinal serve` of mf, and where its files are."""

    process: subprocess.Popen[bytes]
    address: str
    folder: Path

    def recommender(self, version: str) -> Recommender:
        """What this process makes of a version that is served."""
        return read_serving(self.folder / "store" / "serving", version)[0]


def write_fakes(folder: Path, count: int) -> None:
    """The attack that the server reads at each training."""
    prepared = prepare(Experiment(DATASET, "mf", "mixrand", attack_size=count / USERS))
    assert prepared.profiles is not None
    write_profiles(folder / "profiles.csv", prepared.profiles)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a server, which is gone after the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def started(*arguments: str) -> Server:
        write_fakes(tmp_path, 6)
        attack = f"file:{tmp_path / 'profiles.csv'}"
        files = ["--store", "store", "--device-ratings", "ratings", "--port-file", "port"]
        options = ["--dataset", DATASET, "--attack", attack, "--k", "20", "--port", "0", "--open"]
        process = subprocess.Popen(
            [sys.executable, "-m", "sims.cli", "serve", *options, *files, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stderr=(tmp_path / "log").open("wb"),
        )
        processes.append(process)
        deadline = time.monotonic() + 240
        while not (tmp_path / "port").exists():
            assert process.poll() is None and time.monotonic() < deadline, log(tmp_path)
            time.sleep(0.1)
        address = f"127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
        return Server(process, address, tmp_path)

    yield started
    for process in processes:
        process.terminate()
        process.wait(timeout=60)


def log(folder: Path) -> str:
    return (folder / "log").read_text()


def rotate(server: Server, connection: Connection, before: str) -> Description:
    """Ask for a new version and wait until it is there."""
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 120
    while (description := connection.describe()).version == before:
        assert time.monotonic() < deadline, log(server.folder)
        assert "is still served" not in log(server.folder), log(server.folder)
        time.sleep(0.1)
    return description


def device_items(
    connection: Connection,
    description: Description,
    version: ModelVersion,
    local: LocalRatings,
    user: int,
) -> list[int]:
    package = connection.package(description, user, "vicinal", local.own(user))
    items, _ = answer(
        version,
        package.neighborhood,
        description.preset("vicinal"),
        rated=local.train.items_of(user),
        held_out=None,
        watched=description.watched,
        list_length=description.list_length,
    )
    ranked: list[int] = items.tolist()
    return ranked


def test_no_answer_mixes_versions_while_they_rotate(tmp_path: Path, start: Start) -> None:
    server = start("--grace", "300")
    local = read_local_ratings(tmp_path / "ratings")
    known: dict[str, tuple[Description, ModelVersion]] = {}
    answers: list[tuple[str, int, list[int], list[int]]] = []
    over = threading.Event()

    def use(seed: int) -> None:
        with Connection(server.address, patience=60) as connection:
            user = seed
            while not over.is_set():
                for description, version in list(known.values()):
                    user = (user + 7) % USERS
                    mine = device_items(connection, description, version, local, user)
                    theirs = connection.recommend(description, user, "vicinal")
                    answers.append((description.version, user, mine, theirs))

    with Connection(server.address, patience=60) as connection:
        description = connection.describe()
        known[description.version] = (description, connection.fetch_model(description).version)
        users = [threading.Thread(target=use, args=(seed,)) for seed in range(3)]
        for thread in users:
            thread.start()
        try:
            for fakes in (9, 3):
                write_fakes(tmp_path, fakes)
                description = rotate(server, connection, description.version)
                known[description.version] = (
                    description,
                    connection.fetch_model(description).version,
                )
            time.sleep(2)
        finally:
            over.set()
            for thread in users:
                thread.join()
        recommenders = {name: server.recommender(name) for name in known}
    assert len(known) == 3 and {version for version, *_ in answers} == set(known)
    assert len({recommenders[name].ratings.user_count for name in known}) == 3
    for version, user, mine, theirs in answers:
        settings = known[version][0].preset("vicinal")
        expected = recommenders[version].recommend(user, settings, 50).tolist()
        assert mine == theirs == expected


def test_a_version_is_refused_after_its_grace_and_reports_are_answered_again(
    tmp_path: Path, start: Start
) -> None:
    # Plain training goes on, so that the same ratings give another version.
    server = start("--grace", "1", "--defense", "plain+rvd")
    local = read_local_ratings(tmp_path / "ratings")
    with Connection(server.address, patience=60) as connection:
        store = VersionStore(tmp_path / "device")
        session = Session(connection, store, local, preset="vicinal", encoding="int8")
        first = session.description
        batches = session.answer(range(60))
        next(batches)
        second = rotate(server, connection, first.version)
        deadline = time.monotonic() + 30
        with pytest.raises(VersionRefusedError, match=second.version):
            while time.monotonic() < deadline:
                connection.package(first, 0, "vicinal", local.own(0))
        while (tmp_path / "store" / "serving" / first.version).exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        rest = [one.user for batch in batches for one in batch]
        # In three reports of as many users.
        assert rest == list(range(20, 60))
        assert session.version is not None and session.version.digest == second.version
        tally = tmp_path / "store" / "tally.sqlite"
        assert read_counts(tally, second.version, "vicinal")[0] == 2
        # What changed since the version that was here is less than the whole.
        size = second.form("int8").size
        assert session.cold_bytes < first.form("int8").size + 0.9 * size


def test_other_users_are_refused_in_the_log_and_the_server_goes_on(
    tmp_path: Path, start: Start
) -> None:
    server = start()
    (tmp_path / "profiles.csv").write_text("not profiles")
    with Connection(server.address, patience=60) as connection:
        description = connection.describe()
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while "is still served" not in log(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert "profiles.csv:1: expected the column names" in log(tmp_path)
        assert "Traceback" not in log(tmp_path)
        version = connection.fetch_model(description).version
        local = read_local_ratings(tmp_path / "ratings")
        items = device_items(connection, description, version, local, 3)
        assert connection.recommend(description, 3, "vicinal") == items
        assert connection.describe() == description
