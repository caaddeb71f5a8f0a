"""An own torch module is fine-tuned for each request, and stays as it is."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.data.synthetic import synthetic
from server.recommending.own_model import GenericVicinal, Loss, vicinal_loss


class Linear(torch.nn.Module):
    """Predicts from a d-dimensional projection of a row."""

    def __init__(self, items: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.down = torch.nn.Parameter(torch.randn(items, 4, generator=generator) / 5)
        self.up = torch.nn.Parameter(torch.randn(4, items, generator=generator) / 5)

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.down

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.embed(rows) @ self.up


def ratings() -> RatingMatrix:
    return synthetic(30, 50, seed=0)


def settings(steps: int = 5, rate: float = 0.05) -> VicinalSettings:
    return VicinalSettings(8, 0.1, steps, step_rule="adam", learning_rate=rate)


def defense(module: torch.nn.Module, loss: Loss | None = None) -> GenericVicinal:
    return GenericVicinal(module, ratings(), loss=loss)


def test_one_step_is_adams() -> None:
    """From a fresh state Adam moves every parameter by its rate against the gradient's sign."""
    module = Linear(50).eval()
    fast = defense(module)
    moved = deepcopy(module)
    rows = torch.from_numpy(ratings().rows(fast._index.neighbors([3], 8)[0]).dense())
    vicinal_loss(0.1)(moved(rows), rows).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in moved.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.01 * parameter.grad.sign())
    np.testing.assert_allclose(
        fast.scores(3, settings(1, 0.01)), moved(rows)[0].detach().numpy(), atol=1e-4
    )


def test_the_module_stays_and_no_rate_makes_the_fit_worse() -> None:
    module = Linear(50).eval()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for rate in (1e-3, 1.0, 1e30):
        fast = defense(module)
        rows = torch.from_numpy(ratings().rows(fast._index.neighbors([3], 8)[0]).dense())
        start = module(rows)[0].detach().numpy()
        scores = fast.scores(3, settings(rate=rate))
        assert np.isfinite(scores).all()
        assert rate < 1e30 or np.array_equal(scores, start)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, before[name]) and parameter.grad is None


def test_more_steps_fit_the_neighborhood_better() -> None:
    module, loss = Linear(50).eval(), vicinal_loss(0.1)
    seen: list[float] = []

    def watched(predicted: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        value = loss(predicted, rows)
        seen.append(float(value.detach()))
        return value

    defense(module, loss=watched).scores(0, settings(40))
    assert len(seen) == 41 and seen[-1] < 0.5 * seen[0]


def test_what_cannot_be_defended_is_refused() -> None:
    with pytest.raises(InputError, match="a method embed"):
        defense(torch.nn.Linear(50, 50).eval())
    with pytest.raises(InputError, match=r"module.eval\(\)"):
        defense(Linear(50))
    with pytest.raises(InputError, match="unknown user 30: choose 0–29"):
        defense(Linear(50).eval()).scores(30, settings())
    narrow = Linear(50).eval()
    narrow.up = torch.nn.Parameter(torch.zeros(4, 49))
    with pytest.raises(InputError, match=r"forward\(rows\) gives \(30, 49\), where \[30, 50\]"):
        defense(narrow)
    with pytest.raises(InputError, match="its fine-tune has k, steps, learning rate"):
        defense(Linear(50).eval()).scores(3, VicinalSettings(8, 0.1, 2))
    nan = defense(Linear(50).eval(), loss=lambda predicted, rows: predicted.sum() * torch.nan)
    with pytest.raises(InputError, match="not a finite number"):
        nan.scores(0, settings())


def test_without_a_step_the_copy_is_the_module() -> None:
    fast = defense(Linear(50).eval())
    np.testing.assert_allclose(fast.scores(3, settings(0)), fast.plain_scores(3), rtol=1e-5)
    assert fast.recommend(3, settings(0), 9).tolist() == fast.recommend_undefended(3, 9).tolist()
    assert fast.nearest(np.array([3, 4]), 5)[:, 0].tolist() == [3, 4]
