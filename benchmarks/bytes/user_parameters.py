"""In which form user parameters should be sent.

ML-100K under MixRand, defended; lists of 50. *None* leaves the vectors 0. *Fold-in* derives them
from the ratings in the package (benchmarks/bytes/fold_in.py). *Overlap* is with the lists of
float32. *time* is what it costs the device beside the fine-tuning. *Removed ratings* measures what
leaks: support filtering removes some of a neighbor's ratings, and somebody may try to predict them
from what is sent. The column is the root mean square error of that prediction, in stars.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.bytes.fold_in import fold_in
from benchmarks.cases import LIST_LENGTH, WIDTH, some_users
from benchmarks.report import Section, progress, run, table
from client.device import answer
from common.ranking import Counts
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings, preset
from common.wire.rounding import rounded
from server.model_store import ModelStore
from server.recommending.offload import supported
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import Experiment, Prepared, prepare

Table = NDArray[np.float32]

HEADS: Final = (
    "model", "preset", "sent", "bytes", "HR@50", "accuracy@50", "overlap", "time, ms",
    "removed ratings",
)  # fmt: skip


def section(short: bool) -> Section:
    models = ("mf",) if short else ("mf", "cdae")
    found = [row for name in models for row in sent_by(name, 20 if short else 300)]
    rows = [_sent_row(one) for one in found]
    text = f"## User parameters\n\n{__doc__.strip()}\n\n{table(HEADS, rows, texts=3)}\n"
    return Section(text, {"user_parameters": found})


@dataclass
class _Way:
    """One way to send vectors: `make` gives what the fine-tune starts from, [k, d]."""

    name: str
    row_bytes: int
    make: Callable[[Neighborhood], Table]


def _ways(server: Recommender) -> list[_Way]:
    def own(neighborhood: Neighborhood) -> Table:
        return neighborhood.user_parameters["user_embedding"]

    return [
        _Way("float32", 4 * WIDTH, own),
        _Way("float16", 2 * WIDTH, lambda given: own(given).astype(np.float16).astype(np.float32)),
        _Way("int8", WIDTH + 1, lambda given: rounded(own(given))),
        _Way("none", 0, lambda given: np.zeros_like(own(given))),
        _Way("fold-in", 0, lambda given: fold_in(server.version.served, given.ratings)),
    ]


def sent_by(model: str, count: int) -> list[dict[str, Any]]:
    """Every way of sending vectors, with both presets of a model."""
    progress(f"user parameters: {model}")
    prepared = prepare(Experiment("ml-100k", model, "mixrand", 0, list_length=LIST_LENGTH))
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as opened:
        server = prepared.train(opened)
    return [row for name in ("paper", "vicinal") for row in _compare(prepared, server, name, count)]


def _compare(
    prepared: Prepared, server: Recommender, name: str, count: int
) -> list[dict[str, Any]]:
    settings = preset(name, model=server.version.manifest.model)
    ways = _ways(server)
    counts = {way.name: Counts.none(len(prepared.watched)) for way in ways}
    shared: dict[str, list[float]] = {way.name: [] for way in ways}
    seconds: dict[str, list[float]] = {way.name: [] for way in ways}
    errors: dict[str, list[float]] = {way.name: [] for way in ways}
    users = some_users(count, server.user_count).tolist()
    for user in users:
        exact, removed = _exact(server, user, settings)
        first: set[int] = set()
        for way in ways:
            begun = time.thread_time()
            vectors = way.make(exact)
            seconds[way.name].append(time.thread_time() - begun)
            sent = Neighborhood(exact.ratings, {"user_embedding": vectors})
            found = answer(
                server.version,
                sent,
                settings,
                rated=prepared.local.train.items_of(user),
                held_out=prepared.local.held_out_of(user),
                watched=prepared.watched,
                list_length=LIST_LENGTH,
            )
            items = set(found.items.tolist())
            first = first or items
            counts[way.name] += found.counts
            shared[way.name].append(len(first & items) / len(first))
            errors[way.name] += _told(server, sent, removed)
    return [
        {
            "model": server.version.manifest.model, "preset": name, "sent": way.name,
            "bytes": settings.neighbors * way.row_bytes, "hit_ratio": counts[way.name].hit_ratio,
            "accuracy": counts[way.name].accuracy, "users": len(users),
            "overlap": float(np.mean(shared[way.name])),
            "seconds": float(np.median(seconds[way.name])),
            "removed": float(np.sqrt(np.mean(errors[way.name]))) if errors[way.name] else None,
        }
        for way in ways
    ]  # fmt: skip


def _exact(
    server: Recommender, user: int, settings: VicinalSettings
) -> tuple[Neighborhood, list[tuple[int, int, float]]]:
    """A neighborhood before rounding, and removed ratings of neighbors: row, item, rating."""
    members = server.nearest(np.array([user]), settings.neighbors)[0]
    whole = server.ratings.rows(members)
    kept = supported(whole, settings.min_support)
    gone = ~np.isin(whole.items, kept.items)  # an item is kept in all rows or in none
    triples = zip(whole.users[gone], whole.items[gone], whole.ratings[gone], strict=True)
    removed = [(int(row), int(item), float(rating)) for row, item, rating in triples if row]
    own = {name: rows[members] for name, rows in server.stored.user_parameters.items()}
    return Neighborhood(kept, own), removed


def _told(
    server: Recommender, sent: Neighborhood, removed: list[tuple[int, int, float]]
) -> list[float]:
    """Squared errors, in stars, of what the model predicts for removed ratings."""
    if not removed:
        return []
    served = server.version.served
    parameters = {**served.parameters, **sent.user_parameters}
    embedding = served.model.encode(parameters, sent.ratings.dense())
    rows, items, ratings = (np.array(part) for part in zip(*removed, strict=True))
    predicted = served.model.decode_pairs(parameters, embedding[rows], items)
    squares: list[float] = np.square((predicted - ratings) * sent.ratings.scale.maximum).tolist()
    return squares


def _sent_row(found: dict[str, Any]) -> list[str]:
    return [
        found["model"], found["preset"], found["sent"], f"{found['bytes']:,}",
        f"{found['hit_ratio']:.3f}", f"{found['accuracy']:.3f}", f"{found['overlap']:.3f}",
        f"{1000 * found['seconds']:.2f}",
        "–" if found["removed"] is None else f"{found['removed']:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    run(section)
