"""How the cost of one request grows: log-log slopes of whole requests.

A slope of 1 is linear growth, 0 is none. A request is neighbor search, gathering, fine-tuning,
ranking. One size varies while the others stay; users have 50 ratings each.

U users, I items, k neighbors, T steps.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from benchmarks.cases import LIST_LENGTH, MODEL_NAMES, some_users, trained_on
from benchmarks.report import Section, milliseconds, progress, run, table
from benchmarks.timing import in_turn
from common.vicinal.settings import VicinalSettings, preset
from server.data.synthetic import synthetic
from server.recommending.recommender import Recommender

RATINGS_A_USER: Final = 50


@dataclass(frozen=True)
class Size:
    """A request's sizes; the defaults are where a sweep stands that is about another size."""

    users: int = 2000
    items: int = 2000
    neighbors: int = 50
    steps: int = 10


SWEEPS: Final = {
    "U": [Size(users=users) for users in (1000, 4000, 16_000)],
    "I": [Size(items=items) for items in (1000, 4000, 16_000)],
    "k": [Size(neighbors=count) for count in (25, 100, 400)],
    "T": [Size(steps=steps) for steps in (5, 20, 80)],
}
# Steeper than this and something that should not be touched is.
MOST: Final = {"U": 0.8, "I": 0.8, "k": 1.2, "T": 1.1}
# Behind a sigmoid every step computes k × I entries when α > 0 (docs/decisions/0011-kernel.md).
MOST_DENSE: Final = 1.1
HEADS: Final = ("preset", "model", "swept", "sizes", "p50, ms", "slope", "at most")


def section(short: bool) -> Section:
    figures = [
        measure(name, model, swept, short=short)
        for model in (("mf",) if short else MODEL_NAMES)
        for name in ("paper", "vicinal")
        for swept in SWEEPS
    ]
    missed = [
        f"{found['preset']}, {found['model']}: cost grows with {found['swept']} by a slope of "
        f"{found['slope']:.2f}, over {found['most']:g}"
        for found in figures
        if found["slope"] > found["most"]
    ]
    text = f"## How cost grows\n\n{__doc__.strip()}\n\n"
    rows = [_row(found) for found in figures]
    return Section(text + table(HEADS, rows, texts=5), {"scaling": figures}, missed)


def measure(name: str, model: str, swept: str, *, short: bool) -> dict[str, Any]:
    """One size swept, the requests of all its values in turn."""
    progress(f"scaling: {name} {model} {swept}")
    sizes = SWEEPS[swept]
    timed = in_turn(
        [_request(size, name, model) for size in sizes],
        some_users(200, min(size.users for size in sizes)).tolist(),
        budget=2 if short else 6,
        least=5,
    )
    values = [getattr(size, _FIELDS[swept]) for size in sizes]
    slope = np.polyfit(np.log(values), np.log(timed.medians), 1)[0]
    return {
        "preset": name, "model": model, "swept": swept, "values": values,
        "p50": timed.medians.tolist(), "slope": float(slope),
        "most": MOST_DENSE if (name, model, swept) == ("vicinal", "cdae", "I") else MOST[swept],
    }  # fmt: skip


_FIELDS: Final = {"U": "users", "I": "items", "k": "neighbors", "T": "steps"}
_servers: dict[tuple[int, int, str], Recommender] = {}


def _request(size: Size, name: str, model: str) -> Callable[[int], Any]:
    key = (size.users, size.items, model)
    if key not in _servers:
        ratings = synthetic(size.users, size.items, RATINGS_A_USER * size.users, seed=0)
        _servers[key] = trained_on(ratings, model)
    server, settings = _servers[key], _settings(size, name, model)
    return lambda user: server.recommend(user, settings, LIST_LENGTH)


def _settings(size: Size, name: str, model: str) -> VicinalSettings:
    support = 1 if name == "paper" else None
    chosen = preset(name, model=model, neighbors=size.neighbors, min_support=support)
    return replace(chosen, steps=size.steps)


def _row(found: dict[str, Any]) -> list[str]:
    return [
        found["preset"], found["model"], found["swept"],
        ", ".join(str(value) for value in found["values"]),
        ", ".join(milliseconds(seconds) for seconds in found["p50"]),
        f"{found['slope']:.2f}", f"{found['most']:g}",
    ]  # fmt: skip


if __name__ == "__main__":
    run(section)
