"""Fleets of client apps in this process, for tests of the server app."""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.task_identity import TaskIdentity

import client.flower_app
import server.flower_app
from client.device import answer
from common.ranking import Counts
from common.vicinal.book import ItemBook
from common.vicinal.settings import VicinalSettings, capped, preset
from common.wire.fleet import PAYLOAD
from server.fleet.accounts import Accounts
from server.fleet.delivery import SteadyGrid
from server.fleet.learning import Addressed
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.fleet.files import FleetFiles, write_fleet_files
from tests.support.in_process_grid import Fault, InProcessGrid

CLIENTS = 12
SETTINGS = {
    "paper": preset("paper"),
    "vicinal": capped(preset("vicinal", neighbors=12, steps=4, min_support=2), 48),
}


class Fleet(NamedTuple):
    prepared: Prepared
    recommender: Recommender


def make_fleet(folder: Path) -> Fleet:
    """48 users on synthetic ratings; the model lies in `folder`."""
    prepared = prepare(Experiment(dataset="synthetic:48x40", list_length=10))
    with ModelStore(folder) as store:
        return Fleet(prepared, prepared.train(store))


def write_files(
    folder: Path,
    fleet: Fleet,
    name: str = "vicinal",
    settings: VicinalSettings | None = None,
    book: ItemBook | None = None,
) -> FleetFiles:
    return write_fleet_files(
        folder,
        fleet.recommender,
        fleet.prepared.local,
        clients=CLIENTS,
        preset=name,
        settings=settings or SETTINGS[name],
        watched=fleet.prepared.watched,
        list_length=10,
        book=book,
    )


def run_config(files: FleetFiles) -> dict[str, bool | float | int | str]:
    """With a model of its own for each client, as where each has a machine."""
    return {**tomllib.loads(files.run_config.read_text()), "models": ""}


def serve(
    grid: InProcessGrid,
    config: dict[str, bool | float | int | str],
    app: ServerApp = server.flower_app.app,
) -> None:
    """Run the server app to its end, as Flower calls it."""
    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=config)
    with task_identity():
        app(grid, context)


def steady(grid: Grid) -> SteadyGrid:
    """Whose messages are for their addressees alone, and all go at once."""
    return SteadyGrid(grid, Addressed(), under_way=0, accounts=Accounts())


@contextmanager
def task_identity() -> Iterator[None]:
    """What messages need outside a run of Flower's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        yield


def run(
    files: FleetFiles,
    faults: dict[int, Fault] | None = None,
    changes: Mapping[str, float | str] | None = None,
    app: ClientApp = client.flower_app.app,
) -> tuple[InProcessGrid, dict[str, Any]]:
    """The grid and the result of a run whose clients reply at once or never."""
    config = {**run_config(files), "reply-timeout": 0.3, **(changes or {})}
    grid = InProcessGrid(app, CLIENTS, config, faults)
    serve(grid, config)
    return grid, json.loads(files.result.read_bytes())


def in_process(
    fleet: Fleet, settings: VicinalSettings, users: Sequence[int] | None = None
) -> Counts:
    local, watched = fleet.prepared.local, fleet.prepared.watched
    counts = Counts.none(len(watched))
    for user in range(fleet.recommender.user_count) if users is None else users:
        counts += answer(
            fleet.recommender.version,
            fleet.recommender.neighborhood(user, settings),
            settings,
            rated=local.train.items_of(user),
            held_out=local.held_out_of(user),
            watched=watched,
            list_length=10,
        ).counts
    return counts


def payload(message: Message) -> bytes:
    value = message.content.config_records[PAYLOAD][PAYLOAD]
    assert isinstance(value, bytes)
    return value
