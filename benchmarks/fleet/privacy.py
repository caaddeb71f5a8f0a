"""What it costs that reports keep something to themselves: the error of a fleet's hit ratio.

    python -m benchmarks.fleet.privacy [--short]

Every user of MovieLens 100K is answered once, under attack and defended. Then reports are made 200
times, with noise on the sums or on each device, and what they come to is compared with the truth.
"""

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.report import Section, progress, run, table
from client.device import answer
from common.ranking import Counts
from common.report_privacy import (
    OUTCOMES,
    Draws,
    Estimate,
    answer_one,
    central_estimate,
    local_estimate,
    outcome,
)
from common.vicinal.settings import capped, preset
from server.model_store import ModelStore
from sims.evaluation.defenses import defense_named
from sims.evaluation.experiment import Experiment, prepare

EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
REPEATS: Final = 200
SHORT_REPEATS: Final = 20
MEASURES: Final = ("hit_ratio", "accuracy")
HEADS: Final = (
    *("noise", "epsilon", "hit ratio: mean error", "measured", "told"),
    *("accuracy: mean error", "measured", "told"),
)


def section(short: bool) -> Section:
    """One row for each mechanism and epsilon."""
    dataset = "synthetic:120x80" if short else "ml-100k"
    users = answered(dataset)
    total = sum(users, Counts.none(len(users[0].hits)))
    truth = {"hit_ratio": total.hit_ratio, "accuracy": total.accuracy}
    repeats = SHORT_REPEATS if short else REPEATS
    figures: dict[str, Any] = {"dataset": dataset, "users": len(users), **truth, "rows": []}
    for kind in ("central", "local"):
        for epsilon in EPSILONS:
            progress(f"{kind}:{epsilon:g}")
            found = [
                estimated(kind, users, epsilon, number).measures(total.eligible)
                for number in range(repeats)
            ]
            one: dict[str, Any] = {"kind": kind, "epsilon": epsilon}
            for name, right in truth.items():
                missed = np.array([float(str(each[name])) - right for each in found])
                told = [each["error"][name] for each in found]  # type: ignore[index]
                one[name] = {
                    "bias": float(missed.mean()),
                    "measured": float(np.sqrt(np.square(missed).mean())),
                    "told": float(np.median(told)),
                }
            figures["rows"].append(one)
    rows = [
        [one["kind"], f"{one['epsilon']:g}"]
        + [f"{one[name][key]:.4f}" for name in MEASURES for key in ("bias", "measured", "told")]
        for one in figures["rows"]
    ]
    text = (
        "## What private reports cost\n\n"
        f"{dataset}, {len(users)} users, attack mixrand, preset vicinal: hit ratio "
        f"{truth['hit_ratio']:.4f}, accuracy {truth['accuracy']:.4f}. Of {repeats} times that "
        "reports were made: the mean error, the root of the mean square (measured), and the "
        f"standard error that the result tells.\n\n{table(HEADS, rows)}\n"
    )
    return Section(text, figures)


def answered(dataset: str) -> list[Counts]:
    """Counts of every user, defended."""
    prepared = prepare(Experiment(dataset=dataset))
    robust = defense_named("rvd", preset="vicinal").robust
    with tempfile.TemporaryDirectory() as folder, ModelStore(Path(folder) / "store") as store:
        recommender = prepared.train(store, robust=robust)
        settings = capped(preset("vicinal"), prepared.user_count)
        return [
            answer(
                recommender.version,
                recommender.neighborhood(user, settings),
                settings,
                rated=prepared.local.train.items_of(user),
                held_out=prepared.local.held_out_of(user),
                watched=prepared.watched,
                list_length=prepared.experiment.list_length,
            ).counts
            for user in range(recommender.user_count)
        ]


def estimated(kind: str, users: Sequence[Counts], epsilon: float, number: int) -> Estimate:
    """Of one time that reports are made."""
    if kind == "central":
        total = sum(users, Counts.none(len(users[0].hits)))
        outcomes = np.bincount([outcome(each) for each in users], minlength=OUTCOMES).tolist()
        return central_estimate(total, outcomes, epsilon, random.Random(number).randrange)
    secret = number.to_bytes(32, "big")
    reports = [answer_one(each, epsilon, Draws(secret, str(at))) for at, each in enumerate(users)]
    return local_estimate(np.sum(reports, axis=0).tolist(), epsilon)


if __name__ == "__main__":
    run(section)
