"""Releases whose leak is known by construction: for the audit's own tests."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from common.ranking import top_items
from common.ratings import RatingMatrix
from common.versions.version import ModelVersion
from common.vicinal.settings import Space, VicinalSettings
from sims.audit.seen import Seen
from sims.progress import Report

SETTINGS = VicinalSettings(4, 0.0, 1, neighbors_by="ratings")
# From ratings to a book.
Book = Callable[[RatingMatrix], Seen]


def whole(ratings: RatingMatrix) -> Seen:
    """Every profile as it is."""
    return Seen.of_rows(ratings)


def cells(ratings: RatingMatrix, size: int = 20, noise: float = 0.0, seed: int = 0) -> Seen:
    """Sums over cells of `size` users, as they come, with normal noise on every count."""
    table = ratings.dense() > 0
    starts = np.arange(0, len(table), size)
    counts = np.add.reduceat(table.astype(np.float64), starts)
    counts += noise * np.random.default_rng(seed).standard_normal(counts.shape)
    return Seen.of_counts(
        np.maximum(counts, 0), np.diff(np.append(starts, len(table))).astype(np.int64)
    )


@final
@dataclass(frozen=True)
class Popular:
    """Answers by popularity, whatever is asked."""

    ratings: RatingMatrix
    user_count: int

    def recommend(
        self, user: int, settings: VicinalSettings, list_length: int
    ) -> NDArray[np.int64]:
        scores = self.ratings.item_counts().astype(np.float32)
        return top_items(scores, self.ratings.items_of(user), list_length)

    def recommend_undefended(self, user: int, list_length: int) -> NDArray[np.int64]:
        return self.recommend(user, SETTINGS, list_length)

    def nearest(
        self, users: NDArray[np.int64], count: int, space: Space = "embedding"
    ) -> NDArray[np.int64]:
        raise NotImplementedError


@final
class BookVersion:
    """A version of a book, or of nothing at all; nobody asks for packages."""

    settings, mu, model_mu = SETTINGS, None, None

    def __init__(self, ratings: RatingMatrix, real: int, book: Book | None) -> None:
        self.ratings, self._book = ratings, book
        self.answering = Popular(ratings, real)

    def model(self) -> bytes:
        return b""

    def read_model(self, data: bytes) -> ModelVersion | None:
        return None

    def book(self) -> bytes | None:
        return None if self._book is None else b"book"

    def read_book(self, data: bytes) -> Seen:
        assert self._book is not None
        return self._book(self.ratings)

    def read_list(self, data: bytes) -> None:
        return None

    def book_of(self, ratings: RatingMatrix) -> None:
        return None

    def package(self, account: int) -> bytes | None:
        return None

    def read_package(self, data: bytes) -> Seen:
        raise NotImplementedError

    def unseal_package(self, account: int, data: bytes) -> Seen:
        raise NotImplementedError

    def owners(self, account: int, seen: Seen) -> NDArray[np.int64]:
        raise NotImplementedError


@final
@dataclass(frozen=True)
class BookRelease:
    """Publishes one book; None publishes nothing."""

    contents: Book | None
    name: str = "book"

    def published(
        self, ratings: RatingMatrix, *, real: int, seed: int, progress: Report
    ) -> BookVersion:
        return BookVersion(ratings, real, self.contents)


@final
class PlainVersion:
    """Every account's package has everybody's profile, in order, sealed from nobody."""

    settings, mu, model_mu = SETTINGS, None, None

    def __init__(self, ratings: RatingMatrix, real: int) -> None:
        self.ratings, self.answering = ratings, Popular(ratings, real)

    def model(self) -> bytes:
        return b""

    def read_model(self, data: bytes) -> ModelVersion | None:
        return None

    def book(self) -> bytes | None:
        return None

    def read_book(self, data: bytes) -> Seen:
        raise NotImplementedError

    def read_list(self, data: bytes) -> None:
        return None

    def book_of(self, ratings: RatingMatrix) -> None:
        return None

    def package(self, account: int) -> bytes | None:
        return b"all"

    def read_package(self, data: bytes) -> Seen:
        return Seen.of_rows(self.ratings)

    def unseal_package(self, account: int, data: bytes) -> Seen:
        return self.read_package(data)

    def owners(self, account: int, seen: Seen) -> NDArray[np.int64]:
        return np.arange(len(seen))


@final
@dataclass(frozen=True)
class PlainRelease:
    """Ships profiles as they are."""

    name: str = "plain"

    def published(
        self, ratings: RatingMatrix, *, real: int, seed: int, progress: Report
    ) -> PlainVersion:
        return PlainVersion(ratings, real)
