"""Rounds of a fleet: the server trains again in each, and the clients of it are asked.

Every version is trained before the first client is asked, for no answer changes a training: the
plain model from the version of the round before (server.preparing.warm_started), or by the clients
that are there (sims.federated), a robust one anew. What a plan says is then asked of Flower's
clients (sims.fleet.run) or answered here, from the same files and by the same code
(sims.fleet.tallies).
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from client.stores.ratings import write_local_ratings
from common.errors import InputError
from common.files import make_folder, remove_folder, stored_secret, write_file
from common.models import IMPORTED
from common.ratings import RatingMatrix
from common.report_privacy import OPEN, ReportPrivacy
from common.vicinal.book import Release
from common.vicinal.settings import VicinalSettings, capped
from common.wire.book import encode_book
from common.wire.fleet import partition_file_name, round_folder
from server.baselines import UNDEFENDED
from server.fleet.plan import (
    CONDITIONS,
    PLAN_FILE,
    Condition,
    Plan,
    PlannedRound,
    deployment_of,
)
from server.model_store import ModelStore, StoredModel, TrainedModel, tables_digest, user_tables
from server.preparing import trained, warm_started
from server.recommending.book import BookRecommender
from server.recommending.recommender import Recommender
from server.training.methods import Robust
from server.versions.deployment import BOOK_FILE, write_deployment
from server.versions.files import DEVICES_FILE
from sims.evaluation.cell import Cell, book_key
from sims.evaluation.experiment import Prepared
from sims.federated.model import FleetTraining, Trainer
from sims.federated.training import Stage, Trained
from sims.fleet.files import FleetFiles, keep_model, write_run_config
from sims.fleet.scenario import Scenario
from sims.fleet.world import Scene, World
from sims.progress import Report, quiet

DEFENDED: Final = "defended"


@dataclass(frozen=True)
class Rounds:
    """A scenario with all of its versions trained and its files written.

    scenes    what the plan's rounds are made of
    settings  of the vicinal defense, in every round
    release   what defended devices are given: rows, or the round's book
    """

    files: FleetFiles
    plan: Plan
    scenes: "tuple[Told, ...]"
    settings: VicinalSettings
    watched: tuple[int, ...]
    list_length: int
    release: Release = "rows"

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
    experiment = cell.experiment
    if experiment.model in UNDEFENDED or experiment.model.startswith(IMPORTED):
        raise InputError(f"rounds train in each: {experiment.model} is not trained here")


def prepare_rounds(
    folder: Path,
    prepared: Prepared,
    cell: Cell,
    store: ModelStore,
    scenario: Scenario,
    *,
    clients: int,
    fraction: float = 1.0,
    privacy: ReportPrivacy = OPEN,
    trainer: Trainer | None = None,
    options: Mapping[str, int | bool | str] | None = None,
    progress: Report = quiet,
) -> Rounds:
    """Train every round's versions, and write what its clients need.

    privacy  what reports keep to themselves
    trainer  who trains where the fleet does; None: this process, to the same numbers

    Raises InputError, VicinalError when training diverges, OSError.
    """
    require_rounds(cell)
    world = World(prepared, scenario, clients=clients, fraction=fraction)
    privacy.of_rounds(world.fewest_asked)
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
        if cell.experiment.fleet is None:
            models, warm = _models(prepared, cell.defense.robust, store, scene, before)
        else:
            models, warm = _learned(prepared, store, scene, before, trainer, progress)
        # Who trains does not know who is a fake: all accounts keep their rows.
        before, ratings = None, scene.ratings
        if scenario.retrain == "warm":
            before = Recommender(models["undefended"].stored, ratings, ratings.user_count)
        for condition, model in models.items():
            fewest = min(fewest, model.neighbors)
            place = deployment_of(files.folder / PLAN_FILE, scene.number, condition)
            write_deployment(place, model, secret)
            if condition == DEFENDED and cell.release == "book":
                key = book_key(cell.experiment.seed)
                book = BookRecommender(model, cell.settings, key).book
                write_file(place / BOOK_FILE, encode_book(book, model.version.digest))
            keep_model(files, model)
        _write_devices(files.folder / "devices", world, scene, secret)
        versions = {condition: model.version.digest for condition, model in models.items()}
        planned.append(
            PlannedRound(number=scene.number, asked=list(scene.asked), versions=versions)
        )
        told.append(_told(scene, warm, cell.experiment.fleet))
    progress("train rounds", scenario.rounds, scenario.rounds)
    plan = Plan(clients=clients, tuned=cell.defense.rvd, rounds=planned)
    write_file(files.folder / PLAN_FILE, plan.model_dump_json(indent=1).encode())
    settings = _settings(cell, prepared.user_count, fewest)
    first = deployment_of(files.folder / PLAN_FILE, 1, DEFENDED)
    write_run_config(
        files,
        deployment=first,
        clients=clients,
        preset=cell.preset,
        settings=settings,
        watched=prepared.watched,
        list_length=cell.experiment.list_length,
        options={
            **(options or {}),
            "plan": str(files.folder / PLAN_FILE),
            "report-privacy": str(privacy),
        },
    )
    length = cell.experiment.list_length
    return Rounds(files, plan, tuple(told), settings, prepared.watched, length, cell.release)


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


def _learned(
    prepared: Prepared,
    store: ModelStore,
    scene: Scene,
    before: Recommender | None,
    trainer: Trainer | None,
    progress: Report,
) -> tuple[dict[Condition, Recommender], dict[Condition, bool]]:
    """The same of a version that the clients there have trained, fakes among them."""
    fleet, real, ratings = prepared.experiment.fleet, prepared.user_count, scene.ratings
    assert fleet is not None
    users = (user for client in scene.present for user in range(client, real, scene.clients))
    present = (*sorted(users), *range(real, ratings.user_count))
    stage = Stage(present)
    if before is not None:
        found = before.stored
        trained_before = Trained(
            np.asarray(found.version.parameters["item_embedding"], dtype=np.float32),
            found.user_parameters["user_embedding"],
        )
        stage = Stage(present, trained_before, (scene.number - 1) * fleet.settings.rounds)
    stored = (fleet if scene.attacked else fleet.clean).version(
        ratings,
        store,
        real=real,
        targets=prepared.watched,
        seed=prepared.experiment.seed,
        trainer=trainer,
        stage=stage,
        progress=progress,
    )
    model = _kept(_of(stored), store, scene, ratings, real)
    warm = dict[Condition, bool].fromkeys(CONDITIONS, before is not None)
    return {"undefended": model, "defended": model}, warm


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


def _told(scene: Scene, warm: Mapping[Condition, bool], fleet: FleetTraining | None) -> Told:
    fakes = 0 if scene.fakes is None else scene.fakes.ratings.user_count
    if fleet is not None and scene.attacked and not fakes:
        fakes = len(fleet.controlled(scene.known.user_count, scene.known.user_count))
    return Told(
        number=scene.number,
        present=len(scene.present),
        asked=len(scene.asked),
        appeared=scene.appeared,
        left=scene.left,
        ratings=len(scene.known),
        arrived=scene.arrived,
        fakes=fakes,
        warm=warm,
    )
