"""Attributes: what a few known ratings say of the others, and how much of it is about the person.

The attacker names the items that a person rated, too, from a few that are known. Of people who are
not in the data this is taste, which a recommender is there for; what comes out more often of those
who are in it was learned of themselves: the *advantage* over non-members.

Shapes: B people, n lines, I items.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from sims.audit.knowledge import Background, chunks
from sims.audit.membership import PEOPLE
from sims.audit.seen import Seen, incidence

# How many items are named.
NAMED: Final = 10
# What a line does not show may be so all the same: share of a line's items that are not in it.
UNSEEN: Final = 0.03


def guessed(seen: Seen, known: RatingMatrix, background: Background) -> NDArray[np.float64]:
    """How likely each person rated each item, by the lines that fit what is known, [B, I]."""
    if not len(seen):
        return np.broadcast_to(background.shares, (known.user_count, known.item_count))
    seen_shares = seen.shares
    logs = seen_shares.copy()
    logs.data = np.log(logs.data * (1 - UNSEEN) / UNSEEN + 1)
    rows = incidence(known)
    found = np.empty((known.user_count, known.item_count))
    for part in chunks(known.user_count, PEOPLE):
        fit = (rows[part] @ logs.T).toarray() + np.log(np.maximum(seen.sizes, 1))
        weights = np.exp(fit - fit.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        found[part] = weights @ seen_shares
    return found


def by_popularity(raters: NDArray[np.int64], known: RatingMatrix) -> NDArray[np.float64]:
    """The same for everybody: how many members rated each item, [B, I]."""
    return np.broadcast_to(raters.astype(np.float64), (known.user_count, known.item_count))


def hits(scores: NDArray[np.float64], known: RatingMatrix, people: RatingMatrix) -> float:
    """Which share of the ten most likely items, without the known ones, people did rate."""
    told = incidence(known).toarray() > 0
    true = incidence(people).toarray() > 0
    ranked = np.where(told, -np.inf, scores)
    top = np.argpartition(-ranked, NAMED - 1, axis=1)[:, :NAMED]
    return float(np.take_along_axis(true, top, axis=1).mean())
