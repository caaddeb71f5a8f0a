"""Evaluating every user of a data set in one process, and the memory that a worker takes.

Synthetic ratings of the data sets' shapes. *seconds* are of one process on one thread, with
neighbor search and ranking. Two workers run at once; each maps the model version's file read-only
and answers 20 users with preset vicinal. *resident* counts shared pages in full; *shared out*
counts a page that n processes share as 1/n (Linux's RSS and PSS). *the answers' part* is the growth
of resident memory since before the file was mapped.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks.cases import LIST_LENGTH, recommender, settings_for, shape_named, some_users
from benchmarks.report import Section, progress, run, table
from benchmarks.serving.mapped import save_place, workers_memory
from common.versions.version import encode_version

CASES: Final = (
    ("ML-100K", "mf", "vicinal"),
    ("ML-100K", "mf", "paper"),
    ("ML-1M", "mf", "vicinal"),
    ("ML-100K", "nsvd", "vicinal"),
    ("ML-100K", "autorec", "vicinal"),
    ("ML-100K", "cdae", "vicinal"),
)
WORKERS: Final = 2
ANSWERS: Final = 20


def section(short: bool) -> Section:
    runs = [everybody(*case) for case in CASES[: 2 if short else None]]
    memory = [worker_memory("ML-1M" if short else "Yelp", model) for model in ("mf", "autorec")]
    rows = [
        [run["shape"], run["model"], run["preset"], str(run["users"]), f"{run['seconds']:.1f}",
         f"{1000 * run['seconds'] / run['users']:.2f}"]
        for run in runs
    ]  # fmt: skip
    text = f"## Every user, and memory\n\n{__doc__.strip()}\n\n" + table(
        ("shape", "model", "preset", "users", "seconds", "ms a user"), rows, texts=3
    )
    columns = ("file", "resident", "shared_out", "grown")
    sizes = [
        [found["shape"], found["model"], *(f"{found[name] / 2**20:.1f}" for name in columns)]
        for found in memory
    ]
    heads = (
        "shape", "model", "file, MiB", "resident, MiB", "shared out, MiB", "the answers' part, MiB",
    )  # fmt: skip
    return Section(
        text + "\n\n" + table(heads, sizes, texts=2), {"everybody": runs, "memory": memory}
    )


def everybody(shape_name: str, model: str, name: str) -> dict[str, Any]:
    """Processor seconds of the top 50 of all users."""
    progress(f"everybody: {shape_name} {model} {name}")
    shape = shape_named(shape_name)
    server, settings = recommender(shape, model), settings_for(shape, model, name)
    start = time.process_time()
    for user in range(shape.users):
        server.recommend(user, settings, LIST_LENGTH)
    seconds = time.process_time() - start
    return {
        "shape": shape_name, "model": model, "preset": name, "users": shape.users,
        "seconds": seconds,
    }  # fmt: skip


def worker_memory(shape_name: str, model: str) -> dict[str, Any]:
    """Bytes of one of the workers, after all have answered and while all live."""
    progress(f"memory: {shape_name} {model}")
    shape = shape_named(shape_name)
    server, settings = recommender(shape, model), settings_for(shape, model, "vicinal")
    with TemporaryDirectory() as folder:
        model_file = Path(folder) / "model.safetensors"
        model_file.write_bytes(encode_version(server.version.manifest, server.version.parameters))
        for number, user in enumerate(some_users(ANSWERS, shape.users).tolist()):
            save_place(Path(folder) / f"{number}.npz", server.neighborhood(user, settings))
        found = workers_memory(Path(folder), model, WORKERS)
        size = model_file.stat().st_size
    return {"shape": shape_name, "model": model, "file": size, **found[0]}


if __name__ == "__main__":
    run(section)
