"""Vicinal fine-tuning: the one implementation that server and device share.

The vicinal objective over a neighborhood N with ratings Ω_N (design of this project; with
α = 0 and λ = 0 it is the paper's, Algorithm 1, line 12):

    L_N = (1/|Ω_N|) · [ Σ_{(v,i) ∈ Ω_N} (r̂_vi − r_vi)² + α · Σ_{v ∈ N, i unrated by v} r̂_vi² ]
          + λ‖θ − θ₀‖²

Nothing is updated in place: the model stays as it was, so there is nothing to restore
(line 14). Run it on one BLAS thread (common.threads): the matrices are small.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.models import Model
from common.neighborhood import Neighborhood
from common.settings import VicinalSettings
from common.vicinal_mf import eigenbasis, fine_tune_mf


@final
class ServedModel:
    """The shared parameters of one model version and what all of its requests share."""

    def __init__(self, model: Model, parameters: Mapping[str, NDArray[np.float32]]) -> None:
        self.model = model
        self.parameters = parameters

    @cached_property
    def item_gram(self) -> NDArray[np.float32]:
        """QᵀQ over all items, [d, d]."""
        items = self.parameters["item_embedding"]
        return items.T @ items

    @cached_property
    def item_basis(self) -> NDArray[np.float32]:
        """Eigenvectors of QᵀQ, [d, d]."""
        return eigenbasis(self.item_gram)

    def plain_scores(self, neighborhood: Neighborhood) -> NDArray[np.float32]:
        """The undefended model's scores of row 0 for every item, [I]."""
        first = {name: rows[:1] for name, rows in neighborhood.user_parameters.items()}
        parameters = {**self.parameters, **first}
        ratings = neighborhood.ratings.rows([0]).dense()
        scores: NDArray[np.float32] = self.model.decode(
            parameters, self.model.encode(parameters, ratings)
        )[0]
        return scores


def _tune_mf(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> NDArray[np.float32]:
    return fine_tune_mf(
        neighborhood.user_parameters["user_embedding"],
        served.parameters["item_embedding"],
        served.item_gram,
        served.item_basis,
        neighborhood.ratings,
        settings,
    )


FINE_TUNERS: Final[
    dict[str, Callable[[ServedModel, Neighborhood, VicinalSettings], NDArray[np.float32]]]
] = {"mf": _tune_mf}


def tuned_scores(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> NDArray[np.float32]:
    """Scores of every item for row 0 after fine-tuning a copy on the neighborhood, [I]."""
    return FINE_TUNERS[served.model.name](served, neighborhood, settings)
