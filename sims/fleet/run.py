"""A fleet in Flower's simulation: from prepared ratings to counts, through real processes."""

import dataclasses
import json
import re
import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, final

from common.errors import VicinalError
from common.files import read_file
from common.report_privacy import OPEN, ReportPrivacy
from common.vicinal.book import ItemBook
from common.vicinal.settings import VicinalSettings
from server.fleet.plan import progress_file
from server.recommending.book import BookRecommender
from server.recommending.recommender import Recommender
from sims.evaluation.cell import Cell, book_key
from sims.evaluation.experiment import Prepared
from sims.fleet.files import FleetFiles, write_fleet_files
from sims.fleet.flower import LocalFlower
from sims.fleet.resources import Resources
from sims.fleet.rounds import DEFENDED, Rounds
from sims.processes.marked import interruptible
from sims.progress import Report

CHECKOUT: Final = Path(__file__).resolve().parents[2]
MAX_RESULT_BYTES: Final = 256 << 20
# As server.flower_app writes it; importing that would load Flower into this process.
_PROGRESS: Final = re.compile(r"vicinal-progress ((?:recommend|learn)\S*) (\d+)/(\d+)$")


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
    min_replies: int = 0,
    accept_failures: bool = True,
    resume: bool = True,
    privacy: ReportPrivacy = OPEN,
    checkout: Path = CHECKOUT,
    book: ItemBook | None = None,
) -> dict[str, Any]:
    """What the server app counted of users whom `clients` clients answered.

    min_replies      clients whose users must all be answered; 0: all of them
    accept_failures  False: the first client that fails for good ends the run
    privacy          what reports keep to themselves
    resume           go on where a run of the same in this folder was broken off
    book             from which users are answered; None: from packages

    A Flower whose processes died is started again, as long as that leads anywhere. `folder` keeps
    the fleet's files and the logs, and is one run's at a time (sims.processes.lock). Raises
    InputError, and VicinalError when the run fails. Whatever happens, no process is left.
    """
    users = recommender.user_count
    resources = resources or Resources.of(None, clients)
    options: dict[str, int | bool | str] = {
        "min-replies": min_replies,
        "accept-failures": accept_failures,
        "under-way": resources.under_way,
        "report-privacy": str(privacy),
    }
    files = write_files(folder, prepared, recommender, clients, preset, settings, options, book)
    if not resume:
        files.result.with_suffix(".progress.jsonl").unlink(missing_ok=True)
    report("recommend", 0, users)
    log = run_app(files, clients, resources, report, checkout)
    asked = {
        "run": files.run,
        "version": recommender.version.digest,
        "clients": clients,
        "users": users,
        "release": "rows" if book is None else "book",
        "preset": preset,
        "settings": dataclasses.asdict(settings),
    }
    return checked_result(files.result, asked, log)


def run_rounds(
    rounds: Rounds,
    *,
    resources: Resources,
    report: Report,
    resume: bool = True,
    checkout: Path = CHECKOUT,
) -> dict[str, Any]:
    """What the server app counted in every round of a plan; as run_fleet.

    Raises InputError, and VicinalError when the run fails.
    """
    files, plan = rounds.files, rounds.plan
    if not resume:
        for planned, condition in plan.askings:
            progress_file(files.result, planned.number, condition).unlink(missing_ok=True)
    log = run_app(files, plan.clients, resources, report, checkout)
    asked = {"run": files.run, "plan": plan.digest, "clients": plan.clients}
    result = checked_result(files.result, asked, log)
    for (planned, condition), one in zip(plan.askings, result["rounds"], strict=True):
        told = {
            "round": planned.number,
            "condition": condition,
            "version": planned.versions[condition],
            "release": rounds.release if condition == DEFENDED else "rows",
        }
        require_told(files.result, one, told)
    return result


def run_app(
    files: FleetFiles, clients: int, resources: Resources, report: Report, checkout: Path
) -> Path:
    """Run the app, and again as long as a run that was broken off got further; its log.

    Raises VicinalError when it failed in the end.
    """
    files.result.unlink(missing_ok=True)
    answered = -1
    while True:
        with interruptible(), LocalFlower(checkout, files.folder, resources) as flower:
            log, failed = flower.log, None
            try:
                flower.run(
                    files.run_config,
                    clients=clients,
                    on_line=ShownLines(report),
                    done=partial(_is_done, files),
                )
            except VicinalError as error:
                failed = error
        found = _read(files.result)
        further = _answered(found)
        if not (found.get("broken_off") and further > max(answered, 0)):
            break
        answered = further
    if failed is not None:
        raise failed
    return log


def _answered(result: dict[str, Any]) -> int:
    """Users, in all rounds."""
    if "rounds" in result:
        return sum(one["answered"] for one in result["rounds"])
    return int(result.get("answered", 0))


def checked_result(path: Path, asked: dict[str, Any], log: Path) -> dict[str, Any]:
    """A run's result. Raises VicinalError for none, a failed one, and for another run's."""
    result = _read(path)
    if not result:
        raise VicinalError(f"the run wrote no result (log: {log})")
    if "error" in result:
        raise VicinalError(f"{result['error']} (log: {log})")
    require_told(path, result, asked)
    return result


def require_told(path: Path, result: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises VicinalError for a result of something else."""
    for name, value in asked.items():
        if result.get(name) != json.loads(json.dumps(value)):
            raise VicinalError(
                f"{path} is not this run's: its {name} is {result.get(name)}, not {value}"
            )


def _is_done(files: FleetFiles) -> bool:
    found = _read(files.result)
    return found.get("run") == files.run and "error" not in found


def _read(path: Path) -> dict[str, Any]:
    """Empty for what is no result."""
    try:
        found = json.loads(read_file(path, most=MAX_RESULT_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_files(
    folder: Path,
    prepared: Prepared,
    recommender: Recommender,
    clients: int,
    preset: str,
    settings: VicinalSettings,
    options: Mapping[str, int | bool | str] | None = None,
    book: ItemBook | None = None,
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
        options=options,
        book=book,
    )


def command_line(files: FleetFiles, clients: int, resources: Resources) -> str:
    """The `flwr run` that does with prepared files what `run_fleet` does."""
    variables = [f"{name}={value}" for name, value in resources.environment().items()]
    arguments = [
        *variables, "flwr", "run", str(CHECKOUT), "--stream", "--run-config", str(files.run_config),
        "--federation-config", resources.federation(clients),
    ]  # fmt: skip
    return shlex.join(arguments)


@final
class ShownLines:
    """Reports the users answered, as the server app writes it into the log."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def __call__(self, line: str) -> None:
        match = _PROGRESS.search(line)
        if match is not None:
            self._report(match[1].replace("-", " "), int(match[2]), int(match[3]))


def fleet_book(cell: Cell, recommender: Recommender) -> ItemBook | None:
    """As `vicinal evaluate` has it, noise included; None where the cell's release is rows."""
    if cell.release == "rows":
        return None
    return BookRecommender(recommender, cell.settings, book_key(cell.experiment.seed)).book
