"""A whole fleet's robustness and accuracy, as a Flower server app.

The run config names the files that `vicinal simulate` prepares and what to measure
(server.fleet.run_config). The result is written as JSON; `error` in it says why it is none, or why
it is of too few. Beside it lies what was counted so far, while not all are answered.
"""

import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

import common
from common.errors import InputError, VicinalError
from common.files import read_file, write_file
from common.report_privacy import ReportPrivacy
from common.source import source_digest
from common.threads import limit_threads
from common.vicinal.settings import capped, untuned
from common.wire.book import decode_book, most_bytes
from common.wire.fleet import ROUND
from server.fleet.ledger import Ledger
from server.fleet.mailboxes import sort_mail
from server.fleet.plan import deployment_of, progress_file, read_plan
from server.fleet.result import asked_digest, result_of, too_few
from server.fleet.roster import Roster
from server.fleet.run_config import RunConfig
from server.fleet.strategy import Report, VicinalStrategy
from server.fleet.work import FleetJob
from server.recommending.recommender import Recommender
from server.versions.deployment import BOOK_FILE, deployed_secret, read_deployment

# Before a line of progress; `vicinal simulate` turns such lines into a bar.
PROGRESS_MARK: Final = "vicinal-progress"

# Of the client's code that lies beside the code running here, as a client computes its own.
_COMMON: Final = Path(str(common.__file__)).parent
CLIENT_SOURCE_DIGEST: Final = source_digest(_COMMON, _COMMON.parent / "client")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Raises VicinalError; Flower then marks the run as failed and its log has the reason."""
    limit_threads()
    with marked(context.run_config):
        config = RunConfig.of(dict(context.run_config))
        require_writable(Path(config.result))
        result = measured(grid, config)
        write_result(config, result)
        if "error" in result:
            raise VicinalError(result["error"])


@contextmanager
def marked(run_config: Mapping[str, Any]) -> Iterator[None]:
    """Whatever happens, an earlier run's result is not taken for this one's; a failed run says so.

    run_config  as it was given, of which nothing is known yet
    """
    path, run = Path(str(run_config.get("result") or os.devnull)), str(run_config.get("run", ""))
    if path.is_file():
        path.unlink()
    try:
        yield
    except Exception as error:
        failed = str(error) if isinstance(error, VicinalError) else repr(error)
        # What was answered all the same may be told there already.
        if not path.exists() and path.parent.is_dir():
            write_file(path, _as_json({"run": run, "error": failed}))
        raise


def require_writable(result: Path) -> None:
    """Raises InputError for a result that could not be written when all is done."""
    try:
        write_file(result, b"")
        result.unlink()
    except OSError as error:
        raise InputError(
            f"run config: result: {result} cannot be written ({error.strerror})"
        ) from None


def measured(grid: Grid, config: RunConfig) -> dict[str, Any]:
    """What the fleet reports, for JSON; `error` where too few answered. Raises VicinalError."""
    if config.plan:
        return measured_rounds(grid, config)
    recommender = read_deployment(Path(config.deployment))
    job = job_of(config, recommender)
    path = Path(config.result).with_suffix(".progress.jsonl")
    if not config.resume:
        path.unlink(missing_ok=True)
    sort_mail(grid)
    start = time.perf_counter(), time.process_time()
    with Ledger(path, asked_digest(job, recommender)) as ledger:
        strategy = VicinalStrategy(recommender, job, ledger=ledger, report=progress_line)
        strategy.start(grid)
        result = {
            **result_of(strategy),
            "seconds": time.perf_counter() - start[0],
            "server_processor_seconds": time.process_time() - start[1],
        }
        why = too_few(result, config.min_replies)
        if why is not None:
            return {"error": why, **result}
        if result["answered"] == result["users"]:
            ledger.finish()
        return result


def measured_rounds(grid: Grid, config: RunConfig) -> dict[str, Any]:
    """A result for each round and condition of the plan, until too few answer."""
    path, result = Path(config.plan), Path(config.result)
    plan, roster, found = read_plan(path), Roster(), list[dict[str, Any]]()
    ReportPrivacy.parse(config.report_privacy).of_rounds(min(len(e.asked) for e in plan.rounds))
    if config.fraction < 1:
        raise InputError("run config: fraction: the plan says who is asked in each round")
    files = [progress_file(result, each.number, condition) for each, condition in plan.askings]
    if not config.resume:
        for file in files:
            file.unlink(missing_ok=True)
    sort_mail(grid)
    for (planned, condition), file in zip(plan.askings, files, strict=True):
        folder = deployment_of(path, planned.number, condition)
        recommender = read_deployment(folder)
        if recommender.version.digest != planned.versions[condition]:
            raise InputError(f"{path}: round {planned.number} has another version: prepare anew")
        tuned = plan.tuned and condition == "defended"
        job = job_of(config, recommender, folder, tuned=tuned)
        asked = hashlib.sha256((plan.digest + asked_digest(job, recommender)).encode()).hexdigest()
        start = time.perf_counter()
        with Ledger(file, asked) as ledger:
            strategy = VicinalStrategy(
                recommender,
                job,
                ledger=ledger,
                roster=roster,
                wanted=planned.asked,
                name=f"{planned.number}-{condition}/",
                report=_of_round(planned.number, len(plan.rounds)),
            )
            strategy.start(grid, evaluate_config=ConfigRecord({ROUND: planned.number}))
        one = {
            "round": planned.number,
            "condition": condition,
            **result_of(strategy),
            "seconds": time.perf_counter() - start,
        }
        found.append(one)
        why = too_few(one, min(config.min_replies, len(planned.asked)))
        if why is not None:
            error = f"round {planned.number}, {condition}: {why}"
            return {"error": error, "broken_off": one["broken_off"], "rounds": found}
    for file in files:
        file.unlink(missing_ok=True)
    return {"plan": plan.digest, "clients": plan.clients, "broken_off": None, "rounds": found}


def job_of(
    config: RunConfig,
    recommender: Recommender,
    deployment: Path | None = None,
    *,
    tuned: bool = True,
) -> FleetJob:
    """Of the run config's deployment, unless another is named. Raises InputError."""
    # The run config names no margin, which few users lower; k it names, and is refused.
    asked = config.settings(recommender.version.manifest.model)
    settings = dataclasses.replace(asked, margin=capped(asked, recommender.user_count).margin)
    settings = settings if tuned else untuned(settings)
    recommender.neighborhood(0, settings)
    privacy = ReportPrivacy.parse(config.report_privacy)
    if config.clients:
        privacy.of_clients(config.clients)
    folder, version, book = deployment or Path(config.deployment), recommender.version, b""
    if (path := folder / BOOK_FILE).exists():
        book = read_file(path, most=most_bytes(version.manifest.items))
        decode_book(book, version.manifest, version.digest)
    return FleetJob(
        preset=config.preset,
        settings=settings,
        list_length=config.list_length,
        watched=config.watched(recommender.ratings.item_count),
        clients=config.clients,
        fraction=config.fraction,
        min_clients=config.min_clients,
        accept_failures=config.accept_failures,
        under_way=config.under_way,
        reply_timeout=config.reply_timeout,
        shared_models=bool(config.models),
        privacy=privacy,
        source_digest=CLIENT_SOURCE_DIGEST,
        secret=deployed_secret(folder),
        book=book,
    )


def write_result(config: RunConfig, result: dict[str, Any]) -> None:
    """Raises OSError."""
    write_file(Path(config.result), _as_json({"run": config.run, **result}))


def _as_json(result: dict[str, Any]) -> bytes:
    return (json.dumps(result, indent=2) + "\n").encode()


def _of_round(number: int, rounds: int) -> Report:
    """Progress of a round, under a name of its own."""
    name = f"round-{number}-of-{rounds}"
    return lambda what, done, total: progress_line(f"{what}-{name}", done, total)


def progress_line(what: str, done: int, total: int) -> None:
    """Said in the run's log."""
    # Flower mirrors what a server app writes to stdout into the run's log.
    sys.stdout.write(f"{PROGRESS_MARK} {what} {done}/{total}\n")
    sys.stdout.flush()
