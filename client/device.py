"""One user's answer on the device: fine-tune, rank, count."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.ranking import Counts, HeldOutItem, count_user, top_items
from common.versions.version import ModelVersion
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.tuning import tuned_scores


class Answer(NamedTuple):
    """A user's top K, best first, which stays on the device, and its counts, which are reported."""

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
    return ranked(
        tuned_scores(version.served, neighborhood, settings),
        rated=rated,
        held_out=held_out,
        watched=watched,
        list_length=list_length,
    )


def ranked(
    scores: NDArray[np.float32],
    *,
    rated: NDArray[np.int32],
    held_out: HeldOutItem | None,
    watched: tuple[int, ...],
    list_length: int,
) -> Answer:
    """Top K and counts from a fine-tuned copy's scores of all items, [I]."""
    items = top_items(scores, rated, list_length)
    counts = count_user(items, rated, watched, held_out)
    return Answer(items, replace(counts, on_device=1))
