"""The rating scale of a file, inferred from its ratings."""

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingScale

# From narrow to wide: the first scale that holds every rating of a file is taken. There is no
# 1–100: a stray 99 is far more often a mistake than a scale.
USUAL_SCALES = (
    RatingScale(1, 5, 1),
    RatingScale(0.5, 5, 0.5),
    RatingScale(1, 8, 1),
    RatingScale(1, 10, 1),
    RatingScale(0.5, 10, 0.5),
)


def off_scale(values: NDArray[np.float64], scale: RatingScale) -> NDArray[np.bool_]:
    """Which of some finite ratings [N] are not on the scale's grid."""
    nearest = scale.values[scale.nearest_levels(values)]
    return np.asarray(np.abs(values - nearest) > 1e-4 * scale.step)


def usual_scale(values: NDArray[np.float64]) -> RatingScale:
    """The first of `USUAL_SCALES` that holds every rating.

    When none does, the widest is returned, and the ratings that are off it are the bad ones:
    every other usual scale is part of the widest.
    """
    distinct = np.unique(values)
    for scale in USUAL_SCALES:
        if not off_scale(distinct, scale).any():
            return scale
    return USUAL_SCALES[-1]


def parse_scale(text: str) -> RatingScale:
    """A scale written MIN:MAX or MIN:MAX:STEP; the step is 1 unless given.

    Raises InputError.

    >>> str(parse_scale("0.5:4:0.5"))
    '0.5–4 in steps of 0.5'
    """
    try:
        numbers = [float(part) for part in text.split(":")]
        minimum, maximum, step = numbers if len(numbers) == 3 else (*numbers, 1.0)
    except ValueError:
        raise InputError(f"scale {text!r}: write MIN:MAX:STEP, for example 1:5:1") from None
    return RatingScale(minimum, maximum, step)
