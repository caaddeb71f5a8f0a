"""The book of a model version: the items that may be recommended, the same list for everybody.

Where a package has rows of neighbors, a book has none: a device that holds the model and the book
answers from its user's own ratings, and asks nothing. What keeps fakes' items out is that enough
accounts have to rate an item before the book has it (server.recommending.book).

A device ranks by the model as it was trained, at its user's own vector. A model that reads ratings
makes the vector itself; of the others it is folded in (common.vicinal.fold_in).

Shapes: I items, L listed ones, d embedding width.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.models import Model
from common.names import unknown
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.fold_in import own_parameters
from common.vicinal.settings import VicinalSettings
from common.vicinal.support import unlisted_last
from common.vicinal.tuning import ServedModel

# What devices get: rows of neighbors for every request, or a book with every version.
Release = Literal["rows", "book"]
RELEASES: Final[tuple[Release, ...]] = ("rows", "book")


@dataclass(frozen=True)
class ItemBook:
    """Items that enough accounts rated, ascending, and how they were counted.

    users       accounts that were counted, the assumed fakes among them
    item_count  I
    cap         squared length of what one account adds to all counts, at most
    threshold   counts with noise from which an item is in the book
    sigma       standard deviation of the noise
    """

    users: int
    item_count: int
    items: NDArray[np.int32]
    cap: int
    threshold: int
    sigma: float

    def __post_init__(self) -> None:
        items = self.items
        if len(items) and not (
            items[0] >= 0 and items[-1] < self.item_count and (np.diff(items) > 0).all()
        ):
            raise InputError("book: its items do not ascend, or are none")
        if self.users < 1 or self.cap < 1 or not 0 <= self.sigma < float("inf"):
            raise InputError("book: it counts nobody, nothing, or with noise that is none")

    @property
    def mu(self) -> float:
        """μ of Gaussian differential privacy of this one book; infinite without noise.

        Whatever an account rated, or that it rated nothing, moves the counts by a vector of length
        √cap at most (Dong, Roth and Su 2022, "Gaussian Differential Privacy", theorem 1); what is
        in the book is made of the counts alone. How many accounts there are is no secret.

        >>> nothing = np.empty(0, dtype=np.int32)
        >>> ItemBook(100, 10, nothing, cap=100, threshold=20, sigma=12.5).mu
        0.8
        """
        return self.cap**0.5 / self.sigma if self.sigma else float("inf")

    @property
    def listed(self) -> NDArray[np.bool_]:
        """Whether each item is in the book, [I]."""
        found = np.zeros(self.item_count, dtype=bool)
        found[self.items] = True
        return found


def release_named(name: str) -> Release:
    """Raises InputError for a name that is not in RELEASES."""
    for release in RELEASES:
        if name == release:
            return release
    if name == "cells":
        raise InputError(
            "release cells: on validation items cells lost to the book "
            "(docs/decisions/0031-book.md): take --release book"
        )
    raise unknown("release", name, RELEASES)


def check_book(model: Model, settings: VicinalSettings) -> None:
    """Raises InputError where a device could not answer from a book."""
    if not model.tables:
        raise InputError(f"{model.name} is solved on rows of others: it needs --release rows")
    if settings.step_rule != "curvature":
        raise InputError(
            "a book goes with the preset vicinal, whose training reckons with unrated items"
        )
    if settings.row_cap or settings.fold_in:
        raise InputError("a book shows no rows: leave out --row-cap and --fold-in")
    if not settings.assumed_fakes:
        raise InputError("a book has the items that the assumed fakes cannot hold up: assume some")


@final
class BookReader:
    """A version and its book, and what all answers from them share, computed once.

    Only what an answer needs is read: the user's own rows of the tables, and the rows of listed
    items, which lie together.
    """

    def __init__(self, served: ServedModel, book: ItemBook) -> None:
        self._served, self._book = served, book
        tables = served.parameters
        names = served.model.item_tables - {"input_embedding"}
        self._listed = {name: np.ascontiguousarray(tables[name][book.items]) for name in names}
        # Where each item stands in the book; -1: nowhere.
        self._places = np.full(book.item_count, -1, dtype=np.int32)
        self._places[book.items] = np.arange(len(book.items), dtype=np.int32)

    @cached_property
    def _gram(self) -> NDArray[np.float64]:
        return self._served.item_gram.astype(np.float64)

    def top(self, own: RatingMatrix, count: int) -> NDArray[np.int64]:
        """The top K of the user of a single row of ratings [1, I], best first.

        Items that are not listed come last, where a list is longer than the listed ones. Raises
        VicinalError for scores that are not finite, LinAlgError where no vector fits.
        """
        scores = self._scores(own)
        rated = self._places[own.items]
        rated = rated[rated >= 0]
        if len(scores) - len(rated) >= count:
            return self._book.items[top_items(scores, rated, count)].astype(np.int64)
        return top_items(self._all(scores, own), own.items, count)

    def scores(self, own: RatingMatrix) -> NDArray[np.float32]:
        """What top() ranks by: scores of every item, unlisted items below all others, [I]."""
        return self._all(self._scores(own), own)

    def _all(self, scores: NDArray[np.float32], own: RatingMatrix) -> NDArray[np.float32]:
        everything = np.zeros(self._book.item_count, dtype=np.float32)
        everything[self._book.items] = scores
        return unlisted_last(everything, self._book.listed, own.items)

    def _scores(self, own: RatingMatrix) -> NDArray[np.float32]:
        """Of the listed items, [L]."""
        model, tables = self._served.model, self._served.parameters
        mine = own_parameters(model, tables["item_embedding"], self._gram, own)
        ratings = None
        if model.inputs != "none":
            # A row's other inputs are 0.
            mine["input_embedding"] = tables["input_embedding"][own.items]
            ratings = own.ratings[None]
        embedding = model.encode({**tables, **mine}, ratings)
        scores: NDArray[np.float32] = model.decode(self._listed, embedding)[0]
        return scores
