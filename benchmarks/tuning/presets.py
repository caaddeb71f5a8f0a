"""Preset vicinal of today against the one before it, in turn in one process.

Real ratings, as `vicinal evaluate` reads them; mf, trained as each preset trains it. *before* is
the preset that sought 300 neighbors by embedding, asked for 24 supporters and took four steps; it
is kept here to be compared with. *device* is the fine-tune of one package, *server* an answer with
the search for neighbors and the ranking; p50, in ms of processor time. *package* is the mean of
what is sent, in bytes.
"""

from functools import partial
from typing import Any, Final

import numpy as np

from benchmarks.cases import LIST_LENGTH, serve, shipped, some_users
from benchmarks.report import Section, progress, run, table
from benchmarks.timing import in_turn
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import PRESETS, VicinalSettings
from common.vicinal.tuning import tuned_scores
from server.data.datasets import load_dataset
from server.recommending.recommender import Recommender
from server.training.bases import base_training
from server.training.methods import Training
from server.training.train import TrainingSettings, train

BEFORE: Final = VicinalSettings(300, 0.4, 4, min_support=24)
DATASETS: Final = ("ml-100k", "ml-1m")
# A guard above what was measured of today's ÷ before's, 0.51, and the most bytes of its package.
SHARE: Final = 0.6
MOST_BYTES: Final = 8_000
USERS: Final = 60
HEADS: Final = ("data set", "preset", "k", "device", "server", "package")


def section(short: bool) -> Section:
    found, missed, rows = [], [], []
    for name in DATASETS[: 1 if short else None]:
        before, today = compared(name, budget=4.0 if short else 20.0)
        found += [before, today]
        for one in (before, today):
            times = [f"{1000 * one[side]:.2f}" for side in ("device", "server")]
            size = f"{one['package']:,.0f}"
            rows.append([name, one["preset"], str(one["k"]), *times, size])
        ratios = [today[key] / before[key] for key in ("device", "server", "package")]
        rows.append([name, "today ÷ before", "", *(f"{ratio:.2f}" for ratio in ratios)])
        for side, ratio in zip(("device", "server"), ratios, strict=False):
            if ratio > SHARE:
                missed.append(f"{name}, {side}: {ratio:.2f} of before, at most {SHARE:g} asked")
        if today["package"] > MOST_BYTES:
            missed.append(f"{name}: a package of {today['package']:.0f} bytes")
    text = f"## The preset before\n\n{__doc__.strip()}\n\n{table(HEADS, rows, texts=2)}\n"
    return Section(text, {"presets": found}, missed)


def compared(dataset: str, *, budget: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Before and today on the same users."""
    progress(f"presets: {dataset}")
    ratings = load_dataset(dataset).ratings
    asked = {"before": BEFORE, "today": PRESETS["mf"]["vicinal"]}
    trainings: dict[str, Training | None] = {
        "before": None,
        "today": base_training("mf", "vicinal"),
    }
    servers: dict[str, Recommender] = {}
    for name, training in trainings.items():
        settings = TrainingSettings.on(dataset, model="mf", seed=0, robust=training)
        servers[name] = serve(train(ratings, settings), ratings)
    users = some_users(USERS, ratings.user_count).tolist()
    names = list(asked)

    def answer(name: str, user: int) -> None:
        servers[name].recommend(user, asked[name], LIST_LENGTH)

    # First of all: neighbors that were found are kept.
    server = in_turn([partial(answer, name) for name in names], users, budget=budget)
    places: dict[str, dict[int, Neighborhood]] = {
        name: {user: server.neighborhood(user, asked[name]) for user in users}
        for name, server in servers.items()
    }

    def tune(name: str, user: int) -> None:
        tuned_scores(servers[name].version.served, places[name][user], asked[name])

    sizes = {
        name: [
            shipped(place, servers[name].hidden(user, asked[name], place)).ByteSize()
            for user, place in places[name].items()
        ]
        for name in names
    }
    device = in_turn([partial(tune, name) for name in names], users, budget=budget)
    sides = zip(names, device.medians, server.medians, strict=True)
    before, today = (
        {
            "dataset": dataset, "preset": name, "k": asked[name].neighbors,
            "device": float(tuned), "server": float(answered),
            "package": float(np.mean(sizes[name])),
        }
        for name, tuned, answered in sides
    )  # fmt: skip
    return before, today


if __name__ == "__main__":
    run(section)
