"""A small recommender to serve in tests: random ratings and a random model from a seed."""

import asyncio
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.ratings import RatingMatrix, RatingScale
from common.versions.version import Manifest, decode_version, encode_version, version_digest
from common.vicinal.book import Release
from common.vicinal.settings import VicinalSettings
from common.wire.description import Description
from server.front.service import CHUNK_BYTES, OffloadService
from server.metrics import Metrics
from server.model_store import StoredModel, tables_digest
from server.recommending.recommender import Recommender
from server.reports.tally import Tally
from server.trust.receipts import Receipts
from server.versions.books import PublishedBook, published_book
from server.versions.catalog import Catalog
from server.versions.folder import describe, eligible_users, make_current, write_version
from server.workers.crew import SaturatedError
from server.workers.frames import Call, WorkerResult
from server.workers.worker import VersionHandler
from tests.support.receipts import KEY

USERS, FAKES, ITEMS, WIDTH = 40, 4, 60, 8
WATCHED = (3, 17)
SCALE = RatingScale(1, 5, 1)
PRESETS = {
    "paper": VicinalSettings(6, 0.0, 5, step_rule="adagrad", learning_rate=0.3),
    "vicinal": VicinalSettings(12, 0.2, 5, min_support=2),
    "crowd": VicinalSettings(USERS + FAKES + 1, 0.2, 5),
}
BOOK_PRESETS = {"vicinal": replace(PRESETS["vicinal"], assumed_fakes=0.1)}
SECRET = bytes(range(32))
# Eight chunks.
LARGE_ITEMS = 8 * CHUNK_BYTES // (4 * WIDTH)


@dataclass(frozen=True)
class Scene:
    """A recommender that can be served, the bytes of its version, and the users' devices.

    release  rows of neighbors for every request, or a book
    """

    recommender: Recommender
    data: bytes
    local: LocalRatings
    release: Release = "rows"

    @property
    def folder(self) -> Path:
        """What service() serves, and a front with workers could."""
        return self.recommender.path.with_suffix(".serving")

    @cached_property
    def book(self) -> PublishedBook | None:
        """With noise of a key that lies beside the version's file."""
        if self.release == "rows":
            return None
        version = self.recommender.version.digest
        store = self.recommender.path.with_suffix(".store")
        return published_book(store, self.recommender.ratings, BOOK_PRESETS["vicinal"], version)

    def description(self) -> Description:
        return describe(
            self.recommender,
            presets=PRESETS if self.book is None else BOOK_PRESETS,
            watched=WATCHED,
            list_length=10,
            book=None if self.book is None else self.book.form,
        )

    def catalog(self) -> Catalog:
        """The one version, in `folder`."""
        description = self.description()
        book = b"" if self.book is None else self.book.data
        write_version(self.folder, self.recommender, description, SECRET, book=book)
        make_current(self.folder, description.version)
        return Catalog(self.folder)

    def tally(self, path: Path | None = None, **how: Any) -> Tally:
        eligible = eligible_users(self.recommender, WATCHED)
        return Tally(users=USERS, eligible=eligible, path=path, **how)

    def service(self, *, refusals: int = 0, tally: Tally | None = None) -> OffloadService:
        """The calls, computed by threads of this process: most tests are of something else."""
        description = self.description()
        workers = InProcess(VersionHandler(self.recommender, description, SECRET), refusals)
        counting = tally or self.tally()
        receipts = Receipts(KEY, clock=counting.now)
        return OffloadService(self.catalog(), counting, workers, Metrics(description), receipts)


@final
class InProcess:
    """What a worker process computes, in a thread; the first `refusals` requests find it full."""

    def __init__(self, handler: VersionHandler, refusals: int) -> None:
        self._handler = handler
        self._refusals = refusals

    async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
        if self._refusals:
            self._refusals -= 1
            raise SaturatedError(7, 0.15)
        return await asyncio.to_thread(self._handler.answer, call, request)


def make_scene(
    folder: Path,
    *,
    items: int = ITEMS,
    seed: int = 0,
    like: Scene | None = None,
    release: Release = "rows",
) -> Scene:
    """Random ratings and a random model from a seed; the version's file lies in `folder`.

    like  a scene of the same seed whose version differs in three rows of its table
    """
    rng = np.random.default_rng(seed)
    rated = rng.random((USERS + FAKES, items)) < min(0.3, 20 / items)
    rated[:, -1] = False  # every user has an unrated item to hold out
    rated[:, 5] = True
    users, columns = np.nonzero(rated)
    ratings = RatingMatrix.from_triples(
        users,
        columns,
        rng.integers(0, SCALE.level_count, len(users)),
        user_count=USERS + FAKES,
        item_count=items,
        scale=SCALE,
    )
    name = f"model-{seed}{'' if like is None else '-near'}.safetensors"
    recommender, data = recommender_of(
        folder / name, ratings, USERS, rng, changed=0 if like is None else 3
    )
    held_out = np.array(
        [rng.choice(np.flatnonzero(~rated[user])) for user in range(USERS)], dtype=np.int32
    )
    held_out[0] = -1
    liked = (rng.random(USERS) < 0.5) & (held_out >= 0)
    local = LocalRatings(ratings.rows(np.arange(USERS)), held_out, liked).with_keys(SECRET)
    return Scene(recommender, data, local, release)


def recommender_of(
    path: Path, ratings: RatingMatrix, users: int, rng: np.random.Generator, *, changed: int = 0
) -> tuple[Recommender, bytes]:
    """A random model of some ratings, and its bytes, which are at `path`.

    changed  rows of its table that are a little larger
    """
    user_parameters = {"user_embedding": _table(rng, ratings.user_count)}
    manifest = Manifest(
        model="mf",
        users=ratings.user_count,
        items=ratings.item_count,
        width=WIDTH,
        minimum=1.0,
        maximum=5.0,
        step=1.0,
        training_digest="0" * 64,
        user_digest=tables_digest(user_parameters),
    )
    table = _table(rng, ratings.item_count)
    table[:changed] *= 1.01
    data = encode_version(manifest, {"item_embedding": table})
    path.write_bytes(data)
    version = decode_version(data, expected_digest=version_digest(data))
    return Recommender(StoredModel(version, user_parameters, path), ratings, users), data


def _table(rng: np.random.Generator, rows: int) -> NDArray[np.float32]:
    return rng.standard_normal((rows, WIDTH), dtype=np.float32) / np.float32(np.sqrt(WIDTH))
