"""An own torch module is defended by what docs/how-to/own-model.md shows."""

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from server.recommending.own_model import GenericVicinal, Loss, vicinal_loss

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "own-model.md"


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    return str(code)


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


def defense(
    module: torch.nn.Module, steps: int = 5, rate: float = 0.05, loss: Loss | None = None
) -> GenericVicinal:
    return GenericVicinal(
        module,
        ratings(),
        neighbors=8,
        steps=steps,
        learning_rate=rate,
        loss=loss or vicinal_loss(0.1),
    )


def test_the_documented_example_runs_and_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(example().splitlines()) <= 40
    scope: dict[str, Any] = {}
    exec(compile(example(), str(PAGE), "exec"), scope)
    shown = [int(word) for word in re.findall(r"\d+", capsys.readouterr().out)]
    assert len(set(shown)) == 10
    assert not set(shown) & set(scope["ratings"].items_of(7).tolist())
    # Fine-tuning did something, and not to the module.
    plain = scope["module"](scope["rows"])[7].detach().numpy()
    assert not np.allclose(plain, scope["defense"].scores(7), atol=1e-3)


def test_one_step_is_adams() -> None:
    """From a fresh state Adam moves every parameter by its rate against the gradient's sign."""
    module = Linear(50).eval()
    fast = defense(module, steps=1, rate=0.01)
    moved = deepcopy(module)
    rows = torch.from_numpy(ratings().rows(fast._index.neighbors([3], 8)[0]).dense())
    vicinal_loss(0.1)(moved(rows), rows).backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in moved.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.01 * parameter.grad.sign())
    np.testing.assert_allclose(fast.scores(3), moved(rows)[0].detach().numpy(), atol=1e-4)


def test_the_module_stays_and_no_rate_makes_the_fit_worse() -> None:
    module = Linear(50).eval()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for rate in (1e-3, 1.0, 1e30):
        fast = defense(module, rate=rate)
        rows = torch.from_numpy(ratings().rows(fast._index.neighbors([3], 8)[0]).dense())
        start = module(rows)[0].detach().numpy()
        scores = fast.scores(3)
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

    defense(module, steps=40, loss=watched).scores(0)
    assert len(seen) == 41 and seen[-1] < 0.5 * seen[0]


def test_what_cannot_be_defended_is_refused() -> None:
    with pytest.raises(InputError, match="a method embed"):
        defense(torch.nn.Linear(50, 50).eval())
    with pytest.raises(InputError, match=r"module.eval\(\)"):
        defense(Linear(50))
    with pytest.raises(InputError, match="unknown user 30: choose 0–29"):
        defense(Linear(50).eval()).scores(30)
    with pytest.raises(InputError, match="not a finite number"):
        defense(Linear(50).eval(), loss=lambda predicted, rows: predicted.sum() * torch.nan).scores(
            0
        )
