"""Exact and approximate search for neighbors: `python -m benchmarks.serving.neighbors`.

Prints a Markdown section. Searches are asked for the same users in turns, on one thread, and
timed in processor time, which other work on the machine stretches less than time on the wall.

Shapes: U users, d = 64, k neighbors.
"""

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import faiss
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.files import write_output
from common.threads import limit_threads
from server.recommending.inverted_lists import LARGEST_SHARE, RECALL
from server.recommending.neighbor_cache import NeighborCache
from server.recommending.neighbors import LISTS_FROM, NeighborIndex

Table = NDArray[np.float32]
# The nearest users of one user, in any order.
Search = Callable[[int, int], NDArray[np.int64]]

WIDTH: Final = 64
COUNTS: Final = (12, 100, 200)
# Users, and whether they come in clusters.
CASES: Final = (
    (10_000, True),
    (30_000, True),
    (100_000, True),
    (100_000, False),
    (1_000_000, True),
)
SHORT_CASES: Final = ((2_000, True), (2_000, False))
CLUSTER_USERS: Final = 1000
SPREAD: Final = 0.5
# HNSW is measured beside the rest where building it takes a minute at most.
HNSW_USERS: Final = 100_000
HNSW_LINKS: Final = 32
HNSW_EFFORTS: Final = (16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Row:
    """One search over one set of embeddings; milliseconds and recall by k."""

    users: int
    clustered: bool
    search: str
    build_seconds: float
    mebibytes: float
    milliseconds: dict[int, float]
    recall: dict[int, float]


def embeddings(users: int, *, clustered: bool) -> Table:
    """Synthetic users [U, 64]: clusters of about 1000, or uniform in a cube."""
    rng = np.random.default_rng(users)
    if not clustered:
        return rng.random((users, WIDTH), dtype=np.float32)
    centers = rng.standard_normal((max(2, users // CLUSTER_USERS), WIDTH), dtype=np.float32)
    noise = rng.standard_normal((users, WIDTH), dtype=np.float32)
    table: Table = centers[rng.integers(0, len(centers), users)] + np.float32(SPREAD) * noise
    return table


def timed(build: Callable[[], NeighborIndex | faiss.IndexHNSWFlat]) -> tuple[object, float]:
    start = time.process_time()
    built = build()
    return built, time.process_time() - start


def hnsw(table: Table) -> faiss.IndexHNSWFlat:
    index = faiss.IndexHNSWFlat(WIDTH, HNSW_LINKS)
    index.add(table)
    return index


def search_hnsw(index: faiss.IndexHNSWFlat, table: Table, effort: int) -> Search:
    def search(user: int, count: int) -> NDArray[np.int64]:
        index.hnsw.efSearch = max(effort, count)
        found: NDArray[np.int64] = index.search(table[user][None], count)[1][0]
        return found

    return search


def measure(
    searches: dict[str, Search], exact: Search, count: int, asked: list[int]
) -> dict[str, tuple[float, float]]:
    """Median milliseconds and mean recall of each search, all asked in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    shares: dict[str, list[float]] = {name: [] for name in searches}
    for user in asked:
        true = exact(user, count)
        for name, search in searches.items():
            start = time.thread_time()
            found = search(user, count)
            seconds[name].append(time.thread_time() - start)
            shares[name].append(float(np.isin(true, found).mean()))
    return {
        name: (1e3 * float(np.median(seconds[name])), float(np.mean(shares[name])))
        for name in searches
    }


def least_effort(index: faiss.IndexHNSWFlat, table: Table, exact: Search, count: int) -> Search:
    """The first effort that reaches the recall for users other than those who are measured."""
    sample = np.random.default_rng(0).choice(len(table), 50, replace=False).tolist()
    for effort in HNSW_EFFORTS:
        search = search_hnsw(index, table, effort)
        if measure({"": search}, exact, count, sample)[""][1] >= RECALL:
            break
    return search


def case(users: int, clustered: bool) -> Iterator[Row]:
    """All searches over one set of embeddings."""
    table = embeddings(users, clustered=clustered)
    asked = np.random.default_rng(1).choice(users, 100, replace=False).tolist()
    indices = {
        "exact": timed(lambda: NeighborIndex(table, lists_from=math.inf)),
        "IVF": timed(lambda: NeighborIndex(table, lists_from=0)),
    }
    if clustered and users <= HNSW_USERS:
        indices["HNSW"] = timed(lambda: hnsw(table))
    sizes = {name: len(pickle.dumps(index)) / 2**20 for name, (index, _) in indices.items()}

    def search_of(name: str, count: int) -> Search:
        index = indices[name][0]
        if isinstance(index, NeighborIndex):
            return lambda user, k: index.neighbors([user], k)[0]
        assert isinstance(index, faiss.IndexHNSWFlat)
        return least_effort(index, table, search_of("exact", count), count)

    found = {
        count: measure(
            {name: search_of(name, count) for name in indices},
            search_of("exact", count),
            count,
            asked,
        )
        for count in COUNTS
    }
    for name, (index, seconds) in indices.items():
        refused = name == "IVF" and isinstance(index, NeighborIndex) and not index.rungs
        yield Row(
            users,
            clustered,
            "IVF refused, exact" if refused else name,
            seconds,
            sizes[name],
            {count: found[count][name][0] for count in COUNTS},
            {count: found[count][name][1] for count in COUNTS},
        )


def cached_microseconds() -> float:
    """Median time of a list that is in the cache."""
    cache, seconds = NeighborCache(), []
    for _ in range(1001):
        start = time.thread_time()
        cache.get("version", 0, 200, lambda: np.arange(200))
        seconds.append(time.thread_time() - start)
    return 1e6 * float(np.median(seconds))


def line(row: Row) -> str:
    kind = "clustered" if row.clustered else "uniform"
    cells = [f"{row.users:,}", kind, row.search, f"{row.build_seconds:.1f}"]
    cells.append(f"{row.mebibytes:.0f}")
    for count in COUNTS:
        cells += [f"{row.milliseconds[count]:.3f}", f"{row.recall[count]:.4f}"]
    return f"| {' | '.join(cells)} |"


def crossing(rows: list[Row], count: int) -> str:
    """From how many clustered users on inverted lists are faster than an exact search."""
    times = {(row.users, row.search): row.milliseconds[count] for row in rows if row.clustered}
    sizes = sorted({users for users, _ in times})
    faster = [
        users for users in sizes if times.get((users, "IVF"), math.inf) < times[users, "exact"]
    ]
    return f"{faster[0]:,} users" if faster else "no size measured"


def main(
    short: Annotated[bool, typer.Option("--short", help="Small cases only.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all rows here.", metavar="FILE")
    ] = None,
) -> None:
    """Measure every case and print a Markdown section."""
    limit_threads()
    console = Console(highlight=False, soft_wrap=True)
    console.print("## Searching neighbors\n")
    console.print(
        f"One query on one thread, d = {WIDTH}: median milliseconds of processor time, and recall\n"
        "against the exact search. Building is in seconds of processor time. MiB are those of the\n"
        "index, with embeddings.\n\n"
        f"Clusters have about {CLUSTER_USERS} users. Uniform embeddings are harder: where inverted "
        f"lists (IVF)\ndo not reach recall {RECALL} within {LARGEST_SHARE:.0%} of them, the search "
        f"stays exact. Servers use them\nfrom {LISTS_FROM:,} users on, this table at any size."
        "\n"
    )
    heads = ["users", "embeddings", "search", "build, s", "MiB"]
    for count in COUNTS:
        heads += [f"k = {count}, ms", "recall"]
    console.print(f"| {' | '.join(heads)} |")
    console.print("|---:|---|---|" + "---:|" * (len(heads) - 3))
    rows: list[Row] = []
    for users, clustered in SHORT_CASES if short else CASES:
        for row in case(users, clustered):
            rows.append(row)
            console.print(line(row))
    where = ", ".join(f"{crossing(rows, count)} for k = {count}" for count in COUNTS)
    console.print(f"\nSmallest clustered case in which IVF is faster than exact: {where}.")
    cached = cached_microseconds()
    console.print(f"\nA list of 200 neighbors from the cache: {cached:.1f} µs.")
    if json_file is not None:
        result = {"rows": [asdict(row) for row in rows], "cached_microseconds": cached}
        write_output(json_file, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
