"""A fleet in Flower's simulation: from prepared ratings to counts, through real processes."""

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any, Final, final

from common.errors import VicinalError
from common.vicinal.settings import VicinalSettings
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Prepared
from sims.fleet.files import FleetFiles, write_fleet_files
from sims.fleet.flower import LocalFlower
from sims.processes.marked import interruptible
from sims.progress import Report

CHECKOUT: Final = Path(__file__).resolve().parents[2]
# As server.flower_app writes it; importing that would load Flower into this process.
_PROGRESS: Final = re.compile(r"vicinal-progress (\S+) (\d+)/(\d+)$")


def run_fleet(
    folder: Path,
    prepared: Prepared,
    recommender: Recommender,
    *,
    clients: int,
    preset: str,
    settings: VicinalSettings,
    report: Report,
    processes: int | None = None,
    checkout: Path = CHECKOUT,
) -> dict[str, Any]:
    """What the server app counted, after every user was answered by one of `clients` clients.

    `folder` keeps the fleet's files and the logs; `processes` clients work at a time (default:
    as many as there are cores). Raises InputError, and VicinalError when the run fails.
    Whatever happens, no process is left.
    """
    files = write_files(folder, prepared, recommender, clients, preset, settings)
    files.result.unlink(missing_ok=True)
    count = min(processes or os.cpu_count() or 1, clients)
    shown = _ShownLines(report)
    report("start Flower", 0, 1)
    with interruptible(), LocalFlower(checkout, files.folder) as flower:
        flower.run(files.run_config, clients=clients, processes=count, on_line=shown)
        if not files.result.is_file():
            raise VicinalError(f"the run wrote no result (log: {flower.log})")
    result: dict[str, Any] = json.loads(files.result.read_bytes())
    return result


def write_files(
    folder: Path,
    prepared: Prepared,
    recommender: Recommender,
    clients: int,
    preset: str,
    settings: VicinalSettings,
) -> FleetFiles:
    """The files of an experiment's fleet. Raises InputError and OSError."""
    return write_fleet_files(
        folder,
        recommender,
        prepared.local,
        clients=clients,
        preset=preset,
        settings=settings,
        watched=prepared.watched,
        list_length=prepared.experiment.list_length,
    )


def command_line(files: FleetFiles, clients: int) -> str:
    """The `flwr run` that does with prepared files what `run_fleet` does."""
    arguments = [
        "flwr", "run", str(CHECKOUT), "--stream", "--run-config", str(files.run_config),
        "--federation-config", f"num-supernodes={clients} client-resources-num-cpus=1",
    ]  # fmt: skip
    return shlex.join(arguments)


@final
class _ShownLines:
    """Reports the progress that the server app writes into the log."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._started = False

    def __call__(self, line: str) -> None:
        match = _PROGRESS.search(line)
        if match is None:
            return
        if not self._started:
            self._started = True
            self._report("start Flower", 1, 1)
        self._report(match[1], int(match[2]), int(match[3]))
