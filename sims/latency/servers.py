"""A started `vicinal serve` and those who ask it, for the latency laboratory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from client.link.connection import Connection
from sims.latency.device import Answer, Job
from sims.latency.plan import SHAPES, Setting
from sims.latency.results import Asked
from sims.latency.share import held
from sims.load.generator import Load
from sims.processes.children import Child, Children, CoreSplit
from sims.processes.marked import family, processor_seconds

# Training a model of Yelp's size takes this long where other work shares the machine.
START_SECONDS: Final = 3600
SEED: Final = 0


class Generated(NamedTuple):
    """seconds: latencies of answered calls; asked: the counts, without the server's side."""

    asked: Asked
    seconds: list[float]


@dataclass(frozen=True)
class Played:
    """What a device process said (sims.latency.device.Played)."""

    answers: tuple[Answer, ...]
    failed: int
    late: int


@dataclass(frozen=True)
class Server:
    """A `vicinal serve` process.

    ratings  what its users' devices know; store: folder for the devices' model versions
    """

    children: Children
    cores: CoreSplit
    child: Child
    address: str
    version: str
    users: int
    preset: str
    ratings: Path
    store: Path

    @property
    def workers(self) -> int:
        return len(self.cores.server)

    def processor_seconds(self) -> float:
        """Of the front and the workers, so far."""
        return sum(processor_seconds(process.pid) for process in family(self.child.pid))

    def generator(self, load: dict[str, Any], *, name: str, address: str = "") -> Child:
        """A process that will ask (sims.load.generator): `load` has the fields of Load."""
        told = Load(
            address=address or self.address,
            version=self.version,
            preset=self.preset,
            users=self.users,
            **load,
        )
        return self._ready("sims.load.generator", asdict(told), name)

    def device(self, job: dict[str, Any], *, name: str, address: str) -> Child:
        """A process that will play devices: `job` has the fields of sims.latency.device.Job."""
        told = Job(
            server=address,
            ratings=str(self.ratings),
            store=str(self.store),
            preset=self.preset,
            **job,
        )
        return self._ready("sims.latency.device", asdict(told), name)

    def _ready(self, module: str, told: dict[str, Any], name: str) -> Child:
        child = self.children.start(module, name=name, cores=self.cores.others)
        child.tell(json.dumps(told))
        child.line()  # ready
        return child


@contextmanager
def served(
    children: Children, setting: Setting, folder: Path, cores: CoreSplit
) -> Iterator[Server]:
    """Start a server and stop it in the end; models that are trained stay in the folder.

    Raises VicinalError when it does not start.
    """
    port, ratings = folder / "port", folder / "devices.safetensors"
    port.unlink(missing_ok=True)
    settings = setting.vicinal
    child = children.start(
        "sims.cli",
        *("serve", "--dataset", SHAPES.get(setting.dataset, setting.dataset)),
        *("--model", setting.model, "--preset", setting.preset, "--attack", "none"),
        *("--k", str(settings.neighbors), "--seed", str(SEED)),
        *("--list-length", str(setting.list_length)),
        *("--store", str(folder / "store"), "--device-ratings", str(ratings)),
        *("--port", "0", "--port-file", str(port), "--workers", str(len(cores.server))),
        name="serve",
        cores=cores.server,
    )
    try:
        child.until(port.exists, START_SECONDS)
        address = f"127.0.0.1:{int(port.read_text())}"
        with Connection(address) as connection:
            described = connection.describe()
        yield Server(
            children,
            cores,
            child,
            address,
            described.version,
            described.user_count,
            setting.preset,
            ratings,
            folder / "devices",
        )
    finally:
        child.stop()


def generated(child: Child, seconds: float) -> Generated:
    """What a generator of load has to say when it is done. Raises VicinalError."""
    said = child.result(seconds)
    by_status: dict[str, list[float]] = said["seconds"]
    answers = by_status.pop("OK", [])
    refused = len(by_status.pop("RESOURCE_EXHAUSTED", []))
    late = sorted(said["late"])
    asked = Asked(
        milliseconds=[round(1000 * one, 3) for one in answers],
        answered=len(answers),
        refused=refused,
        other=sum(map(len, by_status.values())),
        sent=said["sent"] / max(1, len(answers)),
        received=said["received"] / max(1, len(answers)),
        late_p99=1000 * late[int(0.99 * (len(late) - 1))] if late else 0.0,
    )
    return Generated(asked, answers)


def played(child: Child, share: float, seconds: float) -> Played:
    """Let a device process begin, hold it to its share, and hear what it says."""
    with held(child.pid, share):
        child.tell("go")
        said = child.result(seconds)
    answers = tuple(Answer(*one) for one in said["answers"])
    return Played(answers, said["failed"], said["late"])
