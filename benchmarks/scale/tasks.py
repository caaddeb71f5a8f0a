"""What the benchmarks of size measure, each in a process of its own:
`python -m benchmarks.scale.tasks TASK WORDS…`.

`cost_of` starts one and says what it took. Every task prints one line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix

from common.processes import module_command
from common.ratings import RatingMatrix
from common.threads import limit_threads
from server.data.datasets import load_dataset

# Kilobytes of ru_maxrss, but for macOS, which counts bytes.
RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
Told = dict[str, Any]


@dataclass(frozen=True)
class Cost:
    """Processor seconds and the most bytes of memory of one process, and what it said."""

    seconds: float
    peak: int
    told: Told


def cost_of(task: str, *words: str) -> Cost:
    """Of one task. Raises RuntimeError when it fails."""
    command = module_command("benchmarks.scale.tasks", task, *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        text = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{task} ended with {child.returncode}")
    told = json.loads(text.splitlines()[-1])
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * RSS_UNIT, told)


def shape_of(ratings: RatingMatrix) -> list[int]:
    return [ratings.user_count, ratings.item_count, len(ratings)]


def write(dataset: str, file: str, order: str) -> Told:
    """A csv as MovieLens has it: half stars, seconds, ids with gaps; by user, or in no order."""
    ratings = load_dataset(dataset).ratings
    rng = np.random.default_rng(0)
    count = len(ratings)
    halves = ratings.levels + 1 - np.float32(0.5) * rng.integers(2, size=count).astype(np.float32)
    frame = pl.DataFrame(
        {
            "userId": ratings.users.astype(np.int32) + 1,
            "movieId": ratings.items * 3 + 1,
            "rating": halves,
            "timestamp": rng.integers(789_652_009, 1_697_164_147, size=count),
        }
    )
    if order == "shuffled":
        frame = frame.sample(fraction=1, shuffle=True, seed=1)
    frame.write_csv(file)
    return {"bytes": Path(file).stat().st_size}


def read_polars(file: str) -> Told:
    """Polars' lazy reader in narrow types, ids ranked, scipy's CSR."""
    frame = pl.scan_csv(file).select(
        pl.col("userId").cast(pl.Int32),
        pl.col("movieId").cast(pl.Int32),
        pl.col("rating").cast(pl.Float32),
        pl.col("timestamp").cast(pl.Int64),
    )
    table = frame.collect(engine="streaming")
    users, items = (
        np.unique(table[name].to_numpy(), return_inverse=True)[1] for name in ("userId", "movieId")
    )
    matrix = csr_matrix((table["rating"].to_numpy(), (users, items)))
    return {"shape": [*matrix.shape, matrix.nnz]}


def read_vicinal(file: str) -> Told:
    """As every command reads it: checked, with doubts."""
    return {"shape": shape_of(load_dataset(file).ratings)}


def make(dataset: str) -> Told:
    """Synthetic ratings alone."""
    return {"shape": shape_of(load_dataset(dataset).ratings)}


def trainings(dataset: str, model: str, epochs: str) -> Told:
    """Processor seconds of training a model, and of implicit's ALS at its defaults, in turn.

    epochs  of mf; 0 is the published regime
    """
    # A reading is not charged for what trainings bring with them.
    from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415

    from server.training.train import TrainingSettings, train  # noqa: PLC0415

    limit_threads()
    ratings = load_dataset(dataset).ratings
    values: dict[str, Any] = {"model": model}
    if int(epochs):
        values["epochs"] = int(epochs)
    settings = TrainingSettings.model_validate(values)
    table = csr_matrix(
        (ratings.ratings, ratings.items, ratings.indptr),
        shape=(ratings.user_count, ratings.item_count),
        copy=True,
    )
    # What is compiled once and kept is no part of a training.
    few = settings.model_copy(update={"epochs": 1})
    train(ratings.rows(np.arange(ratings.user_count // 4)), few)
    start = time.process_time()
    train(ratings, settings)
    middle = time.process_time()
    model_of_theirs = AlternatingLeastSquares(random_state=0)
    model_of_theirs.fit(table, show_progress=False)
    return {"ours": middle - start, "implicit": time.process_time() - middle}


TASKS: Final[dict[str, Callable[..., Told]]] = {
    "write": write,
    "read_polars": read_polars,
    "read_vicinal": read_vicinal,
    "make": make,
    "trainings": trainings,
}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])) + "\n")
