"""A fleet in a deployment of Flower on this machine, and its tally beside that of one process."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.errors import VicinalError
from common.ranking import Counts
from common.report_privacy import OPEN, ReportPrivacy
from common.vicinal.settings import VicinalSettings
from common.wire.fleet import partition_file_name
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Prepared
from sims.evaluation.measuring import EvaluationSetup, measure_here
from sims.fleet.deployment import Deployment, node_config
from sims.fleet.run import CHECKOUT, ShownLines, checked_result, write_files
from sims.processes.marked import interruptible
from sims.progress import Report

# Of a fleet each user is answered in one way, so the last three of Counts say nothing.
COMPARED: Final = ("eligible", "hits", "users", "user_hits", "liked", "liked_hits")


def run_deployed(
    folder: Path,
    prepared: Prepared,
    recommender: Recommender,
    *,
    nodes: int,
    preset: str,
    settings: VicinalSettings,
    report: Report,
    stock: bool = False,
    privacy: ReportPrivacy = OPEN,
    checkout: Path = CHECKOUT,
) -> dict[str, Any]:
    """What the server app counted, after every user was answered by one of `nodes` SuperNodes.

    `folder` keeps the fleet's files and the logs, and is one run's at a time
    (sims.processes.lock). Raises InputError, and VicinalError when the
    run fails. Whatever happens, no process is left.
    """
    # Every node has to answer for all of its users, in a run of its own.
    options: dict[str, int | bool | str] = {
        "min-replies": 0,
        "resume": False,
        "report-privacy": str(privacy),
    }
    files = write_files(folder, prepared, recommender, nodes, preset, settings, options)
    files.result.unlink(missing_ok=True)
    configs = [
        node_config(node, nodes, files.folder / "devices" / partition_file_name(node, nodes))
        for node in range(nodes)
    ]
    report("recommend", 0, recommender.user_count)
    with (
        interruptible(),
        Deployment(checkout, files.folder, configs, stock=stock) as deployment,
    ):
        deployment.run(files.run_config, ShownLines(report))
    asked = {
        "run": files.run,
        "version": recommender.version.digest,
        "clients": nodes,
        "users": recommender.user_count,
        "preset": preset,
    }
    return checked_result(files.result, asked, deployment.log)


def counts_here(prepared: Prepared, recommender: Recommender, settings: VicinalSettings) -> Counts:
    """What the same users count when this process answers for all of them."""
    setup = EvaluationSetup(
        {"poisoned": recommender},
        prepared.local,
        settings,
        prepared.watched,
        prepared.experiment.list_length,
    )
    everybody = np.arange(prepared.user_count)
    return measure_here(setup, ["defended"], everybody)["defended"].counts


def require_equal(result: dict[str, Any], here: Counts) -> None:
    """Raises VicinalError naming the counts in which a fleet and one process differ."""
    expected = json.loads(json.dumps(asdict(here)))
    differing = [name for name in COMPARED if result["counts"].get(name) != expected[name]]
    if differing:
        told = "; ".join(
            f"{name} {result['counts'].get(name)}, not {expected[name]}" for name in differing
        )
        raise VicinalError(f"the fleet's tally is not that of one process: {told}")
