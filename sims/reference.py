"""Algorithm 1 of the paper as it is written: the oracle of the fast path.

A deep copy of the whole model is fine-tuned with autograd, every parameter of it, and thrown
away (lines 12–14). Gradients come from autograd and curvature from dense matrices over all
items; nothing here knows of touched items or shared maps.

Shapes: k neighbors, I items, d embedding width.
"""

from typing import final

import torch

from common.neighborhood import Neighborhood
from common.settings import VicinalSettings
from common.vicinal import ServedModel
from common.vicinal_mf import ADAGRAD_EPSILON, MAX_HALVINGS, eigenbasis


@final
class VicinalCopy(torch.nn.Module):
    """The model's own parameters and the neighbors', as torch parameters to fine-tune."""

    def __init__(self, served: ServedModel, neighborhood: Neighborhood) -> None:
        super().__init__()
        self.model = served.model
        self.tables = torch.nn.ParameterDict(
            {
                name: torch.nn.Parameter(torch.from_numpy(table.copy()))
                for name, table in {**served.parameters, **neighborhood.user_parameters}.items()
            }
        )
        self.start = {name: table.detach().clone() for name, table in self.tables.items()}
        self.ratings = torch.from_numpy(neighborhood.ratings.dense()).to(self.dtype)
        self.observed = self.ratings > 0

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.start[next(iter(self.start))].dtype
        return dtype

    def scores(self) -> torch.Tensor:
        """Predicted ratings, [k, I]."""
        parameters = dict(self.tables)
        predicted: torch.Tensor = self.model.decode(
            parameters, self.model.encode(parameters, self.ratings)
        )
        return predicted

    def objective(self, settings: VicinalSettings) -> torch.Tensor:
        """L_N as common.vicinal states it."""
        predicted = self.scores()
        fit = (predicted - self.ratings)[self.observed].square().sum()
        unrated = predicted[~self.observed].square().sum()
        moved = [table - self.start[name] for name, table in self.tables.items()]
        distance = torch.stack([change.square().sum() for change in moved]).sum()
        count = max(int(self.observed.sum()), 1)
        mean: torch.Tensor = (fit + settings.unrated_weight * unrated) / count
        return mean + settings.proximal_weight * distance


def reference_scores(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> torch.Tensor:
    """Scores of every item for row 0 after fine-tuning, [I]; what tuned_scores must return."""
    return fine_tuned(served, neighborhood, settings).scores().detach()[0]


def fine_tuned(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> VicinalCopy:
    """The copy after fine-tuning (line 12)."""
    learning_rate = settings.learning_rate
    start = float(VicinalCopy(served, neighborhood).objective(settings).detach())
    for _ in range(MAX_HALVINGS):
        copy = VicinalCopy(served, neighborhood)
        if settings.step_rule == "curvature":
            _curvature(copy, settings)
            return copy
        _adagrad(copy, settings, learning_rate)
        if float(copy.objective(settings).detach()) <= start:
            return copy
        learning_rate /= 2
    return VicinalCopy(served, neighborhood)


def _adagrad(copy: VicinalCopy, settings: VicinalSettings, learning_rate: float) -> None:
    optimizer = torch.optim.Adagrad(copy.parameters(), lr=learning_rate, eps=float(ADAGRAD_EPSILON))
    for _ in range(settings.steps):
        optimizer.zero_grad()
        copy.objective(settings).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _curvature(copy: VicinalCopy, settings: VicinalSettings) -> None:
    """Step users, then items, each row by the inverse of its bound (common.vicinal_mf)."""
    users, items = copy.tables["user_embedding"], copy.tables["item_embedding"]
    item_basis, user_basis = _basis(items), None
    for _ in range(settings.steps):
        _step(copy, users, items, copy.observed, item_basis, settings)
        user_basis = _basis(users) if user_basis is None else user_basis
        _step(copy, items, users, copy.observed.T, user_basis, settings)


def _basis(rows: torch.Tensor) -> torch.Tensor:
    # numpy's, because eigenvectors of equal eigenvalues are anybody's choice.
    table = rows.detach().numpy()
    return torch.from_numpy(eigenbasis(table.T @ table))


def _step(
    copy: VicinalCopy,
    rows: torch.nn.Parameter,
    others: torch.nn.Parameter,
    observed: torch.Tensor,
    basis: torch.Tensor,
    settings: VicinalSettings,
) -> None:
    (gradient,) = torch.autograd.grad(copy.objective(settings), rows)
    alpha, fixed = settings.unrated_weight, others.detach()
    count = max(int(copy.observed.sum()), 1)
    shared = alpha * fixed.T @ fixed
    own = (1 - alpha) * observed.to(fixed.dtype) @ fixed.square().sum(1)
    # A row without a rating is damped by the mean curvature instead.
    own = torch.where(own > 0, own, shared.trace() / len(shared))
    own = own + settings.proximal_weight * count
    # Without any curvature the gradient is 0, and 0 divided by anything will do.
    own = torch.where(own + shared.trace() > 0, own, 1)
    diagonal = (basis.T @ shared @ basis).abs().sum(1).diag()
    bounds = basis @ diagonal @ basis.T + own[:, None, None] * torch.eye(len(shared)).to(own)
    with torch.no_grad():
        rows.sub_(count / 2 * torch.linalg.solve(bounds, gradient[..., None])[..., 0])
