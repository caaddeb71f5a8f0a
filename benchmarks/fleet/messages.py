"""What a message costs in a deployment of Flower: its own, and as this project deploys it.

A SuperLink and one SuperNode on this machine, with TLS and a key; one message after another, from
the server app and back to it. Of each node a run of its own, in turn. Beside client.flower_node
stands a server app that takes replies as server.flower_app does.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import tomli_w

from benchmarks.fleet.ping import MARK
from benchmarks.report import Section, progress, run, table
from common.errors import VicinalError
from sims.fleet.deployment import Deployment

ROOT: Final = Path(__file__).resolve().parents[2]
PING: Final = "benchmarks.fleet.ping"
FILES: Final = (
    "common/__init__.py",
    "common/errors.py",
    "common/text.py",
    "server/__init__.py",
    "server/fleet/__init__.py",
    "server/fleet/replies.py",
    "benchmarks/__init__.py",
    "benchmarks/fleet/__init__.py",
    "benchmarks/fleet/ping.py",
)
MESSAGES: Final = 20
SHORT_MESSAGES: Final = 6
# Seconds of a message after the first, p50.
GOAL: Final = 0.5
NODES: Final = {"flower-supernode": True, "client.flower_node": False}
HEADS: Final = ("node", "messages", "first, s", "p50, s", "p99, s", "p50 to the node, s")


def section(short: bool) -> Section:
    """One row for each kind of node."""
    figures: dict[str, Any] = {}
    count = SHORT_MESSAGES if short else MESSAGES
    for name, stock in NODES.items():
        progress(name)
        figures[name] = measured(count, stock=stock)
    rows = [
        [
            f"`{name}`",
            str(count),
            *(f"{one[key]:.2f}" for key in ("first", "p50", "p99", "there_p50")),
        ]
        for name, one in figures.items()
    ]
    ours = figures["client.flower_node"]["p50"]
    missed = [f"{ours:.2f} s a message, not {GOAL:.1f}"] if ours > GOAL else []
    text = (
        "## A message in a deployment of Flower\n\n"
        "From the server app to the client app and back, by the clock; p50 and p99 without the "
        f"first message. Goal: {GOAL:.1f} s.\n\n{table(HEADS, rows)}\n"
    )
    return Section(text, figures, missed)


def measured(count: int, *, stock: bool) -> dict[str, float]:
    """Seconds of `count` messages to one node. Raises VicinalError when the run fails."""
    seconds: list[tuple[float, float]] = []

    def read(line: str) -> None:
        words = line.split()
        if words[:1] == [MARK]:
            seconds.append((float(words[1]), float(words[2])))

    with (
        tempfile.TemporaryDirectory(prefix="vicinal-ping-") as name,
        Deployment(
            ROOT,
            Path(name) / "logs",
            ["partition-id=0"],
            stock=stock,
            stage=lambda _checkout, folder: stage_ping(folder, count, soon=not stock),
        ) as deployment,
    ):
        deployment.run(None, read)
    if len(seconds) != count:
        raise VicinalError(f"{len(seconds)} of {count} messages were timed")
    back, there = np.array(seconds).T
    return {
        "first": float(back[0]),
        "p50": float(np.quantile(back[1:], 0.5)),
        "p99": float(np.quantile(back[1:], 0.99)),
        "there_p50": float(np.quantile(there[1:], 0.5)),
    }


def stage_ping(folder: Path, messages: int, *, soon: bool) -> Path:
    """A Flower app of benchmarks.fleet.ping alone."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    project = {
        "project": {"name": "ping", "version": "1.0.0", "license": "Apache-2.0"},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "vicinal",
                    "components": {
                        "serverapp": f"{PING}:server",
                        "clientapp": f"{PING}:client",
                    },
                    "config": {"messages": messages, "soon": soon},
                }
            }
        },
    }
    (folder / "pyproject.toml").write_text(tomli_w.dumps(project), encoding="utf-8")
    return folder


if __name__ == "__main__":
    run(section)
