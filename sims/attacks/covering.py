"""Covering: identical copies of a few popular profiles, in as many neighborhoods as can be.

A defense that needs m supporters among a user's k neighbors falls to m fakes which are all near the
user. So r = `copies` fakes share one profile; they come in together or not at all. For neighbors by
ratings, a profile of s popular items and t targets is at

    cos(u, profile) = overlap / √(n_u (s + t))

from user u, and r copies of it are among u's k − 1 others when that is above the cosine of the
(k − r)-th of them. Profiles grow item by item, each the one that brings the users who are not yet
covered nearest to being so. The length that covers most of them is kept, or as many of the most
popular items where those cover more; the next profile is for the rest (greedy cover). Profiles of
popular items are near everybody who is near nobody in particular. For neighbors by embedding, where
what a profile does is not known before training, the profiles are those of real users, chosen by
the same cover of who has them near.

Shapes: U users, I items, C candidate items, k neighbors, t targets.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from server.baselines.incidence import incidence
from sims.attacks.average import item_statistics
from sims.attacks.budget import Budget, Profile, assemble, most_rated
from sims.attacks.hubclones import whole_row
from sims.attacks.neighborhoods import SPACES, nearest_by_ratings, nearest_others
from sims.attacks.options import check, choose

# Growing looks among this many of the most popular items.
CANDIDATES: Final = 200
# How much more a user counts who is nearly covered than one who is half way there.
SHARPNESS: Final = 8
# Items added without covering anybody more before growing stops.
PATIENCE: Final = 12


def covering_attack(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    budget: Budget,
    *,
    rng: np.random.Generator,
    k: int = 80,
    copies: int = 6,
    space: str = "ratings",
    model: str = "mf",
) -> RatingMatrix:
    """Copies of the profiles that cover the most users' neighborhoods, greedily.

    k       neighbors that the attacker believes the defense to use, the user itself included; of
            fewer users, all
    copies  r, fakes of one profile: the min support that they are to reach; of fewer fakes, all
    space   where neighbors are near: `ratings` for the cosine of who rated what, or `embedding`
    model   of the surrogate, where the space is that of its embeddings

    Raises InputError for as many copies as neighbors.
    """
    check("k", k, 3)
    check("copies", copies, 1)
    choose("space", space, SPACES)
    k = min(k, ratings.user_count)
    copies = min(copies, budget.fakes)
    if copies > k - 2:
        raise InputError(f"attack option copies={copies}: choose at most {k - 2}, for k = {k}")
    profiles = budget.fakes // copies
    room = budget.profile_size - len(targets)
    rows: list[Profile]
    if space == "ratings":
        means, _ = item_statistics(ratings)
        chosen = cover_by_ratings(
            ratings, targets, profiles=profiles, room=room, k=k, copies=copies
        )
        rows = [(items, means[items]) for items in chosen]
    else:
        seed = int(rng.integers(2**31))
        others = nearest_others(ratings, k - 1 - copies, space=space, model=model, seed=seed)
        centers = cover_by_lists(others, profiles)
        rows = [whole_row(ratings, targets, user, room) for user in centers]
    # What is left over joins in turn: fewer than `copies` of one profile would be wasted.
    return assemble(ratings, targets, (rows[fake % len(rows)] for fake in range(budget.fakes)))


def cover_by_ratings(
    ratings: RatingMatrix,
    targets: tuple[int, ...],
    *,
    profiles: int,
    room: int,
    k: int,
    copies: int,
) -> list[NDArray[np.int64]]:
    """Filler items of each profile, until there are enough or nobody more can be covered.

    There is always one, of whatever comes nearest.
    """
    _, cosines = nearest_by_ratings(ratings, k - copies)
    candidates = most_rated(ratings, targets, CANDIDATES)
    rated = incidence(ratings)
    reach = Reach(
        shares=np.asarray(rated[:, candidates].toarray(), dtype=np.float32),
        base=np.asarray(rated[:, list(targets)].sum(axis=1), dtype=np.float32).ravel(),
        lengths=np.maximum(np.diff(ratings.indptr), 1).astype(np.float32),
        bounds=cosines[:, -1].astype(np.float32),
        targets=len(targets),
    )
    left = np.ones(ratings.user_count, dtype=bool)
    found: list[NDArray[np.int64]] = []
    while len(found) < profiles and left.any():
        items = reach.grow(left, room)
        covered = left & reach.covered(items)
        if found and not covered.any():
            break
        found.append(candidates[items])
        left &= ~covered
    return found


class Reach:
    """Which users a profile reaches, by candidates' positions.

    shares   whether a user rated a candidate, [U, C]
    base     how many targets each rated, [U]
    lengths  n_u, [U]
    bounds   what a profile's cosine has to exceed, [U]
    """

    def __init__(
        self,
        shares: NDArray[np.float32],
        base: NDArray[np.float32],
        lengths: NDArray[np.float32],
        bounds: NDArray[np.float32],
        targets: int,
    ) -> None:
        self.shares, self.base, self.lengths, self.bounds = shares, base, lengths, bounds
        self.targets = targets

    def covered(self, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The users near whom a profile of these candidates comes, [U]."""
        overlap = self.base + self.shares[:, items].sum(axis=1)
        cosines = overlap / np.sqrt(self.lengths * (len(items) + self.targets))
        found: NDArray[np.bool_] = cosines > self.bounds
        return found

    def grow(self, left: NDArray[np.bool_], room: int) -> NDArray[np.int64]:
        """Candidates of the profile that covers most of the users who are left, first as grown."""
        shares, bounds = self.shares[left], np.maximum(self.bounds[left], 1e-6)
        overlap, lengths = self.base[left], self.lengths[left]
        chosen: list[int] = []
        best, best_count, idle = 0, -1, 0
        while len(chosen) < min(room, shares.shape[1]) and idle < PATIENCE:
            size = len(chosen) + 1 + self.targets
            weights = np.sqrt(lengths * size) * bounds
            ratios = (overlap[:, None] + shares) / weights[:, None]
            # Above 1 a user is covered, and more of it is worth no more.
            worth = (np.minimum(ratios, 1) ** SHARPNESS).sum(axis=0)
            worth[chosen] = -1
            item = int(np.argmax(worth))
            chosen.append(item)
            overlap = overlap + shares[:, item]
            count = int((overlap > weights).sum())
            idle += 1
            if count > best_count:
                best, best_count, idle = len(chosen), count, 0
        grown = np.array(chosen[:best], dtype=np.int64)
        # Candidates are in order of popularity.
        popular = [np.arange(size) for size in range(1, min(room, self.shares.shape[1]) + 1)]
        return max([grown, *popular], key=lambda items: int((left & self.covered(items)).sum()))


def cover_by_lists(others: NDArray[np.int64], count: int) -> list[int]:
    """Users whom most others have near, each next one for those who have none of them yet.

    others  whom each user has near, [U, n]

    >>> cover_by_lists(np.array([[2, 1], [2, 0], [0, 1], [1, 0]]), 2)
    [0, 1]
    """
    users = len(others)
    left = np.ones(users, dtype=bool)
    found: list[int] = []
    while len(found) < count and left.any():
        listed = np.bincount(others[left].ravel(), minlength=users)
        listed[found] = 0
        center = int(np.argmax(listed))
        if not listed[center]:
            break
        found.append(center)
        left &= ~(others == center).any(axis=1)
    return found
