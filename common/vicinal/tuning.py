"""Vicinal fine-tuning: the one implementation that server and device share.

The vicinal objective over a neighborhood N with ratings Ω_N (design of this project; with
α = 0 and λ = 0 it is the paper's, Algorithm 1, line 12):

    L_N = (1/|Ω_N|) · [ Σ_{(v,i) ∈ Ω_N} (r̂_vi − r_vi)² + α · Σ_{v ∈ N, i unrated by v} r̂_vi² ]
          + λ‖θ − θ₀‖²

A neighbor's ratings are its encoder's inputs too, as they are in the neighborhood.

Nothing is updated in place: the model stays as it was, so there is nothing to restore
(line 14). Run it on one BLAS thread (common.threads): the matrices are small.

Shapes: k neighbors (row 0 is the user itself), I items, d embedding width.
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.models import Model
from common.vicinal.curvature import eigenbasis
from common.vicinal.ease import ease_scores
from common.vicinal.encoder import DualEncoder
from common.vicinal.fold_in import folded
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.optimizers import TouchedCopy, adagrad_steps, adam_steps
from common.vicinal.output import OutputLayer
from common.vicinal.settings import CLOSED_FORM_RULE, VicinalSettings, check_fold_in
from common.vicinal.support import unsupported_last

Table = NDArray[np.float32]

# A run of steps that made the objective worse is retried with half the learning rate, this often.
MAX_HALVINGS: Final = 30


@final
class ServedModel:
    """The shared parameters of one model version and what all of its requests share.

    item_gram  of the whole model, where `parameters` hold rows of some items (common.vicinal.slim)
    """

    def __init__(
        self, model: Model, parameters: Mapping[str, Table], *, item_gram: Table | None = None
    ) -> None:
        self.model = model
        self.parameters = parameters
        self._item_gram = item_gram

    @cached_property
    def item_table(self) -> Table:
        """The output layer's rows: q, and c as a last column where there are biases."""
        items = self.parameters["item_embedding"]
        if not self.model.biases:
            return items
        return np.concatenate([items, self.parameters["item_bias"][:, None]], axis=1)

    @cached_property
    def item_gram(self) -> Table:
        """The Gram matrix of the output layer's rows, [d, d] or [d + 1, d + 1]."""
        return self.item_table.T @ self.item_table if self._item_gram is None else self._item_gram

    @cached_property
    def item_basis(self) -> Table:
        """Eigenvectors of QᵀQ, [d, d]."""
        width = self.parameters["item_embedding"].shape[1]
        return eigenbasis(np.ascontiguousarray(self.item_gram[:width, :width]))

    def warm(self) -> None:
        """Compute what all requests share now, and not within the first of them."""
        if self.model.tables:
            _ = self.item_table, self.item_gram, self.item_basis

    def plain_scores(self, neighborhood: Neighborhood) -> Table:
        """The undefended model's scores of row 0 for every item, [I]."""
        first = {name: rows[:1] for name, rows in neighborhood.user_parameters.items()}
        parameters = {**self.parameters, **first}
        ratings = neighborhood.ratings.rows([0]).dense()
        scores: Table = self.model.decode(parameters, self.model.encode(parameters, ratings))[0]
        return scores


def tuned_scores(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> Table:
    """Scores of every item for row 0 after fine-tuning a copy on the neighborhood, [I].

    They are finite, and the copy's objective is not above the model's own. Where only
    supported items are ranked (settings.only_supported), the others come last, whatever the copy
    says. Raises InputError as fine_tuner().
    """
    scores = fine_tuner(served.model, settings)(served, neighborhood, settings)
    if not settings.only_supported:
        return scores
    return unsupported_last(scores, neighborhood.ratings)


def _by_curvature(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> Table:
    """Alternate encoder and items; each row's step is divided by its own curvature bound."""
    ratings = neighborhood.ratings
    parameters = {**served.parameters, **neighborhood.user_parameters}
    output = output_layer(served, neighborhood, settings)
    proximal = settings.proximal_weight * max(len(ratings), 1)
    encoder = DualEncoder(served.model, parameters, ratings, proximal=proximal)
    for _ in range(settings.steps):
        fit = encoder.step(output, served.item_basis)
        output.step(fit, encoder.embedding)
    return output.scores(encoder.embedding[0])


def _by_optimizer(
    steps: Callable[[TouchedCopy, int, float], None],
    served: ServedModel,
    neighborhood: Neighborhood,
    settings: VicinalSettings,
) -> Table:
    """A run of steps that ends above its start is repeated with half the learning rate."""
    parameters = {**served.parameters, **neighborhood.user_parameters}
    ratings, learning_rate = neighborhood.ratings, settings.learning_rate
    for _ in range(MAX_HALVINGS):
        copy = TouchedCopy(served.model, parameters, served.item_table, ratings, settings)
        start = copy.objective()
        with np.errstate(over="ignore", invalid="ignore"):
            steps(copy, settings.steps, learning_rate)
            if copy.objective() <= start:
                return copy.scores(served.item_table)
        learning_rate /= 2
    return served.plain_scores(neighborhood)


def _in_closed_form(
    _served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> Table:
    """There is nothing to begin with: the rows decide alone."""
    return ease_scores(neighborhood.ratings, settings.proximal_weight)


FineTuner = Callable[[ServedModel, Neighborhood, VicinalSettings], Table]
FINE_TUNERS: Final[dict[str, FineTuner]] = {
    "curvature": _by_curvature,
    "adagrad": partial(_by_optimizer, adagrad_steps),
    "adam": partial(_by_optimizer, adam_steps),
    CLOSED_FORM_RULE: _in_closed_form,
}


def fine_tuner(model: Model, settings: VicinalSettings) -> FineTuner:
    """Raises InputError as check_rule()."""
    check_rule(model, settings)
    tune = FINE_TUNERS[settings.step_rule]
    return partial(_from_rows_alone, tune) if settings.fold_in else tune


def _from_rows_alone(
    tune: FineTuner, served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> Table:
    """Where no vectors are sent, they are made of the rows first."""
    rows, items = neighborhood.ratings, served.parameters["item_embedding"]
    vectors = folded(served.model, items, served.item_gram, rows)
    return tune(served, Neighborhood(rows, vectors), settings)


def check_rule(model: Model, settings: VicinalSettings) -> None:
    """Raises InputError for steps of a model without parameters, and for the reverse; and for a
    fold-in that would not do.
    """
    if settings.fold_in:
        check_fold_in(model, settings.step_rule)
    if model.tables == (settings.step_rule == CLOSED_FORM_RULE):
        raise InputError(f"{model.name} has no fine-tune by the step rule {settings.step_rule}")


def output_layer(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> OutputLayer:
    sigmoid = served.model.sigmoid_output
    return OutputLayer(
        served.item_table,
        served.item_gram,
        neighborhood.ratings,
        alpha=settings.unrated_weight,
        proximal=settings.proximal_weight * max(len(neighborhood.ratings), 1),
        sigmoid_output=sigmoid,
        # A sigmoid bends, so untouched items would share no map.
        all_items=sigmoid and settings.unrated_weight > 0,
    )
