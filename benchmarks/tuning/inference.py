"""Recommending with the defense against recommending without, beside the paper's Table 6.

Both give the top 50 of one user. *Plain* scores all items with the model as it was trained. *RVD*
finds the neighbors, gathers their ratings, fine-tunes in a server's compiled loops and scores, with
preset paper and the k of the paper's Table 2. The paper's figures are of another machine, and its
plain answer took 7 to 169 ms. So only the ratios can be compared, and a fast plain answer makes a
ratio look worse.
"""

from typing import Any, Final

import numpy as np

from benchmarks.cases import (
    LIST_LENGTH,
    MODEL_NAMES,
    plain_answer,
    recommender,
    settings_for,
    shape_named,
    some_users,
)
from benchmarks.report import Section, milliseconds, progress, run, table
from benchmarks.timing import in_turn
from server.recommending import compiled
from sims.grid import paper_tables

# RVD over plain, ML-1M shape: twice what was measured.
MOST: Final = {"mf": 20.0, "autorec": 45.0}
HEADS: Final = (
    "model", "shape", "k", "users", "plain p50, ms", "RVD p50, ms", "RVD p99, ms", "ratio",
    "ratio in the paper (Yelp)",
)  # fmt: skip


def section(short: bool) -> Section:
    names = tuple(MOST) if short else MODEL_NAMES
    figures = [measure("ML-1M" if short else "Yelp", name, short=short) for name in names]
    missed = [
        f"{found['model']}: RVD takes {found['ratio']:.0f} times plain"
        for found in figures
        if short and found["ratio"] > MOST[found["model"]]
    ]
    text = f"## With the defense and without\n\n{__doc__.strip()}\n\n"
    rows = [_row(found) for found in figures]
    return Section(text + table(HEADS, rows, texts=2), {"inference": figures}, missed)


def measure(shape_name: str, model: str, *, short: bool) -> dict[str, Any]:
    """Whole answers of one user at a time, in turn with and without."""
    progress(f"inference: {shape_name} {model}")
    shape = shape_named(shape_name)
    server, settings = recommender(shape, model), settings_for(shape, model, "paper")
    compiled.warm()
    timed = in_turn(
        [
            lambda user: plain_answer(server, user),
            lambda user: server.recommend(user, settings, LIST_LENGTH, tune=compiled.tuned_scores),
        ],
        some_users(500, shape.users).tolist(),
        budget=2 if short else 20,
    )
    plain, defended = timed.medians
    before, after = (paper_tables.seconds(model, name) or np.nan for name in ("none", "rvd"))
    return {
        "shape": shape_name, "model": model, "k": settings.neighbors,
        "users": len(timed.answers), "plain": plain, "rvd": defended,
        "rvd_p99": float(np.quantile(timed.seconds[1], 0.99)), "ratio": defended / plain,
        "paper_ratio": after / before,
    }  # fmt: skip


def _row(found: dict[str, Any]) -> list[str]:
    return [
        found["model"], found["shape"], str(found["k"]), str(found["users"]),
        milliseconds(found["plain"]), milliseconds(found["rvd"]), milliseconds(found["rvd_p99"]),
        f"{found['ratio']:.1f}", f"{found['paper_ratio']:.1f}",
    ]  # fmt: skip


if __name__ == "__main__":
    run(section)
