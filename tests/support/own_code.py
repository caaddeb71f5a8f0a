"""A model and an attack as a user may write them."""

from typing import Any

import numpy as np
import torch

import vicinal as vc
from sims.evaluation.own_model import fitted


class Own(torch.nn.Module):
    """One hidden layer."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(items, 8), torch.nn.Linear(8, items)

    def embed(self, rows: torch.Tensor) -> Any:
        return torch.tanh(self.encoder(rows))

    def forward(self, rows: torch.Tensor) -> Any:
        return self.decoder(self.embed(rows))


def fit(ratings: vc.RatingMatrix, *, seed: int) -> torch.nn.Module:
    return fitted(Own(ratings.item_count), ratings, seed=seed, epochs=20)


def praise(ratings: vc.RatingMatrix, targets: Any, budget: vc.Budget, *, rng: Any) -> Any:
    table = np.zeros((budget.fakes, ratings.item_count))
    table[:, list(targets)] = ratings.scale.maximum
    return table
