"""Fakes kept in a store: an attack that takes minutes is not computed again for the same ratings.

    STORE/attacks/KEY.safetensors      KEY is of everything that decides what an attack makes

The code that attacks is part of the key, so that a newer one makes its fakes anew. Functions of
one's own are never kept: nobody knows what they read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np
from safetensors.numpy import save

from common.errors import InputError
from common.files import make_folder, read_file, write_file
from common.processes import ROOT
from common.ratings import RatingMatrix
from common.source import source_digest
from common.tables import read_metadata, read_tables
from sims.attacks.budget import Goal
from sims.attacks.options import Value, resolve
from sims.attacks.profiles import MAX_BYTES, Profiles
from sims.attacks.registry import ATTACKS, attack_named, make_profiles
from sims.progress import Report, quiet

FOLDER: Final = "attacks"
# What attacks are made of: themselves, and the models and ratings that they use.
_PACKAGES: Final = ("sims", "server", "common")
_DTYPES: Final = {
    "indptr": np.int64,
    "items": np.int32,
    "levels": np.uint8,
    "targets": np.int64,
    "audience": np.int64,
}


@final
class KeptAttacks:
    """The fakes in a store, which need not be there yet."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def made(
        self,
        name: str,
        ratings: RatingMatrix,
        *,
        seed: int,
        targets: tuple[int, ...] | None,
        attack_size: float,
        options: Mapping[str, Value],
        progress: Report = quiet,
    ) -> Profiles:
        """What sims.attacks.registry.make_profiles makes, taken from here or kept here.

        Raises InputError, also for a file that is damaged, and OSError.
        """
        asked: dict[str, Any] = {"seed": seed, "targets": targets, "attack_size": attack_size}
        if name not in ATTACKS:
            return make_profiles(name, ratings, options=options, progress=progress, **asked)
        values, shared = resolve(name, attack_named(name), options)
        told = [name, *asked.values(), values, asdict(shared), ratings.digest(), _code()]
        key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        profiles = self._find(key, ratings)
        if profiles is None:
            profiles = make_profiles(name, ratings, options=options, progress=progress, **asked)
            self._keep(key, profiles)
        return profiles

    def _find(self, key: str, ratings: RatingMatrix) -> Profiles | None:
        path = self._path(key)
        try:
            return _read(read_file(path, most=MAX_BYTES), ratings)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except (InputError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: damaged: delete it to have the attack made again") from error

    def _keep(self, key: str, profiles: Profiles) -> None:
        made = profiles.ratings
        tables = {
            "indptr": made.indptr,
            "items": made.items,
            "levels": made.levels,
            "targets": np.array(profiles.targets, dtype=np.int64),
            "audience": np.array(profiles.audience, dtype=np.int64),
        }
        said = {
            "digest": made.digest(),
            "goal": profiles.goal,
            "notes": json.dumps(dict(profiles.notes)),
        }
        make_folder(self._store)
        copies = {name: np.ascontiguousarray(table) for name, table in tables.items()}
        write_file(self._path(key), save(copies, said))

    def _path(self, key: str) -> Path:
        return self._store / FOLDER / f"{key}.safetensors"


@cache
def _code() -> str:
    return source_digest(*(Path(ROOT) / package for package in _PACKAGES))


def _read(data: bytes, ratings: RatingMatrix) -> Profiles:
    """Raises InputError, ValueError, KeyError or TypeError for what `keep` has not written."""
    tables, said = read_tables(data, "profiles"), read_metadata(data)
    if {name: table.dtype for name, table in tables.items()} != _DTYPES:
        raise ValueError("other tables")
    indptr, items, levels = (tables[name] for name in ("indptr", "items", "levels"))
    fakes = RatingMatrix(indptr, items, levels, ratings.item_count, ratings.scale)
    if fakes.digest() != said["digest"]:
        raise ValueError("other ratings")
    targets, audience = (tuple(tables[name].tolist()) for name in ("targets", "audience"))
    notes = {str(key): str(value) for key, value in dict(json.loads(said["notes"])).items()}
    return Profiles(fakes, targets, notes, cast(Goal, said["goal"]), audience)
