"""`vicinal serve --release book` and `vicinal device` as real processes on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.link.connection import Connection
from client.stores.books import checked_book
from common.vicinal.settings import preset
from server.data.synthetic import synthetic
from server.recommending.book import MU, BookSettings
from server.reports.reading import read_counts
from server.versions.books import HISTORY_FILE, KEY_FILE, noise_key
from sims.evaluation import cell
from sims.evaluation.study import Study, evaluate
from sims.processes.children import Children
from sims.serving.process import ServeProcess

ROOT = Path(__file__).resolve().parents[3]
DATASET = "synthetic:200x120"
ATTACK = {"dataset": DATASET, "attack": "average", "attack_size": 0.1, "list_length": 10}
ASKED = ["--dataset", DATASET, "--attack", "average", "--attack-size", "0.1"]
BOOK = [*ASKED, "--list-length", "10", "--hold-out", "--release", "book"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    os.environ.pop("GRPC_VERBOSITY", None)
    folder = tmp_path_factory.mktemp("book")
    started = ServeProcess(Children(folder), folder, [*BOOK, "--metrics-port", "0"])
    with started:
        yield started


def device(server: ServeProcess, name: str, *arguments: str) -> dict[str, Any]:
    """What `vicinal device --json` writes of all users."""
    result = server.folder / f"{name}.json"
    command = [sys.executable, "-m", "sims.cli", "device", "--server", server.address]
    command += ["--users", "0-199", "--show", "10", "--json", str(result)]
    command += ["--ratings", str(server.ratings), "--store", str(server.folder / "device")]
    subprocess.run([*command, *arguments], cwd=ROOT, env=ENVIRONMENT, check=True, timeout=240)
    read: dict[str, Any] = json.loads(result.read_text())
    return read


def test_devices_count_what_an_evaluation_does_also_when_the_server_is_killed(
    server: ServeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = device(server, "there", "--release", "book", "--processes", "2")
    with grpc.insecure_channel(server.address) as channel:
        asked = health_pb2.HealthCheckRequest()
        health = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=20)
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    assert not server.workers
    # 200 users, and 20 fakes.
    how = BookSettings.of(preset("vicinal").tolerated_fakes(220))
    key = noise_key((server.store / KEY_FILE).read_bytes(), how)
    monkeypatch.setattr(cell, "book_key", lambda _seed: key)
    expected = evaluate(Study(**ATTACK, release="book"), tmp_path, processes=1)  # type: ignore[arg-type]
    counts = expected.outcomes["defended"].counts
    for name in ("eligible", "hits", "users", "user_hits", "liked", "liked_hits"):
        assert there["counts"][name] == pytest.approx(getattr(counts, name)), name
    reports, tally = read_counts(server.store / "tally.sqlite", there["version"], "vicinal")
    assert (reports, tally.on_device) == (8, 200)
    assert (there["release"], there["bytes"]["per_request_mean"]) == ("book", 0)
    assert there["book"]["mu"] == pytest.approx(MU) == there["book"]["mu_life"]
    told = server.metrics()
    assert 'vicinal_sent_bytes_total{call="FetchBook"}' in told
    assert f'vicinal_book_mu{{of="life"}} {there["book"]["mu_life"]}' in told
    server.kill()
    gone = device(server, "gone", "--release", "book")
    assert gone["lists"] == there["lists"]
    assert (gone["unreported_users"], gone["counts"]["stale"]) == (200, 0)
    # The same ratings and the same key give the same book.
    server.start()
    server.wait()
    again = device(server, "again")
    assert again["lists"] == there["lists"] and again["book"] == there["book"]
    assert (again["bytes"]["cold"], again["unreported_users"]) == (0, 0)


def test_one_more_rating_is_one_more_book(tmp_path: Path) -> None:
    os.environ.pop("GRPC_VERBOSITY", None)
    ratings, path = synthetic(150, 160, seed=4), tmp_path / "ratings.csv"
    lines = [
        f"u{user},i{item},{level + 1}"
        for user, item, level in zip(ratings.users, ratings.items, ratings.levels, strict=True)
    ]
    path.write_text("\n".join(["user,item,rating", *lines, ""]))
    arguments = ["--dataset", str(path), "--release", "book"]
    with (
        ServeProcess(Children(tmp_path), tmp_path, arguments) as server,
        Connection(server.address) as connection,
    ):
        before = connection.describe()
        first = checked_book(before, connection.fetch_book(before).data)
        rated = set(ratings.items_of(7).tolist())
        new = next(item for item in map(int, ratings.items) if item not in rated)
        with path.open("a") as opened:
            opened.write(f"u7,i{new},5\n")
        server.child.signal(signal.SIGHUP)
        deadline = time.monotonic() + 120
        while (after := connection.describe()).version == before.version:
            assert time.monotonic() < deadline and "is still served" not in server.log
            time.sleep(0.1)
        second = checked_book(after, connection.fetch_book(after).data)
    assert before.book is not None and after.book is not None
    # All noise is another one, whoever rated what.
    assert len(np.setxor1d(first.items, second.items)) > 3
    assert len(json.loads((server.store / HISTORY_FILE).read_text())) == 2
    assert before.book.mu_life == before.book.mu == pytest.approx(MU)
    assert after.book.mu_life == pytest.approx(MU * 2**0.5)
