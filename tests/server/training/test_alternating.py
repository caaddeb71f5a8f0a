"""The exact solver for many ratings gives what implicit's gives, on any number of threads."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from server.data.synthetic import synthetic
from server.training import alternating, ials
from server.training.alternating import alternated
from server.training.ials import train_ials
from server.training.ranking import Ials


@pytest.mark.parametrize("width", [1, 7, 16, 20])
def test_it_is_implicit_s_solver(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ratings, method = synthetic(150, 120, seed=2), Ials(rounds=3, regularization=2)
    theirs = train_ials(ratings, method, width=width, seed=4)
    monkeypatch.setattr(ials, "MANY_RATINGS", len(ratings))
    ours = train_ials(ratings, method, width=width, seed=4)
    assert not np.array_equal(ours.items, theirs.items)
    np.testing.assert_allclose(ours.users, theirs.users, atol=2e-4)
    np.testing.assert_allclose(ours.items, theirs.items, atol=2e-4)


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ratings = synthetic(150, 120, seed=2)
    shape = (ratings.user_count, ratings.item_count)
    table = csr_matrix((1 + ratings.ratings, ratings.items, ratings.indptr), shape=shape, copy=True)
    rounds: list[int] = []
    found = []
    for threads, part in ((1, 10**9), (3, 100)):
        monkeypatch.setattr(alternating, "RATINGS_PER_PART", part)
        found.append(
            alternated(
                table,
                width=8,
                regularization=1.0,
                rounds=2,
                seed=0,
                told=rounds.append,
                threads=threads,
            )
        )
    assert rounds == [1, 2, 1, 2]
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
