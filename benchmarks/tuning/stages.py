"""Where a request's time goes, and how far it is from what the machine allows.

Whole requests with preset paper and preset vicinal run with a clock around each stage. A stage's
time excludes the stages that it calls; the clocks themselves cost a few percent. Stages are
numpy's, as on a device. *on a server* is the fine-tuning, from set-up to the scores of all items,
in the compiled loops that preset paper has there (server/recommending/compiled.py).

The floor is the larger of two times. Both rates are measured in the same run.

- Bytes: the model's item table once, for the scores, and the touched rows of every table in and
  out, at the bandwidth of copying.
- Arithmetic, at the rate of a large matrix product: products over observed entries (2·N·D each;
  three a step for mf, five with an encoder); with α > 0 the two Gram products of (k + T)·D² as
  well; and six operations for each number that an optimizer moves.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import numpy as np

import server.recommending.recommender
from benchmarks.cases import (
    LIST_LENGTH,
    MODEL_NAMES,
    recommender,
    settings_for,
    shape_named,
    some_users,
)
from benchmarks.report import Section, milliseconds, progress, run, table
from benchmarks.timing import in_turn
from common.vicinal import tuning
from common.vicinal.curvature import SharedCurvature
from common.vicinal.encoder import DualEncoder
from common.vicinal.entries import DenseEntries, SparseEntries
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.optimizers import TouchedCopy
from common.vicinal.output import OutputLayer
from common.vicinal.settings import VicinalSettings
from server.recommending import compiled
from server.recommending.neighbors import NeighborIndex
from server.recommending.offload import Offloader

# Owner, function, stage.
CLOCKS: Final[list[tuple[Any, str, str]]] = [
    (NeighborIndex, "neighbors", "neighbors"),
    (Offloader, "neighborhood", "package"),
    (TouchedCopy, "__init__", "set-up"),
    (OutputLayer, "__init__", "set-up"),
    (DualEncoder, "__init__", "set-up"),
    *((entries, "scores", "predict") for entries in (DenseEntries, SparseEntries)),
    *((entries, "residuals", "predict") for entries in (DenseEntries, SparseEntries)),
    *((entries, "by_row", "sums by row") for entries in (DenseEntries, SparseEntries)),
    *((entries, "by_item", "sums by item") for entries in (DenseEntries, SparseEntries)),
    (OutputLayer, "fit", "predict"),
    (OutputLayer, "embedding_gradient", "sums by row"),
    (OutputLayer, "embedding_curvature", "steps"),
    (OutputLayer, "step", "steps"),
    (SharedCurvature, "divide", "steps"),
    (SharedCurvature, "divide_turned", "steps"),
    (DualEncoder, "step", "steps"),
    (TouchedCopy, "scores", "score all"),
    (OutputLayer, "scores", "score all"),
    (server.recommending.recommender, "top_items", "rank"),
    # What is left of it: an optimizer's arithmetic on tables.
    (tuning, "tuned_scores", "steps"),
]
STAGES: Final = (
    "neighbors", "package", "set-up", "predict", "sums by row", "sums by item", "steps",
    "score all", "rank",
)  # fmt: skip
HEADS: Final = (
    "floor of the fine-tune, ms", "fine-tune over it", "on a server, ms", "over the floor",
)  # fmt: skip
PRODUCTS: Final = {"mf": 3, "nsvd": 5, "autorec": 5, "cdae": 5}


def section(short: bool) -> Section:
    rate, bandwidth = multiply_rate(), copy_bandwidth()
    shapes = ("ML-1M",) if short else ("ML-1M", "Yelp")
    figures = [
        measure(name, model, preset, rate=rate, bandwidth=bandwidth, short=short)
        for name in shapes
        for preset in ("paper", "vicinal")
        for model in MODEL_NAMES
    ]
    heads = ("shape", "preset", "model", *STAGES, "all, ms", *HEADS)
    text = (
        f"## Where the time goes\n\n{__doc__.strip()}\n\nHere {rate / 1e9:.0f} GFLOP/s and "
        f"{bandwidth / 1e9:.1f} GB/s. Milliseconds a request, means:\n\n"
    )
    rows = [_row(found) for found in figures]
    measured = {"flops": rate, "bandwidth": bandwidth, "stages": figures}
    return Section(text + table(heads, rows, texts=3), measured)


def measure(
    shape_name: str, model: str, preset: str, *, rate: float, bandwidth: float, short: bool
) -> dict[str, Any]:
    """Mean seconds of every stage over some users, and the fine-tune's floor."""
    progress(f"stages: {shape_name} {preset} {model}")
    shape = shape_named(shape_name)
    server, settings = recommender(shape, model), settings_for(shape, model, preset)
    users = some_users(4 if short else 12, shape.users).tolist()
    server.recommend(users[0], settings, LIST_LENGTH)
    with clocks() as seconds:
        for user in users[1:]:
            # Looked up at every call: the clock is put on the module's name.
            server.recommend(user, settings, LIST_LENGTH, tune=tuning.tuned_scores)
    mean = {stage: seconds[stage] / (len(users) - 1) for stage in STAGES}
    tuned = sum(mean[stage] for stage in STAGES if stage not in ("neighbors", "package", "rank"))
    places = [server.neighborhood(user, settings) for user in users[1:]]
    floors = [_floor(place, settings, model, rate, bandwidth) for place in places]
    served = server.version.served
    timed = in_turn(
        [lambda place: compiled.tuned_scores(served, place, settings)], places, budget=5
    )
    on_server = float(timed.seconds.mean()) if compiled.covers(settings) else tuned
    return {
        "shape": shape_name, "preset": preset, "model": model, "seconds": mean,
        "floor": float(np.mean(floors)), "over_floor": tuned / float(np.mean(floors)),
        "server": on_server, "server_over_floor": on_server / float(np.mean(floors)),
    }  # fmt: skip


@contextmanager
def clocks() -> Iterator[dict[str, float]]:
    """Put a clock on every stage; the seconds by stage fill while it lasts."""
    seconds: dict[str, float] = defaultdict(float)
    inner = [0.0]
    with ExitStack() as stack:
        for owner, name, stage in CLOCKS:
            clocked = _clocked(getattr(owner, name), stage, seconds, inner)
            stack.enter_context(mock.patch.object(owner, name, clocked))
        yield seconds


def _clocked(
    function: Callable[..., Any], stage: str, seconds: dict[str, float], inner: list[float]
) -> Callable[..., Any]:
    """`inner` holds, for every clocked call that is running, what clocked calls in it took."""

    def clocked(*args: Any, **options: Any) -> Any:
        inner.append(0.0)
        start = time.process_time()
        try:
            return function(*args, **options)
        finally:
            took = time.process_time() - start
            seconds[stage] += took - inner.pop()
            inner[-1] += took

    return clocked


def _floor(
    place: Neighborhood, settings: VicinalSettings, model: str, rate: float, bandwidth: float
) -> float:
    items, width = place.ratings.item_count, 64
    rows, ratings = len(place), len(place.ratings)
    touched = int((place.ratings.item_counts() > 0).sum())
    tables = 1 if model == "mf" else 2
    bytes_moved = 4 * width * (items + 2 * touched * tables)
    step = 2 * ratings * width * PRODUCTS[model]
    if settings.unrated_weight > 0:
        step += 4 * (rows + touched) * width * width
    if settings.step_rule != "curvature":
        step += 6 * touched * width * tables
    return max(bytes_moved / bandwidth, settings.steps * step / rate)


def multiply_rate(size: int = 1024) -> float:
    """Operations a second of a single-precision matrix product, the best of five."""
    left = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    out = np.empty_like(left)
    return 2 * size**3 / _best(lambda: np.matmul(left, left, out=out))


def copy_bandwidth(size: int = 1 << 26) -> float:
    """Bytes a second, read and written, of copying a large array, the best of five."""
    source = np.ones(size // 4, dtype=np.float32)
    target = np.empty_like(source)
    return 2 * size / _best(lambda: np.copyto(target, source))


def _best(action: Callable[[], Any]) -> float:
    found = []
    for _ in range(5):
        start = time.process_time()
        action()
        found.append(time.process_time() - start)
    return min(found)


def _row(found: dict[str, Any]) -> list[str]:
    mean = found["seconds"]
    return [
        found["shape"], found["preset"], found["model"],
        *(milliseconds(mean[stage]) for stage in STAGES),
        milliseconds(sum(mean.values())), milliseconds(found["floor"]),
        f"{found['over_floor']:.1f}", milliseconds(found["server"]),
        f"{found['server_over_floor']:.1f}",
    ]  # fmt: skip


if __name__ == "__main__":
    run(section)
