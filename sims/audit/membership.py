"""Membership: who was among those of whom an artifact was made.

A score for each person, larger for who is taken for a member. *Plain* and *full* say how much of
the person's own items a line has, of which rare ones count more: of the few known items, or of the
whole profile (then as a cosine, since a line that has everything has those items, too). *Whitened*
takes the whole profile and the covariance Σ of who rates what together: xᵀΣ⁻¹f, the test that is
the best against sums of many users (Homer et al. 2008 without Σ). The best line counts.

A model is asked how well it fits a person whose vector is computed from the ratings alone, less how
well a model of the shadows does: what is easy for both says nothing (Watson et al. 2022, "On the
Importance of Difficulty Calibration in Membership Inference Attacks").

Shapes: B people, n lines, I items, d embedding width.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import rankdata

from common.ratings import RatingMatrix
from common.versions.version import ModelVersion
from server.training.fold_in import fitted
from sims.audit.knowledge import Background, chunks
from sims.audit.seen import Seen, incidence

Scores = NDArray[np.float64]
# Lines whose tables [n, I] are made at a time.
LINES: Final = 2048
PEOPLE: Final = 256
# α of the fold-in: of 0.05, 0.2 and 0.5 the one that shows most of mf's presets together.
UNRATED_WEIGHT: Final = 0.2


def auc(members: Scores, others: Scores) -> float:
    """How often a member scores above another; ties count half.

    >>> auc(np.array([2.0, 1.0]), np.array([1.0, 0.0]))
    0.875
    """
    ranks = rankdata(np.concatenate([members, others]))[: len(members)]
    above = ranks.sum() - len(members) * (len(members) + 1) / 2
    return float(above / (len(members) * len(others)))


def plain(seen: Seen, people: RatingMatrix, background: Background) -> Scores:
    """By the few known items of each person, [B]."""
    weights = -np.log(background.shares)
    known = incidence(people)
    weighted = csr_array(known.multiply(weights[None, :]))
    norms = np.sqrt(np.maximum(known @ weights**2, 1e-12))
    expected = weighted @ background.shares

    def score(lines: slice) -> NDArray[np.float64]:
        found = (weighted @ seen.shares[lines].T).toarray()
        each: NDArray[np.float64] = (found - expected[:, None]) / norms[:, None]
        return each

    return _best(score, len(seen), people.user_count)


def full(seen: Seen, people: RatingMatrix, background: Background) -> Scores:
    """By all items of each person: the weighted cosine with a line, [B]."""
    weights = -np.log(background.shares)
    open_items = seen.open_items
    known = incidence(people)
    weighted = csr_array(known.multiply((weights * open_items)[None, :]))
    norms = np.sqrt(np.maximum(known @ (weights * open_items), 1e-12))

    def score(lines: slice) -> NDArray[np.float64]:
        shares = seen.shares[lines]
        lengths = np.sqrt(np.maximum(shares.power(2) @ weights, 1e-12))
        each: NDArray[np.float64] = (weighted @ shares.T).toarray() / norms[:, None] / lengths
        return each

    return _best(score, len(seen), people.user_count)


def whitened(seen: Seen, people: RatingMatrix, background: Background) -> Scores:
    """By all items of each person, decorrelated, [B]."""
    rows = incidence(people).toarray() - background.shares
    open_items = seen.open_items
    rows[:, ~open_items] = 0
    solved = background.whitened(rows)
    norms = np.sqrt(np.maximum((solved * rows).sum(1), 1e-12))

    def score(lines: slice) -> NDArray[np.float64]:
        tables = seen.shares[lines].toarray() - background.shares
        tables[:, ~open_items] = 0
        lengths = np.sqrt(np.maximum((background.whitened(tables) * tables).sum(1), 1e-12))
        each: NDArray[np.float64] = (solved @ tables.T) / norms[:, None] / lengths
        return each

    return _best(score, len(seen), people.user_count)


Test = Callable[[Seen, RatingMatrix, Background], Scores]
# By what the attacker knows and how; `plain` is given the known ratings, the others all of them.
TESTS: Final[Mapping[str, Test]] = {"plain": plain, "full": full, "whitened": whitened}


def _best(
    score: Callable[[slice], NDArray[np.float64]], lines: int, people: int
) -> NDArray[np.float64]:
    best = np.full(people, -np.inf)
    for part in chunks(lines, LINES):
        best = np.maximum(best, score(part).max(axis=1))
    return best


def model_fit(version: ModelVersion, people: RatingMatrix) -> Scores:
    """How well a model fits what each person rated, from these ratings alone, [B].

    The mean score of what was rated, less that of what was not, for the vector that the ratings
    give: a person who was trained on stands out further.
    """
    model, parameters = version.served.model, version.parameters
    found = np.empty(people.user_count)
    for part in chunks(people.user_count, PEOPLE):
        rows = people.rows(np.arange(part.start, part.stop))
        dense, items = rows.dense(), parameters["item_embedding"]
        tables = dict(parameters)
        if model.user_vector:
            tables["user_embedding"] = (
                fitted(items, rows, UNRATED_WEIGHT)
                if model.inputs == "none"
                else np.zeros((len(dense), items.shape[1]), dtype=np.float32)
            )
        scores = model.decode(tables, model.encode(tables, dense)).astype(np.float64)
        found[part] = _mean_where(scores, dense > 0) - _mean_where(scores, dense == 0)
    return found


def model_span(version: ModelVersion, people: RatingMatrix) -> Scores:
    """How much of each person's ratings lies in the span of the item table, [B].

    No vector is fitted, and nothing weighed: of who was trained on the table keeps more.
    """
    table = version.parameters["item_embedding"].astype(np.float64)
    basis, sizes, _ = np.linalg.svd(table, full_matrices=False)
    basis = basis[:, sizes > sizes.max(initial=0.0) * 1e-9]
    rows = incidence(people).toarray()
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.maximum((rows**2).sum(axis=1), 1e-12)
    found: Scores = ((rows @ basis) ** 2).sum(axis=1) / lengths
    return found


def _mean_where(scores: NDArray[np.float64], where: NDArray[np.bool_]) -> Scores:
    mean: Scores = (scores * where).sum(1) / np.maximum(where.sum(1), 1)
    return mean
