"""The server app of `flwr run`: it prepares what the run config does not name, and serves a fleet.

Without a `deployment` it makes one: ratings, an attack on them, a model, and a device file for each
client, in a folder of this run below Flower's own. Clients that are told of no device file find
theirs there, if they are on the same machine (sims.fleet.preparation). With a `deployment` it is
server.flower_app.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel, ConfigDict, Field

import server.flower_app
from common.errors import InputError, VicinalError
from common.threads import limit_threads
from common.wire.fleet import prepared_folder
from server.data.datasets import is_at_hand
from server.fleet.run_config import RunConfig, checked
from sims.fleet.log import measures_line, tell
from sims.fleet.own_files import private_folder

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
    if config.deployment:
        context.run_config = run_config
        server.flower_app.main(grid, context)
    else:
        with private_folder(folder):
            # Loads what trains, which nobody else needs.
            from sims.fleet.preparation import prepared_files  # noqa: PLC0415

            run_config |= prepared_files(
                folder,
                dataset=preparation.chosen(),
                model=preparation.model,
                attack=preparation.attack,
                seed=preparation.seed,
                config=config,
                clients=clients,
            )
            context.run_config = run_config
            server.flower_app.main(grid, context)
    tell(summary(json.loads(result.read_bytes()), result))


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
    found = measures_line(result["hit_ratio"], result["accuracy"], result["list_length"])
    return (
        f"defended: {found}, {result['users']} users on {result['clients']} clients; "
        f"the result is in {path}"
    )
