"""Work on a Ray cluster of two nodes, one of them lost in the middle of a second run.

    python -m tests.support.ray_nodes FOLDER

prints as JSON what one process finds, what the cluster finds, and what it finds as it loses a node.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import Any

# Loopback alone; read when Ray is imported.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from sims.cli import run
from sims.evaluation.study import Study, evaluate
from sims.grid.config import read_config
from sims.grid.results import read_results
from sims.grid.run import run_grid
from sims.processes.marked import family
from sims.processes.workers import workers
from tests.support.child_processes import command_of
from tests.support.modules import ROOT, command

STUDY = Study("synthetic:120x90", attack="mixrand", k=20, steps=5, list_length=10, baselines=())
CERTIFIED = ("--dataset", "synthetic:120x90", "--fakes", "2,5%")
AUDITED = ("--dataset", "synthetic:80x120", "--accounts", "10", "--queries", "30", "--splits", "2")
GRID = """
datasets = ["synthetic:120x90"]
attacks = ["mixrand"]
defenses = ["rvd"]
presets = ["vicinal"]
baselines = []
[k.vicinal."synthetic:120x90"]
mf = 20
"""
STORE_BYTES = 100 << 20


def main(folder: Path) -> None:
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - after what it reads

    about: dict[str, Any] = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": STORE_BYTES,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**about, "include_dashboard": False})
    second = cluster.add_node(**about)
    cluster.wait_for_nodes()
    seen, nodes, address = [0], [second], cluster.address

    def lose_one(what: str, done: int, _total: int) -> None:
        seen[0] += what == "recommend" and done > 0
        if seen[0] == 4 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)  # type: ignore[no-untyped-call]

    told: dict[str, Any] = {
        "certified": [_certified(folder, "--processes", "1"), _certified(folder, "--ray", address)],
    }
    told["audited"] = [
        _audited(folder / "here", "--processes", "1"),
        _audited(folder / "there", "--ray", address),
    ]
    told["cells"] = [
        _cell(folder, "here", "--processes", "1"),
        _cell(folder, "there", "--address", address),
    ]
    told["grids"] = [_grid(folder, "whole"), _grid(folder, "lost", cluster, about)]
    told["died"] = _died(folder / "died", cluster, about)
    told["interrupted"] = _interrupted(folder / "interrupted", address)
    told["other_library"] = _other_library(cluster, about, folder / "other")
    found = [
        evaluate(STUDY, folder, processes=1),
        evaluate(STUDY, folder, ray=address),
        evaluate(STUDY, folder, ray=address, progress=lose_one),
    ]
    told |= {"lost": not nodes, "evaluated": [one.to_json() for one in found]}
    sys.stdout.write(f"\nRESULT {json.dumps(told)}\n")
    sys.stdout.flush()
    cluster.shutdown()  # type: ignore[no-untyped-call]  # as the rest of it


def _cell(folder: Path, name: str, *options: str) -> Any:
    """One cell, whose users are shared out where there are more cores than cells."""
    config = folder / "grid.toml"
    config.write_text(GRID)
    assert run(["grid", str(config), "--folder", str(folder / name), *options]) == 0
    (result,) = read_results(folder / name)
    return result.model_dump(mode="json")


def _grid(folder: Path, name: str, cluster: Any = None, about: Any = None) -> Any:
    """A grid of more tasks than cores, on a cluster that loses a machine after the first cell."""
    path = folder / "grids.toml"
    path.write_text(GRID.replace('"mixrand"', '"mixrand", "random", "average", "uniform"'))
    more = [] if cluster is None else [cluster.add_node(**about)]

    def lose_one(_what: str, done: int, _total: int) -> None:
        if done and more:
            cluster.remove_node(more.pop(), allow_graceful=False)

    results = run_grid(
        read_config(path),
        folder / name,
        report=lose_one,
        processes=1,
        address=None if cluster is None else cluster.address,
    )
    assert not more
    return [one.model_dump(mode="json") for one in results]


def _died(folder: Path, cluster: Any, about: dict[str, Any]) -> list[int]:
    """What three workers find of whom each dies once before it has begun."""
    folder.mkdir()
    third = cluster.add_node(**about)
    cluster.wait_for_nodes()
    with workers(None, cluster.address) as found:
        calls = [(number,) for number in range(6)]
        given = found.each(_given, calls, start=_die_together, arguments=(folder,))
    cluster.remove_node(third, allow_graceful=False)
    return given


def _die_together(folder: Path) -> None:
    """The first three to come wait for each other."""
    for number in range(3):
        with suppress(FileExistsError):
            (folder / str(number)).touch(exist_ok=False)
            while len(list(folder.iterdir())) < 3:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)


def _given(_made: None, number: int) -> int:
    return number


def _interrupted(store: Path, address: str) -> list[Any]:
    """Ctrl-C while users are answered: its exit code, and our workers in the cluster later on."""
    many = ("--dataset", "synthetic:3000x100x20000", "--baselines", "none", "--store", str(store))
    process = subprocess.Popen(
        command("vicinal", "evaluate", *many, "--ray", address), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("recommend"):
            break
    working, deadline = _workers(), time.monotonic() + 30
    while not working and time.monotonic() < deadline:
        time.sleep(0.1)
        working = _workers()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    deadline = time.monotonic() + 30
    while _workers() and time.monotonic() < deadline:
        time.sleep(0.1)
    return [process.returncode, len(working) > 0, len(_workers())]


def _workers() -> list[int]:
    pids = [process.pid for process in family(os.getpid())]
    return [pid for pid in pids if b"ray::Worker" in command_of(pid)]


def _other_library(cluster: Any, about: dict[str, Any], folder: Path) -> str:
    """What is said of a machine that has another library."""
    other = folder / "numba-99.0.dist-info" / "METADATA"
    other.parent.mkdir(parents=True)
    other.write_text("Metadata-Version: 2.1\nName: numba\nVersion: 99.0\n")
    path = os.pathsep.join([str(folder), str(ROOT)])
    node = cluster.add_node(**about, env_vars={"PYTHONPATH": path})
    cluster.wait_for_nodes()
    heard = io.StringIO()
    with redirect_stderr(heard):
        code = run(["certify", "--dataset", "synthetic", "--ray", cluster.address])
    cluster.remove_node(node, allow_graceful=False)
    return f"{code}: {heard.getvalue()}"


def _certified(folder: Path, *options: str) -> Any:
    output = folder / "certified.json"
    assert run(["certify", *CERTIFIED, *options, "--json", str(output)]) == 0
    return json.loads(output.read_text())


def _audited(store: Path, *options: str) -> Any:
    """With the models that are kept afterwards."""
    output = store.with_suffix(".json")
    run(["audit", *AUDITED, *options, "--store", str(store), "--json", str(output)])
    kept = sorted(path.name for path in (store / "versions").iterdir())
    return {**json.loads(output.read_text()), "kept": kept}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
