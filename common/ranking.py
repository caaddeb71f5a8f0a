"""Top K of one user, and its counts: watched items shown, held-out item hit.

Shapes: I items, K recommended items, t watched items (an evaluation's target items).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import VicinalError


def top_items(
    scores: NDArray[np.float32], rated: NDArray[np.int32], count: int
) -> NDArray[np.int64]:
    """The `count` best unrated items, best first; equal scores rank by item index.

    Fewer are returned when fewer are unrated. Raises VicinalError for a score that is NaN or
    infinite: −∞ is what masks a rated item.
    """
    if not np.isfinite(scores).all():
        raise VicinalError("ranking: a score is not a finite number")
    masked = scores.copy()
    masked[rated] = -np.inf
    count = min(count, len(scores) - len(rated))
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(masked, -count)[-count]
    candidates = np.flatnonzero(masked >= threshold)
    best = np.argsort(-masked[candidates], kind="stable")[:count]
    return candidates[best]


@dataclass(frozen=True)
class HeldOutItem:
    """The item that evaluation hid from training, and whether the user liked it."""

    item: int
    liked: bool


@dataclass(frozen=True)
class Counts:
    """What a device reports of one or more users (paper, Appendix D); sums, never items.

    eligible  per watched item, users who have not rated it
    hits      per watched item, eligible users whose top K holds it
    users     users with a held-out item; user_hits: whose top K holds it
    liked     the same over users whose held-out rating reaches the threshold

    How users were answered, where devices did:

    on_device  from a package just fetched; stale: from one kept from before; by_server: by it
    """

    eligible: tuple[int, ...]
    hits: tuple[int, ...]
    users: int = 0
    user_hits: int = 0
    liked: int = 0
    liked_hits: int = 0
    on_device: int = 0
    stale: int = 0
    by_server: int = 0

    def __post_init__(self) -> None:
        pairs = [
            *zip(self.eligible, self.hits, strict=True),
            (self.users, self.user_hits),
            (self.liked, self.liked_hits),
            (self.users, self.liked),
            (self.user_hits, self.liked_hits),
        ]
        pairs += [(way, 0) for way in (self.on_device, self.stale, self.by_server)]
        if any(part < 0 or part > whole for whole, part in pairs):
            raise ValueError(f"impossible counts: {self}")

    @classmethod
    def none(cls, watched: int) -> "Counts":
        return cls((0,) * watched, (0,) * watched)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            tuple(a + b for a, b in zip(self.eligible, other.eligible, strict=True)),
            tuple(a + b for a, b in zip(self.hits, other.hits, strict=True)),
            self.users + other.users,
            self.user_hits + other.user_hits,
            self.liked + other.liked,
            self.liked_hits + other.liked_hits,
            self.on_device + other.on_device,
            self.stale + other.stale,
            self.by_server + other.by_server,
        )

    @property
    def answered(self) -> int:
        """Users, where it is known how each was answered; 0 where it is not."""
        return self.on_device + self.stale + self.by_server

    def of_at_most(self, users: int) -> bool:
        """Whether so many users can have come to these counts.

        Not asked of `answered` here: in a sum some say how they were answered and some do not.
        """
        return max(self.users, self.answered, *self.eligible) <= users

    @property
    def hit_ratio_per_item(self) -> tuple[float, ...]:
        """HR@K of each watched item; 0 for an item that nobody could be shown."""
        return tuple(h / e if e else 0.0 for h, e in zip(self.hits, self.eligible, strict=True))

    @property
    def hit_ratio(self) -> float:
        """HR@K averaged over the watched items; 0 without any."""
        ratios = self.hit_ratio_per_item
        return sum(ratios) / len(ratios) if ratios else 0.0

    @property
    def accuracy(self) -> float:
        """Share of users whose held-out item is in their top K."""
        return self.user_hits / self.users if self.users else 0.0

    @property
    def accuracy_thresholded(self) -> float:
        """The same over users who liked their held-out item."""
        return self.liked_hits / self.liked if self.liked else 0.0


def count_user(
    recommended: NDArray[np.int64],
    rated: NDArray[np.int32],
    watched: tuple[int, ...],
    held_out: HeldOutItem | None,
) -> Counts:
    """The counts of one user's top K."""
    shown = set(recommended.tolist())
    own = set(rated.tolist())
    eligible = tuple(int(item not in own) for item in watched)
    hits = tuple(int(item in shown) * e for item, e in zip(watched, eligible, strict=True))
    if held_out is None:
        return Counts(eligible, hits)
    hit = int(held_out.item in shown)
    liked = int(held_out.liked)
    return Counts(eligible, hits, 1, hit, liked, hit * liked)
