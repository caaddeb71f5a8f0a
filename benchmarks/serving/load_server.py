"""A started `vicinal serve` as a load test sees it: its processes, their memory, its own times."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from sims.processes.children import Children
from sims.serving.process import ServeProcess

_STAGES: Final = "vicinal_stage_seconds_bucket"
_CALL: Final = "Recommend"
# The generator stands for many devices, but has one address.
ONE_ADDRESS: Final = ("--peer-calls", "4096", "--peer-bytes", "1e9")

# Per stage: how many calls took no longer than each bound, in seconds.
Histograms = dict[str, dict[float, float]]


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: ServeProcess

    @property
    def address(self) -> str:
        return self.process.address

    def memory(self) -> dict[str, dict[str, float]]:
        """RSS and PSS of the front and of each worker, in MiB. Shared pages count once in PSS."""
        pids = {"front": self.process.pid}
        workers = enumerate(self.process.workers, start=1)
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
        return self.process.processor_seconds()

    def stages(self) -> Histograms:
        """What the server itself has timed so far of the calls that are asked."""
        found: Histograms = {}
        for family in text_string_to_metric_families(self.process.metrics()):
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
    with (
        Children(folder) as children,
        ServeProcess(
            children, folder, [*arguments, *ONE_ADDRESS, "--metrics-port", "0"]
        ) as process,
    ):
        yield Server(process)
