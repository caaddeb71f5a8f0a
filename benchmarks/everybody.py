"""Evaluating every user of a data set in one process, and the memory that a worker takes.

Synthetic ratings of the data sets' shapes. *seconds* are of one process on one thread, neighbor
search and ranking among them. A worker maps the model version's file read-only, answers 20 users
with preset vicinal, and two of them run at once: *resident* counts shared pages in full, *shared
out* counts a page that n processes share as 1/n (Linux's RSS and PSS); *the answers' part* is
how much its resident memory grew from before the file was mapped.
"""

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from benchmarks.cases import LIST_LENGTH, recommender, settings_for, shape_named, some_users
from benchmarks.mapped import mapped_tables
from benchmarks.report import Section, progress, run, table
from common.model_version import encode_version
from common.models import MODELS
from common.neighborhood import Neighborhood
from common.settings import VicinalSettings
from common.threads import limit_threads
from common.vicinal import ServedModel, tuned_scores

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
Memory = dict[str, int]


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
    users = some_users(ANSWERS, shape.users).tolist()
    places = [server.neighborhood(user, settings) for user in users]
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(WORKERS), context.SimpleQueue()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(encode_version(server.version.manifest, server.version.parameters))
        arguments = (path, model, places, settings, barrier, answers)
        workers = [context.Process(target=_worker, args=arguments) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        found: list[Memory] = [answers.get() for _ in workers]
        for worker in workers:
            worker.join()
        size = path.stat().st_size
    return {"shape": shape_name, "model": model, "file": size, **found[0]}


def _worker(
    path: Path,
    model: str,
    places: list[Neighborhood],
    settings: VicinalSettings,
    barrier: Barrier,
    answers: "multiprocessing.SimpleQueue[Memory]",
) -> None:
    limit_threads()
    before = _memory()["Rss"]
    served = ServedModel(MODELS[model], mapped_tables(path))
    scores = [tuned_scores(served, place, settings) for place in places]
    assert np.isfinite(scores).all()
    barrier.wait(timeout=600)
    now = _memory()
    barrier.wait(timeout=600)
    answers.put({"resident": now["Rss"], "shared_out": now["Pss"], "grown": now["Rss"] - before})


def _memory() -> Memory:
    """Bytes by the names of /proc/self/smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    fields = (line.split() for line in lines)
    return {name.rstrip(":"): 1024 * int(count) for name, count, _ in fields}


if __name__ == "__main__":
    run(section)
