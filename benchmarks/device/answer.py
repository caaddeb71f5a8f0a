"""What one answer costs a device, once its package is here.

Processor time of fine-tuning, ranking and counting (`client.device.answer`) on one core. The
neighborhoods are of users of synthetic ratings, as they are after decoding a package.
"""

from dataclasses import replace
from typing import Any, Final

import numpy as np

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
from client.device import answer
from common.vicinal.neighborhood import Neighborhood
from common.wire.messages import neighborhood_from_wire, neighborhood_to_wire, own_to_wire

# Milliseconds of processor time, p50, at k = 12.
GOALS: Final = {"mf": 10.0, "autorec": 40.0}
NEIGHBORS: Final = 12
PRESETS: Final = ("paper", "vicinal")
HEADS: Final = ("model", "preset", "k", "users", "p50, ms", "p99, ms", "goal, ms")


def section(short: bool) -> Section:
    shape = "ML-100K" if short else "ML-1M"
    figures = [
        measure(shape, model, preset, short=short) for model in MODEL_NAMES for preset in PRESETS
    ]
    missed = [
        f"{one['model']}, preset {one['preset']}: {one['p50']:.1f} ms"
        for one in figures
        if one["goal"] is not None and one["p50"] > one["goal"]
    ]
    rows = [_row(one) for one in figures]
    text = f"## An answer on the device\n\n{__doc__.strip()}\n\n{shape} shape:\n\n"
    return Section(text + table(HEADS, rows, texts=2), {"device_answer": figures}, missed)


def measure(shape_name: str, model: str, preset: str, *, short: bool) -> dict[str, Any]:
    """Answers of one user after another; preset paper with k = 12, vicinal with its own k."""
    progress(f"device_answer: {shape_name} {model} {preset}")
    shape = shape_named(shape_name)
    server, settings = recommender(shape, model), settings_for(shape, model, preset)
    if preset == "paper":
        settings = replace(settings, neighbors=NEIGHBORS)
    version = server.version

    def on_device(given: tuple[int, Neighborhood]) -> None:
        user, rows = given
        answer(
            version,
            rows,
            settings,
            rated=server.ratings.items_of(user),
            held_out=None,
            watched=(),
            list_length=LIST_LENGTH,
        )

    def packages() -> Any:
        for user in some_users(500, shape.users).tolist():
            found = server.neighborhood(user, settings)
            made, own = neighborhood_to_wire(found), own_to_wire(found)
            rated = server.ratings.rows([user])
            received = neighborhood_from_wire(made, version.manifest, own, rated, settings)
            yield user, received.neighborhood

    timed = in_turn([on_device], packages(), budget=1 if short else 20)
    seconds = timed.seconds[0]
    return {
        "model": model,
        "preset": preset,
        "k": settings.neighbors,
        "users": len(seconds),
        "p50": 1000 * float(np.percentile(seconds, 50)),
        "p99": 1000 * float(np.percentile(seconds, 99)),
        "goal": GOALS.get(model) if settings.neighbors == NEIGHBORS and not short else None,
    }


def _row(one: dict[str, Any]) -> list[str]:
    goal = "" if one["goal"] is None else f"{one['goal']:.0f}"
    times = (milliseconds(one[part] / 1000) for part in ("p50", "p99"))
    return [one["model"], one["preset"], str(one["k"]), str(one["users"]), *times, goal]


if __name__ == "__main__":
    run(section)
