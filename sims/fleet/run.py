"""A fleet in Flower's simulation: from prepared ratings to counts, through real processes."""

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any, Final, final

from common.errors import InputError, VicinalError
from common.files import read_file
from common.vicinal.settings import VicinalSettings
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Prepared
from sims.fleet.files import FleetFiles, write_fleet_files
from sims.fleet.flower import LocalFlower
from sims.fleet.resources import Resources
from sims.processes.marked import interruptible
from sims.progress import Report

CHECKOUT: Final = Path(__file__).resolve().parents[2]
MAX_RESULT_BYTES: Final = 256 << 20
# As server.flower_app writes it; importing that would load Flower into this process.
_PROGRESS: Final = re.compile(r"vicinal-progress (\S+) (\d+)/(\d+)$")


def require_fleet(prepared: Prepared, clients: int, settings: VicinalSettings) -> None:
    """What is known before anything is trained. Raises InputError."""
    users, others = prepared.user_count, prepared.poisoned.user_count
    if not 1 <= clients <= users:
        raise InputError(f"{clients} clients for {users} users: choose 1–{users}")
    if settings.neighbors > others:
        raise InputError(f"k = {settings.neighbors} neighbors of {others} users: choose fewer")


def run_fleet(
    folder: Path,
    prepared: Prepared,
    recommender: Recommender,
    *,
    clients: int,
    preset: str,
    settings: VicinalSettings,
    report: Report,
    resources: Resources | None = None,
    checkout: Path = CHECKOUT,
) -> dict[str, Any]:
    """What the server app counted, after every user was answered by one of `clients` clients.

    `folder` keeps the fleet's files and the logs, and is one run's at a time
    (sims.processes.lock). Raises InputError, and VicinalError when the run fails. Whatever
    happens, no process is left.
    """
    users = recommender.user_count
    files = write_files(folder, prepared, recommender, clients, preset, settings)
    files.result.unlink(missing_ok=True)
    resources = resources or Resources.of(None, clients)
    report("recommend", 0, users)
    with interruptible(), LocalFlower(checkout, files.folder) as flower:
        flower.run(
            files.run_config, clients=clients, resources=resources, on_line=_ShownLines(report)
        )
        log = flower.log
    asked = {
        "run": files.run,
        "version": recommender.version.digest,
        "clients": clients,
        "users": users,
        "preset": preset,
        "settings": dataclasses.asdict(settings),
    }
    return checked_result(files.result, asked, log)


def checked_result(path: Path, asked: dict[str, Any], log: Path) -> dict[str, Any]:
    """A run's result. Raises VicinalError for none, a failed one, and for another run's."""
    try:
        result: dict[str, Any] = json.loads(read_file(path, most=MAX_RESULT_BYTES))
    except (OSError, ValueError, RecursionError):
        raise VicinalError(f"the run wrote no result (log: {log})") from None
    if "failed" in result:
        raise VicinalError(f"{result['failed']} (log: {log})")
    for name, value in asked.items():
        if result.get(name) != json.loads(json.dumps(value)):
            raise VicinalError(
                f"{path} is not this run's: its {name} is {result.get(name)}, not {value}"
            )
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


def command_line(files: FleetFiles, clients: int, resources: Resources) -> str:
    """The `flwr run` that does with prepared files what `run_fleet` does."""
    arguments = [
        "flwr", "run", str(CHECKOUT), "--stream", "--run-config", str(files.run_config),
        "--federation-config", resources.federation(clients),
    ]  # fmt: skip
    return shlex.join(arguments)


@final
class _ShownLines:
    """Reports the users answered, as the server app writes it into the log."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(self, line: str) -> None:
        match = _PROGRESS.search(line)
        if match is not None and match[1] == "recommend":
            self._report(match[1], int(match[2]), int(match[3]))
