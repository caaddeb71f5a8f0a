"""Ratings that arrive in a database while they are served, and a database that is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from client.link.channel import Access
from client.link.connection import Connection
from client.session import Session
from client.stores.ratings import read_local_ratings
from client.stores.versions import VersionStore
from server.versions.folder import current_version, read_serving
from sims.processes.postgresql import PostgreSQL

ROOT = Path(__file__).resolve().parents[3]
USERS, ITEMS = 60, 40

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP"),
]


@pytest.fixture
def database() -> Iterator[PostgreSQL]:
    rng = np.random.default_rng(0)
    with PostgreSQL() as running:
        with running.connect() as connection:
            connection.execute("CREATE TABLE ratings (user_id text, item_id text, rating int)")
            with connection.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO ratings VALUES (%s, %s, %s)",
                    [
                        (f"user {u:02}", f"item {i:02}", int(rng.integers(1, 6)))
                        for u in range(USERS)
                        for i in rng.permutation(ITEMS)[:15]
                    ],
                )
        yield running


def until(said: Callable[[], bool], log: Path, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def rate(database: PostgreSQL, user: str, items: list[str], stars: int = 5) -> None:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ratings VALUES (%s, %s, %s)", [(user, item, stars) for item in items]
        )


def test_ratings_arrive_in_postgresql_while_they_are_served(
    tmp_path: Path, database: PostgreSQL
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "sims.cli", "token", "--secret", str(tmp_path / "secret")]
    # Of users who are not there yet, too: a server's keys are of indices.
    subprocess.run(
        [*command, "--new-key", "-o", str(tmp_path / "token"), "--users", "0-99"],
        cwd=ROOT,
        check=True,
    )
    access = Access(token=tmp_path / "token")
    files = ["--store", "store", "--device-ratings", "ratings", "--port-file", "port"]
    options = [
        "--dataset",
        database.address(),
        "--k",
        "10",
        "--port",
        "0",
        "--token-secret",
        "secret",
    ]
    every = ["--refresh-every", "1", "--metrics-port", "0", "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sims.cli", "serve", *options, *files, *every],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "PGPASSWORD": PostgreSQL.PASSWORD,
        },
        stdout=(tmp_path / "out").open("wb"),
        stderr=log.open("wb"),
    )
    try:
        until((tmp_path / "port").exists, log, 240)
        until(lambda: "metrics on" in (tmp_path / "out").read_text(), log)
        metrics = (tmp_path / "out").read_text().split("metrics on ")[1].split()[0]
        address = f"127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
        # Files as they were handed out at first.
        shutil.copytree(tmp_path / "ratings", tmp_path / "before")
        serving = tmp_path / "store" / "serving"
        with Connection(address, patience=60, access=access) as connection:

            def device(folder: str) -> Session:
                local = read_local_ratings(tmp_path / folder)
                store = VersionStore(tmp_path / "device")
                return Session(connection, store, local, preset="vicinal")

            old = device("before")
            first = old.description.version
            mine = old.answer_one(7).items
            assert mine == tuple(connection.recommend(old.description, 7, "vicinal"))

            # Sorts before all others, and so do the items: nobody may be moved.
            liked = [f"item {i:02}" for i in range(0, 20, 2)]
            rate(database, "a new user", [*liked, "a new item"])
            for user in range(20, 40):
                rate(database, f"user {user:02}", ["a new item"])
            until((tmp_path / "ratings" / f"{USERS}.safetensors").exists, log)
            until(lambda: "new users are answered" in log.read_text(), log)

            young = device("ratings")
            assert young.description == old.description
            answered = young.answer_one(USERS)
            assert answered.version == first
            assert answered.items == tuple(
                connection.recommend(young.description, USERS, "vicinal")
            )
            recommender, description = read_serving(serving, first)
            settings = description.preset("vicinal")
            assert recommender.recommend(USERS, settings, 50).tolist() == list(answered.items)
            rated = set(recommender.ratings.items_of(USERS).tolist())
            assert rated == set(range(0, 20, 2)) and not rated & set(answered.items)
            # Whom the version was trained on sees what it saw before.
            assert old.answer_one(7).items == mine

            process.send_signal(signal.SIGHUP)
            until(lambda: current_version(serving) != first, log)
            recommender, description = read_serving(serving, current_version(serving))
            assert (description.user_count, description.manifest.items) == (USERS + 1, ITEMS + 1)
            raters = np.flatnonzero(recommender.ratings.dense()[:, ITEMS])
            assert raters.tolist() == [*range(20, 40), USERS]
            renewed = device("before")
            assert renewed.description.version == description.version
            # A device of before: its user rated nothing new, its file knows of no new item.
            assert renewed.answer_one(7).items == tuple(
                connection.recommend(description, 7, "vicinal")
            )
            everybody = device("ratings")
            assert ITEMS in {
                item
                for user in range(40, USERS)
                for item in connection.recommend(description, user, "vicinal")
            }
            assert ITEMS not in everybody.answer_one(30).items
            database.kill()
            until(lambda: "away" in log.read_text(), log)
            until(lambda: gauge(metrics, "vicinal_ratings_away") == 1, log)
            assert "still served" in log.read_text() and "Traceback" not in log.read_text()
            assert connection.recommend(description, 7, "vicinal") == list(
                renewed.answer_one(7).items
            )
            database.start()
            rate(database, "after the fall", liked)
            until((tmp_path / "ratings" / f"{USERS + 1}.safetensors").exists, log)
            until(lambda: gauge(metrics, "vicinal_ratings_away") == 0, log)
            assert device("ratings").answer_one(USERS + 1).version == description.version
    finally:
        process.terminate()
        process.wait(timeout=60)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert PostgreSQL.PASSWORD.encode() not in path.read_bytes(), path


def gauge(metrics: str, name: str) -> float:
    with urllib.request.urlopen(metrics, timeout=10) as page:
        lines = page.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).split()[1])
