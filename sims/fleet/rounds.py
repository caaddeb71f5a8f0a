"""Rounds of a fleet: the server trains again in each, and the clients of it are asked.

Every version is trained before the first client is asked, for no answer changes a training: the
plain model from the version of the round before (server.preparing.warm_started), a robust one
anew. What a plan says is then asked of Flower's clients (sims.fleet.run) or answered here, from
the same files and by the same code.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from client.device import answer
from client.stores.ratings import read_local_ratings, write_local_ratings
from common.errors import InputError
from common.files import make_folder, remove_folder, stored_secret, write_file
from common.models import IMPORTED
from common.ranking import Counts
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings, capped, untuned
from common.wire.fleet import partition_file_name, round_folder
from server.baselines import UNDEFENDED
from server.fleet.ledger import Entry, Ledger
from server.fleet.plan import (
    PLAN_FILE,
    Condition,
    Plan,
    PlannedRound,
    deployment_of,
    progress_file,
)
from server.model_store import ModelStore, StoredModel, TrainedModel, tables_digest, user_tables
from server.preparing import trained, warm_started
from server.recommending.recommender import Recommender
from server.training.methods import Robust
from server.versions.deployment import read_deployment, write_deployment
from server.versions.files import DEVICES_FILE
from sims.evaluation.cell import Cell
from sims.evaluation.experiment import Prepared
from sims.fleet.files import FleetFiles, keep_model, write_run_config
from sims.fleet.scenario import Scenario
from sims.fleet.world import Scene, World
from sims.processes.pools import in_processes
from sims.progress import Report, counter, quiet

_DEFENDED: Final = "defended"


@dataclass(frozen=True)
class Rounds:
    """A scenario with all of its versions trained and its files written.

    scenes    what the plan's rounds are made of
    settings  of the vicinal defense, in every round
    """

    files: FleetFiles
    plan: Plan
    scenes: "tuple[Told, ...]"
    settings: VicinalSettings
    watched: tuple[int, ...]
    list_length: int

    @property
    def path(self) -> Path:
        return self.files.folder / PLAN_FILE


@dataclass(frozen=True)
class Told:
    """What is told of a scene; `warm` says which versions went on from the one before."""

    number: int
    present: int
    asked: int
    appeared: int
    left: int
    ratings: int
    arrived: int
    fakes: int
    warm: Mapping[Condition, bool]


def require_rounds(cell: Cell) -> None:
    """Raises InputError for what cannot be trained again and again."""
    if cell.release == "book":
        raise InputError("--rounds sends rows: leave out --release book")
    experiment = cell.experiment
    if experiment.model in UNDEFENDED or experiment.model.startswith(IMPORTED):
        raise InputError(f"rounds train in each: {experiment.model} is not trained here")
    if experiment.fleet is not None:
        raise InputError("rounds train in one place: leave out --train federated or --rounds")


def prepare_rounds(
    folder: Path,
    prepared: Prepared,
    cell: Cell,
    store: ModelStore,
    scenario: Scenario,
    *,
    clients: int,
    fraction: float = 1.0,
    options: Mapping[str, int | bool | str] | None = None,
    progress: Report = quiet,
) -> Rounds:
    """Train every round's versions, and write what its clients need.

    Raises InputError, VicinalError when training diverges, OSError.
    """
    require_rounds(cell)
    world = World(prepared, scenario, clients=clients, fraction=fraction)
    make_folder(folder)
    files = FleetFiles.fresh(folder)
    for name in ("rounds", "devices"):
        remove_folder(files.folder / name)
        make_folder(files.folder / name)
    secret = stored_secret(files.folder / "deployment" / DEVICES_FILE)
    planned, told, fewest = list[PlannedRound](), list[Told](), prepared.user_count
    before: Recommender | None = None
    for scene in world.scenes(progress):
        progress("train rounds", scene.number - 1, scenario.rounds)
        models, warm = _models(prepared, cell.defense.robust, store, scene, before)
        # Who trains does not know who is a fake: all accounts keep their rows.
        before, ratings = None, scene.ratings
        if scenario.retrain == "warm":
            before = Recommender(models["undefended"].stored, ratings, ratings.user_count)
        for condition, model in models.items():
            fewest = min(fewest, model.neighbors)
            place = deployment_of(files.folder / PLAN_FILE, scene.number, condition)
            write_deployment(place, model, secret)
            keep_model(files, model)
        _write_devices(files.folder / "devices", world, scene, secret)
        versions = {condition: model.version.digest for condition, model in models.items()}
        planned.append(
            PlannedRound(number=scene.number, asked=list(scene.asked), versions=versions)
        )
        told.append(_told(scene, warm))
    progress("train rounds", scenario.rounds, scenario.rounds)
    plan = Plan(clients=clients, tuned=cell.defense.rvd, rounds=planned)
    write_file(files.folder / PLAN_FILE, plan.model_dump_json(indent=1).encode())
    settings = _settings(cell, prepared.user_count, fewest)
    first = deployment_of(files.folder / PLAN_FILE, 1, _DEFENDED)
    write_run_config(
        files,
        deployment=first,
        clients=clients,
        preset=cell.preset,
        settings=settings,
        watched=prepared.watched,
        list_length=cell.experiment.list_length,
        options={**(options or {}), "plan": str(files.folder / PLAN_FILE)},
    )
    return Rounds(files, plan, tuple(told), settings, prepared.watched, cell.experiment.list_length)


def _settings(cell: Cell, users: int, neighbors: int) -> VicinalSettings:
    """With k of at most whom there is in the emptiest round, and the margin of all users."""
    margin = capped(cell.settings, users).margin
    return dataclasses.replace(capped(cell.settings, neighbors), margin=margin)


def _models(
    prepared: Prepared,
    robust: Robust | None,
    store: ModelStore,
    scene: Scene,
    before: Recommender | None,
) -> tuple[dict[Condition, Recommender], dict[Condition, bool]]:
    """A round's versions by condition, and whether each went on from the plain one before."""
    plain, warm = prepared.training(), False
    ratings = scene.ratings
    if before is not None and plain.ranking is None:
        model = warm_started(
            before,
            ratings,
            ratings.user_count,
            dataset=prepared.experiment.dataset,
            seed=prepared.experiment.seed,
        )
        warm = True
    else:
        model = _of(trained(ratings, plain, store))
    undefended = _kept(model, store, scene, ratings, prepared.user_count)
    if robust is None:
        return {"undefended": undefended, "defended": undefended}, dict.fromkeys(
            ("undefended", "defended"), warm
        )
    stored = trained(ratings, prepared.training(robust), store)
    defended = _kept(_of(stored), store, scene, ratings, prepared.user_count)
    return {"undefended": undefended, "defended": defended}, {"undefended": warm, "defended": False}


def _of(stored: StoredModel) -> TrainedModel:
    return TrainedModel(
        stored.version.manifest,
        stored.version.parameters,
        stored.user_parameters,
        stored.left_out,
    )


def _kept(
    model: TrainedModel, store: ModelStore, scene: Scene, ratings: RatingMatrix, users: int
) -> Recommender:
    """A version in which who has rated nothing yet is nobody's neighbor."""
    out = np.union1d(model.left_out, scene.unseen).astype(np.int64)
    named = f"{model.manifest.training_digest} without {out.tolist()}"
    manifest = dataclasses.replace(
        model.manifest,
        training_digest=hashlib.sha256(named.encode()).hexdigest(),
        user_digest=tables_digest(user_tables(model.user_parameters, out)),
    )
    kept = TrainedModel(manifest, model.shared_parameters, model.user_parameters, out)
    return Recommender(store.save(kept), ratings, users)


def _write_devices(folder: Path, world: World, scene: Scene, secret: bytes) -> None:
    local = world.local(scene)
    for client in scene.asked:
        path = round_folder(folder, scene.number) / partition_file_name(client, world.clients)
        write_local_ratings(path, local.of(world.users_of(client)).with_keys(secret))


def _told(scene: Scene, warm: Mapping[Condition, bool]) -> Told:
    return Told(
        number=scene.number,
        present=len(scene.present),
        asked=len(scene.asked),
        appeared=scene.appeared,
        left=scene.left,
        ratings=len(scene.known),
        arrived=scene.arrived,
        fakes=0 if scene.fakes is None else scene.fakes.ratings.user_count,
        warm=warm,
    )


# Counts of each client, by round and condition.
Tallies = dict[tuple[int, Condition], dict[int, Counts]]


def answered_here(
    rounds: Rounds, *, processes: int | None = None, resume: bool = True, report: Report = quiet
) -> Tallies:
    """What the plan's clients count, answered in processes of this program.

    It goes on where a run of the same plan was broken off. Raises OSError.
    """
    askings = list(rounds.plan.askings)
    asked = hashlib.sha256(
        repr((rounds.plan.digest, rounds.settings, rounds.watched, rounds.list_length)).encode()
    ).hexdigest()
    result = rounds.files.folder / "here.json"
    files = [progress_file(result, each.number, condition) for each, condition in askings]
    if not resume:
        for file in files:
            file.unlink(missing_ok=True)
    advance = counter(report, "answer rounds", sum(len(each.asked) for each, _ in askings))
    advance(0)
    with ExitStack() as stack:
        ledgers = [stack.enter_context(Ledger(file, asked)) for file in files]

        def arrived(found: tuple[int, Entry]) -> None:
            place, entry = found
            ledgers[place].add(entry)
            advance(1)

        calls = list[tuple[Any, ...]]()
        for place, ((planned, condition), ledger) in enumerate(zip(askings, ledgers, strict=True)):
            counted = ledger.counted(planned.number)
            for client in planned.asked:
                if client in counted:  # its first user
                    advance(1)
                else:
                    calls.append((rounds, place, planned.number, condition, client))
        if processes == 1:
            for call in calls:
                arrived(_answered(*call))
        elif calls:
            in_processes(_answered, calls, processes=processes, arrived=arrived)
        tallies: Tallies = {
            (planned.number, condition): {
                client: ledger.total(planned.number, len(rounds.watched), client)
                for client in planned.asked
            }
            for (planned, condition), ledger in zip(askings, ledgers, strict=True)
        }
        for ledger in ledgers:
            ledger.finish()
    return tallies


def _answered(
    rounds: Rounds, place: int, number: int, condition: Condition, client: int
) -> tuple[int, Entry]:
    """One client's counts, from the files that it would have."""
    recommender = _deployed(deployment_of(rounds.path, number, condition))
    devices = round_folder(rounds.files.folder / "devices", number)
    local = read_local_ratings(devices / partition_file_name(client, rounds.plan.clients))
    tuned = rounds.plan.tuned and condition == _DEFENDED
    settings = rounds.settings if tuned else untuned(rounds.settings)
    users = range(client, recommender.user_count, rounds.plan.clients)
    counts = Counts.none(len(rounds.watched))
    for user in users:
        counts += answer(
            recommender.version,
            recommender.neighborhood(user, settings),
            settings,
            rated=local.items_of(user),
            held_out=local.held_out_of(user),
            watched=rounds.watched,
            list_length=rounds.list_length,
        ).counts
    return place, Entry(round=number, partition=client, users=[*users], counts=counts)


@lru_cache(maxsize=2)
def _deployed(folder: Path) -> Recommender:
    return read_deployment(folder)


def tallies_of(result: Mapping[str, Any]) -> Tallies:
    """The same of the server app's result."""
    return {
        (one["round"], one["condition"]): {
            part["partition"]: _counts(part["counts"]) for part in one["partitions"]
        }
        for one in result["rounds"]
    }


def _counts(told: Mapping[str, Any]) -> Counts:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told.items()
    }
    return Counts(**values)
