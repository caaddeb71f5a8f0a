"""The server app of `flwr run`: it prepares what the run config does not name, and serves a fleet.

Without a `deployment` it makes one: ratings, an attack on them, a model, and a device file for each
client, in a folder of this run below Flower's own. Clients that are told of no device file find
theirs there, if they are on the same machine. With a `deployment` it is server.flower_app.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel, ConfigDict, Field

import server.flower_app
from common.errors import InputError, VicinalError
from common.files import make_folder
from common.threads import limit_threads
from common.vicinal.settings import capped
from common.wire.fleet import prepared_folder
from server.data.datasets import is_at_hand
from server.fleet.run_config import RunConfig, checked
from server.flower_app import PROGRESS_MARK
from server.model_store import ModelStore
from sims.evaluation.defenses import RVD, defense_named
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.measuring import EvaluationSetup, measure_here
from sims.fleet.files import write_fleet_files

# What is taken when nothing is named and the folder of VICINAL_DATA does not have the other.
SYNTHETIC: Final = "synthetic"
PREFERRED: Final = "ml-100k"
# Nodes that have come by then are the fleet, where nobody says how many there are.
SETTLED_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.1

app = ServerApp()


class Preparation(BaseModel):
    """What the server app prepares when the run config names no `deployment`."""

    model_config = ConfigDict(frozen=True)

    dataset: str = Field(
        default="",
        description="without a deployment: ratings to prepare one of; empty: ml-100k if the "
        "folder of VICINAL_DATA has it, else synthetic",
    )
    model: str = Field(default="mf", description="without a deployment: what is trained")
    attack: str = Field(default="mixrand", description="without a deployment: who poisons; or none")
    seed: int = Field(default=0, ge=0, description="without a deployment: of all that is drawn")

    @classmethod
    def taken(cls, run_config: dict[str, Any]) -> Self:
        """Its keys, taken out of a run config. Raises InputError naming the first wrong one."""
        given = {name: run_config.pop(name) for name in cls.model_fields if name in run_config}
        return checked(cls, given)

    def chosen(self) -> str:
        """The data set, which the environment may decide."""
        if self.dataset:
            return self.dataset
        return PREFERRED if is_at_hand(PREFERRED) else SYNTHETIC


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Raises VicinalError; Flower then marks the run as failed and its log has the reason."""
    limit_threads()
    run_config = dict(context.run_config)
    preparation = Preparation.taken(run_config)
    folder = prepared_folder(context.run_id)
    result = Path(str(run_config.get("result") or folder / "result.json"))
    run_config["result"] = str(result)
    config = checked(RunConfig, run_config)
    clients = config.clients
    if not clients or not config.deployment:
        clients = fleet_size(grid, config.reply_timeout)
    if config.clients not in (0, clients):
        # Each client's ratings are made for the share that it knows to be its own.
        raise InputError(
            f"run config: clients: {clients} are connected, not {config.clients}: leave it out"
        )
    run_config["clients"] = clients
    try:
        if not config.deployment:
            run_config |= prepared_files(folder, preparation, config, clients)
        context.run_config = run_config
        server.flower_app.main(grid, context)
    finally:
        # Ratings and keys; the result stays.
        for name in ("deployment", "devices", "store"):
            shutil.rmtree(folder / name, ignore_errors=True)
    tell(summary(json.loads(result.read_bytes()), result))


def prepared_files(
    folder: Path, preparation: Preparation, config: RunConfig, clients: int
) -> dict[str, bool | float | int | str]:
    """Write a fleet's files; the keys of the run config that name them and what is measured."""
    dataset = preparation.chosen()
    tell(f"no deployment is named, so one is made: {dataset}, attack {preparation.attack}")
    prepared = prepare(
        Experiment(
            dataset=dataset,
            model=preparation.model,
            attack=preparation.attack,
            seed=preparation.seed,
            list_length=config.list_length,
        )
    )
    asked = config.settings(preparation.model)
    settings = capped(asked, prepared.user_count)
    defense = defense_named(RVD, model=preparation.model, preset=config.preset)
    make_folder(folder)
    with ModelStore(folder / "store") as store:
        recommender = prepared.train(store, robust=defense.robust, progress=_report)
        watched = config.watched(prepared.poisoned.item_count) or prepared.watched
        files = write_fleet_files(
            folder,
            recommender,
            prepared.local,
            clients=clients,
            preset=config.preset,
            settings=settings,
            watched=watched,
            list_length=config.list_length,
        )
        # As `vicinal evaluate` has it: the plain training.
        setup = EvaluationSetup(
            {"poisoned": prepared.train(store, progress=_report)},
            prepared.local,
            settings,
            watched,
            config.list_length,
        )
        everybody = np.arange(prepared.user_count)
        plain = measure_here(setup, ["undefended"], everybody)["undefended"].counts
    tell(f"undefended: {_measures(plain.hit_ratio, plain.accuracy, config.list_length)}")
    return {
        "deployment": str(files.folder / "deployment"),
        "neighbors": settings.neighbors,
        "watched-items": " ".join(map(str, watched)),
    }


def fleet_size(grid: Grid, timeout: float) -> int:
    """How many nodes are connected, once no more come. Raises VicinalError when none does."""
    count, since = 0, time.monotonic()
    while True:
        now = len(list(grid.get_node_ids()))
        if now != count:
            count, since = now, time.monotonic()
        waited = time.monotonic() - since
        if count and waited > SETTLED_SECONDS:
            return count
        if waited > timeout:
            raise VicinalError(f"no client is connected after {timeout:g} s: start some")
        time.sleep(_POLL_SECONDS)


def summary(result: Mapping[str, Any], path: Path) -> str:
    """One line for the log."""
    found = _measures(result["hit_ratio"], result["accuracy"], result["list_length"])
    return (
        f"defended: {found}, {result['users']} users on {result['clients']} clients; "
        f"the result is in {path}"
    )


def _measures(hit_ratio: float, accuracy: float, length: int) -> str:
    return f"HR@{length} {hit_ratio:.3f}, accuracy@{length} {accuracy:.3f}"


def tell(line: str) -> None:
    """A line into the run's log, which Flower mirrors from stdout."""
    sys.stdout.write(f"vicinal: {line}\n")
    sys.stdout.flush()


def _report(what: str, done: int, total: int) -> None:
    if done in (0, total):
        sys.stdout.write(f"{PROGRESS_MARK} {what.replace(' ', '-')} {done}/{total}\n")
        sys.stdout.flush()
