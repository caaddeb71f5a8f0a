"""Synthetic ratings: the shape of real ones, and a taste that can be learned."""

import time

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.synthetic import TASTE_WIDTH, synthetic
from sims.evaluation.splits import hold_out_one


@pytest.fixture(scope="module")
def ratings() -> RatingMatrix:
    return synthetic(seed=0)


def test_its_shape_is_that_of_movielens(ratings: RatingMatrix) -> None:
    assert (ratings.user_count, ratings.item_count, len(ratings)) == (943, 1682, 943 * 106)
    counts = ratings.item_counts()
    assert counts.min() == 1
    assert 150 < np.isin(counts, range(1, 5)).sum() < 400, "unpopular targets to attack"
    assert counts.max() > 10 * np.median(counts)
    assert np.diff(ratings.indptr).min() >= 5
    assert np.diff(ratings.indptr).max() > 5 * np.median(np.diff(ratings.indptr))
    assert 3.2 < ratings.scale.values[ratings.levels].mean() < 3.8
    assert (np.bincount(ratings.levels) > 0.01 * len(ratings)).all()


def test_the_seed_decides(ratings: RatingMatrix) -> None:
    assert synthetic(seed=0).digest() == ratings.digest()
    assert synthetic(seed=1).digest() != ratings.digest()


def hit_share(scores: np.ndarray, train: RatingMatrix, held_out: np.ndarray) -> float:
    """Share of users whose held-out item is among the 50 best unrated ones of `scores` [U, I]."""
    scores = scores.copy()
    scores[train.users, train.items] = -np.inf
    best = np.argpartition(-scores, 50, axis=1)[:, :50]
    return float((best == held_out[:, None]).any(axis=1).mean())


def test_taste_predicts_a_held_out_item_better_than_popularity(ratings: RatingMatrix) -> None:
    split = hold_out_one(ratings, seed=0)
    rated = (split.train.dense() > 0).astype(np.float64)
    popularity = np.broadcast_to(rated.sum(axis=0), rated.shape)
    # Cosine between items by who rated them: the plainest use of taste.
    unit = rated / np.maximum(np.linalg.norm(rated, axis=0), 1e-9)
    by_taste = rated @ (unit.T @ unit)
    held_out = split.held_out.items
    # A share of 943 users has a standard error of 0.016: 0.05 is three of them.
    assert hit_share(by_taste, split.train, held_out) > 0.05 + hit_share(
        popularity, split.train, held_out
    )


def test_ratings_follow_taste(ratings: RatingMatrix) -> None:
    """Beyond item and user means, as many directions stand out of noise as taste has."""
    dense = ratings.dense()
    known = dense > 0
    centered = np.where(known, dense - dense.sum(axis=0) / known.sum(axis=0), 0)
    centered -= np.where(known, (centered.sum(axis=1) / known.sum(axis=1))[:, None], 0)
    noise = np.zeros_like(centered)
    noise[known] = np.random.default_rng(0).permutation(centered[known])
    loudest = np.linalg.svd(noise, compute_uv=False)[0]
    components = (np.linalg.svd(centered, compute_uv=False) > loudest).sum()
    assert TASTE_WIDTH - 1 <= components <= TASTE_WIDTH + 1


@pytest.mark.parametrize(
    ("users", "items", "count"),
    [(1, 1, 1), (1, 1, None), (3, 2, 6), (2, 100, 10), (50, 7, 350), (20, 500, 600), (7, 3, None)],
)
def test_any_size_that_is_possible_is_made(users: int, items: int, count: int | None) -> None:
    made = synthetic(users, items, count, seed=3)
    assert (made.user_count, made.item_count) == (users, items)
    assert count is None or len(made) == count
    assert np.diff(made.indptr).min() >= min(5, items)
    if len(made) >= items:
        assert made.item_counts().min() >= 1


@pytest.mark.parametrize(
    ("users", "items", "count"),
    [(0, 5, None), (5, 0, None), (10, 10, 49), (10, 10, 101), (10**9, 10**9, None)],
)
def test_a_size_that_is_not_is_refused(users: int, items: int, count: int | None) -> None:
    with pytest.raises(InputError, match=r"synthetic:\d+x\d+"):
        synthetic(users, items, count)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="seed -1"):
        synthetic(seed=-1)


@pytest.mark.slow
def test_the_size_of_yelp_takes_seconds() -> None:
    # Of this process alone: the machine may be busy with others.
    start = time.process_time()
    made = synthetic(14575, 25602, 555_374)
    assert time.process_time() - start < 20
    assert len(made) == 555_374
    assert made.item_counts().min() >= 1


def test_many_users_choose_as_their_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.data.synthetic.MAX_CELLS", 1000)
    made = synthetic(900, 700, 60_000, seed=3)
    assert (made.user_count, made.item_count, len(made)) == (900, 700, 60_000)
    assert made.item_counts().min() >= 1 and np.diff(made.indptr).min() >= 5
    assert made.item_counts().max() > 10 * np.median(made.item_counts())
    assert synthetic(900, 700, 60_000, seed=3).digest() == made.digest()
    assert synthetic(900, 700, 60_000, seed=4).digest() != made.digest()
    # Everything is rated by who has to.
    assert len(synthetic(40, 30, 1200, seed=0)) == 1200


def test_more_than_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.data.synthetic.available_memory", lambda: 1 << 20)
    with pytest.raises(InputError, match=r"needs \d+ MiB, and 1 MiB are free"):
        synthetic(100_000, 90_000, 10_000_000)
