"""Fleets of Flower's real processes, some of which are killed, stopped, or lie."""

import json
import logging
import os
import random
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from client.device import answer
from common.errors import VicinalError
from common.ranking import Counts
from common.vicinal.settings import VicinalSettings, capped, preset
from common.wire.fleet import partition_file_name
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.fleet.deployment import Deployment, node_config
from sims.fleet.files import FleetFiles
from sims.fleet.run import CHECKOUT, write_files
from sims.processes.marked import family
from tests.sims.commands.test_simulate import leftovers, scratch, until

__all__ = ["scratch"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
USERS = 360
# After the first node was asked, one that has not been asked has another that stands in for it.
STANDS_IN_SECONDS = 20.0
# What a process of a node that lies runs before anything else.
LIAR = """
import flwr.app
honest = flwr.app.MetricRecord.__init__
def lie(self, metrics=None, keep_input=True):
    if metrics and "hits" in metrics:
        metrics = {**metrics, "hits": [each + 1 for each in metrics["eligible"]]}
    honest(self, metrics, keep_input)
flwr.app.MetricRecord.__init__ = lie
"""
# What a node runs that announces an answer and sends it when it is let.
SILENT = """
import os
import pathlib
import time
import flwr.supernode.start_client_internal as node
push = node.push_object_contents_from_iterable
folder = pathlib.Path(os.environ["SILENT"])
def announce(contents, **rest):
    every = list(contents)
    if any(b"hits" in content for _name, content in every):
        (folder / "announced").touch()
        while not (folder / "released").exists():
            time.sleep(0.1)
    push(every, **rest)
node.push_object_contents_from_iterable = announce
"""
# Flower gives up what was announced after 180 s.
GIVEN_UP_SECONDS = 180


class Scene:
    """A deployment in which node n plays the n-th of `plays`, and one run of the app at a time."""

    def __init__(self, folder: Path, plays: Sequence[int], **options: float | bool) -> None:
        self.prepared: Prepared = prepare(
            Experiment(dataset=f"synthetic:{USERS}x80", list_length=10)
        )
        self.settings: VicinalSettings = capped(preset("vicinal", neighbors=30), USERS)
        with ModelStore(folder / "store") as store:
            self.recommender: Recommender = self.prepared.train(store)
        self.partitions = max(plays) + 1
        self.files: FleetFiles = write_files(
            folder / "fleet",
            self.prepared,
            self.recommender,
            self.partitions,
            "vicinal",
            self.settings,
            {"min-replies": 1, "reply-timeout": 15.0, **options},  # type: ignore[dict-item]
        )
        devices = self.files.folder / "devices"
        configs = [
            node_config(part, self.partitions, devices / partition_file_name(part, self.partitions))
            for part in plays
        ]
        self.deployment = Deployment(CHECKOUT, self.files.folder, configs)
        self.failed: VicinalError | None = None

    def asked(self, *nodes: int) -> list[int]:
        """Those of some nodes that have been asked for answers in any run."""
        logs = ((node, self.files.folder / f"node-{node}.log") for node in nodes)
        return [node for node, log in logs if "query.recommend" in log.read_text()]

    def send(self, number: signal.Signals, *parts: str) -> None:
        """A signal to a part and to all that it has started."""
        for part in parts:
            for process in family(self.deployment.pid(part)):
                os.kill(process.pid, number)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A run, meanwhile; afterwards it has ended."""
        self.failed = None

        def run() -> None:
            try:
                self.deployment.run(self.files.run_config, lambda _line: None, whole=False)
            except VicinalError as error:
                self.failed = error

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join(300)
        assert not thread.is_alive()

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.files.result.read_bytes())
        return found

    def expected(self, partitions: Sequence[int]) -> dict[str, Any]:
        """What one process counts of the users of some partitions."""
        local, watched = self.prepared.local, self.prepared.watched
        counts = Counts.none(len(watched))
        for user in range(USERS):
            if user % self.partitions in partitions:
                counts += answer(
                    self.recommender.version,
                    self.recommender.neighborhood(user, self.settings),
                    self.settings,
                    rated=local.train.items_of(user),
                    held_out=local.held_out_of(user),
                    watched=watched,
                    list_length=10,
                ).counts
        found: dict[str, Any] = json.loads(json.dumps(asdict(counts)))
        return found


def wait(condition: Callable[[], object], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_frozen_and_lying_nodes_cost_their_own_users_alone(
    scratch: Path, tmp_path: Path
) -> None:
    (tmp_path / "liar").mkdir()
    (tmp_path / "liar" / "sitecustomize.py").write_text(LIAR)
    # Two nodes play partition 1. Of ten nodes three are killed, whoever it is and whenever.
    plays = [0, 1, 1, 2, 3, 4, 5, 6, 7, 8]
    liar, frozen = 8, 9
    seed = secrets.randbelow(1 << 32)
    rng = random.Random(seed)
    killed = rng.sample([node for node in range(10) if node not in (liar, frozen)], 3)
    # Seconds after a node was asked, or for one that is not asked any more after the first was.
    moments = {node: rng.choice([0.0, rng.random(), 3 * rng.random()]) for node in killed}
    logging.getLogger(__name__).warning("seed %d: killed %s", seed, moments)
    scene = Scene(tmp_path, plays)
    with scene.deployment as deployment:
        scene.send(signal.SIGKILL, f"node-{liar}")
        path = os.pathsep.join((str(tmp_path / "liar"), str(CHECKOUT)))
        deployment.start_node(liar, {"PYTHONPATH": path})
        with scene.running():
            wait(lambda: scene.asked(*range(10)))
            first, asked, left = time.monotonic(), dict[int, float](), {*killed, frozen}
            while left:
                for node in scene.asked(*left):
                    asked.setdefault(node, time.monotonic())
                now = time.monotonic()
                for node in list(left):
                    since = now - asked.get(node, first + STANDS_IN_SECONDS)
                    if since >= moments.get(node, 0.0):
                        number = signal.SIGSTOP if node == frozen else signal.SIGKILL
                        scene.send(number, f"node-{node}")
                        left.remove(node)
                time.sleep(0.01)
        scene.send(signal.SIGCONT, f"node-{frozen}")
    result = scene.result
    assert scene.failed is None, result["failures"]
    alive = {plays[node] for node in range(10) if node not in (*killed, liar, frozen)}
    answered = {each["partition"] for each in result["partitions"] if each["answered"]}
    whole = {p["partition"] for p in result["partitions"] if p["answered"] == p["users"]}
    # Who was killed when all was answered is not missed.
    assert alive <= whole == answered
    assert result["counts"] == scene.expected(sorted(whole))
    why = {each["partition"]: each["reason"] for each in result["failures"]}
    # Each that was lost is named, and no other.
    assert set(why) == set(range(9)) - whole >= {plays[liar]}
    assert "impossible counts" in why[7] or "no client plays it" in why[7]
    assert leftovers(scratch) == []


def test_a_node_that_announces_and_sends_later_holds_up_nobody(
    scratch: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "silent"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SILENT)
    scene = Scene(tmp_path, [0, 1, 2], **{"reply-timeout": 300.0})
    progress = scene.files.result.with_suffix(".progress.jsonl")
    others = ("node-1", "node-2")
    with scene.deployment as deployment:
        scene.send(signal.SIGKILL, "node-0")
        path = os.pathsep.join((str(folder), str(CHECKOUT)))
        deployment.start_node(0, {"PYTHONPATH": path, "SILENT": str(folder)})
        with scene.running():
            # The others answer after it has announced.
            wait(lambda: scene.asked(0))
            scene.send(signal.SIGSTOP, *others)
            wait((folder / "announced").exists)
            scene.send(signal.SIGCONT, *others)
            try:
                wait(
                    lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 3,
                    seconds=GIVEN_UP_SECONDS / 2,
                )
            finally:
                (folder / "released").touch()
    result = scene.result
    assert scene.failed is None, result["failures"]
    assert (result["answered"], result["failures"]) == (USERS, [])
    assert result["counts"] == scene.expected(range(3))
    assert until(lambda: leftovers(scratch) == [], seconds=10)


def test_a_superlink_that_was_killed_costs_no_answer(scratch: Path, tmp_path: Path) -> None:
    scene = Scene(tmp_path, [0, 1, 2], **{"min-replies": 0})
    progress = scene.files.result.with_suffix(".progress.jsonl")
    with scene.deployment as deployment:
        with scene.running():
            wait(lambda: scene.asked(2))
            scene.send(signal.SIGSTOP, "node-2")
            wait(lambda: progress.exists() and progress.read_bytes().count(b"\n") >= 3)
            scene.send(signal.SIGKILL, "superlink")
        assert "superlink ended" in str(scene.failed)
        for node in range(3):
            scene.send(signal.SIGKILL, f"node-{node}")
        deployment.restart_superlink()
        for node in range(3):
            deployment.start_node(node)
        with scene.running():
            pass
    result = scene.result
    assert scene.failed is None
    assert (result["answered"], result["resumed"]) == (USERS, 2 * USERS // 3)
    assert result["counts"] == scene.expected(range(3))
    assert until(lambda: leftovers(scratch) == [], seconds=10)
