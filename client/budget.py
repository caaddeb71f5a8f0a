"""What an answer will take on this device, computed from sizes before anything is made.

A server says how many items there are, how many rows, ratings and steps. Each number is within the
limits of the protocol, and together they could ask for more than a device has. So memory and time
are bounded first, from above (tests/client/test_budget.py measures them), and an answer that is
over the device's budget is refused.

Bounds are of the worst case: an optimizer whose every run has to be repeated with half the learning
rate, an encoder that halves every step as often as it may.

Shapes: k neighbors, N ratings, T touched items, I items, d embedding width, D width of the output
table: d, or d + 1 where there are biases.
"""

import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Final, NamedTuple, final

import numpy as np

from common.errors import InputError, VicinalError
from common.models import Model, model_named
from common.versions.encodings import Encoding
from common.versions.version import Manifest
from common.vicinal.entries import SPARSE
from common.vicinal.fold_in import SOLVED_AT_ONCE
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import CLOSED_FORM_RULE, VicinalSettings
from common.vicinal.tuning import MAX_HALVINGS as MAX_RUNS
from common.wire import offload_pb2 as wire
from common.wire.description import Description
from common.wire.messages import MAX_NEIGHBORS
from common.wire.sealing import OwnRow

DEFAULT_MEMORY: Final = 1 << 30
DEFAULT_SECONDS: Final = 10.0

_FLOAT: Final = 4
_DOUBLE: Final = 8
# Fits in a step of the curvature rule: of rows that share nothing, and of an encoder that halves
# its step until nothing is left of it, behind a sigmoid with another two of every item.
_PLAIN_FITS: Final = 4
_MOST_FITS: Final = 16
# Numbers that could have been handled in the time that a step takes beside its arithmetic.
_STEP_MOVES: Final = 200_000


class OverBudgetError(VicinalError):
    """An answer would take more than this device allows."""


@final
@dataclass(frozen=True)
class Cost:
    """An upper bound.

    memory  bytes, beside what the process has had before
    flops   of products of matrices, in single precision
    moves   numbers read, changed or written one by one
    """

    memory: float = 0.0
    flops: float = 0.0
    moves: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.memory + other.memory, self.flops + other.flops, self.moves + other.moves)

    def seconds(self, rates: "Rates") -> float:
        return self.flops / rates.flops + self.moves / rates.moves


class Rates(NamedTuple):
    """What this machine does in a second: flops of products, and numbers moved."""

    flops: float
    moves: float


@final
@dataclass(frozen=True)
class Budget:
    """What one answer may take.

    memory   bytes
    seconds  as this machine is expected to need; it is measured once, for some 20 ms
    """

    memory: int = DEFAULT_MEMORY
    seconds: float = DEFAULT_SECONDS

    def require(self, cost: Cost, what: str) -> None:
        """Raises OverBudgetError, in words, for `what` would cost too much."""
        if cost.memory > self.memory:
            raise OverBudgetError(
                f"{what} would take {_size(cost.memory)} of memory, and this device allows "
                f"{_size(self.memory)}: --memory raises it"
            )
        seconds = cost.seconds(machine_rates())
        if seconds > self.seconds:
            shown = f"{seconds:,.0f}" if seconds >= 10 else f"{seconds:.2g}"
            raise OverBudgetError(
                f"{what} would take up to {shown} s, and this device allows "
                f"{self.seconds:g} s: --seconds raises it"
            )

    @property
    def message_bytes(self) -> int:
        """Of one message: unpacked by protobuf, a byte may become sixteen."""
        return max(1 << 20, self.memory // 16)


@cache
def machine_rates() -> Rates:
    """Measured in this process, on one thread; the best of some, since others may be at work."""
    side, count = 192, 1 << 18
    table = np.ones((side, side), dtype=np.float32)
    numbers = np.ones(count, dtype=np.uint64)
    product = table @ table
    best = [np.inf, np.inf]
    for _ in range(5):
        begun = time.perf_counter()
        np.matmul(table, table, out=product)
        between = time.perf_counter()
        numbers = (numbers ^ (numbers >> np.uint64(3))) + np.uint64(1)
        best = np.minimum(best, [between - begun, time.perf_counter() - between]).tolist()
    return Rates(2 * side**3 / best[0], 3 * count / best[1])


def require_unpacking(
    budget: Budget,
    description: Description,
    preset: str,
    package: wire.OffloadPackage,
    own: OwnRow,
) -> None:
    """Raises OverBudgetError for rows that would take too much to unpack, sealed ones included.

    Raises InputError as OwnRow.unseal() does, and for more rows than there may be.
    """
    asked = (description.version, description.preset(preset).neighbors)
    if (package.version, 1 + len(package.neighborhood.row_lengths)) != asked:
        return  # refused for that
    hidden = (
        own.over_items(description.manifest.items)
        .unseal(package.neighborhood.sealed, description.version)
        .hidden
    )
    lengths = (package.neighborhood.row_lengths, hidden.row_lengths)
    rows = max(map(len, lengths))
    if rows >= MAX_NEIGHBORS:
        raise InputError(f"offload package: {rows} neighbors, not 0–{MAX_NEIGHBORS - 1}")
    ratings = sum(map(sum, lengths))
    cost = unpacking_cost(rows, ratings, merged=len(hidden.row_lengths) > 0)
    budget.require(cost, f"a package of {rows:,} rows with {ratings:,} ratings")


def require_answer(
    budget: Budget,
    description: Description,
    preset: str,
    neighborhood: Neighborhood,
    *,
    slim: bool = False,
) -> None:
    """Raises OverBudgetError for a fine-tune and a ranking that would take too much."""
    manifest, ratings = description.manifest, neighborhood.ratings
    settings = description.preset(preset)
    cost = answer_cost(
        model_named(manifest.model),
        replace(settings, neighbors=max(len(neighborhood), settings.min_support)),
        ratings=len(ratings),
        touched=len(np.unique(ratings.items)),
        items=manifest.items,
        width=manifest.width,
        list_length=description.list_length,
        slim=slim,
    )
    budget.require(
        cost,
        f"an answer among {manifest.items:,} items from {len(neighborhood):,} rows with "
        f"{len(ratings):,} ratings, in {settings.steps:,} steps,",
    )


def require_book(budget: Budget, description: Description, ratings: int) -> None:
    """Raises OverBudgetError for an answer from a book and so many own ratings."""
    manifest = description.manifest
    cost = book_cost(
        items=manifest.items,
        width=manifest.width,
        ratings=ratings,
        list_length=description.list_length,
    )
    budget.require(cost, f"an answer from a book of {manifest.items:,} items")


def require_version(budget: Budget, description: Description, encoding: Encoding) -> None:
    """Raises OverBudgetError for a model version that would take too much to fetch and hold."""
    size = description.form(encoding).size
    manifest = description.manifest
    what = f"a model of {manifest.items:,} items × {manifest.width:,}"
    budget.require(version_cost(manifest, size), what)


def unpacking_cost(rows: int, ratings: int, *, merged: bool = False) -> Cost:
    """Of a package's rows, from its message to ratings; ids of five bytes are possible.

    However many items there are: none has a place of its own here. `merged` rows come in two parts.
    """
    each = 210 if merged else 130
    return Cost(memory=each * ratings + 200 * rows, moves=300 * ratings)


def version_cost(manifest: Manifest, form_bytes: int) -> Cost:
    """Of fetching a version in a form, decoding it, and holding it."""
    entries = sum(int(np.prod(shape)) for shape in manifest.shared_shapes().values())
    # The form, a copy while it is checked, and tables, with a byte an entry of what is finite.
    memory = 2.2 * form_bytes + 9 * entries
    return Cost(memory=memory + (1 << 20), moves=20 * entries)


def answer_cost(
    model: Model,
    settings: VicinalSettings,
    *,
    ratings: int,
    touched: int,
    items: int,
    width: int,
    list_length: int,
    slim: bool = False,
) -> Cost:
    """Of a fine-tune and a ranking.

    slim  only rows of the touched items are at hand, and only those are scored
    """
    scored = touched if slim else items
    counted = items if settings.unrated_weight > 0 and _all_items(model, settings) else touched
    sizes = _Sizes(settings.neighbors, ratings, min(counted, scored), scored, width, model)
    cost = _RULES.get(settings.step_rule, _optimizer)(sizes, settings) + _ranking(
        items, min(list_length, items), ratings
    )
    if not settings.fold_in:
        return cost
    first = _folding(sizes)
    # Done with before the rest begins.
    memory = max(first.memory, cost.memory)
    return Cost(memory, first.flops + cost.flops, first.moves + cost.moves)


def book_cost(*, items: int, width: int, ratings: int, list_length: int) -> Cost:
    """Of a vector that is fitted to own ratings, scores of all items, and a ranking."""
    fit = Cost(
        memory=_DOUBLE * (6 * width**2 + 4 * ratings * width),
        flops=4 * ratings * width**2 + 2 * items * width**2 + 10 * width**3,
        moves=20 * ratings * width + 20 * width**2 + _STEP_MOVES,
    )
    scores = Cost(memory=_FLOAT * 6 * items, flops=4 * items * width, moves=20 * items)
    return fit + scores + _ranking(items, min(list_length, items), ratings)


def _all_items(model: Model, settings: VicinalSettings) -> bool:
    """Whether items that nobody rated are tuned one by one (common.vicinal.output, optimizers)."""
    return model.sigmoid_output or settings.step_rule != "curvature"


@dataclass(frozen=True)
class _Sizes:
    k: int
    ratings: int
    touched: int
    scored: int
    width: int
    model: Model

    @property
    def side(self) -> int:
        return self.width + int(self.model.biases)

    @property
    def table(self) -> int:
        """Bytes of the output layer's rows, which are copied where they get biases."""
        return _FLOAT * self.scored * self.side * int(self.model.biases)


def _ranking(items: int, listed: int, ratings: int) -> Cost:
    """Draws for what nobody rated, the order of all items, a list of Python's own numbers."""
    return Cost(
        memory=32 * items + 130 * listed + 40 * ratings,
        moves=200 * items + 1000 * listed + 40 * ratings,
    )


def _closed_form(sizes: _Sizes, _settings: VicinalSettings) -> Cost:
    k, touched = sizes.k, sizes.touched
    least = min(k, touched)
    tables = 4 if k < touched else 1
    return Cost(
        memory=_DOUBLE * (tables * k * touched + 5 * least**2) + 40 * sizes.ratings,
        # In double precision, and the factorization of a matrix is slower than a product.
        flops=8 * k * touched * least + 12 * least**3,
        moves=50 * k * touched + 30 * least**2,
    )


def _curvature(sizes: _Sizes, settings: VicinalSettings) -> Cost:
    model, k, touched, side = sizes.model, sizes.k, sizes.touched, sizes.side
    alone = model.inputs == "none" and not model.biases
    free = alone and not model.sigmoid_output
    fits = _PLAIN_FITS if free else _MOST_FITS
    squares = 0 if alone else k * k
    inputs = 0 if model.inputs == "none" else k * touched
    step = Cost(
        flops=2 * fits * (k * touched * side + squares * side)
        + 4 * touched * side**2
        + 40 * side**3,
        moves=fits * (8 * k * touched + 10 * k * side) + 12 * touched * side + _STEP_MOVES,
    )
    start = Cost(
        memory=_FLOAT * (5 * k * touched + 2 * inputs + 8 * touched * side + 12 * k * side)
        + _DOUBLE * (5 * max(squares, 1) + 12 * side**2)
        + sizes.table
        + 40 * sizes.ratings,
        flops=2 * k * inputs + 16 * squares * k + 2 * sizes.scored * side**2 + 40 * side**3,
        moves=10 * (k * touched + inputs + touched * side) + sizes.table + 20 * sizes.ratings,
    )
    return start + _times(step, settings.steps)


def _optimizer(sizes: _Sizes, settings: VicinalSettings) -> Cost:
    model, k, touched, side = sizes.model, sizes.k, sizes.touched, sizes.side
    encoder = 0 if model.inputs == "none" else sizes.width
    parameters = touched * (side + encoder) + k * sizes.width
    sparse = settings.unrated_weight == 0 and touched * k > SPARSE * sizes.ratings
    entries = sizes.ratings if sparse else k * touched
    buffers = _FLOAT * sizes.ratings * 2 * (side + encoder) if sparse else 0
    products = 6 * side + 4 * encoder
    run = Cost(
        flops=entries * products,
        moves=entries * (10 + (products if sparse else 0)) + 16 * parameters + _STEP_MOVES,
    )
    # The copy, its gradients, the optimizer's moments, its scratch; the model, and the pull to it.
    copies = (5 if settings.step_rule == "adam" else 4) + 3 * (settings.proximal_weight > 0)
    start = Cost(
        memory=_FLOAT * (6 * entries + (copies + 1) * parameters)
        + buffers
        + 120 * sizes.ratings
        + sizes.table
        + _FLOAT * sizes.scored * (2 + int(encoder > 0)),
        moves=20 * (entries + parameters) + sizes.table,
    )
    return start + _times(run, MAX_RUNS * (settings.steps + 2))


def _folding(sizes: _Sizes) -> Cost:
    """Vectors of all rows, in double precision, some at a time (common.vicinal.fold_in)."""
    k, width = sizes.k, sizes.width
    longest, held = min(sizes.ratings, sizes.touched), min(sizes.k, SOLVED_AT_ONCE)
    return Cost(
        memory=_DOUBLE * ((4 * held + 4) * width**2 + 4 * longest * width) + 2 * _FLOAT * k * width,
        flops=4 * sizes.ratings * width**2 + 2 * sizes.scored * width**2 + 10 * k * width**3,
        moves=20 * sizes.ratings * width + k * (20 * width**2 + _STEP_MOVES),
    )


def _times(cost: Cost, often: int) -> Cost:
    return Cost(cost.memory, often * cost.flops, often * cost.moves)


_RULES: Final = {"curvature": _curvature, CLOSED_FORM_RULE: _closed_form}


def _size(count: float) -> str:
    """Bytes for a person.

    >>> _size(3 << 30), _size(5 << 20)
    ('3.0 GiB', '5 MiB')
    """
    gibibytes = count / (1 << 30)
    return f"{gibibytes:,.1f} GiB" if gibibytes >= 1 else f"{max(count / (1 << 20), 1):.0f} MiB"
