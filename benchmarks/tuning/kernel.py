"""The kernel against Algorithm 1 as it is written (sims/theory/reference.py), with equal answers.

The *kernel* is the fine-tuning that serves. *device* is the kernel in numpy. *server* has compiled
loops for preset paper, and is the same kernel for preset vicinal. All run in this process on one
thread, in turn on the same neighborhoods. Times are of the fine-tuning with the scores of all
items, without neighbor search and ranking.

The reference copies the model's shared tables and the neighbors' own rows. It takes the dense loss
over k × I entries, autograd, and the step over whole tables. It was made no slower than it has to
be: it copies no vectors of users outside the neighborhood, which a copy of the whole model would
hold and step as well. It computes no proximal distance where λ = 0, and no matrix for each item.

Answers are compared in double precision, where scores must be equal to 10⁻⁴ of the largest
(*double*, the worst of both). Sums are taken in another order, and in single precision Adagrad and
Adam then take whole steps along gradients that are only rounding errors. *single* is the server's
median difference of scores there. The last column is the share of users whose top 50 from the
server is the reference's, in the same order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.cases import (
    LIST_LENGTH,
    MODEL_NAMES,
    SHAPES,
    recommender,
    settings_for,
    shape_named,
    some_users,
)
from benchmarks.report import Section, milliseconds, progress, run, table
from benchmarks.timing import in_turn
from common.ranking import top_items
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.tuning import ServedModel, tuned_scores
from server.recommending import compiled
from sims.theory.reference import reference_scores

# Scores that differ by less than this share of the largest score are equal.
TOLERANCE: Final = 1e-4


@dataclass(frozen=True)
class Case:
    """k is the preset's, in preset paper the paper's Table 2, unless it is given."""

    shape: str
    preset: str
    model: str
    neighbors: int | None = None


# Reference over kernel: what a server must reach, then a guard below what a device was measured at.
FLOORS: Final = {
    Case("ML-1M", "paper", "mf"): (10.0, 7.0),
    Case("ML-1M", "paper", "nsvd", 12): (10.0, 7.0),
    Case("ML-1M", "paper", "autorec"): (5.0, 5.0),
    Case("ML-1M", "paper", "cdae"): (5.0, 5.0),
    Case("ML-1M", "vicinal", "mf"): (15.0, 10.0),
    Case("Yelp", "paper", "mf"): (30.0, 30.0),
    Case("Yelp", "paper", "nsvd"): (30.0, 10.0),
    Case("Yelp", "paper", "autorec"): (15.0, 7.0),
    Case("Yelp", "paper", "cdae"): (15.0, 7.0),
}
SHORT: Final = [case for case in FLOORS if case.shape == "ML-1M"]
ALL: Final = [
    *(
        Case(shape.name, name, model)
        for shape in SHAPES
        for model in MODEL_NAMES
        for name in ("paper", "vicinal")
    ),
    Case("ML-1M", "paper", "nsvd", 12),
]
HEADS: Final = (
    "shape", "preset", "model", "k", "steps", "touched", "users",
    "reference p50, ms", "device p50, ms", "server p50, ms", "device ratio", "server ratio",
    "server's floor", "double", "single", "same top 50",
)  # fmt: skip


def section(short: bool) -> Section:
    torch.set_num_threads(1)
    figures = [measure(case, short=short) for case in (SHORT if short else ALL)]
    missed = [line for found in figures for line in _missed(found)]
    text = f"## The kernel against Algorithm 1 as it is written\n\n{__doc__.strip()}\n\n"
    rows = [_row(found) for found in figures]
    return Section(text + table(HEADS, rows, texts=3), {"kernel": figures}, missed)


def measure(case: Case, *, short: bool) -> dict[str, Any]:
    """Time and compare one case."""
    progress(f"kernel: {case}")
    shape, model = shape_named(case.shape), case.model
    settings = settings_for(shape, model, case.preset)
    if case.neighbors is not None:
        settings = replace(settings, neighbors=case.neighbors)
    server = recommender(shape, model)
    served = server.version.served
    users = some_users(200, shape.users)
    places = [server.neighborhood(int(user), settings) for user in users[:3]]
    touched = [int((place.ratings.item_counts() > 0).sum()) for place in places]

    def device(place: Neighborhood) -> NDArray[np.float32]:
        return tuned_scores(served, place, settings)

    def on_server(place: Neighborhood) -> NDArray[np.float32]:
        return compiled.tuned_scores(served, place, settings)

    def reference(place: Neighborhood) -> NDArray[np.float32]:
        found: NDArray[np.float32] = reference_scores(served, place, settings).numpy()
        return found

    rest = (server.neighborhood(int(user), settings) for user in users[3:])
    timed = in_turn([reference, device, on_server], (*places, *rest), budget=4 if short else 20)
    same = [
        _list(slow, server.ratings.items_of(user)) == _list(fast, server.ratings.items_of(user))
        for user, (slow, _, fast) in zip(users.tolist(), timed.answers, strict=False)
    ]
    slow, plain, fast = timed.medians
    return {
        "shape": case.shape, "preset": case.preset, "model": model,
        "k": settings.neighbors, "steps": settings.steps, "touched": float(np.median(touched)),
        "users": len(timed.answers), "reference": slow, "device": plain, "server": fast,
        "device_ratio": slow / plain, "server_ratio": slow / fast, "floors": FLOORS.get(case),
        "single": float(np.median([_difference(slow, fast) for slow, _, fast in timed.answers])),
        "same_lists": float(np.mean(same)),
        "double": _in_double(served, places[: 1 if short else 2], settings),
    }  # fmt: skip


def _in_double(served: ServedModel, places: list[Neighborhood], settings: VicinalSettings) -> float:
    """The largest difference where both compute in double precision."""
    exact = ServedModel(served.model, _doubled(served.parameters))
    found = []
    for place in places:
        rows = replace(place, user_parameters=_doubled(place.user_parameters))
        slow = reference_scores(exact, rows, settings).numpy()
        kernels = (tuned_scores, compiled.tuned_scores)
        found += [_difference(slow, kernel(exact, rows, settings)) for kernel in kernels]
    return max(found)


def _doubled(tables: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """In double precision, whatever the type says."""
    return {name: table.astype(np.float64) for name, table in tables.items()}


def _difference(slow: NDArray[np.float32], fast: NDArray[np.float32]) -> float:
    """The largest, as a share of the largest score."""
    return float(np.abs(slow - fast).max() / np.abs(slow).max())


def _list(scores: NDArray[np.float32], rated: NDArray[np.int32]) -> list[int]:
    found: list[int] = top_items(scores, rated, LIST_LENGTH).tolist()
    return found


def _row(found: dict[str, Any]) -> list[str]:
    return [
        found["shape"], found["preset"], found["model"], str(found["k"]), str(found["steps"]),
        f"{found['touched']:.0f}", str(found["users"]), milliseconds(found["reference"]),
        milliseconds(found["device"]), milliseconds(found["server"]),
        f"{found['device_ratio']:.1f}", f"{found['server_ratio']:.1f}",
        "" if found["floors"] is None else f"{found['floors'][0]:g}",
        f"{found['double']:.0e}", f"{found['single']:.0e}", f"{100 * found['same_lists']:.1f} %",
    ]  # fmt: skip


def _missed(found: dict[str, Any]) -> list[str]:
    case = f"{found['shape']}, {found['preset']}, {found['model']}"
    lines = []
    for place, floor in zip(("server", "device"), found["floors"] or (), strict=False):
        ratio = found[f"{place}_ratio"]
        if ratio < floor:
            lines.append(f"{case}, {place}: {ratio:.1f} times the reference, not {floor:g}")
    if found["double"] > TOLERANCE:
        lines.append(f"{case}: in double precision scores differ by {found['double']:.1e}")
    return lines


if __name__ == "__main__":
    run(section)
