"""Measures of similarity on small rows, against the search that serves and by hand."""

import numpy as np
import pytest

from common.ratings import RatingMatrix
from server.recommending.rated_neighbors import RatedNeighborIndex
from sims.selection.neighbor_measures import MEASURES, Rows, collapsed, cosine, nearest
from tests.support.ratings import from_table


def drawn(users: int, items: int, seed: int) -> RatingMatrix:
    return from_table(np.random.default_rng(seed).integers(-3, 6, (users, items)))


def test_the_cosine_is_the_one_that_serves() -> None:
    ratings = drawn(60, 40, 0)
    rows, index = Rows(ratings), RatedNeighborIndex(ratings)
    for user in range(60):
        similar = cosine(rows, user)
        found = index.neighbors([user], 20)[0]
        np.testing.assert_allclose(
            similar[nearest(rows, user, similar, 20)[1:]], similar[found[1:]], rtol=1e-12
        )


@pytest.mark.parametrize("name", sorted(MEASURES.keys() - {"random", "beyond chance"}))
def test_a_twin_is_the_most_similar(name: str) -> None:
    levels = np.random.default_rng(1).integers(-3, 5, (40, 60))
    levels[17] = levels[5]
    similar = MEASURES[name](Rows(from_table(levels + 1)), 5)
    similar[5] = -np.inf
    # Longer rows share more than a twin does where length is no reason against them.
    if name != "n_uv / n_v^1/4":
        assert similar[17] == similar.max()
    assert np.isfinite(np.delete(similar, 5)).all()


def test_clones_count_once() -> None:
    levels = np.random.default_rng(2).integers(-2, 5, (50, 30))
    levels[40:] = levels[0]
    levels[40:, 29] = 4
    rows = Rows(from_table(levels + 1))
    plain = nearest(rows, 0, cosine(rows, 0), 12)
    once = collapsed(rows, 0, 12, limit=0.95)
    assert (plain >= 40).sum() == 10
    assert once[0] == 0
    assert (once >= 40).sum() == 1
    assert len(set(once.tolist())) == 12
