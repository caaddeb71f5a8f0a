"""What one answer costs a device, once its package is here.

Processor time of fine-tuning, ranking and counting (`client.device.answer`) on one core. The
neighborhoods are of users of synthetic ratings, as they are after decoding a package. Under preset
vicinal the same users are answered from a book, too (`client.device.answer_from_book`), each right
after its answer from rows.
"""

from collections.abc import Callable
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
from client.device import answer, answer_from_book
from common.vicinal.book import BookReader
from common.vicinal.neighborhood import Neighborhood
from common.wire.messages import neighborhood_from_wire, neighborhood_to_wire, own_to_wire
from server.recommending.book import item_book

# Milliseconds of processor time, p50, at k = 12.
GOALS: Final = {"mf": 10.0, "autorec": 40.0}
NEIGHBORS: Final = 12
PRESETS: Final = ("paper", "vicinal")
# Answers from a book in the time of one from rows, at least.
BOOK_FLOOR: Final = 2.0
HEADS: Final = (
    *("model", "preset", "k", "users", "p50, ms", "p99, ms", "goal, ms"),
    *("book, p50, ms", "rows ÷ book"),
)


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
    missed += [
        f"{one['model']}: {one['ratio']:.1f} answers from a book in the time of one from rows"
        for one in figures
        if one["ratio"] is not None and one["ratio"] < BOOK_FLOOR
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

    functions: list[Callable[[tuple[int, Neighborhood]], None]] = [on_device]
    if preset == "vicinal":
        reader = BookReader(version.served, item_book(server.ratings, settings, bytes(32)))

        def from_book(given: tuple[int, Neighborhood]) -> None:
            own = server.ratings.rows([given[0]])
            answer_from_book(reader, own, held_out=None, watched=(), list_length=LIST_LENGTH)

        functions.append(from_book)

    def packages() -> Any:
        for user in some_users(500, shape.users).tolist():
            found = server.neighborhood(user, settings)
            made, own = neighborhood_to_wire(found), own_to_wire(found)
            rated = server.ratings.rows([user])
            received = neighborhood_from_wire(made, version.manifest, own, rated, settings)
            yield user, received.neighborhood

    timed = in_turn(functions, packages(), budget=1 if short else 20)
    seconds = timed.seconds[0]
    book = float(timed.medians[1]) if len(functions) > 1 else None
    return {
        "model": model,
        "preset": preset,
        "k": settings.neighbors,
        "users": len(seconds),
        "p50": 1000 * float(np.percentile(seconds, 50)),
        "p99": 1000 * float(np.percentile(seconds, 99)),
        "goal": GOALS.get(model) if settings.neighbors == NEIGHBORS and not short else None,
        "book": None if book is None else 1000 * book,
        "ratio": None if book is None else float(timed.medians[0]) / book,
    }


def _row(one: dict[str, Any]) -> list[str]:
    goal = "" if one["goal"] is None else f"{one['goal']:.0f}"
    times = (milliseconds(one[part] / 1000) for part in ("p50", "p99"))
    book = ("", "") if one["ratio"] is None else (f"{one['book']:.2f}", f"{one['ratio']:.1f}")
    return [one["model"], one["preset"], str(one["k"]), str(one["users"]), *times, goal, *book]


if __name__ == "__main__":
    run(section)
