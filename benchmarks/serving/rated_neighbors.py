"""Search for neighbors by ratings: `python -m benchmarks.serving.rated_neighbors`.

Prints a Markdown section. Searches are asked for the same users in turns, on one thread, and
timed in processor time, which other work on the machine stretches less than time on the wall.

Shapes: U users, I items, N ratings, h hashes.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numba
import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.serving.skewed_ratings import skewed_ratings
from common.files import write_output
from common.ratings import RatingMatrix
from common.threads import limit_threads
from server.recommending.rated_loops import keep_largest
from server.recommending.rated_neighbors import RatedNeighborIndex

# The `count` most similar users of one user, itself first.
Search = Callable[[int, int], NDArray[np.int64]]
Users = NDArray[np.int32]

COUNTS: Final = (80, 300)
# Users, items, ratings; the first is the shape of MovieLens 25M.
CASES: Final = ((162_541, 59_047, 25_000_000), (1_000_000, 59_047, 100_000_000))
SHORT_CASES: Final = ((3_000, 2_000, 200_000),)
ASKED: Final = 200
HASHES: Final = 128
# Of the pruned search: which share of a user's items, the rarest, is counted before others.
RARE: Final = (0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Row:
    """One search in one set of ratings; milliseconds, ratios and recall by k.

    memory  as a multiple of the ratings' own
    ratio   the plain scan's median time divided by this one's
    """

    shape: tuple[int, int, int]
    search: str
    build_seconds: float
    memory: float
    p50: dict[int, float]
    p99: dict[int, float]
    ratio: dict[int, float]
    recall: dict[int, float]


class PlainScan:
    """One list of raters an item, and one counter a user."""

    def __init__(self, ratings: RatingMatrix) -> None:
        self.ratings = ratings
        self.lengths = np.diff(ratings.indptr)
        order = np.argsort(ratings.items, kind="stable")
        self.users = ratings.users[order].astype(np.int32)
        self.starts = np.concatenate([[0], np.cumsum(ratings.item_counts())])
        self.nbytes = self.users.nbytes + self.starts.nbytes

    def __call__(self, user: int, count: int) -> NDArray[np.int64]:
        shared = self.shared(self.ratings.items_of(user))
        shared[user] = 0
        keys, found = np.zeros(count - 1), np.full(count - 1, len(shared))
        keep_largest(keys, found, shared, self.ratings.indptr, 0)
        return np.concatenate([[user], found[np.lexsort((found, -keys))]])

    def shared(self, items: NDArray[np.int32]) -> Users:
        return _counted(items, self.starts, self.users, len(self.lengths))


@numba.njit(cache=True)
def _counted(items: Users, starts: NDArray[np.int64], users: Users, user_count: int) -> Users:
    counts = np.zeros(user_count, dtype=np.int32)
    for item in items:
        for n in range(starts[item], starts[item + 1]):
            counts[users[n]] += 1
    return counts


class MinHash:
    """Users by how many of h hashed minima they share (Broder 1997): an estimate of Jaccard's."""

    def __init__(self, ratings: RatingMatrix) -> None:
        rng = np.random.default_rng(0)
        ranks = np.array([rng.permutation(ratings.item_count) for _ in range(HASHES)])
        self.minima = _minima(ratings.indptr, ratings.items, ranks.astype(np.int32))
        self.nbytes = self.minima.nbytes

    def __call__(self, user: int, count: int) -> NDArray[np.int64]:
        agreeing = (self.minima == self.minima[:, user, None]).sum(0, dtype=np.int16)
        agreeing[user] = HASHES + 1
        found: NDArray[np.int64] = np.argpartition(-agreeing, count - 1)[:count]
        return found


@numba.njit(cache=True)
def _minima(indptr: NDArray[np.int64], items: Users, ranks: Users) -> NDArray[np.uint16]:
    """Two bytes of every hash's least rank among a user's items, [h, U]."""
    minima = np.empty((len(ranks), len(indptr) - 1), dtype=np.uint16)
    for user in range(len(indptr) - 1):
        for h in range(len(ranks)):
            least = np.int32(2**31 - 1)
            for n in range(indptr[user], indptr[user + 1]):
                least = min(least, ranks[h, items[n]])
            minima[h, user] = least & 65535
    return minima


def timed(build: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    built = build()
    return built, time.process_time() - start


def case(shape: tuple[int, int, int]) -> tuple[list[Row], str]:
    """All searches over one set of ratings, and what pruning could save."""
    ratings = skewed_ratings(*shape)
    own = ratings.indptr.nbytes + ratings.items.nbytes + ratings.levels.nbytes
    asked = np.random.default_rng(1).choice(ratings.user_count, ASKED, replace=False).tolist()
    RatedNeighborIndex(ratings)  # compiled
    plain, plain_seconds = timed(lambda: PlainScan(ratings))
    index, seconds = timed(lambda: RatedNeighborIndex(ratings))
    # Once more those who are asked for.
    added = ratings.stack(ratings.rows(asked))
    updated, updated_seconds = timed(lambda: index.updated(added))
    hashed, hashed_seconds = timed(lambda: MinHash(ratings))
    searches: dict[str, tuple[Search, float, int]] = {
        "plain scan": (plain, plain_seconds, plain.nbytes),
        "lists and bitmaps": (asking(index), seconds, index.nbytes),
        f"the same, {ASKED} users added": (
            asking(updated),
            updated_seconds,
            updated.nbytes,
        ),
        f"MinHash, {HASHES} minima": (hashed, hashed_seconds, hashed.nbytes),
    }
    found = {count: measured(searches, ratings.user_count, count, asked) for count in COUNTS}
    rows = [
        Row(
            shape,
            name,
            built,
            nbytes / own,
            *({count: found[count][name][column] for count in COUNTS} for column in range(4)),
        )
        for name, (_, built, nbytes) in searches.items()
    ]
    return rows, "; ".join(pruned(plain, asked[:50]))


def asking(index: RatedNeighborIndex) -> Search:
    return lambda user, count: index.neighbors([user], count)[0]


def measured(
    searches: dict[str, tuple[Search, float, int]], users: int, count: int, asked: list[int]
) -> dict[str, tuple[float, float, float, float]]:
    """p50, p99, ratio and recall of every search, all asked in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    shares: dict[str, list[float]] = {name: [] for name in searches}
    for user in asked:
        true: NDArray[np.int64] | None = None
        for name, (search, _, _) in searches.items():
            start = time.thread_time()
            found = search(user, count)
            seconds[name].append(time.thread_time() - start)
            true = found if true is None else true
            shares[name].append(float(np.isin(true, found).mean()))
    middle = {name: float(np.median(values)) for name, values in seconds.items()}
    first = next(iter(middle.values()))
    return {
        name: (
            1e3 * middle[name],
            1e3 * float(np.percentile(seconds[name], 99)),
            first / middle[name],
            float(np.mean(shares[name])),
        )
        for name in searches
    }


def pruned(plain: PlainScan, asked: list[int]) -> Iterator[str]:
    """Who can still come in when a user's rare items are counted (max-score bounds).

    The bar is the true k-th key, which a search would have to find first.
    """
    count = COUNTS[0]
    counts = plain.ratings.item_counts()
    for share in RARE:
        work, left = [], []
        for user in asked:
            row = plain.ratings.items_of(user)
            row = row[np.argsort(counts[row], kind="stable")]
            rare, popular = np.split(row, [int(share * len(row))])
            keys = plain.shared(row).astype(np.float64) ** 2 / plain.lengths
            keys[user] = 0
            bar = np.partition(keys, len(keys) - count)[len(keys) - count]
            shared = plain.shared(rare).astype(np.float64)
            most = shared + np.minimum(len(popular), plain.lengths - shared)
            left.append(float((most**2 > bar * plain.lengths).mean()))
            work.append(float(counts[rare].sum() / counts[row].sum()))
        yield f"{np.median(work):.0%} of the work leaves {np.median(left):.0%} of users"


def line(row: Row) -> str:
    cells = [*(f"{number:,}" for number in row.shape), row.search]
    cells += [f"{row.build_seconds:.1f}", f"{row.memory:.2f}"]
    for count in COUNTS:
        cells += [f"{row.p50[count]:.2f}", f"{row.p99[count]:.2f}", f"{row.ratio[count]:.1f}"]
        cells.append("–" if "added" in row.search else f"{row.recall[count]:.4f}")
    return f"| {' | '.join(cells)} |"


def main(
    short: Annotated[bool, typer.Option("--short", help="A small case only.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all rows here.", metavar="FILE")
    ] = None,
) -> None:
    """Measure every case and print a Markdown section."""
    limit_threads()
    console = Console(highlight=False, soft_wrap=True)
    console.print("## Searching neighbors by ratings\n")
    console.print(
        "Users by the cosine of what they rated. One query on one thread: milliseconds of\n"
        "processor time, how many times as fast as the plain scan's median, and the share of its\n"
        "neighbors that are found. Building is in seconds of processor time; for users added it\n"
        "is the update. Memory is a multiple of the ratings' own, and comes beside them. Ratings\n"
        "are synthetic, with the skew of MovieLens 25M, whose shape is the first.\n"
    )
    heads = ["users", "items", "ratings", "search", "build, s", "memory"]
    for count in COUNTS:
        heads += [f"k = {count}: p50, ms", "p99, ms", "× plain", "found"]
    console.print(f"| {' | '.join(heads)} |")
    console.print("|---:|---:|---:|---|" + "---:|" * (len(heads) - 4))
    rows: list[Row] = []
    bounds: list[str] = []
    for shape in SHORT_CASES if short else CASES:
        measured_rows, bound = case(shape)
        for row in measured_rows:
            console.print(line(row))
        rows += measured_rows
        bounds.append(f"Of {shape[0]:,} users: {bound}.")
    console.print(
        f"\nPruning by what the rest of a user's items could add (k = {COUNTS[0]}, the bar known\n"
        "beforehand, rare items first) saves nothing:\n"
    )
    for bound in bounds:
        console.print(bound)
    if json_file is not None:
        result = {"rows": [asdict(row) for row in rows], "pruning": bounds}
        write_output(json_file, (json.dumps(result, indent=2) + "\n").encode())


if __name__ == "__main__":
    typer.run(main)
