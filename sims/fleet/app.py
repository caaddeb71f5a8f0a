"""The server app of `flwr run`: it prepares what the run config does not name, and serves a fleet.

Without a `deployment` it makes one: ratings, an attack on them, a model, and a device file for each
client, in a folder of this run below Flower's own. Clients that are told of no device file find
theirs there, if they are on the same machine (sims.fleet.preparation). With a `deployment` it is
server.flower_app.
"""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import BaseModel, ConfigDict, Field

import server.flower_app
from common.errors import InputError, VicinalError
from common.names import unknown
from common.report_privacy import ReportPrivacy
from common.threads import limit_threads
from common.wire.fleet import prepared_folder
from server.data.datasets import is_at_hand
from server.fleet.run_config import RunConfig, checked, keys_of
from server.flower_app import progress_line
from sims.fleet.log import measures_line, tell
from sims.fleet.own_files import private_folder
from sims.fleet.scenario import Scenario

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
    folder = prepared_folder(context.run_id)
    result = Path(str(context.run_config.get("result") or folder / "result.json"))
    with server.flower_app.marked({**context.run_config, "result": str(result)}):
        run(grid, context, folder, result)


def run(grid: Grid, context: Context, folder: Path, result: Path) -> None:
    """Prepare what is to be prepared, below `folder`, and serve. Raises VicinalError, OSError."""
    run_config = {**context.run_config, "result": str(result)}
    require_keys(run_config)
    preparation, scenario = Preparation.taken(run_config), Scenario.taken(run_config)
    config = checked(RunConfig, run_config)
    if context.run_config.get("result"):
        server.flower_app.require_writable(result)
    if config.learning:
        trained(grid, config)
        return
    if config.deployment and scenario.rounds > 1:
        raise InputError(
            "run config: rounds are made where no deployment is named: leave it out, or prepare "
            "with `vicinal simulate --rounds`"
        )
    clients = config.clients
    if not clients or not config.deployment:
        clients = fleet_size(grid, config.reply_timeout)
    if config.clients not in (0, clients):
        # Each client's ratings are made for the share that it knows to be its own.
        raise InputError(
            f"run config: clients: {clients} are connected, not {config.clients}: leave it out"
        )
    run_config["clients"] = clients
    ReportPrivacy.parse(config.report_privacy).of_clients(clients)
    if config.deployment:
        context.run_config = run_config
        server.flower_app.main(grid, context)
    else:
        with private_folder(folder):
            served(grid, context, run_config, preparation, scenario, folder)
    for line in summary(json.loads(result.read_bytes()), result):
        tell(line)


def require_keys(run_config: Mapping[str, Any]) -> None:
    """Raises InputError naming the first that nothing here reads, and what was meant."""
    keys = [key for kind in (RunConfig, Preparation, Scenario) for key in keys_of(kind)]
    for key in run_config:
        if key not in keys:
            raise unknown("key", key, keys, where="run config")


def trained(grid: Grid, config: RunConfig) -> None:
    """Train mf in the fleet, and ask nobody. Raises InputError, VicinalError, OSError."""
    # Who controls malicious clients may need torch.
    from sims.fleet.learning import learn  # noqa: PLC0415

    fleet_size(grid, config.reply_timeout, at_least=config.clients)
    found = learn(
        grid,
        Path(config.learning),
        source_digest=server.flower_app.CLIENT_SOURCE_DIGEST,
        timeout=config.reply_timeout,
        under_way=config.under_way,
        report=progress_line,
    )
    server.flower_app.write_result(config, found)
    tell(f"trained by {found['clients']} clients; {len(found['lost'])} messages were lost")


def served(
    grid: Grid,
    context: Context,
    run_config: dict[str, Any],
    preparation: Preparation,
    scenario: Scenario,
    folder: Path,
) -> None:
    """Prepare in a folder, and serve what was prepared. Raises VicinalError, OSError."""
    # Loads what trains, which nobody else needs.
    from sims.evaluation.experiment import Experiment  # noqa: PLC0415
    from sims.fleet.preparation import prepared_files, prepared_rounds  # noqa: PLC0415

    config, finish = checked(RunConfig, run_config), None
    experiment = Experiment(
        dataset=preparation.chosen(),
        model=preparation.model,
        attack=preparation.attack,
        seed=preparation.seed,
        list_length=config.list_length,
    )
    if scenario.rounds > 1:
        prepared = prepared_rounds(folder, experiment, scenario, config, run_config["clients"])
        run_config, finish = run_config | prepared.run_config, prepared.write_history
    else:
        run_config |= prepared_files(
            folder, experiment, config=config, clients=run_config["clients"]
        )
    context.run_config = run_config
    server.flower_app.main(grid, context)
    if finish is not None:
        finish(Path(config.result))


def fleet_size(grid: Grid, timeout: float, *, at_least: int = 1) -> int:
    """How many nodes are connected, once no more come. Raises VicinalError when too few do."""
    count, since = 0, time.monotonic()
    while True:
        now = len(list(grid.get_node_ids()))
        if now != count:
            count, since = now, time.monotonic()
        waited = time.monotonic() - since
        if count >= max(at_least, 1) and waited > SETTLED_SECONDS:
            return count
        if waited > timeout and count:
            raise VicinalError(
                f"{count} of {at_least} clients are connected after {timeout:g} s: start more"
            )
        if waited > timeout:
            raise VicinalError(f"no client is connected after {timeout:g} s: start some")
        time.sleep(_POLL_SECONDS)


def summary(result: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Lines for the log; of rounds one for each."""
    for one in result.get("rounds", [result]):
        found = measures_line(one["hit_ratio"], one["accuracy"], one["list_length"])
        name = one.get("condition", "defended")
        number = f"round {one['round']}, " if "round" in one else ""
        yield f"{number}{name}: {found}, {one['users']} users on {one['clients']} clients"
    yield f"the result is in {path}"
