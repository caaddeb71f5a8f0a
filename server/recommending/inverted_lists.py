"""Approximate search: users in inverted lists (faiss's IVF), of which a search scans a few.

A list has the users who are nearest to one k-means center. How many of the nearest lists a search
scans is measured: the least number that finds nearly all of the neighbors that an exact search
finds, for a sample of the users themselves. For embeddings without clusters that number is too
large to gain anything, and then there are no lists.

Everything is seeded and runs on one thread: the same embeddings give the same lists.

Shapes: U users, d embedding width, k neighbors.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import partial
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
# A user in a list costs more to look at than one in a flat table: with a larger share of the
# lists than this, little or nothing would be gained.
LARGEST_SHARE: Final = 0.25
# Of k-means: lists as a multiple of √U, rounds, and users per list from which centers are learned.
LISTS_PER_ROOT: Final = 2
ROUNDS: Final = 10
USERS_PER_CENTER: Final = 64


@final
@dataclass(frozen=True)
class Rung:
    """The lists scanned for up to `neighbors` neighbors, and the recall measured in the sample.

    probes  lists that a search scans
    recall  share of the true neighbors that it finds: the mean over sampled users
    lowest  the same for the sampled user for whom it is lowest
    """

    neighbors: int
    probes: int
    recall: float
    lowest: float


@final
class InvertedLists:
    """A faiss index of U users in inverted lists, and how many lists to scan."""

    def __init__(self, embeddings: Table, count: int) -> None:
        """Learns `count` lists from embeddings [U, d]; `rungs` are empty until measured."""
        self.count = count
        self.rungs: tuple[Rung, ...] = ()
        width = embeddings.shape[1]
        self._index = faiss.IndexIVFFlat(faiss.IndexFlatL2(width), width, count)
        self._index.cp.niter = ROUNDS
        self._index.cp.min_points_per_centroid = 1
        self._index.cp.max_points_per_centroid = USERS_PER_CENTER
        self._index.train(embeddings)
        self._index.add(embeddings)
        self._index.make_direct_map()  # to find a user's embedding again

    def search(self, user: int, count: int) -> NDArray[np.int64]:
        """The `count` users nearest to one of them, nearest first, [k].

        Lists that have fewer users than that, and more neighbors than were measured, lead to
        an exact search.
        """
        query = np.asarray(self._index.reconstruct(user), dtype=np.float32)[None]
        for rung in self.rungs:
            if count <= rung.neighbors:
                found = self.look(query, count, rung.probes)[1]
                if found[-1] >= 0:
                    return found
                break
        return self.look(query, count, self.count)[1]

    def look(self, query: Table, count: int, probes: int) -> tuple[Table, NDArray[np.int64]]:
        """Squared distances and users found in the nearest lists; missing users are -1, [k]."""
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probes
        distances, found = self._index.search(query, count, params=parameters)
        return distances[0], found[0]


def measured_lists(embeddings: Table) -> InvertedLists | None:
    """Lists in which searches for every number of RUNGS reach RECALL, or None."""
    users = len(embeddings)
    with threadpool_limits(limits=1):
        lists = InvertedLists(embeddings, min(users, round(LISTS_PER_ROOT * math.sqrt(users))))
        rng = np.random.default_rng(SAMPLE_SEED)
        sample = np.sort(rng.choice(users, min(SAMPLE, users), replace=False))
        sample_recall = _RecallSample(lists, embeddings[sample], min(RUNGS[-1], users))
        most = int(LARGEST_SHARE * lists.count)
        sizes = [min(neighbors, users) for neighbors in RUNGS]
        if most < 1 or not all(sample_recall.reached(size, most) for size in sizes):
            return None
        for size in sizes:
            probes = 1 + bisect_left(range(1, most), True, key=partial(sample_recall.reached, size))
            recalls = sample_recall.recalls(size, probes)
            rung = Rung(size, probes, float(recalls.mean()), float(recalls.min()))
            lists.rungs = (*lists.rungs, rung)
    return lists


@final
class _RecallSample:
    """Searches for the neighbors of sampled users, compared with an exact search."""

    def __init__(self, lists: InvertedLists, queries: Table, most: int) -> None:
        self._lists = lists
        self._queries = [query[None] for query in queries]
        self._distances = [lists.look(query, most, lists.count)[0] for query in self._queries]

    def recalls(self, count: int, probes: int) -> NDArray[np.float64]:
        """For every sampled user, the share of its `count` neighbors that is found."""
        # By distance and not by name: of twins, either may be found.
        found = [
            np.count_nonzero(self._lists.look(query, count, probes)[0] <= distances[count - 1])
            for query, distances in zip(self._queries, self._distances, strict=True)
        ]
        return np.array(found) / count

    def reached(self, count: int, probes: int) -> bool:
        """Whether the mean recall is RECALL at least, two standard errors of it left out."""
        recalls = self.recalls(count, probes)
        error = recalls.std() / math.sqrt(len(recalls))
        return bool(recalls.mean() - 2 * error >= RECALL)
