"""Algorithm 1 of the paper as it is written: the oracle of the fast path.

A deep copy of the whole model is fine-tuned with autograd, every parameter of it, and thrown away
(lines 12–14). Gradients come from autograd and curvature from dense matrices over all items;
nothing here knows of touched items, shared maps or dual forms. Speed is measured against it
(benchmarks/tuning/kernel.py), so that it wastes nothing that dense tables and autograd do not need.

Shapes: k neighbors, I items, d embedding width, F features of an encoder (one for each of its
parameters' rows).
"""

from typing import final

import torch

from common.vicinal.curvature import eigenbasis
from common.vicinal.encoder import MAX_HALVINGS as MAX_STEP_HALVINGS
from common.vicinal.encoder import MAX_MOVE, RIDGE, SLACK
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.optimizers import ADAGRAD_EPSILON
from common.vicinal.output import BOLD_SHARE, FLATTEST, SIGMOID_CURVATURE
from common.vicinal.settings import VicinalSettings
from common.vicinal.support import unsupported_last
from common.vicinal.tuning import MAX_HALVINGS, ServedModel

_ENCODER = ("input_embedding", "hidden_bias", "user_embedding")
_OUTPUT = ("item_embedding", "item_bias")


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
        self.count = max(int(self.observed.sum()), 1)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.start[next(iter(self.start))].dtype
        return dtype

    def embedding(self) -> torch.Tensor:
        """[k, d]."""
        encoded: torch.Tensor = self.model.encode(dict(self.tables), self.ratings)
        return encoded

    def scores(self, embedding: torch.Tensor | None = None) -> torch.Tensor:
        """Predicted ratings, [k, I]."""
        embedding = self.embedding() if embedding is None else embedding
        predicted: torch.Tensor = self.model.decode(dict(self.tables), embedding)
        return predicted

    def errors(self, settings: VicinalSettings, embedding: torch.Tensor) -> torch.Tensor:
        """Weighted squared errors, [k, I]."""
        predicted = self.scores(embedding)
        unrated = settings.unrated_weight * predicted.square()
        return torch.where(self.observed, (predicted - self.ratings).square(), unrated)

    def objective(self, settings: VicinalSettings) -> torch.Tensor:
        """L_N as common.vicinal.tuning states it."""
        mean = self.errors(settings, self.embedding()).sum() / self.count
        if settings.proximal_weight == 0:
            return mean
        moved = [table - self.start[name] for name, table in self.tables.items()]
        distance = torch.stack([change.square().sum() for change in moved]).sum()
        return mean + settings.proximal_weight * distance


def reference_scores(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> torch.Tensor:
    """Scores of every item for row 0 after fine-tuning, [I]; what tuned_scores must return."""
    scores = fine_tuned(served, neighborhood, settings).scores().detach()[0]
    if not settings.only_supported:
        return scores
    return torch.from_numpy(unsupported_last(scores.numpy(), neighborhood.ratings))


def fine_tuned(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> VicinalCopy:
    """The fine-tuned copy."""
    learning_rate = settings.learning_rate
    for _ in range(MAX_HALVINGS):
        copy = VicinalCopy(served, neighborhood)
        if settings.step_rule == "curvature":
            _curvature(copy, settings)
            return copy
        start = float(copy.objective(settings).detach())
        _optimize(copy, settings, learning_rate)
        if float(copy.objective(settings).detach()) <= start:
            return copy
        learning_rate /= 2
    return VicinalCopy(served, neighborhood)


def _optimize(copy: VicinalCopy, settings: VicinalSettings, learning_rate: float) -> None:
    optimizer: torch.optim.Optimizer
    if settings.step_rule == "adam":
        optimizer = torch.optim.Adam(copy.parameters(), lr=learning_rate)
    else:
        optimizer = torch.optim.Adagrad(
            copy.parameters(),
            lr=learning_rate,
            initial_accumulator_value=ADAGRAD_EPSILON**2,
            eps=0,
        )
    for _ in range(settings.steps):
        optimizer.zero_grad()
        copy.objective(settings).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _curvature(copy: VicinalCopy, settings: VicinalSettings) -> None:
    """Step the encoder, then the items (common.vicinal.encoder, common.vicinal.output)."""
    features = _features(copy)
    gram = features @ features.T
    ridge = 0.0 if copy.model.user_vector else RIDGE * float(gram.trace()) / len(gram) or 1.0
    inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=copy.dtype))
    item_basis, row_basis = _basis(copy.tables["item_embedding"]), None
    for _ in range(settings.steps):
        wanted = _wanted(copy, settings, features, inverse, item_basis)
        before = _encoder_value(copy, settings)
        start = {n: t.detach().clone() for n, t in copy.tables.items() if n in _ENCODER}
        for _ in range(MAX_STEP_HALVINGS):
            change = inverse @ wanted
            _move_encoder(copy, features.T @ change)
            if _encoder_value(copy, settings) <= before * (1 + SLACK):
                break
            wanted = wanted / 2
            for name, table in start.items():
                copy.tables[name].data.copy_(table)
        row_basis = _basis(_with_ones(copy)) if row_basis is None else row_basis
        _step_items(copy, settings, row_basis)


def _encoder_value(copy: VicinalCopy, settings: VicinalSettings) -> float:
    """What the encoder's step must not raise: |Ω_N| · L_N without the items' own distance."""
    distance = _moved_encoder(copy).square().sum()
    value = copy.errors(settings, copy.embedding()).sum()
    return float((value + settings.proximal_weight * copy.count * distance).detach())


def _features(copy: VicinalCopy) -> torch.Tensor:
    """φ [k, F] of every row: its pre-activation is φ θ, θ the encoder's tables as one, [F, d]."""
    rows = len(copy.ratings)
    parts = []
    if copy.model.inputs != "none":
        parts.append(copy.model.input_rows(copy.ratings))
    if copy.model.biases:
        parts.append(torch.ones(rows, 1, dtype=copy.dtype))
    if copy.model.user_vector:
        parts.append(torch.eye(rows, dtype=copy.dtype))
    return torch.cat(parts, dim=1)


def _moved_encoder(copy: VicinalCopy) -> torch.Tensor:
    """How far the encoder's tables are from the model's, [F, d]."""
    moved = [copy.tables[name] - copy.start[name] for name in _ENCODER if name in copy.tables]
    return torch.cat([change.reshape(-1, change.shape[-1]) for change in moved]).detach()


def _move_encoder(copy: VicinalCopy, change: torch.Tensor) -> None:
    """Add [F, d] to the encoder's tables."""
    with torch.no_grad():
        for name in _ENCODER:
            if name in copy.tables:
                table = copy.tables[name]
                rows = 1 if table.ndim == 1 else len(table)
                table.add_(change[:rows].reshape(table.shape))
                change = change[rows:]


def _wanted(
    copy: VicinalCopy,
    settings: VicinalSettings,
    features: torch.Tensor,
    inverse: torch.Tensor,
    basis: torch.Tensor,
) -> torch.Tensor:
    """The change of pre-activations that every row wants for itself, [k, d]."""
    embedding = copy.embedding().detach().requires_grad_()
    (gradient,) = torch.autograd.grad(copy.errors(settings, embedding).sum() / 2, embedding)
    hidden, items = embedding.detach(), copy.tables["item_embedding"].detach()
    proximal = settings.proximal_weight * copy.count
    slope = torch.ones_like(hidden)
    if copy.model.sigmoid_hidden:
        slope = (hidden * (1 - hidden)).clamp(min=torch.finfo(copy.dtype).tiny)
    scale = float(features.square().sum()) / len(features) or 1.0
    pull = inverse @ features @ _moved_encoder(copy)
    step = _divided(
        gradient + proximal * pull / slope,
        copy,
        settings,
        items,
        copy.observed,
        basis,
        factor=_bound(copy),
        proximal=proximal / scale,
    )
    return (-step / slope).clamp(-MAX_MOVE, MAX_MOVE) if copy.model.sigmoid_hidden else -step


def _step_items(copy: VicinalCopy, settings: VicinalSettings, basis: torch.Tensor) -> None:
    tables = [copy.tables[name] for name in _OUTPUT if name in copy.tables]
    starts = [copy.start[name] for name in _OUTPUT if name in copy.tables]
    proximal = settings.proximal_weight * copy.count
    embedding, rows = copy.embedding().detach(), _with_ones(copy).detach()

    def values() -> torch.Tensor:
        moved = [table - start for table, start in zip(tables, starts, strict=True)]
        distance = torch.stack([m.square().reshape(len(m), -1).sum(1) for m in moved]).sum(0)
        return copy.errors(settings, embedding).sum(0) + proximal * distance

    before = values()
    gradients = torch.autograd.grad(before.sum() / 2, tables)
    gradient = torch.cat([part.reshape(len(part), -1) for part in gradients], dim=1)

    def divided(factor: torch.Tensor | float) -> torch.Tensor:
        observed = copy.observed.T
        return _divided(
            gradient, copy, settings, rows, observed, basis, factor=factor, proximal=proximal
        )

    safe = divided(_bound(copy))
    if not copy.model.sigmoid_output:
        return _add(tables, -safe)
    predicted = copy.scores().detach()
    steepest = (predicted * (1 - predicted)).amax(0)
    bold = divided((BOLD_SHARE * steepest.square()).clamp(min=FLATTEST))
    _add(tables, -bold)
    worse = (values() > before).detach()[:, None]
    return _add(tables, torch.where(worse, bold - safe, 0))


def _bound(copy: VicinalCopy) -> float:
    return SIGMOID_CURVATURE if copy.model.sigmoid_output else 1.0


def _divided(
    gradient: torch.Tensor,
    copy: VicinalCopy,
    settings: VicinalSettings,
    others: torch.Tensor,
    observed: torch.Tensor,
    basis: torch.Tensor,
    *,
    factor: torch.Tensor | float,
    proximal: float,
) -> torch.Tensor:
    """Rows of a gradient by a bound of each row's half Hessian times its factor, [R, d]."""
    shared = settings.unrated_weight * others.T @ others
    own = (1 - settings.unrated_weight) * observed.to(copy.dtype) @ others.square().sum(1)
    # A row without a rating is damped by the mean curvature instead.
    own = torch.where(own > 0, own, shared.trace() / len(shared))
    bounds = (basis.T @ shared @ basis).abs().sum(1) + own[:, None]
    damped = torch.as_tensor(factor).reshape(-1, 1) * bounds + proximal
    # Without any curvature the gradient is 0, and 0 divided by anything will do.
    return (gradient @ basis / torch.where(damped > 0, damped, 1)) @ basis.T


def _with_ones(copy: VicinalCopy) -> torch.Tensor:
    embedding = copy.embedding()
    return torch.cat([embedding, torch.ones_like(embedding[:, : int(copy.model.biases)])], dim=1)


def _add(tables: list[torch.nn.Parameter], change: torch.Tensor) -> None:
    with torch.no_grad():
        for table in tables:
            columns = 1 if table.ndim == 1 else table.shape[1]
            table.add_(change[:, :columns].reshape(table.shape))
            change = change[:, columns:]


def _basis(rows: torch.Tensor) -> torch.Tensor:
    # numpy's, because eigenvectors of equal eigenvalues are anybody's choice.
    table = rows.detach().numpy()
    return torch.from_numpy(eigenbasis(table.T @ table))
