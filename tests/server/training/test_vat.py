"""Vulnerability-aware training: lengths and perturbations by hand, and one whole step."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from server.data.synthetic import synthetic
from server.training.descent import Descent, Factors, Observed
from server.training.methods import Ltsmf, Vat
from server.training.robust import robust_factors
from server.training.vat import perturbed_errors, vulnerability

DESCENT = Descent(seed=0, width=6, learning_rate=1.0, initial_accumulator=0.1, batch=128, epochs=4)


def users_of(method: Vat | Ltsmf, descent: Descent = DESCENT) -> torch.Tensor:
    return robust_factors(synthetic(40, 60, seed=0), method, descent)["user_embedding"]


def test_vulnerability_by_hand() -> None:
    """Mean losses 2 and 4 of two users, 3 of both: σ(3/2 − 1) and σ(3/4 − 1)."""
    found = vulnerability(torch.tensor([5, 9, 5]), torch.tensor([1.0, 4.0, 3.0]))
    expected = 1 / (1 + np.exp(-np.array([0.5, -0.25, 0.5])))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_user_who_is_fitted_perfectly_is_the_most_vulnerable() -> None:
    found = vulnerability(torch.tensor([0, 1]), torch.tensor([0.0, 1.0]))
    assert found.tolist() == [1.0, pytest.approx(1 / (1 + np.exp(0.5)), rel=1e-6)]
    assert vulnerability(torch.tensor([0, 0]), torch.zeros(2)).isfinite().all()


def test_perturbed_errors_by_hand_on_one_pair() -> None:
    """p·q = −4 against 1: both move by 0.5 against the other's direction, which raises the error.

    Δp = −0.5 (0.6, −0.8), Δq = −0.5 (0, 1): (−0.3, 1.4) · (3, −4.5) = −7.2.
    """
    one = Observed(torch.tensor([0]), torch.tensor([0]), torch.tensor([1.0]))
    start = Factors(torch.tensor([[0.0, 1.0]]), torch.tensor([[3.0, -4.0]]))
    found = perturbed_errors(start, one, torch.tensor([0.5]))
    assert found.tolist() == [pytest.approx(8.2**2, rel=1e-6)]


def test_the_perturbation_is_the_gradients_direction() -> None:
    """Against autograd, on pairs of their own rows."""
    generator = torch.Generator().manual_seed(3)
    users, items = (torch.randn(20, 4, generator=generator) for _ in range(2))
    pairs = Observed(torch.arange(20), torch.arange(20), torch.rand(20, generator=generator))
    lengths = torch.rand(20, generator=generator)
    leaves = [users.clone().requires_grad_(), items.clone().requires_grad_()]
    gradients = torch.autograd.grad(Factors(*leaves).errors(pairs).sum(), leaves)
    moved = [
        table + lengths[:, None] * gradient / gradient.norm(dim=1, keepdim=True)
        for table, gradient in zip((users, items), gradients, strict=True)
    ]
    found = perturbed_errors(Factors(users, items), pairs, lengths)
    torch.testing.assert_close(found, Factors(*moved).errors(pairs))
    assert (found >= Factors(users, items).errors(pairs)).all()


def test_in_warm_up_or_without_weight_it_is_plain() -> None:
    plain = users_of(Ltsmf(trimmed=0, regularization=0))
    for method in (Vat(warm_up=4), Vat(weight=0, warm_up=0)):
        torch.testing.assert_close(users_of(method), plain, atol=0, rtol=0)
    assert not torch.equal(users_of(Vat(warm_up=3)), plain)


def test_one_step_follows_both_gradients() -> None:
    """One Adagrad step on L(θ) + λ L(θ + Δ), from dense matrices; Δ is a constant in it."""
    ratings = synthetic(40, 60, seed=0)
    whole = replace(DESCENT, batch=len(ratings), epochs=1)
    method = Vat(epsilon=0.3, weight=0.7, warm_up=0)
    tables = robust_factors(ratings, replace_rate(method), replace(whole, learning_rate=1e-12))
    users, items = (
        tables[name].numpy().astype(np.float64) for name in ("user_embedding", "item_embedding")
    )
    dense = ratings.dense().astype(np.float64)
    rated = dense > 0
    gap = np.where(rated, users @ items.T - dense, 0)
    losses = np.square(gap).sum(1) / np.maximum(rated.sum(1), 1)
    active = rated.any(1)
    lengths = 0.3 / (1 + np.exp(-(losses[active].mean() / np.maximum(losses, 1e-30) - 1)))
    gradient = 2 * gap @ items / len(ratings)
    for user, item in np.argwhere(rated):
        reach = np.sign(gap[user, item]) * lengths[user]
        p = users[user] + reach * items[item] / np.linalg.norm(items[item])
        q = items[item] + reach * users[user] / np.linalg.norm(users[user])
        gradient[user] += 0.7 * 2 * (p @ q - dense[user, item]) * q / len(ratings)
    expected = users - gradient / np.sqrt(0.1 + gradient**2)
    np.testing.assert_allclose(users_of(method, whole), expected, rtol=1e-4, atol=1e-5)


def replace_rate(method: Vat) -> Vat:
    """The same without its second loss: where training starts."""
    return method.model_copy(update={"weight": 0.0})
