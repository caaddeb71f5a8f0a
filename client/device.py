"""One user's answer on the device: fine-tune, rank, count."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.model_version import ModelVersion
from common.neighborhood import Neighborhood
from common.ranking import Counts, HeldOutItem, count_user, top_items
from common.settings import VicinalSettings
from common.vicinal import tuned_scores


class Answer(NamedTuple):
    """items: the top K, best first, which stays here; counts: what may be reported."""

    items: NDArray[np.int64]
    counts: Counts


def answer(
    version: ModelVersion,
    neighborhood: Neighborhood,
    settings: VicinalSettings,
    *,
    rated: NDArray[np.int32],
    held_out: HeldOutItem | None,
    watched: tuple[int, ...],
    list_length: int,
) -> Answer:
    """Recommend to one user and count what evaluation wants to know."""
    scores = tuned_scores(version.served, neighborhood, settings)
    items = top_items(scores, rated, list_length)
    return Answer(items, count_user(items, rated, watched, held_out))
