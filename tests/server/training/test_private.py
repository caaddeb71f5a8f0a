"""An item table with noise: what one account moves, what noise is, and what μ means in ε and δ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from common.errors import InputError
from server.data.synthetic import synthetic
from server.training.methods import Private
from server.training.private import (
    delta_of,
    item_table,
    mu_of,
    normalized_gram,
    symmetric_noise,
)
from server.training.train import TrainingSettings, train


@given(seed=st.integers(0, 10**6), user=st.integers(0, 19))
def test_an_account_moves_the_matrix_by_one_at_most(seed: int, user: int) -> None:
    ratings = synthetic(20, 30, seed=seed)
    others = ratings.rows(np.delete(np.arange(20), user))
    moved = normalized_gram(ratings) - normalized_gram(others)
    assert np.linalg.norm(moved) <= 1 + 1e-9
    own = ratings.dense()[user] > 0
    np.testing.assert_allclose(moved, np.outer(own, own) / max(own.sum(), 1), atol=1e-12)


def test_noise_is_symmetric_and_as_large_along_every_matrix_of_norm_one() -> None:
    """⟨N, M⟩ has deviation σ for M = xxᵀ of norm 1, dense or on the diagonal: what μ = 1/σ asks."""
    rng = np.random.default_rng(0)
    single, dense = np.zeros(6), np.ones(6) / np.sqrt(6)
    single[2] = 1.0
    drawn = [symmetric_noise(6, 2.0, rng=rng) for _ in range(8000)]
    assert all((one == one.T).all() for one in drawn[:10])
    for row in (single, dense):
        projected = [row @ one @ row for one in drawn]
        assert np.std(projected) == pytest.approx(2.0, rel=0.03)


@given(mu=st.floats(0.05, 5.0), epsilon=st.floats(0.01, 20.0))
def test_delta_is_that_of_two_normal_laws(mu: float, epsilon: float) -> None:
    """The hockey-stick divergence of N(μ, 1) and N(0, 1), by integration."""

    def excess(x: float) -> float:
        return max(float(norm.pdf(x, mu) - np.exp(epsilon) * norm.pdf(x)), 0.0)

    bound = epsilon / mu + mu / 2
    expected = quad(excess, bound, bound + 12)[0]
    assert delta_of(mu, epsilon) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@given(epsilon=st.floats(0.1, 50.0))
def test_mu_is_the_largest_one(epsilon: float) -> None:
    mu = mu_of(epsilon, 1e-5)
    assert delta_of(mu, epsilon) <= 1e-5 < delta_of(1.01 * mu, epsilon)


def test_without_noise_the_table_is_that_of_the_best_low_rank() -> None:
    gram = normalized_gram(synthetic(60, 25, seed=1))
    table = item_table(gram, 0.0, 4).astype(np.float64)
    values = np.linalg.eigvalsh(gram)[::-1]
    assert np.linalg.norm(gram - table @ table.T, 2) == pytest.approx(values[4], rel=1e-4)


def test_noise_alone_leaves_one_direction_and_more_of_it_fewer() -> None:
    ratings = synthetic(300, 60, seed=2)
    widths = []
    for epsilon in (1000.0, 20.0, 0.1):
        settings = TrainingSettings(model="mf", robust=Private(epsilon=epsilon), width=32)
        widths.append(train(ratings, settings).manifest.width)
    assert widths[0] > widths[1] >= widths[2] == 1


def test_the_secret_decides_the_noise_and_no_other_model_has_it() -> None:
    ratings = synthetic(40, 30, seed=3)

    def table(secret: str) -> np.ndarray:
        settings = TrainingSettings(model="mf", robust=Private(secret=secret))
        return train(ratings, settings).shared_parameters["item_embedding"]

    np.testing.assert_array_equal(table("a"), table("a"))
    assert table("a").shape != table("b").shape or (table("a") != table("b")).any()
    with pytest.raises(InputError, match="private trains mf only"):
        train(ratings, TrainingSettings(model="cdae", robust=Private()))
