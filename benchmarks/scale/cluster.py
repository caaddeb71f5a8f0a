"""An evaluation on a Ray cluster of one worker and of two: `python -m benchmarks.scale.cluster`.

Two nodes of a real cluster on this machine, a core each; the second joins and leaves in turn. It
needs Linux, and two cores that nothing else uses.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, final

# Read when Ray is imported: loopback alone.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np

from benchmarks.report import Section, progress, run, table
from common.vicinal.settings import preset
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.measuring import Condition, EvaluationSetup, Measured, measure
from sims.processes.workers import workers

SHAPE: Final = "synthetic:6040x3706x1000209"
SHORT: Final = "synthetic:600x900x30000"
# Both ask the one model that there is, which is trained for an epoch: this is about time.
CONDITIONS: Final[tuple[Condition, ...]] = ("clean_defended", "defended")
# Every user is asked so often: one worker is busy for about a minute.
PASSES: Final = 2
TIMES: Final = 2
LEAST_EFFICIENCY: Final = 0.8
STORE_BYTES: Final = 200 << 20
MIB: Final = 1 << 20

INTRODUCTION: Final = """\
## One evaluation on one machine of a cluster and on two

`{shape}`, mf, preset vicinal: {asked:,} answers of {users:,} users, as `vicinal evaluate --ray` has
them made. Both machines are nodes of a Ray cluster here, with a core each; the second joins and
leaves in turn. Seconds are elapsed, from connecting to the last count, with the start of workers
and the transfer of ratings and model; the fastest of {times} counts. Bytes are all that crossed the
loopback interface meanwhile, Ray's own messages among them. *Efficiency* is the time of one divided
by twice that of two.
"""


@dataclass(frozen=True)
class Run:
    """Of one evaluation: seconds in all, until the first answer came, and of processor time of the
    process that gives users out; bytes moved.
    """

    seconds: float
    begun: float
    giving: float
    moved: int
    found: dict[Condition, Measured]


@final
class Nodes:
    """A cluster of one node, and perhaps of two."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - after what it reads

        self._about: dict[str, Any] = {
            "num_cpus": 1,
            "node_ip_address": "127.0.0.1",
            "object_store_memory": STORE_BYTES,
        }
        head = {**self._about, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = str(self._cluster.address)

    @contextmanager
    def of(self, count: int) -> Iterator[None]:
        """With one node or two in the block."""
        second = self._cluster.add_node(**self._about) if count == 2 else None
        self._cluster.wait_for_nodes()
        try:
            yield
        finally:
            if second is not None:
                self._cluster.remove_node(second)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        self._cluster.shutdown()  # type: ignore[no-untyped-call]


def section(short: bool) -> Section:
    """Too little efficiency misses it, but of a short run the start is most."""
    shape = SHORT if short else SHAPE
    prepared = prepare(Experiment(shape))
    with TemporaryDirectory(prefix="vicinal-") as folder, ModelStore(Path(folder)) as store:
        progress(f"train on {shape}")
        settings = TrainingSettings.on(shape, model="mf").model_copy(update={"epochs": 1})
        stored = store.save(train(prepared.poisoned, settings))
        model = Recommender(stored, prepared.poisoned, prepared.user_count)
        setup = EvaluationSetup(
            {"clean": model, "poisoned": model},
            prepared.local,
            preset("vicinal", model="mf"),
            prepared.watched,
            prepared.experiment.list_length,
        )
        with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
            nodes = Nodes()
        try:
            users = np.tile(np.arange(prepared.user_count), PASSES)
            runs = _alternated(setup, nodes, users, 1 if short else TIMES)
        finally:
            nodes.stop()
    counts = {str([one.found[name].counts for name in CONDITIONS]) for each in runs for one in each}
    if len(counts) != 1:
        raise RuntimeError("one worker and two found different counts")
    asked = len(CONDITIONS) * len(users)
    best = [min(each, key=lambda one: one.seconds) for each in runs]
    efficiency = best[0].seconds / (2 * best[1].seconds)
    rows = [_row(count, one, asked) for count, one in enumerate(best, start=1)]
    heads = (
        "workers",
        "seconds",
        "to the first answer, s",
        "giving users out, processor s",
        "answers/s",
        "MiB moved",
    )
    text = INTRODUCTION.format(
        shape=shape, asked=asked, users=prepared.user_count, times=len(runs[0])
    )
    told = f"Efficiency from one worker to two: {efficiency:.2f}. Counts of all runs are the same."
    missed = []
    if not short and efficiency < LEAST_EFFICIENCY:
        missed.append(f"efficiency {efficiency:.2f}, not {LEAST_EFFICIENCY}")
    figures = {
        "efficiency": efficiency,
        "answers_per_second": [asked / one.seconds for one in best],
        "moved": [one.moved for one in best],
    }
    return Section(f"{text}\n{table(heads, rows)}\n\n{told}\n", figures, missed)


def _alternated(
    setup: EvaluationSetup, nodes: Nodes, users: np.ndarray, times: int
) -> Sequence[list[Run]]:
    """Of one worker and of two, in turn."""
    runs: tuple[list[Run], list[Run]] = ([], [])
    for number in range(times):
        for count in (1, 2):
            with nodes.of(count):
                runs[count - 1].append(_evaluated(setup, nodes.address, users))
            done = runs[count - 1][-1]
            progress(f"run {number + 1}, {count} workers: {done.seconds:.1f} s")
    return runs


def _evaluated(setup: EvaluationSetup, address: str, users: np.ndarray) -> Run:
    first: list[float] = []
    before, start, processor = _moved(), time.monotonic(), time.process_time()

    def arrived(_what: str, _done: int, _total: int) -> None:
        if not first:
            first.append(time.monotonic() - start)

    with workers(None, address) as found:
        measured = measure(setup, CONDITIONS, users, workers=found, progress=arrived)
        seconds = time.monotonic() - start
    giving = time.process_time() - processor
    return Run(seconds, first[0], giving, _moved() - before, measured)


def _moved() -> int:
    """Bytes that the loopback interface has received so far."""
    lines = Path("/proc/net/dev").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.split()[0] == "lo:")


def _row(count: int, one: Run, asked: int) -> tuple[str, ...]:
    seconds = (f"{each:.1f}" for each in (one.seconds, one.begun, one.giving))
    return f"{count}", *seconds, f"{asked / one.seconds:.0f}", f"{one.moved / MIB:.1f}"


if __name__ == "__main__":
    run(section)
