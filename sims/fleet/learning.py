"""A training in a fleet of Flower's simulation: from ratings to the same model as in one process.

    FOLDER/learning.json                what is trained
    FOLDER/accounts.safetensors         all ratings, for who controls the malicious clients
    FOLDER/devices/P-of-N.safetensors   client P's users, fakes among them
    FOLDER/start.safetensors            of one that is a part: who is there, what it goes on from
    FOLDER/learned.safetensors          what came of it

Fakes are users of clients as everybody: without an update attack they train on their ratings. What
an update attack controls is sent by no client: one attacker, beside the server app, answers for all
of it, since it is to see what the honest clients of the round sent.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import tomli_w
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.numpy import save

from client.stores.ratings import LocalRatings, read_local_ratings, write_local_ratings
from common.errors import InputError, VicinalError
from common.federated import ATTACK, TABLE, VECTOR, Table, Update, first_rows, stream
from common.files import make_folder, read_file, stored_secret, write_file
from common.ratings import RatingMatrix
from common.tables import read_tables
from common.wire.fleet import partition_file_name
from server.federated.settings import Federated
from server.versions.files import DEVICES_FILE
from sims.attacks.options import Value
from sims.federated.attacker import Attacker, Bound
from sims.federated.model import Asked, FleetTraining, Trainer
from sims.federated.training import Stage, Trained
from sims.fleet.files import FleetFiles, require_clients
from sims.fleet.resources import Resources
from sims.fleet.run import CHECKOUT, checked_result, run_app
from sims.progress import Report

if TYPE_CHECKING:
    from flwr.serverapp import Grid

LEARNING_FILE: Final = "learning.json"
ACCOUNTS_FILE: Final = "accounts.safetensors"
LEARNED_FILE: Final = "learned.safetensors"
START_FILE: Final = "start.safetensors"
MAX_BYTES: Final = 1 << 20
MAX_LEARNED_BYTES: Final = 4 << 30


class Learning(BaseModel):
    """What is trained: the fields of sims.federated.model.Asked, but for the ratings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Federated
    update_attack: str
    options: dict[str, Value]
    users: int = Field(ge=1)
    items: int = Field(ge=1)
    real: int = Field(ge=1)
    targets: tuple[int, ...]
    seed: int = Field(ge=0)
    malicious: tuple[int, int]
    clients: int = Field(ge=1)
    part: bool = False
    begun: int = Field(default=0, ge=0)

    @property
    def digest(self) -> str:
        """Of all of it; the ratings are named by the run."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def trainer(folder: Path, *, resources: Resources, clients: int) -> Trainer:
    """Trains in Flower's simulation; `folder` keeps the files and the logs."""

    def train(asked: Asked, progress: Report) -> Trained:
        files = write_learning(folder, asked, clients, under_way=resources.under_way)
        path = folder / LEARNED_FILE
        path.unlink(missing_ok=True)
        log = run_app(files, clients, resources, progress, CHECKOUT)
        lost = checked_result(files.result, {"run": files.run, "clients": clients}, log)["lost"]
        if lost:
            # Of the same name in the store there is another, which has them all.
            raise VicinalError(
                f"messages of the training were lost, {len(lost)} of them, as {lost[0]}: "
                "run it again"
            )
        return read_learned(path, asked)

    return train


def write_learning(folder: Path, asked: Asked, clients: int, *, under_way: int = 0) -> FleetFiles:
    """Everything that the run needs. Raises InputError for more clients than users, OSError."""
    ratings, users = asked.ratings, asked.ratings.user_count
    require_clients(clients, users)
    make_folder(folder)
    files = FleetFiles.fresh(folder)
    learning = Learning(
        settings=asked.fleet.settings,
        update_attack=asked.fleet.update_attack,
        options=dict(asked.fleet.options),
        users=users,
        items=ratings.item_count,
        real=asked.real,
        targets=asked.targets,
        seed=asked.seed,
        malicious=(asked.malicious.start, asked.malicious.stop),
        clients=clients,
        part=asked.stage is not None,
        begun=0 if asked.stage is None else asked.stage.rounds,
    )
    if asked.stage is not None:
        write_file(files.folder / START_FILE, save(_start_tables(asked.stage)))
    write_file(files.folder / LEARNING_FILE, learning.model_dump_json(indent=1).encode())
    secret = stored_secret(files.folder / DEVICES_FILE)
    nothing = np.full(users, -1, dtype=np.int32)
    accounts = LocalRatings(ratings, nothing, np.zeros(users, dtype=bool)).with_keys(secret)
    write_local_ratings(files.folder / ACCOUNTS_FILE, accounts)
    for client in range(clients):
        path = files.folder / "devices" / partition_file_name(client, clients)
        write_local_ratings(path, accounts.of(range(client, users, clients)))
    config = {
        "run": files.run,
        "learning": str(files.folder / LEARNING_FILE),
        "learning-seed": asked.seed,
        "device-ratings": str(files.folder / "devices"),
        "result": str(files.result),
        "clients": clients,
        "under-way": under_way,
    }
    write_file(files.run_config, tomli_w.dumps(config).encode())
    return files


def read_learning(path: Path) -> Learning:
    """Raises InputError for what is none."""
    try:
        return Learning.model_validate_json(read_file(path, most=MAX_BYTES))
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path}: no training in a fleet; `vicinal simulate --train federated` writes one"
        ) from error


def _start_tables(stage: Stage) -> dict[str, NDArray[Any]]:
    tables: dict[str, NDArray[Any]] = {"present": np.array(stage.present, dtype=np.int64)}
    if stage.before is not None:
        tables |= {"items": stage.before.items, "users": stage.before.users}
    return tables


def read_start(path: Path, learning: Learning) -> Stage:
    """Raises InputError for what is none, or of another training."""
    try:
        tables = read_tables(read_file(path, most=MAX_LEARNED_BYTES), str(path))
        present, before = tables["present"], None
        if len(tables) > 1:
            before = Trained(tables["items"], tables["users"])
    except (OSError, KeyError) as error:
        raise InputError(f"{path}: it is not the start of a training: prepare anew") from error
    width, ascending = learning.settings.width, (np.diff(present) > 0).all()
    fits = before is None or (
        before.items.shape == (learning.items, width)
        and before.users.shape[1:] == (width,)
        and len(before.users) <= learning.users
    )
    if not (
        fits and ascending and len(present) and 0 <= present[0] <= present[-1] < learning.users
    ):
        raise InputError(f"{path}: it is of another training: prepare anew")
    return Stage(tuple(present.tolist()), before, learning.begun)


def read_learned(path: Path, asked: Asked) -> Trained:
    """Raises VicinalError for what is none, or not of these ratings."""
    try:
        tables = read_tables(read_file(path, most=MAX_LEARNED_BYTES), str(path))
        found = Trained(tables["items"], tables["users"])
    except (OSError, InputError, KeyError) as error:
        raise VicinalError(f"{path}: the fleet trained nothing") from error
    width = asked.fleet.settings.width
    shapes = found.items.shape, found.users.shape
    if shapes != ((asked.ratings.item_count, width), (asked.ratings.user_count, width)):
        raise VicinalError(f"{path}: it is of other ratings")
    return found


@final
class Controlled:
    """Malicious clients of a fleet, and who controls them (server.fleet.learning.Adversary)."""

    def __init__(self, attacker: Attacker, users: range, *, seed: int, row_norm: float) -> None:
        self.users = frozenset(users)
        self._attacker, self._seed, self._row_norm = attacker, seed, row_norm

    def updates(
        self, number: int, table: Table, asked: Sequence[int], honest: Sequence[Update]
    ) -> dict[int, Update]:
        """As train_in_fleet has it."""
        if not asked:
            return {}
        made = self._attacker.updates(
            table,
            len(asked),
            Bound.of(honest, self._row_norm),
            rng=stream(self._seed, ATTACK, number),
        )
        return dict(zip(asked, made, strict=True))


def learn(
    grid: "Grid",
    path: Path,
    *,
    source_digest: str,
    timeout: float,
    under_way: int,
    report: Report,
) -> dict[str, Any]:
    """The server app's part: train, write what came of it beside `path`, and say so, for JSON.

    Raises InputError, VicinalError, OSError.
    """
    from server.fleet.learning import LearningStrategy  # noqa: PLC0415 - needs Flower

    learning = read_learning(path)
    settings = learning.settings
    asked = _asked(learning, read_local_ratings(path.parent / ACCOUNTS_FILE).train)
    stage = Stage(tuple(range(learning.users)))
    if learning.part:
        stage = read_start(path.parent / START_FILE, learning)
    first = _first(learning, stage)
    attacker, controlled = asked.attacker(), None
    if attacker is not None:
        controlled = Controlled(
            attacker, asked.malicious, seed=learning.seed, row_norm=settings.row_norm
        )
    strategy = LearningStrategy(
        settings,
        first.items.copy(),
        users=learning.users,
        clients=learning.clients,
        seed=learning.seed,
        source_digest=source_digest,
        adversary=controlled,
        present=stage.present,
        vectors=None if stage.before is None else dict(enumerate(stage.before.users)),
        begun=stage.rounds,
        report=report,
    )
    strategy.learn(grid, timeout=timeout, under_way=under_way)
    vectors = first.users
    for user, vector in strategy.vectors.items():
        vectors[user] = vector
    tables = {"items": strategy.table, "users": vectors}
    write_file(path.parent / LEARNED_FILE, save(tables))
    return {"learning": learning.digest, "clients": learning.clients, "lost": strategy.lost}


def _first(learning: Learning, stage: Stage) -> Trained:
    """What train_in_fleet begins with."""
    seed, width = learning.seed, learning.settings.width
    rows = [first_rows(1, width, rng=stream(seed, VECTOR, user)) for user in range(learning.users)]
    items = first_rows(learning.items, width, rng=stream(seed, TABLE))
    users = np.concatenate(rows)
    if stage.before is not None:
        items = stage.before.items
        users[: len(stage.before.users)] = stage.before.users
    return Trained(items, users)


def _asked(learning: Learning, ratings: RatingMatrix) -> Asked:
    if (ratings.user_count, ratings.item_count) != (learning.users, learning.items):
        raise InputError("learning: the ratings are not those of the training")
    fleet = FleetTraining(learning.settings, learning.update_attack, learning.options)
    return Asked(
        fleet,
        ratings,
        learning.real,
        learning.targets,
        learning.seed,
        range(*learning.malicious),
    )
