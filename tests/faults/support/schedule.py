"""Devices that ask without end, and faults one after another while they do."""

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final, Self, final

import grpc

from client.link.connection import Connection
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.offload_pb2_grpc import OffloadStub
from sims.load.network import Network, NetworkConditions
from tests.faults.support.attacker import EVERYTHING
from tests.faults.support.device_process import KINDS, PRESET, Device
from tests.faults.support.disk import full_disk
from tests.faults.support.figures import (
    Downtime,
    Figures,
    Oracle,
    check_answers,
    check_reports,
    requests_of,
)
from tests.faults.support.floods import attacked
from tests.faults.support.ledger import Ledger, last_entries, read_ledger
from tests.faults.support.liars import tell_lies
from tests.faults.support.lying import Liar
from tests.faults.support.served import POLL_SECONDS, ServedProcess
from tests.support.child_processes import children_of
from tests.support.modules import ENVIRONMENT, ROOT, command

# Calls that a drain must not drop, each of so many steps that they wait for one another.
BURST: Final = 12
SLOW_PRESET: Final = "paper"
SERVE: Final = (
    *("--presets", "vicinal,paper", "--preset", SLOW_PRESET, "--k", "30", "--steps", "1500"),
    *("--queue-ms", "60000"),
)
WORKERS: Final = 2
FLOODED_ROUNDS: Final = 3
# Between the newcomers and the server, so that a fetch takes long enough to be broken off.
THIN: Final = NetworkConditions(0.05, 2e6, 2e6, 0.005)


@dataclass(frozen=True)
class Plan:
    """What is asked, and how long one may wait for it.

    deadline  seconds, of every request
    pause     seconds between a device's requests
    devices   of each kind
    rotation  seconds between trainings of new versions; grace: how long old ones are answered for
    """

    dataset: str = "synthetic:320x1500"
    users: int = 320
    deadline: float = 60.0
    pause: float = 0.05
    devices: int = 1
    rotation: int = 5
    grace: int = 20
    seed: int = 0

    @property
    def arguments(self) -> tuple[str, ...]:
        data = ("--dataset", self.dataset, "--workers", str(WORKERS), "--grace", str(self.grace))
        return (*data, "--retrain-every", str(self.rotation), *SERVE)


@dataclass
class Playing:
    """A device and its process."""

    device: Device
    process: subprocess.Popen[bytes]


@final
class Field:
    """A server, devices that ask it, and what can happen to them; a context manager."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.done: Counter[str] = Counter()
        self.drained = 0
        self.dropped = 0
        self.lies = 0
        self.believed: list[str] = []
        self.resident_mib = 0.0
        self._folder = folder
        self._liar = folder / "liar.ledger"
        self._server = ServedProcess(folder / "server", plan.arguments)
        self._devices: list[Playing] = []
        self.hostile = Liar(folder / "hostile")
        self._away: list[Downtime] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._server)
            thin = stack.enter_context(Network(THIN, self._server.address, seed=self.plan.seed))
            self._network = thin
            stack.callback(self._end_devices)
            for place in range(len(KINDS) * self.plan.devices):
                kind = KINDS[place % len(KINDS)]
                device = Device(
                    name=f"{kind}-{place // len(KINDS)}",
                    kind=kind,
                    address=thin.address if kind == "newcomer" else self._server.address,
                    ratings=str(self._server.ratings),
                    folder=str(self._folder),
                    # A phone has last packages of few users soon.
                    users=6 if kind == "phone" else self.plan.users,
                    seed=self.plan.seed + place,
                    deadline=self.plan.deadline,
                    pause=self.plan.pause,
                )
                self._devices.append(Playing(device, self._started(device)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def run(self, faults: Iterable[str]) -> None:
        """One fault after another; between them every device gets at least one answer."""
        self.wait_for_all()
        for name in faults:
            FAULTS[name](self)
            self.done[name] += 1
            self.wait_for_all()
            self.resident_mib = max(self.resident_mib, self._server.resident_mib())

    def wait_for_all(self) -> None:
        """Until every device has ended a request that began after this call."""
        begun = monotonic()
        for playing in self._devices:
            deadline = monotonic() + 4 * self.plan.deadline
            while not _ended_after(playing.device, begun):
                said = playing.process.poll()
                assert said is None, f"{playing.device.name} ended with {said}: {self.log}"
                assert monotonic() < deadline, f"{playing.device.name} hangs: {self.log}"
                sleep(4 * POLL_SECONDS)

    @property
    def log(self) -> str:
        texts = [path.read_text(errors="replace") for path in self._folder.glob("*.log")]
        return "\n".join([*texts, self._server.log])

    @property
    def rotations(self) -> int:
        """New versions that were served while it ran."""
        return self._server.log.count(" is served\n")

    @property
    def seconds_away(self) -> float:
        return sum(one.end - one.begin for one in self._away)

    def kill_server(self) -> None:
        """In the middle of a newcomer's fetch."""
        newcomers = [one.device for one in self._devices if one.device.kind == "newcomer"]
        self._until(lambda: any(map(_fetching, newcomers)))
        begin = monotonic()
        self._server.kill()
        # What is on its way, in the proxy's buffers, is lost with it.
        self._network.cut()
        self._server.start()
        self._away.append(Downtime(begin, monotonic()))

    def kill_device(self) -> None:
        """Any of them, at any moment of what it does, and again on the same store."""
        playing = self.rng.choice([one for one in self._devices if one.device.kind != "asker"])
        sleep(self.rng.random())
        playing.process.kill()
        playing.process.wait()
        playing.process = self._started(playing.device)

    def kill_worker(self) -> None:
        [worker, *_] = children_of(self._server.pid, "server.workers.worker")
        os.kill(worker, signal.SIGKILL)

    def cut_network(self) -> None:
        self._network.cut()

    def stall_network(self) -> None:
        self._network.stall()
        sleep(1.0)
        self._network.resume()

    def answer_falsely(self) -> None:
        """A device of its own, beside all that goes on (tests.faults.support.lying)."""
        self.hostile.tell_next()

    def flood(self) -> None:
        """One peer takes whatever it gets while every device goes on: more than one answer each."""
        version = self._described().version
        with attacked(self._server, EVERYTHING, version=version):
            self._until(lambda: self._server.metric("vicinal_refused_total") > 0)
            for _ in range(FLOODED_ROUNDS):
                self.wait_for_all()

    def _described(self) -> Description:
        with Connection(self._server.address, patience=self.plan.deadline) as connection:
            return connection.describe()

    def rotate(self) -> None:
        """Beside the trainings that come by themselves; until there is a new version."""
        with Connection(self._server.address, patience=self.plan.deadline) as connection:
            before = connection.describe().version
            self._server.tell(signal.SIGHUP)
            self._until(lambda: connection.describe().version != before)

    def drain(self) -> None:
        """SIGTERM while a burst of calls is under way: all of it must be answered."""
        # Nothing is tried again behind our back.
        once = [("grpc.enable_retries", 0)]
        with grpc.insecure_channel(self._server.address, options=once) as channel:
            stub = OffloadStub(channel)
            version = stub.Describe(wire.DescribeRequest(), timeout=self.plan.deadline).version
            calls = [
                stub.Recommend.future(
                    wire.RecommendRequest(version=version, user=user, preset=SLOW_PRESET),
                    timeout=self.plan.deadline,
                )
                for user in range(BURST)
            ]
            # Those that wait have been taken; as many as there are workers are worked on.
            while self._server.metric("vicinal_queue_depth") < BURST - WORKERS - _ended(calls):
                sleep(POLL_SECONDS / 5)
            begin = monotonic()
            self._server.tell(signal.SIGTERM)
            codes = [call.code() for call in calls]
        self.drained += BURST
        self.dropped += BURST - codes.count(grpc.StatusCode.OK)
        assert self._server.drain() == 0, self._server.log
        self._server.start()
        self._away.append(Downtime(begin, monotonic()))

    def lie(self) -> None:
        """A device reports in every wrong way, beside those that play: nothing of it counts."""
        ledger = Ledger(self._liar)
        found = tell_lies(self._server.address, PRESET, ledger, seconds=self.plan.deadline)
        assert found.told > 0
        self.lies += found.told
        self.believed += found.taken

    def fill_tally_disk(self) -> None:
        """No write of the process that listens succeeds, for long enough to answer for many."""
        before = dict(self._ended_requests())
        with full_disk(self._server.pid):
            self.wait_for_all()
            sleep(1.0)
        # Answers came all the same; reports are owed, and sent later.
        assert sum(self._ended_requests().values()) > sum(before.values())

    def _ended_requests(self) -> Counter[str]:
        return Counter(
            one.device.name
            for one in self._devices
            for entry in read_ledger(one.device.ledger)
            if entry["what"] == "ended"
        )

    def finish(self) -> Figures:
        """End the devices, then the server, and compare everything."""
        for playing in self._devices:
            assert playing.process.stdin is not None
            playing.process.stdin.write(b"end\n")
            playing.process.stdin.flush()
        for playing in self._devices:
            code = playing.process.wait(timeout=4 * self.plan.deadline)
            assert code == 0, f"{playing.device.name} ended with {code}: {self.log}"
        assert self._server.drain() == 0, self._server.log
        assert "Traceback" not in self._server.log, self._server.log
        figures = Figures()
        ledgers = {one.device: read_ledger(one.device.ledger) for one in self._devices}
        for device, entries in ledgers.items():
            found = requests_of(entries, device.kind, self.plan.deadline, self._away)
            figures.requests[device.name] = found
        check_answers(figures, ledgers.values(), Oracle(self._server.versions))
        owed = frozenset(
            path.stem for device in ledgers for path in device.store.glob("reports/*/*.report")
        )
        every = [*ledgers.values(), read_ledger(self._liar)]
        check_reports(figures, every, self._server.store / "tally.sqlite", owed)
        return figures

    def _until(self, holds: Callable[[], bool]) -> None:
        deadline = monotonic() + 4 * self.plan.deadline
        while not holds():
            assert monotonic() < deadline, self.log
            sleep(POLL_SECONDS)

    def _started(self, device: Device) -> subprocess.Popen[bytes]:
        with (self._folder / f"{device.name}.log").open("ab") as log:
            return subprocess.Popen(
                command("tests.faults.support.device_process", device.argument()),
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stderr=log,
            )

    def _end_devices(self) -> None:
        for playing in self._devices:
            playing.process.kill()
            playing.process.wait()


def _ended_after(device: Device, begun: float) -> bool:
    entries = last_entries(device.ledger)
    return any(entry["what"] == "ended" and entry["at"] > begun for entry in entries)


def _fetching(device: Device) -> bool:
    """Whether it has been opening for so long that bytes of a version must be on their way."""
    last = last_entries(device.ledger)[-1:]
    return any(entry["what"] == "open" and monotonic() - entry["at"] > 0.5 for entry in last)


def _ended(calls: Sequence[grpc.Future]) -> int:
    return sum(call.done() for call in calls)


FAULTS: Final[dict[str, Callable[[Field], None]]] = {
    "server killed, started again": Field.kill_server,
    "device killed, started again": Field.kill_device,
    "worker of the server killed": Field.kill_worker,
    "server drained under load, started again": Field.drain,
    "new version asked for (SIGHUP)": Field.rotate,
    "network reset": Field.cut_network,
    "network silent for 1 s": Field.stall_network,
    "reports that lie": Field.lie,
    "disk of the tally full": Field.fill_tally_disk,
    "hostile server": Field.answer_falsely,
    "flood by one peer": Field.flood,
}
