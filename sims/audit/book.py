"""The release `book`: the model, and once a version which items enough accounts rated.

Nobody asks for anything: what one device reads, everybody reads (common.vicinal.book).

Shapes: I items.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from common.versions.version import ModelVersion
from common.vicinal.book import ItemBook
from common.wire import offload_pb2 as wire
from common.wire.book import decode_book, encode_book
from server.recommending.book import BookRecommender, BookSettings, item_book
from server.recommending.recommender import Recommender
from sims.audit.rows import RowsRelease, RowsVersion
from sims.audit.seen import Seen
from sims.numbers import stream
from sims.progress import Report


@final
@dataclass(frozen=True)
class BookRelease:
    """The same model as `rows` has, with a book."""

    rows: RowsRelease
    name: str = "book"

    def published(
        self, ratings: RatingMatrix, *, real: int, seed: int, progress: Report
    ) -> "BookVersion":
        """Raises InputError for a model that cannot do with a book, and VicinalError."""
        rows = self.rows.published(ratings, real=real, seed=seed, progress=progress)
        return BookVersion(rows, stream(seed, "book secret").bytes(32))


@final
class BookVersion:
    """What everybody fetches of a version."""

    def __init__(self, rows: RowsVersion, key: bytes) -> None:
        assert isinstance(rows.answering, Recommender)
        self.ratings, self.settings = rows.ratings, rows.settings
        self.answering = BookRecommender(rows.answering, rows.settings, key)
        self.mu, self.model_mu = self.answering.book.mu, rows.model_mu
        self._rows, self._key = rows, key
        self._digest = rows.answering.version.digest
        self._manifest = rows.answering.version.manifest

    def model(self) -> bytes:
        return self._rows.model()

    def read_model(self, data: bytes) -> ModelVersion | None:
        return self._rows.read_model(data)

    def book(self) -> bytes:
        return encode_book(self.answering.book, self._digest)

    def read_book(self, data: bytes) -> Seen:
        """One line of all accounts: of what is listed it is known that so many rated it."""
        book = decode_book(data, self._manifest, self._digest)
        counts = np.where(book.listed, book.threshold, 0)
        return Seen.of_counts(counts[None, :], np.array([book.users], dtype=np.int64))

    def read_list(self, data: bytes) -> ItemBook:
        users = wire.ItemBook.FromString(data).users
        manifest = replace(self._manifest, users=users)
        return decode_book(data, manifest, self._digest)

    def book_of(self, ratings: RatingMatrix) -> bytes:
        """With the noise of this server, and the σ of today's number of accounts."""
        book = self.answering.book
        how = replace(BookSettings.of(0), cap=book.cap, sigma=book.sigma)
        return encode_book(item_book(ratings, self.settings, self._key, how=how), self._digest)

    def package(self, _account: int) -> bytes | None:
        return None

    def read_package(self, _data: bytes) -> Seen:
        raise InputError("a book answers no requests")

    def unseal_package(self, _account: int, data: bytes) -> Seen:
        return self.read_package(data)

    def owners(self, _account: int, seen: Seen) -> NDArray[np.int64]:
        return np.full(len(seen), -1)
