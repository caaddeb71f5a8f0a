"""Models that others trained: factors under a name, in a store of model versions.

    STORE/imported/NAME/RATINGS.safetensors    factors, scaled, with the ids of their rows, for the
                                               ratings of that digest
    STORE/imported/NAME/newest                 the digest of the ratings that came last

A name may stand for the same model trained on several ratings: with an attack's fakes among them,
or without what a study holds out. Other ratings get the one of the same ratings without their last
users, or else the newest: rows are found by ids, users who are new are folded in, items that are
new have zeros.

Shapes: U users, I items, d embedding width.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from common.errors import InputError
from common.files import write_file
from common.models import IMPORTED
from common.ratings import RatingMatrix, RatingScale
from common.tables import read_tables
from common.versions.version import Manifest, is_digest
from server.importing.arrays import checked_size
from server.importing.factors import Factors
from server.importing.fold_in import chosen, fold_in
from server.importing.matching import Match, ids_of, matched
from server.model_store import ModelStore, StoredModel, TrainedModel, tables_digest
from server.training.calibration import calibrated

FOLDER: Final = "imported"
NEWEST: Final = "newest"
MODEL: Final = "mf"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@final
@dataclass(frozen=True)
class Imported:
    """Factors of the users and items of some ratings; those of unknown ones are filled in.

    ratings_digest      of the ratings that they are of
    real                the first so many users are real, those after them an attack's fakes
    user_ids, item_ids  None where the ratings have none
    known_users         bool [U], who came with factors; known_items bool [I]
    users, items        float32 [U, d] and [I, d]
    """

    name: str
    ratings_digest: str
    scale: RatingScale
    real: int
    user_ids: tuple[str, ...] | None
    item_ids: tuple[str, ...] | None
    known_users: NDArray[np.bool_]
    known_items: NDArray[np.bool_]
    users: NDArray[np.float32]
    items: NDArray[np.float32]

    @property
    def whole(self) -> bool:
        """Whether all parts are tables of as many users and items, and of one width."""
        sides = (
            (self.users, self.known_users, self.user_ids),
            (self.items, self.known_items, self.item_ids),
        )
        return (
            self.users.shape[1:] == self.items.shape[1:]
            and 0 <= self.real <= len(self.users)
            and all(
                table.ndim == 2
                and known.shape == table.shape[:1]
                and (ids is None or len(ids) == len(table))
                for table, known, ids in sides
            )
        )

    def begins(self, ratings: RatingMatrix) -> bool:
        """Whether its ratings are those of the first users of these."""
        count = len(self.users)
        if ratings.user_count < count:
            return False
        return ratings.rows(np.arange(count)).digest() == self.ratings_digest


def require_name(name: str) -> str:
    """The name, which becomes that of a folder. Raises InputError for any other."""
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"name {name[:60]!r}: take letters, digits, dots, hyphens and underscores, at most 64"
        )
    return name


def bring_in(
    name: str, users: Factors, items: Factors, ratings: RatingMatrix, *, real: int
) -> tuple[Imported, Match, Match]:
    """Match factors to the ratings that they were trained on, and scale them.

    real  how many of the users are real; they come first

    A positive number times the factors leaves every ranking as it is (server.training.calibration).
    Raises InputError for factors that do not fit.
    """
    of_users, of_items = matched(users, ratings), matched(items, ratings)
    try:
        own, shared = calibrated(
            _filled(users.rows, of_users.rows), _filled(items.rows, of_items.rows), ratings
        )
    except InputError as error:
        raise InputError(
            f"{error}: check --user-ids and --item-ids; a model with a mean of its own needs "
            "--global-bias"
        ) from error
    own = _folded(own, of_users.known, ratings, shared)
    found = Imported(
        require_name(name),
        ratings.digest(),
        ratings.scale,
        real,
        ratings.user_ids,
        ratings.item_ids,
        of_users.known,
        of_items.known,
        own,
        shared,
    )
    return found, of_users, of_items


@final
@dataclass(frozen=True)
class ImportedModel:
    """What stands where a training does: the imported model of that name in a store."""

    name: str

    def version(self, ratings: RatingMatrix, store: ModelStore) -> StoredModel:
        """Its model version for some ratings, made where it is not there yet.

        Raises InputError for a name that is not there, and for ratings that it does not fit.
        """
        imported = read_import(store, self.name, ratings)
        text = f"imported {tables_digest(_tables(imported))} {ratings.digest()}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        return store.find(digest) or store.save(_trained(imported, ratings, digest))

    def notes(self, ratings: RatingMatrix, store: ModelStore) -> tuple[str, ...]:
        """What has to be known of that version: a line where it was trained on other ratings."""
        imported = read_import(store, self.name, ratings)
        shown = f"{IMPORTED}{self.name}"
        if imported.ratings_digest == ratings.digest():
            return ()
        more = ratings.user_count - len(imported.users)
        if imported.begins(ratings):
            return (
                f"{shown} was not trained on the last {more} of {ratings.user_count} users: they "
                "are folded in, so that they can be neighbors and change no item",
            )
        users, items = (_rows(imported, ratings, kind) for kind in ("user", "item"))
        counts = (
            f"{int((users < 0).sum())} of {len(users)} users are folded in, "
            f"{int((items < 0).sum())} of {len(items)} items have no factors"
        )
        return (
            f"{shown} was trained on other ratings than these, and may have seen what is held out "
            f"of them: {counts}",
        )


def imported_model(name: str) -> ImportedModel | None:
    """What a model's name `imported:NAME` stands for; None for any other name."""
    return ImportedModel(name.removeprefix(IMPORTED)) if name.startswith(IMPORTED) else None


def keep(imported: Imported, store: ModelStore) -> None:
    """Store it under its name, as the newest; the same ratings' earlier one is replaced.

    Raises OSError.
    """
    folder = store.folder / FOLDER / imported.name
    about = {
        "scale": [imported.scale.minimum, imported.scale.maximum, imported.scale.step],
        "real": imported.real,
        "user_ids": imported.user_ids,
        "item_ids": imported.item_ids,
    }
    tables: dict[str, NDArray[Any]] = {
        **_tables(imported),
        "known_users": imported.known_users.astype(np.uint8),
        "known_items": imported.known_items.astype(np.uint8),
        "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
    }
    write_file(folder / f"{imported.ratings_digest}.safetensors", save(tables))
    write_file(folder / NEWEST, imported.ratings_digest.encode())


def read_import(store: ModelStore, name: str, ratings: RatingMatrix) -> Imported:
    """The import of a name that fits some ratings best, as this module's docstring says.

    Raises InputError when there is none, or it is damaged.
    """
    folder = store.folder / FOLDER / require_name(name)
    if (folder / f"{ratings.digest()}.safetensors").is_file():
        return _read(folder, name, ratings.digest())
    try:
        newest = _read(folder, name, (folder / NEWEST).read_text(errors="replace"))
    except OSError:
        names = ", ".join(imported_names(store)) or "none"
        raise InputError(
            f"store {store.folder} has no imported model {name!r} (it has {names}): bring it in "
            "with `vicinal model import`"
        ) from None
    others = (_read(folder, name, path.stem) for path in imports_of(store, name))
    return next((each for each in others if each.begins(ratings)), newest)


def _read(folder: Path, name: str, digest: str) -> Imported:
    path = folder / f"{digest}.safetensors"
    damaged = f"{path}: damaged; import it again"
    if not is_digest(digest):
        raise InputError(damaged)
    checked_size(path)
    tables = read_tables(path.read_bytes(), str(path))
    try:
        about = json.loads(tables["about"].tobytes())
        user_ids, item_ids = (
            None if about[key] is None else tuple(map(str, about[key]))
            for key in ("user_ids", "item_ids")
        )
        found = Imported(
            name,
            digest,
            RatingScale(*about["scale"]),
            int(about["real"]),
            user_ids,
            item_ids,
            tables["known_users"].astype(bool),
            tables["known_items"].astype(bool),
            tables["user_embedding"],
            tables["item_embedding"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(damaged) from error
    if not found.whole:
        raise InputError(damaged)
    return found


def imported_names(store: ModelStore) -> list[str]:
    """What `imported:NAME` may name, in order."""
    folder = store.folder / FOLDER
    return sorted(path.parent.name for path in folder.glob(f"*/{NEWEST}"))


def imports_of(store: ModelStore, name: str) -> list[Path]:
    """The files of a name, one for each of the ratings that it was trained on."""
    return sorted((store.folder / FOLDER / name).glob("*.safetensors"))


def _trained(imported: Imported, ratings: RatingMatrix, digest: str) -> TrainedModel:
    users, items = imported.users, imported.items
    if imported.ratings_digest != ratings.digest():
        rows = [_rows(imported, ratings, kind) for kind in ("user", "item")]
        users, items = _filled(users, rows[0]), _filled(items, rows[1])
        users = _folded(users, rows[0] >= 0, ratings, items)
    own, shared = {"user_embedding": users}, {"item_embedding": items}
    scale = ratings.scale
    manifest = Manifest(
        model=MODEL,
        users=ratings.user_count,
        items=ratings.item_count,
        width=users.shape[1],
        minimum=float(scale.minimum),
        maximum=float(scale.maximum),
        step=float(scale.step),
        training_digest=digest,
        user_digest=tables_digest(own),
    )
    return TrainedModel(manifest, shared, own)


def _rows(imported: Imported, ratings: RatingMatrix, kind: str) -> NDArray[np.int64]:
    """Rows of the factors that came with a model, by index in other ratings; −1 where none did.

    Fakes of its ratings are none of these. Raises InputError for ratings that it does not fit.
    """
    shown = f"{IMPORTED}{imported.name}"
    if ratings.scale != imported.scale:
        raise InputError(
            f"{shown} was trained on ratings {imported.scale}, and these are {ratings.scale}"
        )
    ids = imported.user_ids if kind == "user" else imported.item_ids
    known = imported.known_users[: imported.real] if kind == "user" else imported.known_items
    named = ratings.user_ids if kind == "user" else ratings.item_ids
    wanted = ids_of(ratings, kind)
    if (ids is None) != (named is None):
        raise InputError(
            f"{shown}: only one of its ratings and these has ids of {kind}s: give the same "
            "--dataset as its --ratings"
        )
    names = tuple(map(str, range(len(known)))) if ids is None else ids[: len(known)]
    if ids is None and (len(wanted) < len(names) or (kind == "item" and len(wanted) != len(names))):
        raise InputError(
            f"{shown} is of {len(names)} {kind}s without ids, and these ratings have {len(wanted)}"
        )
    at = {name: row for row, name in enumerate(names) if known[row]}
    rows = np.array([at.get(name, -1) for name in wanted], dtype=np.int64)
    if not (rows >= 0).any():
        raise InputError(f"{shown} knows none of the {kind}s of these ratings")
    return rows


def _filled(table: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows of a table, zeros for −1."""
    found = table[np.maximum(rows, 0)]
    found[rows < 0] = 0
    return found


def _folded(
    users: NDArray[np.float32],
    known: NDArray[np.bool_],
    ratings: RatingMatrix,
    items: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The users' embeddings, those of unknown ones from their ratings."""
    if known.all():
        return users
    unknown = np.flatnonzero(~known)
    how = chosen(ratings, np.flatnonzero(known), users, items)
    found = users.copy()
    found[unknown] = fold_in(unknown, ratings, items, how)
    return found


def _tables(imported: Imported) -> dict[str, NDArray[np.float32]]:
    return {
        "user_embedding": np.ascontiguousarray(imported.users),
        "item_embedding": np.ascontiguousarray(imported.items),
    }
