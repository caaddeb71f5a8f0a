"""What a fleet costs by its size: from the command to the table, with real processes.

    python -m benchmarks.fleet.scale [--short] [--json FILE] [--picture FILE]

Every row is a `vicinal simulate` of its own, with a model that is in the store already. Beside
them runs a small app of the kind that Flower's tutorials begin with (benchmarks.fleet.quickstart).
"""

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import tomli_w

from benchmarks.fleet.quickstart import MARK
from benchmarks.report import Section, progress, run, table
from common.errors import VicinalError
from common.processes import module_command, process_status
from sims.figures.style import as_svg, canvas, drawing, headed, look, plain_ticks
from sims.fleet.flower import LocalFlower
from sims.fleet.resources import Resources
from sims.processes.marked import marked_processes

ROOT: Final = Path(__file__).resolve().parents[2]
MIB: Final = 1 << 20


@dataclass(frozen=True)
class Case:
    """A fleet, and the most that it may take: seconds, and bytes of memory."""

    clients: int
    ratings: str
    shape: str
    seconds: float | None = None
    memory: int | None = None


# The shapes of MovieLens 100K and 1M, and 100,000 users of whom each client plays 250.
SMALL: Final = "synthetic:943x1682x100000"
CASES: Final = (
    Case(10, SMALL, "943 users"),
    Case(100, SMALL, "943 users", seconds=30),
    Case(300, SMALL, "943 users"),
    Case(943, SMALL, "943 users", seconds=60),
    Case(6040, "synthetic:6040x3706x1000000", "6,040 users", seconds=360, memory=3 << 30),
    Case(400, "synthetic:100000x2000x2000000", "100,000 users", seconds=600),
)
SHORT_CASES: Final = (Case(4, "synthetic:120x80", "120 users"),)
ROUNDS: Final = 3
# Of the peer.
FILES: Final = (
    "benchmarks/__init__.py",
    "benchmarks/fleet/__init__.py",
    "benchmarks/fleet/quickstart.py",
)
HEADS: Final = (
    *("users", "clients", "command to table, s", "of it the fleet, s", "processor, s"),
    *("messages", "messages/s", "memory, MiB", "bytes a user down", "up"),
)


@dataclass
class Used:
    """What marked processes took: processor seconds by process, and the most memory together."""

    seconds: dict[tuple[int, str], float] = field(default_factory=dict)
    memory: int = 0

    def look(self, mark: str) -> None:
        """Once more."""
        together = 0
        for process in marked_processes(mark):
            try:
                self.seconds[process] = process_status(process.pid).seconds
                together += _shared_out(process.pid)
            except OSError:  # it ended meanwhile
                continue
        self.memory = max(self.memory, together)


def section(short: bool) -> Section:
    """One row for each fleet, one for the peer."""
    figures: dict[str, Any] = {"fleets": []}
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="v-", dir="/tmp") as name:
        for case in SHORT_CASES if short else CASES:
            progress(f"{case.clients} clients, {case.shape}")
            one = measured(case, Path(name))
            figures["fleets"].append({"clients": case.clients, "shape": case.shape, **one})
            if case.seconds is not None and one["seconds"] > case.seconds:
                missed.append(f"{case.clients} clients: {one['seconds']:.0f} s")
            if case.memory is not None and one["memory"] > case.memory:
                missed.append(f"{case.clients} clients: {one['memory'] / MIB:.0f} MiB")
        progress("quickstart")
        figures["quickstart"] = quickstart(4 if short else 100, Path(name))
    rows = [row(each) for each in figures["fleets"]]
    peer = figures["quickstart"]
    text = (
        "## A fleet by its size\n\n"
        f"`vicinal simulate` with the model in the store, on {os.cpu_count()} cores, of which the "
        f"machine had {os.getloadavg()[0]:.1f} busy. Goals: 100 clients in 30 s, 943 in 60 s, "
        "6,040 in 6 min and 3 GiB, 100,000 users in 10 min.\n\n"
        f"{table(HEADS, rows)}\n\n"
        f"A small app of torch and FedAvg ({peer['clients']} clients, {ROUNDS} rounds) beside "
        f"them: {peer['messages']} messages, {peer['messages'] / peer['seconds']:.0f} a second.\n"
    )
    return Section(text, figures, missed)


def row(one: Mapping[str, Any]) -> list[str]:
    """Of the table."""
    users = one["users"]
    return [
        f"{users:,}",
        f"{one['clients']:,}",
        f"{one['seconds']:.0f}",
        f"{one['fleet_seconds']:.0f}",
        f"{one['processor_seconds']:.0f}",
        f"{one['messages']:,}",
        f"{one['messages'] / one['fleet_seconds']:.0f}",
        f"{one['memory'] / MIB:.0f}",
        f"{one['bytes']['down'] / users:,.0f}",
        f"{one['bytes']['up'] / users:,.0f}",
    ]


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """Of one fleet. Raises VicinalError when it fails."""
    arguments = ["--clients", str(case.clients), "--dataset", case.ratings]
    arguments += ["--store", str(folder / "store"), "--folder", str(folder / "fleet"), "--fresh"]
    command = module_command("sims.cli", "simulate", *arguments)
    _call([*command, "--prepare-only"], os.environ)  # trains
    out = folder / "out.json"
    with watched() as (environment, used):
        start = time.perf_counter()
        _call([*command, "--json", str(out)], environment)
        seconds = time.perf_counter() - start
    found = json.loads(out.read_bytes())
    return {
        "seconds": seconds,
        "fleet_seconds": found["seconds"]["fleet"],
        "processor_seconds": sum(used.seconds.values()),
        "memory": used.memory,
        **{name: found[name] for name in ("users", "answered", "messages", "bytes", "latency")},
    }


def quickstart(clients: int, folder: Path) -> dict[str, Any]:
    """Messages and seconds of the peer. Raises VicinalError when it fails."""
    run_config = folder / "rounds.toml"
    run_config.write_text(tomli_w.dumps({"rounds": ROUNDS}), encoding="utf-8")
    told: list[list[str]] = []

    def read(line: str) -> None:
        if line.split()[:1] == [MARK]:
            told.append(line.split())

    with LocalFlower(
        ROOT, folder / "logs", Resources.of(None, clients), stage=stage_peer
    ) as flower:
        flower.run(run_config, clients=clients, on_line=read, done=lambda: bool(told))
    if not told:
        raise VicinalError(f"the peer's run told nothing (log: {folder / 'logs'})")
    return {"clients": clients, "messages": int(told[0][1]), "seconds": float(told[0][2])}


def stage_peer(checkout: Path, folder: Path) -> Path:
    """A Flower app of benchmarks.fleet.quickstart alone."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkout / name, folder / name)
    peer = "benchmarks.fleet.quickstart"
    components = {"serverapp": f"{peer}:server", "clientapp": f"{peer}:client"}
    settings = {"publisher": "vicinal", "components": components, "config": {"rounds": ROUNDS}}
    project = {"name": "quickstart", "version": "1.0.0", "license": "Apache-2.0"}
    text = tomli_w.dumps({"project": project, "tool": {"flwr": {"app": settings}}})
    (folder / "pyproject.toml").write_text(text, encoding="utf-8")
    return folder


@contextmanager
def watched() -> Iterator[tuple[dict[str, str], Used]]:
    """An environment for processes, and what all of them take while it is open."""
    name, used, over = uuid.uuid4().hex, Used(), threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            used.look(f"VICINAL_BENCH={name}")

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield {**os.environ, "VICINAL_BENCH": name}, used
    finally:
        over.set()
        thread.join()


def picture(figures: Mapping[str, Any]) -> bytes:
    """Growth of seconds and memory with the number of clients, as an SVG."""
    with drawing():
        figure, panels = canvas(1, 2, (8.6, 3.6))
        shapes: dict[str, list[Mapping[str, Any]]] = {}
        for one in figures["fleets"]:
            shapes.setdefault(one["shape"], []).append(one)
        for axes, (what, unit, scale) in zip(
            panels,
            (("processor_seconds", "processor time, s", 1.0), ("memory", "memory, MiB", 1 / MIB)),
            strict=True,
        ):
            for place, (shape, each) in enumerate(shapes.items()):
                style = look(place)
                clients = [one["clients"] for one in each]
                values = [scale * one[what] for one in each]
                axes.plot(clients, values, color=style.color, marker=style.marker, label=shape)
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("clients")
            axes.set_ylabel(unit)
            plain_ticks(axes.xaxis)
            plain_ticks(axes.yaxis)
            axes.grid(color="#e6e6e6", linewidth=0.8)
        panels[0].legend()
        headed(
            figure, "vicinal simulate · what a fleet costs by its size", "All processes of a run."
        )
        return as_svg(figure)


def _call(command: Sequence[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode != 0:
        raise VicinalError(f"vicinal simulate: {(done.stderr or 'no reason').splitlines()[-1]}")


def _shared_out(pid: int) -> int:
    """Bytes of a process's memory, what others share with it in equal parts."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss:"))


if __name__ == "__main__":
    run(section, picture)
