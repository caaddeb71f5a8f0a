"""A started `vicinal serve`, and the processes that ask it, for the latency laboratory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from client.link.connection import Connection
from common.vicinal.book import Release
from sims.latency.conditions import limited
from sims.latency.device import AnswerTiming, DeviceTimings, Job
from sims.latency.plan import SHAPES, Setting
from sims.latency.results import CallResult
from sims.load.generator import Load
from sims.processes.children import Child, Children, CoreSplit
from sims.serving.process import ServeProcess

SEED: Final = 0


class LoadResult(NamedTuple):
    """seconds: latencies of answered calls; asked: the counts, without the server's side."""

    asked: CallResult
    seconds: list[float]


@dataclass(frozen=True)
class Server:
    """A `vicinal serve` process, what it serves, and how it is asked.

    store  folder for the devices' model versions
    """

    children: Children
    cores: CoreSplit
    process: ServeProcess
    version: str
    users: int
    preset: str
    store: Path

    @property
    def address(self) -> str:
        return self.process.address

    @property
    def workers(self) -> int:
        return len(self.cores.server)

    def processor_seconds(self) -> float:
        """Of the front and the workers, so far."""
        return sum(self.process.processor_seconds().values())

    def generator(self, load: dict[str, Any], *, name: str, address: str = "") -> Child:
        """A process that will ask (sims.load.generator): `load` has the fields of Load."""
        request = Load(
            address=address or self.address,
            version=self.version,
            preset=self.preset,
            users=self.users,
            **load,
        )
        return self._ready("sims.load.generator", asdict(request), name)

    def device(self, job: dict[str, Any], *, name: str, address: str) -> Child:
        """A process that runs devices: `job` has the fields of sims.latency.device.Job."""
        request = Job(
            server=address,
            ratings=str(self.process.ratings),
            store=str(self.store),
            preset=self.preset,
            **job,
        )
        return self._ready("sims.latency.device", asdict(request), name)

    def _ready(self, module: str, request: dict[str, Any], name: str) -> Child:
        child = self.children.start(module, name=name, cores=self.cores.others)
        child.tell(json.dumps(request))
        child.line()  # ready
        return child


@contextmanager
def served(
    children: Children,
    setting: Setting,
    folder: Path,
    cores: CoreSplit,
    release: Release = "rows",
) -> Iterator[Server]:
    """Start a server and stop it in the end; models that are trained stay in the folder.

    Raises VicinalError when it does not start.
    """
    arguments = [*serve_arguments(setting, len(cores.server)), "--release", release]
    with ServeProcess(children, folder, arguments, cores.server) as process:
        with Connection(process.address) as connection:
            described = connection.describe()
        yield Server(
            children,
            cores,
            process,
            described.version,
            described.user_count,
            setting.preset,
            folder / "devices",
        )


def serve_arguments(setting: Setting, workers: int) -> list[str]:
    """Of `vicinal serve`."""
    settings = setting.vicinal
    return [
        *("--dataset", SHAPES.get(setting.dataset, setting.dataset)),
        *setting.reading.as_flags(),
        *("--model", setting.model, "--preset", setting.preset, "--attack", "none"),
        *("--k", str(settings.neighbors), "--seed", str(SEED)),
        *("--list-length", str(setting.list_length)),
        *("--workers", str(workers)),
        # The generator stands for many devices, but has one address.
        *("--peer-calls", "4096", "--peer-bytes", "1e9"),
    ]


def load_result(child: Child, seconds: float) -> LoadResult:
    """What a generator of load has measured, once it is done. Raises VicinalError."""
    result = child.result(seconds)
    by_status: dict[str, list[float]] = result["seconds"]
    answers = by_status.pop("OK", [])
    refused = len(by_status.pop("RESOURCE_EXHAUSTED", []))
    late = sorted(result["late"])
    asked = CallResult(
        milliseconds=[round(1000 * one, 3) for one in answers],
        answered=len(answers),
        refused=refused,
        other=sum(map(len, by_status.values())),
        sent=result["sent"] / max(1, len(answers)),
        received=result["received"] / max(1, len(answers)),
        late_p99=1000 * late[int(0.99 * (len(late) - 1))] if late else 0.0,
    )
    return LoadResult(asked, answers)


def device_timings(child: Child, share: float, seconds: float) -> DeviceTimings:
    """Let a device process begin, with its share of a core, and read what it measured."""
    with limited(child.pid, share):
        child.tell("go")
        result = child.result(seconds)
    answers = [AnswerTiming(*one) for one in result["answers"]]
    return DeviceTimings(answers, result["failed"], result["late"])
