"""Fine-tuning in compiled loops: a second implementation of the optimizers' steps, for servers.

It computes what common.vicinal.tuning does by Adagrad and Adam where α = 0 and λ = 0, which is
preset paper, with fewer passes over memory (server.recommending.compiled_loops). Other settings are
left to common.vicinal.tuning, and so is everything on a device, which has no compiler.

Loops are compiled by numba when they are first called, and kept on disk.

Shapes: T touched items, I items.
"""

import numpy as np

from common.models import Model, sigmoid_in_place
from common.ratings import RatingMatrix, RatingScale
from common.vicinal import tuning
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.support import unsupported_last
from common.vicinal.tuning import MAX_HALVINGS, ServedModel
from server.recommending.compiled_loops import Indices, Parts, Table, Tables, entries_of, run


def tuned_scores(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> Table:
    """As common.vicinal.tuning.tuned_scores, up to rounding."""
    if not covers(settings):
        return tuning.tuned_scores(served, neighborhood, settings)
    scores = _by_optimizer(served, neighborhood, settings)
    if not settings.only_supported:
        return scores
    return unsupported_last(scores, neighborhood.ratings)


def covers(settings: VicinalSettings) -> bool:
    """Whether there are compiled loops for these settings."""
    plain = settings.unrated_weight == 0 and settings.proximal_weight == 0
    return plain and settings.step_rule in ("adagrad", "adam") and not settings.fold_in


def warm() -> None:
    """Compile the loops, or load them from disk, and not within the first request."""
    one = np.ones((1, 1), dtype=np.float32)
    ratings = RatingMatrix.from_triples(
        [0], [0], [0], user_count=1, item_count=1, scale=RatingScale(1, 2, 1)
    )
    served = ServedModel(Model("mf", user_vector=True), {"item_embedding": one})
    settings = VicinalSettings(1, 0.0, 1, step_rule="adagrad", learning_rate=0.1)
    tuned_scores(served, Neighborhood(ratings, {"user_embedding": one}), settings)


def _by_optimizer(
    served: ServedModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> Table:
    """A run of steps that ends above its start is repeated with half the learning rate."""
    model, ratings, dtype = served.model, neighborhood.ratings, served.item_table.dtype
    touched, entries, by_item = entries_of(
        ratings.items.astype(np.int64), ratings.indptr.copy(), ratings.item_count
    )
    lengths = np.diff(ratings.indptr)
    inputs = model.input_values(ratings.ratings, np.repeat(lengths, lengths))
    learning_rate = settings.learning_rate
    for _ in range(MAX_HALVINGS):
        tables = _tables(served, neighborhood, touched)
        start, end, first = run(
            tables,
            inputs.astype(dtype),
            ratings.ratings.astype(dtype),
            entries,
            by_item,
            _parts(model, settings),
            settings.steps,
            learning_rate,
            max(len(ratings), 1) / 2,
        )
        if end <= start:
            scores: Table = served.item_table @ first
            scores[touched] = tables[0] @ first
            if model.sigmoid_output:
                sigmoid_in_place(scores)
            return scores
        learning_rate /= 2
    return served.plain_scores(neighborhood)


def _parts(model: Model, settings: VicinalSettings) -> Parts:
    return Parts(
        model.inputs != "none",
        model.user_vector,
        model.biases,
        model.sigmoid_hidden,
        model.sigmoid_output,
        settings.step_rule == "adam",
    )


def _tables(served: ServedModel, neighborhood: Neighborhood, touched: Indices) -> Tables:
    """Copies of what a neighborhood can move; what a model does not have is zero."""
    width, dtype = served.parameters["item_embedding"].shape[1], served.item_table.dtype
    inputs = np.zeros((0, width), dtype=dtype)
    if served.model.inputs != "none":
        inputs = served.parameters["input_embedding"][touched]
    bias = np.zeros((1, width), dtype=dtype)
    if served.model.biases:
        bias[0] = served.parameters["hidden_bias"]
    users = np.zeros((len(neighborhood), width), dtype=dtype)
    if served.model.user_vector:
        users[:] = neighborhood.user_parameters["user_embedding"]
    return served.item_table[touched], inputs, bias, users
