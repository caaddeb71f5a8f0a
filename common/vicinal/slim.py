"""Fine-tuning on a device that does not hold the model, with the rows that one request touches.

Where only supported items are ranked (settings.only_supported), each of them has a row in the
neighborhood; all others follow in an order that no model decides
(common.vicinal.support). Of the items that no neighbor rated, fine-tuning needs the Gram matrix
alone. So the tables' rows of the rated items and that matrix give the whole model's answer.

Shapes: k neighbors, I items, T touched items, d embedding width, D width of the output table:
d, or d + 1 where there are biases.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.models import Model
from common.ratings import RatingMatrix
from common.vicinal.entries import places, touched_items
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.support import unsupported_last
from common.vicinal.tuning import ServedModel, fine_tuner

Tables = Mapping[str, NDArray[np.float32]]

# Among what a version's slim packages share.
ITEM_GRAM: Final = "item_gram"


@final
@dataclass(frozen=True)
class SlimModel:
    """rows: of tables of items, [T, …]; shared: all other tables, and the Gram matrix [D, D]."""

    rows: Tables
    shared: Tables


def check_slim(model: Model, settings: VicinalSettings) -> None:
    """Raises InputError where a part of the model would not give the whole model's answer."""
    if not settings.only_supported:
        raise InputError(
            "a slim device needs a preset with min support above 1 or assumed fakes: without them "
            "every item of the model is ranked"
        )
    if settings.unrated_weight > 0 and model.sigmoid_output:
        raise InputError(
            f"a slim device cannot use {model.name} with an unrated weight above 0: behind its "
            "sigmoid every item of the model is fine-tuned"
        )
    if settings.unrated_weight > 0 and settings.step_rule != "curvature":
        raise InputError(
            f"a slim device cannot use {settings.step_rule} with an unrated weight above 0: "
            "every item of the model is fine-tuned"
        )


def slim_model(served: ServedModel, ratings: RatingMatrix) -> SlimModel:
    """What a slim device needs for a neighborhood's ratings."""
    touched = touched_items(ratings)
    items = served.model.item_tables
    return SlimModel(
        {name: table[touched] for name, table in served.parameters.items() if name in items},
        {name: table for name, table in served.parameters.items() if name not in items}
        | ({ITEM_GRAM: served.item_gram} if served.model.tables else {}),
    )


def slim_shapes(
    model: Model, touched_items: int, width: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Shapes of `rows` and of `shared`."""
    shapes = model.shared_shapes(touched_items, width)
    side = width + int(model.biases)
    rows = {name: shape for name, shape in shapes.items() if name in model.item_tables}
    others = {name: shape for name, shape in shapes.items() if name not in model.item_tables}
    return rows, others | ({ITEM_GRAM: (side, side)} if model.tables else {})


def slim_scores(
    model: Model, slim: SlimModel, neighborhood: Neighborhood, settings: VicinalSettings
) -> NDArray[np.float32]:
    """What tuned_scores() gives with the whole model, [I]. Raises InputError as check_slim()."""
    check_slim(model, settings)
    ratings = neighborhood.ratings
    touched = touched_items(ratings)
    shared = {name: table for name, table in slim.shared.items() if name != ITEM_GRAM}
    part = ServedModel(model, {**slim.rows, **shared}, item_gram=slim.shared.get(ITEM_GRAM))
    among_touched = RatingMatrix(
        ratings.indptr,
        places(ratings, touched).astype(np.int32),
        ratings.levels,
        len(touched),
        ratings.scale,
    )
    tuned = fine_tuner(model, settings)(
        part, Neighborhood(among_touched, neighborhood.user_parameters), settings
    )
    scores = np.zeros(ratings.item_count, dtype=tuned.dtype)
    scores[touched] = tuned
    return unsupported_last(scores, ratings)
