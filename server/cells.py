"""Approximate search: users sorted into cells, of which a search looks into the nearest few.

Cells are faiss's inverted file over k-means centers. How many of them a search looks into is
measured: the first number on a ladder that finds nearly all of the neighbors that an exact search
finds for a sample of the users themselves. Embeddings without clusters have no such number that
is worth its while, and then there are no cells.

Everything is seeded and runs on one thread: the same embeddings give the same cells.

Shapes: U users, d embedding width, k neighbors.
"""

import math
from dataclasses import dataclass
from typing import Final, final

import faiss
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

Table = NDArray[np.float32]

# What a search has to find of the true neighbors, on average over users.
RECALL: Final = 0.99
# The numbers of neighbors for which it is measured; more than the last are searched exactly.
RUNGS: Final = (12, 100, 200)
# Users on whom it is measured, drawn from a seed.
SAMPLE: Final = 256
SAMPLE_SEED: Final = 0
# A user in a cell costs about twice as much as one in a flat table (benchmarks/neighbors.py), so
# that looking into more cells than this would not be faster.
LARGEST_SHARE: Final = 0.25
# Of k-means: cells as a multiple of √U, rounds, and users per cell from which centers are learned.
CELLS_PER_ROOT: Final = 2
ROUNDS: Final = 10
USERS_PER_CENTER: Final = 64


@final
@dataclass(frozen=True)
class Rung:
    """How up to `neighbors` neighbors are searched, and what came of it in the sample.

    probes  cells that a search looks into
    recall  share of the true neighbors that it finds: the mean over sampled users
    lowest  the same for the sampled user for whom it is lowest
    """

    neighbors: int
    probes: int
    recall: float
    lowest: float


@final
class Cells:
    """A faiss index of U users in cells, and how many cells to look into."""

    def __init__(self, embeddings: Table, count: int) -> None:
        """Learns `count` cells from embeddings [U, d]; `rungs` are empty until measured."""
        self.count = count
        self.rungs: tuple[Rung, ...] = ()
        width = embeddings.shape[1]
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, count)
        self._index.cp.niter = ROUNDS
        self._index.cp.max_points_per_centroid = USERS_PER_CENTER
        self._index.train(embeddings)
        self._index.add(embeddings)

    def search(self, query: Table, count: int) -> NDArray[np.int64]:
        """The `count` nearest users of one embedding [1, d], nearest first, [k].

        Cells that hold fewer users than that, and more neighbors than were measured, lead to
        an exact search.
        """
        for rung in self.rungs:
            if count <= rung.neighbors:
                found = self.look(query, count, rung.probes)[1]
                if found[-1] >= 0:
                    return found
                break
        return self.look(query, count, self.count)[1]

    def look(self, query: Table, count: int, probes: int) -> tuple[Table, NDArray[np.int64]]:
        """Squared distances and users found in the nearest cells; missing users are -1, [k]."""
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        distances, found = self._index.search(query, count, params=parameters)
        return distances[0], found[0]


def measured_cells(embeddings: Table) -> Cells | None:
    """Cells in which searches for every number of RUNGS reach RECALL, or None.

    Two standard errors of the sample stay between the measured mean and RECALL.
    """
    users = len(embeddings)
    with threadpool_limits(limits=1):
        cells = Cells(embeddings, min(users, round(CELLS_PER_ROOT * math.sqrt(users))))
        rng = np.random.default_rng(SAMPLE_SEED)
        sample = np.sort(rng.choice(users, min(SAMPLE, users), replace=False))
        rungs: list[Rung] = []
        for neighbors in RUNGS:
            probes = rungs[-1].probes if rungs else 1
            rung = _climb(cells, embeddings[sample], min(neighbors, users), probes)
            if rung is None:
                return None
            rungs.append(rung)
    cells.rungs = tuple(rungs)
    return cells


def _climb(cells: Cells, queries: Table, neighbors: int, probes: int) -> Rung | None:
    """The first rung, with `probes` cells and more, that reaches the recall."""
    farthest = [cells.look(query[None], neighbors, cells.count)[0][-1] for query in queries]
    while probes <= LARGEST_SHARE * cells.count:
        recalls = (
            np.array(
                [
                    # By distance and not by name: of twins, either may be found.
                    np.count_nonzero(cells.look(query[None], neighbors, probes)[0] <= limit)
                    for query, limit in zip(queries, farthest, strict=True)
                ]
            )
            / neighbors
        )
        error = recalls.std() / math.sqrt(len(recalls))
        if recalls.mean() - 2 * error >= RECALL:
            return Rung(neighbors, probes, float(recalls.mean()), float(recalls.min()))
        probes = max(probes + 1, probes * 3 // 2)
    return None
