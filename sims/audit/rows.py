"""The release `rows`: a package for every request, with the rows of the user's neighbors.

Packages are made by the worker of a server and read by what a device reads them with.

Shapes: k neighbors, I items.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from client.link.replies import checked_package
from common.errors import InputError
from common.ratings import RatingMatrix
from common.versions.version import ModelVersion, decode_version
from common.vicinal.fold_in import folded
from common.vicinal.neighborhood import without_levels
from common.vicinal.settings import CLOSED_FORM_RULE, VicinalSettings, capped
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.messages import rows_from_wire
from common.wire.sealing import OwnRow, device_key
from server.model_store import Versions
from server.preparing import trained_here
from server.recommending.neighbor_cache import NeighborCache
from server.recommending.recommender import Recommender
from server.training.methods import Private
from server.training.private import mu_of
from server.training.train import TrainingSettings
from server.versions.folder import describe
from server.workers.frames import Status
from server.workers.worker import VersionHandler
from sims.audit.seen import Seen, row_keys
from sims.numbers import stream
from sims.progress import Report

ROWS: Final = "rows"
_PRESET: Final = "audited"
_LIST_LENGTH: Final = 50


@final
@dataclass(frozen=True)
class RowsRelease:
    """Rows of `training`'s model under `settings`; models are kept in the store."""

    training: TrainingSettings
    settings: VicinalSettings
    store: Versions
    name: str = ROWS

    def published(
        self, ratings: RatingMatrix, *, real: int, seed: int, progress: Report
    ) -> "RowsVersion":
        """Raises VicinalError when training diverges."""
        training = self.training.model_copy(update={"seed": seed})
        stored = trained_here(
            ratings,
            training,
            self.store,
            progress=lambda done, epochs: progress("train", done, epochs),
        )

        # Fakes are accounts, too, and ask as everybody does.
        def recommender(users: int, cache: NeighborCache | None = None) -> Recommender:
            return Recommender(stored, ratings, users, cache=cache)

        accounts = recommender(ratings.user_count)
        answering = recommender(real, accounts.neighbor_cache)
        settings = capped(self.settings, answering.neighbors)
        secret = stream(seed, "device secret").bytes(32)
        method = training.robust
        private = mu_of(method.epsilon, method.delta) if isinstance(method, Private) else None
        return RowsVersion(accounts, answering, settings, secret, private)


@final
class RowsVersion:
    """A version as a server has it, with the worker that answers requests."""

    mu = None

    def __init__(
        self,
        accounts: Recommender,
        answering: Recommender,
        settings: VicinalSettings,
        secret: bytes,
        model_mu: float | None,
    ) -> None:
        self.answering, self.settings, self.model_mu = answering, settings, model_mu
        self._accounts, self._secret = accounts, secret
        self._description: Description = describe(
            accounts, presets={_PRESET: settings}, watched=(), list_length=_LIST_LENGTH
        )
        self._worker = VersionHandler(accounts, self._description, secret)

    @property
    def ratings(self) -> RatingMatrix:
        return self._accounts.ratings

    def model(self) -> bytes:
        return self._accounts.path.read_bytes()

    def read_model(self, data: bytes) -> ModelVersion | None:
        version = decode_version(data, expected_digest=self._description.version)
        return version if version.served.model.tables else None

    def book(self) -> bytes | None:
        return None

    def read_book(self, data: bytes) -> Seen:
        raise InputError("rows have no book")

    def read_list(self, data: bytes) -> None:
        raise InputError("rows have no book")

    def book_of(self, _ratings: RatingMatrix) -> None:
        return None

    def package(self, account: int) -> bytes:
        """Raises InputError with the worker's own words where it refuses."""
        request = wire.PackageRequest(
            version=self._description.version, user=account, preset=_PRESET
        )
        result = self._worker.answer("GetPackage", request.SerializeToString())
        if result.status is not Status.ANSWERED:
            raise InputError(f"package of account {account}: {result.data.decode()}")
        return result.data

    def read_package(self, data: bytes) -> Seen:
        message = wire.OffloadPackage.FromString(data)
        manifest = self._description.manifest
        ratings, tables = rows_from_wire(message.neighborhood, manifest, self.settings)
        return Seen.of_rows(ratings, self._vectors(tables, ratings))

    def unseal_package(self, account: int, data: bytes) -> Seen:
        own = OwnRow(self.ratings.rows([account]), device_key(self._secret, account))
        message = wire.OffloadPackage.FromString(data)
        received, _ = checked_package(message, self._description, _PRESET, own)
        neighborhood = received.neighborhood
        rows = neighborhood.ratings.rows(np.arange(1, len(neighborhood)))
        tables = {name: table[1:] for name, table in neighborhood.user_parameters.items()}
        return Seen.of_rows(rows, self._vectors(tables, rows))

    def _vectors(
        self, tables: Mapping[str, NDArray[np.float32]], rows: RatingMatrix
    ) -> NDArray[np.float32] | None:
        """All user parameters of each line in a row, [n, d]; None for a model without.

        Where none are sent, whoever has the model makes them of the lines.
        """
        if self.settings.fold_in and rows.user_count:
            served = self._accounts.version.served
            items = served.parameters["item_embedding"]
            tables = folded(served.model, items, served.item_gram, rows)
        if not tables:
            return None
        return np.concatenate([tables[name] for name in sorted(tables)], axis=1)

    def owners(self, account: int, seen: Seen) -> NDArray[np.int64]:
        """By content: a neighbor's line is its ratings of all items that the package shows."""
        settings = self.settings
        members = self._accounts.nearest(
            np.array([account]), settings.neighbors, settings.neighbors_by
        )[0][1:]
        cut = self._accounts.cut(
            self.ratings.rows(members).of_items(seen.open_items), self.settings
        )
        if settings.step_rule == CLOSED_FORM_RULE:
            cut = without_levels(cut)
        assert seen.ratings is not None
        waiting: dict[bytes, list[int]] = defaultdict(list)
        for member, key in zip(members.tolist(), row_keys(cut), strict=True):
            waiting[key].append(member)
        return np.array([waiting[key].pop(0) for key in row_keys(seen.ratings)], dtype=np.int64)
