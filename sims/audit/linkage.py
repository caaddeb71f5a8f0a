"""Linkage: a few known ratings find a person's line, or nothing known at all finds its name.

*Linked*: Narayanan and Shmatikov 2008, "Robust De-anonymization of Large Sparse Datasets", section
4: known ratings that a line has, too, count 1/log of how many lines have the item; the best line is
claimed where it stands out from the second best by 1.5 standard deviations of all lines' scores.

*Named*: who may ask for everybody needs to know nothing. The same row comes in the packages of all
whose neighbor it is, and who the neighbors of a row are can be computed from the rows. As a user's
own row that one is taken whose computed neighbors are most of those in the user's package.

Shapes: B people, n lines, U users asked for, I items.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from common.ratings import RatingMatrix
from common.vicinal.settings import Space
from server.recommending.neighbors import NeighborIndex
from server.recommending.rated_neighbors import RatedNeighborIndex
from sims.audit.knowledge import Knowledge
from sims.audit.seen import Seen, distinct, together

# φ of the paper, its section 5.
ECCENTRICITY: Final = 1.5
# Of a package's lines, below which the best match is taken for chance.
LEAST_SHARED: Final = 0.5
NOBODY: Final = -1


@dataclass(frozen=True)
class Claims:
    """What an attacker says of some people: which line is whose; -1 where nothing is said, [B]."""

    lines: NDArray[np.int64]

    def judged(self, owners: NDArray[np.int64], people: NDArray[np.int64]) -> tuple[float, float]:
        """Precision and recall, for whose each line is [n] and who the people are [B].

        Without a claim there is no wrong one: a precision of 1.
        """
        said = self.lines != NOBODY
        right = int((owners[self.lines[said]] == people[said]).sum())
        precision = right / int(said.sum()) if said.any() else 1.0
        return precision, right / max(len(people), 1)


def linked(seen: Seen, known: RatingMatrix, knowledge: Knowledge) -> Claims:
    """Which line each person of `known` [B, I] has. `seen` has one line a user (distinct)."""
    claims = np.full(known.user_count, NOBODY)
    if seen.ratings is None or len(seen) < 2:
        return Claims(claims)
    ratings = seen.ratings
    supports = ratings.item_counts()
    weights = 1 / np.log(np.maximum(supports, 1) + 1.0)
    # A release without levels shows one alone, and then they say nothing.
    told = len(np.unique(ratings.levels)) > 1
    columns = csr_array(
        (ratings.levels.astype(np.int64) + 1, ratings.items, ratings.indptr),
        shape=(len(seen), ratings.item_count),
    ).tocsc()
    for person in range(known.user_count):
        start, end = known.indptr[person], known.indptr[person + 1]
        scores = np.zeros(len(seen))
        for item, level in zip(known.items[start:end], known.levels[start:end], strict=True):
            first, last = columns.indptr[item], columns.indptr[item + 1]
            lines = columns.indices[first:last]
            off = np.abs(columns.data[first:last] - 1 - int(level))
            agreeing = off <= knowledge.noise if told else np.ones(len(off), dtype=bool)
            scores[lines[agreeing]] += weights[item]
        second, best = np.partition(scores, -2)[-2:]
        if best > 0 and best - second >= ECCENTRICITY * scores.std():
            claims[person] = int(scores.argmax())
    return Claims(claims)


def named(packages: Sequence[Seen], space: Space, items: int) -> Claims:
    """Which line of all packages', one after another, is each asked user's own, [U].

    packages  what is open in the package of each user; nobody is known beforehand
    """
    claims = np.full(len(packages), NOBODY)
    known, which = distinct(together(packages, items))
    search = _search(known, space)
    if search is None:
        return Claims(claims)
    ends = np.cumsum([len(package) for package in packages])
    count = min(len(known), 1 + max(map(len, packages)))
    near: dict[int, list[int]] = {}
    for row, others in enumerate(search(count).tolist()):
        for other in others:
            near.setdefault(other, []).append(row)
    # A line of a row's own, from which its owner can be told.
    _, first = np.unique(which, return_index=True)
    for user, end in enumerate(ends.tolist()):
        inside = set(which[end - len(packages[user]) : end].tolist())
        shared = Counter(one for row in inside for one in near.get(row, ()) if one not in inside)
        for best, often in shared.most_common(1):
            if often >= LEAST_SHARED * len(inside):
                claims[user] = first[best]
    return Claims(claims)


def _search(known: Seen, space: Space) -> Callable[[int], NDArray[np.int64]] | None:
    """Neighbors of each line among the lines, itself left out; None where none can be computed."""
    if known.ratings is None or len(known) < 2 or space == "random":
        return None
    everybody = np.arange(len(known))
    if space == "ratings":
        rated = RatedNeighborIndex(known.ratings)
        return lambda count: rated.neighbors(everybody, count)[:, 1:]
    if known.vectors is None:
        return None
    embedded = NeighborIndex(known.vectors)
    return lambda count: embedded.neighbors(everybody, count)[:, 1:]
