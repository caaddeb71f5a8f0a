"""Robust training: each objective by hand, and what it promises of its steps."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy import sparse

from common.models import MODELS, model_named
from common.ratings import RatingMatrix, RatingScale
from server.data.synthetic import synthetic
from server.training.apr import perturbed
from server.training.descent import Descent, Factors, Observed
from server.training.ltsmf import kept
from server.training.methods import Apr, Ltsmf, Rmf, Robust, Training, Unrated
from server.training.rmf import (
    Biases,
    Imputed,
    as_factors,
    fit_biases,
    impute,
    multiplied,
    objective,
)
from server.training.robust import robust_factors
from server.training.train import TrainingSettings, train
from server.training.unrated import rows_loss, unrated_loss

DESCENT = Descent(seed=0, width=6, learning_rate=1.0, initial_accumulator=0.1, batch=128, epochs=4)


@cache
def ratings() -> RatingMatrix:
    return synthetic(40, 60, seed=0)


def factors_of(method: Training, descent: Descent = DESCENT) -> Factors:
    tables = robust_factors(ratings(), method, descent)
    return Factors(tables["user_embedding"], tables["item_embedding"])


def drawn(users: int, items: int, width: int, *, seed: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    tables = [torch.randn(rows, width, generator=generator) for rows in (users, items)]
    return Factors(*(torch.nn.Parameter(table) for table in tables))


def test_apr_moves_every_touched_row_by_epsilon_and_uphill() -> None:
    factors = drawn(40, 60, 6, seed=1)
    batch = Observed.of(ratings()).part(torch.arange(30))
    moved = perturbed(factors, batch, 0.3)
    for before, after, touched in (
        (factors.users, moved.users, batch.users),
        (factors.items, moved.items, batch.items),
    ):
        norms = (after - before).norm(dim=1).detach()
        expected = torch.zeros(len(before))
        expected[touched] = 0.3
        torch.testing.assert_close(norms, expected, atol=1e-6, rtol=0)
    assert moved.errors(batch).mean() > factors.errors(batch).mean()


def test_apr_by_hand_on_one_pair() -> None:
    """The gradient of (p·q − r)² in p is along q: Δp = ε sign(p·q − r) q / ‖q‖."""
    one = Observed(torch.tensor([0]), torch.tensor([0]), torch.tensor([1.0]))
    start = Factors(
        torch.nn.Parameter(torch.tensor([[0.0, 1.0]])),
        torch.nn.Parameter(torch.tensor([[3.0, -4.0]])),
    )
    moved = perturbed(start, one, 0.5)
    torch.testing.assert_close(moved.users.detach(), torch.tensor([[-0.3, 1.4]]))
    torch.testing.assert_close(moved.items.detach(), torch.tensor([[3.0, -4.5]]))


def test_apr_in_warm_up_or_without_weight_is_plain() -> None:
    plain = factors_of(Ltsmf(trimmed=0, regularization=0))
    for method in (Apr(warm_up=4), Apr(weight=0, warm_up=0)):
        torch.testing.assert_close(factors_of(method).users, plain.users, atol=0, rtol=0)
    assert not torch.equal(factors_of(Apr(warm_up=3)).users, plain.users)


def test_apr_steps_along_both_gradients_by_hand() -> None:
    """One Adagrad step on L(θ) + λ L(θ + Δ), from dense matrices; Δ is a constant in it."""
    whole = replace(DESCENT, batch=len(ratings()), epochs=1)
    still = factors_of(Apr(weight=0), replace(whole, learning_rate=1e-12))
    moved = factors_of(Apr(epsilon=0.2, weight=0.7, warm_up=0), whole)
    table = ratings().dense().astype(np.float64)

    def gradients(users: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
        gap = np.where(table > 0, users @ items.T - table, 0) * 2 / len(ratings())
        return [gap @ items, gap.T @ users]

    start = [still.users.numpy().astype(np.float64), still.items.numpy().astype(np.float64)]
    plain = gradients(*start)
    worst = [
        before + 0.2 * part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-30)
        for before, part in zip(start, plain, strict=True)
    ]
    for before, first, second, after in zip(
        start, plain, gradients(*worst), (moved.users, moved.items), strict=True
    ):
        gradient = first + 0.7 * second
        expected = before - gradient / np.sqrt(0.1 + gradient**2)
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("trimmed", "count"), [(0, 10), (0.1, 9), (0.25, 8), (0.3, 7), (0.95, 1)])
def test_ltsmf_keeps_exactly_the_h_smallest_residuals(trimmed: float, count: int) -> None:
    errors = [5, 1, 4, 2, 9, 0, 3, 8, 7, 6]
    pairs = Observed(
        torch.zeros(10, dtype=torch.int64), torch.arange(10), -torch.tensor(errors).sqrt()
    )
    zero = Factors(torch.zeros(1, 2), torch.zeros(10, 2))
    found = kept(zero, pairs, trimmed).items.tolist()
    assert found == sorted(np.argsort(errors)[:count].tolist())


def test_ltsmf_leaves_out_what_contradicts_the_rest() -> None:
    """All rate 0.6, one user rates all items 1.0: its ratings are not fitted."""
    levels = np.full((12, 9), 2)
    levels[0] = 4
    users, items = np.meshgrid(np.arange(12), np.arange(9), indexing="ij")
    scale = RatingScale(1, 5, 1)
    whole = RatingMatrix.from_triples(
        users.ravel(), items.ravel(), levels.ravel(), user_count=12, item_count=9, scale=scale
    )
    descent = replace(DESCENT, width=1, learning_rate=0.3, epochs=150)

    def missed(trimmed: float) -> list[float]:
        """By the one, and by all others."""
        tables = robust_factors(whole, Ltsmf(trimmed=trimmed, regularization=0, warm_up=3), descent)
        scores = tables["user_embedding"] @ tables["item_embedding"].T
        return [float((scores[0] - 1).abs().mean()), float((scores[1:] - 0.6).abs().mean())]

    assert max(missed(0)) < 0.05
    one, others = missed(0.1)
    assert one > 0.5 and others < 0.05


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), alpha=st.floats(0, 1))
def test_unrated_losses_of_batches_average_to_the_objective(seed: int, alpha: float) -> None:
    factors = drawn(40, 60, 3, seed=seed)
    observed = Observed.of(ratings())
    table = torch.from_numpy(ratings().dense())
    scores = factors.users @ factors.items.T
    rated = table > 0
    expected = (scores - table)[rated].square().sum() + alpha * scores[~rated].square().sum()
    order = torch.randperm(len(observed), generator=torch.Generator().manual_seed(seed))
    parts = torch.split(order, 50)
    found = torch.zeros(())
    for places in parts:
        loss = unrated_loss(factors, observed.part(places), alpha, len(observed))
        found = found + loss * len(places)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-2)


def test_unrated_without_weight_is_plain_and_with_weight_predicts_less() -> None:
    plain = factors_of(Ltsmf(trimmed=0, regularization=0))
    without = factors_of(Unrated(weight=0))
    torch.testing.assert_close(without.users, plain.users, atol=1e-5, rtol=1e-4)
    longer = replace(DESCENT, epochs=40)
    unrated = torch.from_numpy(ratings().dense() == 0)

    def mean_square(weight: float) -> float:
        found = factors_of(Unrated(weight=weight), longer)
        return float((found.users @ found.items.T)[unrated].square().mean())

    assert mean_square(0.5) < 0.5 * mean_square(0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), alpha=st.floats(0, 1))
def test_unrated_loss_of_rows_is_the_objective_over_every_pair(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    targets = ratings().rows(rng.permutation(40)[:12]).dense()
    predicted = rng.normal(size=targets.shape).astype(np.float32)
    weights = np.where(targets > 0, 1, alpha)
    expected = (weights * np.square(predicted - targets)).sum() / (targets > 0).sum()
    found = rows_loss(torch.from_numpy(predicted), torch.from_numpy(targets), alpha)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_unrated_loss_of_rows_without_a_rating_stays_finite() -> None:
    found = rows_loss(torch.ones(2, 3), torch.zeros(2, 3), 0.5)
    assert float(found) == pytest.approx(3.0)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "mf"])
def test_unrated_encoders_predict_less_and_are_plain_without_weight(model: str) -> None:
    """Without a weight to the last bit: the same steps from the same start."""
    tables = {
        alpha: train(
            ratings(),
            TrainingSettings(
                model=model,
                width=6,
                epochs=30,
                optimizer="adam",
                learning_rate=0.02,
                robust=None if alpha is None else Unrated(weight=alpha),
            ),
        )
        for alpha in (None, 0.0, 0.4)
    }
    for name, table in tables[None].shared_parameters.items():
        np.testing.assert_array_equal(table, tables[0.0].shared_parameters[name])
    dense, chosen = ratings().dense(), model_named(model)

    def unrated_square(alpha: float) -> float:
        trained = tables[alpha]
        parameters = {**trained.shared_parameters, **trained.user_parameters}
        scores = chosen.decode(parameters, chosen.encode(parameters, dense))
        return float(np.square(scores[dense == 0]).mean())

    assert unrated_square(0.4) < 0.5 * unrated_square(0.0)


def random_imputed(seed: int, users: int = 7, items: int = 9, rank: int = 3) -> Imputed:
    rng = np.random.default_rng(seed)
    rest = sparse.random_array((users, items), density=0.3, rng=rng, data_sampler=rng.normal)
    return Imputed(rng.normal(size=(users, 2)), rng.normal(size=(2, items)), rest.tocsr())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rmf_products_are_those_of_the_whole_table(seed: int) -> None:
    imputed = random_imputed(seed)
    table = imputed.left @ imputed.right + imputed.rest.toarray()
    rng = np.random.default_rng(seed)
    users, items = rng.random((7, 3)), rng.random((9, 3))
    np.testing.assert_allclose(imputed.times(items), table @ items, atol=1e-12)
    np.testing.assert_allclose(imputed.transposed_times(users), table.T @ users, atol=1e-12)
    naive = np.square(table - (users @ users.T) @ table).sum()
    assert objective(users, imputed) == pytest.approx(naive, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_rmf_updates_stay_positive_and_do_not_raise_the_objective(seed: int) -> None:
    imputed = random_imputed(seed)
    rng = np.random.default_rng(seed)
    users = rng.random((7, 3))
    values = [objective(users, imputed)]
    for _ in range(15):
        users = multiplied(users, imputed)
        assert (users >= 0).all()
        values.append(objective(users, imputed))
    assert all(after <= before + 1e-9 for before, after in pairwise(values))
    assert values[-1] < values[0]


def test_rmf_stays_where_the_gradient_is_zero() -> None:
    """An orthonormal U that spans Y predicts it whole."""
    users = np.array([[0.6, 0], [0.8, 0], [0, 1.0]])
    left = users @ np.array([[2.0, 0], [0, 3.0]])
    imputed = Imputed(left, np.eye(2), sparse.csr_array((3, 2)))
    assert objective(users, imputed) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(multiplied(users, imputed), users, atol=1e-6)


def test_rmf_imputes_what_is_not_rated_and_keeps_what_is() -> None:
    rng = np.random.default_rng(0)
    users, scores = rng.random((40, 3)), rng.random((3, 60))
    table = ratings().dense()
    residual = sparse.csr_array(table.astype(np.float64))
    imputed = impute(users, scores, ratings(), residual)
    expected = np.where(table > 0, table, users @ scores)
    np.testing.assert_allclose(imputed.times(np.eye(60)), expected, atol=1e-6)


def test_rmf_with_biases_is_exactly_an_mf() -> None:
    rng = np.random.default_rng(0)
    users, scores = rng.random((5, 3)), rng.normal(size=(3, 8))
    biases = Biases(0.7, rng.normal(size=5), rng.normal(size=8))
    found = as_factors(users, scores, biases)
    expected = 0.7 + biases.users[:, None] + biases.items + users @ scores
    assert found.users.shape == (5, 5) and found.items.shape == (8, 5)
    np.testing.assert_allclose(found.users @ found.items.T, expected, atol=1e-5)
    without = as_factors(users, scores, None)
    assert without.users.shape == (5, 3)
    np.testing.assert_allclose(without.users @ without.items.T, users @ scores, atol=1e-5)
    # A fine-tune steps on both sides, so neither may be the small one.
    for left, right in zip(found.users.T, found.items.T, strict=True):
        assert left.square().mean() == pytest.approx(float(right.square().mean()), rel=1e-4)


def test_rmf_biases_that_are_all_zero_predict_nothing() -> None:
    flat = Biases(0.7, np.zeros(4), np.zeros(6))
    found = as_factors(np.zeros((4, 2)), np.zeros((2, 6)), flat)
    np.testing.assert_allclose(found.users @ found.items.T, 0.7, atol=1e-6)


def test_rmf_biases_by_hand() -> None:
    """Ratings 0.2 and 1.0 of item 0, 0.6 of item 1; damping 1 shares sums by one more."""
    three = RatingMatrix.from_triples(
        [0, 1, 1], [0, 0, 1], [0, 4, 2], user_count=2, item_count=3, scale=RatingScale(1, 5, 1)
    )
    found = fit_biases(three, 1.0)
    assert found.mean == pytest.approx(0.6)
    np.testing.assert_allclose(found.items, [0, 0, 0], atol=1e-7)
    np.testing.assert_allclose(found.users, [-0.4 / 2, 0.4 / 3], atol=1e-7)
    np.testing.assert_allclose(fit_biases(three, 0.0).users, [-0.4, 0.2], atol=1e-7)


def test_rmf_fits_ratings_better_with_more_rounds() -> None:
    observed = Observed.of(ratings())
    losses = [
        float(factors_of(Rmf(rank=6, rounds=rounds)).errors(observed).mean()) for rounds in (1, 20)
    ]
    assert losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "apr", "epsilom": 1}, "epsilom"),
        ({"method": "ltsmf", "trimmed": 1.0}, "trimmed"),
        ({"method": "rmf", "rank": 0}, "rank"),
        ({"method": "unrated", "weight": 1.5}, "weight"),
        ({"method": "rnf"}, "rnf"),
    ],
)
def test_a_wrong_setting_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter[Robust](Robust).validate_python(given)
