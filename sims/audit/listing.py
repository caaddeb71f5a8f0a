"""Membership in a list of items whose noisy counts reach a threshold.

What a list says of a person are yes and no for every item, of those that are not in it, too. The
best guess is their likelihood ratio (Neyman and Pearson): with the person each item of its profile
is counted once more, so that

    log ratio = Σ_i log P(b_i | with) / P(b_i | without),   P(b_i = 1) = Φ((m_i − t) / s_i).

An attacker *from shadows* has m from who rates what at large, and s takes in what is not known of
m. One who is *informed* knows all that anybody else rated, which leaves the noise alone: nobody can
tell more of this one list, and Φ(μ/√2) bounds it.

Over versions: somebody joins between two lists. *Flips* counts which of its items changed places,
against all others; *joined* is the likelihood ratio of what came after, less that of before.

Shapes: B people, I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from common.ratings import RatingMatrix
from common.vicinal.book import ItemBook
from sims.audit.knowledge import Background
from sims.audit.seen import incidence

Scores = NDArray[np.float64]
# Below it a probability is taken for a mistake of the attacker's model.
LEAST_LOG: Final = -30.0


@dataclass(frozen=True)
class Belief:
    """What an attacker thinks of the counts without the person: means and deviations, each [I]."""

    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @classmethod
    def from_shadows(cls, background: Background, book: ItemBook) -> "Belief":
        """Counts are drawn anew, and what is expected of them is an estimate itself."""
        shadows = background.shadows
        weighed = weights(shadows, np.diff(shadows.indptr), book.cap)
        people = shadows.user_count
        shares = (weighed.sum(axis=0) + 0.5) / (people + 1)
        squares = (weighed**2).sum(axis=0) / people
        spread = np.maximum(squares - shares**2, 1e-6)
        variance = book.sigma**2 + book.users * spread * (1 + book.users / people)
        return cls(book.users * shares, np.sqrt(variance))

    @classmethod
    def informed(cls, counts: NDArray[np.float64], book: ItemBook) -> "Belief":
        """The true counts without the person, [I] or [B, I]."""
        return cls(counts, np.full(counts.shape[-1], book.sigma))


def weights(people: RatingMatrix, lengths: NDArray[np.int64], cap: int) -> NDArray[np.float64]:
    """What each person adds to each count (server.recommending.book), [B, I].

    people   what is known of each
    lengths  how many ratings each has in all, [B]
    """
    share = np.minimum(1.0, np.sqrt(cap / np.maximum(lengths, 1)))
    table: NDArray[np.float64] = incidence(people).toarray() * share[:, None]
    return table


def likelihood(book: ItemBook, belief: Belief, added: NDArray[np.float64]) -> Scores:
    """The log likelihood ratio of a list with and without each person, [B].

    added  what the person adds to each count, [B, I]
    """
    # Of an item that the person did not rate nothing is said: most of the table is left alone.
    people, items = np.nonzero(added > 0)
    means = np.broadcast_to(belief.means, added.shape)[people, items]
    deviations = belief.deviations[items]
    sign = np.where(book.listed[items], 1.0, -1.0)
    without = (means - book.threshold) / deviations
    with_them = (means + added[people, items] - book.threshold) / deviations
    ratio = np.zeros(added.shape)
    ratio[people, items] = _log(sign * with_them) - _log(sign * without)
    found: Scores = ratio.sum(axis=1)
    return found


def flips(before: ItemBook, after: ItemBook, added: NDArray[np.float64]) -> Scores:
    """How many of each person's items changed places, less the share of all others' that did, [B].

    Of sticky noise this is what gives a newcomer away: its counts alone are drawn anew.
    """
    changed = (before.listed != after.listed).astype(np.float64)
    own = (added > 0).astype(np.float64)
    inside = own @ changed
    outside = (changed.sum() - inside) / np.maximum((1 - own).sum(axis=1), 1)
    found: Scores = inside - own.sum(axis=1) * outside
    return found


def joined(
    before: Sequence[ItemBook],
    after: Sequence[ItemBook],
    belief: Belief,
    added: NDArray[np.float64],
) -> Scores:
    """The mean likelihood ratio of the lists after somebody came, less that of before, [B]."""

    def mean(books: Sequence[ItemBook]) -> Scores:
        found: Scores = np.mean([likelihood(book, belief, added) for book in books], axis=0)
        return found

    return mean(after) - mean(before)


def most_auc(mu: float) -> float:
    """What μ of Gaussian differential privacy leaves of any guess: Φ(μ/√2).

    >>> round(most_auc(0.83), 3), most_auc(0.0)
    (0.721, 0.5)
    """
    return float(ndtr(mu / np.sqrt(2)))


def _log(standard: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.maximum(log_ndtr(standard), LEAST_LOG)
    return found
