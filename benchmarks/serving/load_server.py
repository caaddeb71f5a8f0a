"""A started `vicinal serve` as a load test sees it: its processes, their memory, its own times."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from prometheus_client.parser import text_string_to_metric_families

from common.errors import VicinalError
from sims.processes.marked import processor_seconds

START_SECONDS: Final = 1800
_STAGES: Final = "vicinal_stage_seconds_bucket"
_CALL: Final = "Recommend"

# Per stage: how many calls took no longer than each bound, in seconds.
Histograms = dict[str, dict[float, float]]


@dataclass(frozen=True)
class Server:
    """A running server; `front` is the id of the process that listens."""

    front: int
    address: str
    metrics: str

    def memory(self) -> dict[str, dict[str, float]]:
        """RSS and PSS of the front and of each worker, in MiB. Shared pages count once in PSS."""
        pids = {"front": self.front}
        workers = enumerate(_workers_of(self.front), start=1)
        pids |= {f"worker {place}": pid for place, pid in workers}
        found = {}
        for name, pid in pids.items():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
            sizes = {
                key: int(value.split()[0]) for key, value in (each.split(":") for each in lines)
            }
            found[name] = {key: sizes[key] / 1024 for key in ("Rss", "Pss")}
        return found

    def processor_seconds(self) -> dict[str, float]:
        """Processor time spent so far by the workers and by the front."""
        workers = sum(map(processor_seconds, _workers_of(self.front)))
        return {"workers": workers, "front": processor_seconds(self.front)}

    def stages(self) -> Histograms:
        """What the server itself has timed so far of the calls that are asked."""
        with urllib.request.urlopen(self.metrics) as reply:
            text = reply.read().decode()
        found: Histograms = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = sample.labels
                if sample.name == _STAGES and labels["call"] == _CALL:
                    found.setdefault(labels["stage"], {})[float(labels["le"])] = sample.value
        return found


def quantile(before: Histograms, after: Histograms, stage: str, share: float) -> float:
    """A quantile in milliseconds of what came between, linear within a bucket; NaN for nothing."""
    start = before.get(stage, {})
    counts = {le: count - start.get(le, 0.0) for le, count in sorted(after.get(stage, {}).items())}
    wanted = share * max(counts.values(), default=0.0)
    below, lower = 0.0, 0.0
    for bound, count in counts.items():
        if count >= wanted and count > below:
            inside = (wanted - below) / (count - below)
            return 1000 * (lower + (min(bound, 60.0) - lower) * inside)
        below, lower = count, bound
    return float("nan")


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[Server]:
    """`vicinal serve` with more arguments, on free ports; ended when the block is.

    Raises VicinalError when it does not start.
    """
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sims.cli", "serve", *arguments, "--port", "0"),
            *("--port-file", str(port_file), "--store", str(folder / "store")),
            *("--metrics-port", "0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise VicinalError("the server did not start; its last lines say why")
            time.sleep(0.1)
        assert process.stdout is not None
        metrics = _metrics_address(process.stdout)
        yield Server(process.pid, f"127.0.0.1:{int(port_file.read_text())}", metrics)
    finally:
        process.terminate()
        process.wait()


def _metrics_address(printed: IO[str]) -> str:
    """From what the server says before it writes its port."""
    for line in printed:
        if line.startswith("metrics on "):
            return line.removeprefix("metrics on ").strip()
    raise VicinalError("the server said nothing of its metrics")


def _workers_of(front: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
        if parent == front and "server.workers.worker" in command:
            found.append(int(folder.name))
    return sorted(found)
