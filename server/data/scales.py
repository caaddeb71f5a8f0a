"""The scale that ratings are on: the usual ones, one that is asked for, and what a file suggests.

A matrix holds levels of a grid of positive ratings (common.ratings.RatingScale). Ratings on a scale
that begins at 0 or below are shifted onto one, and continuous ones are rounded to one, as notes
say.

Shapes: N rows.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import MAX_LEVELS, MAX_RATING, RatingScale

# From narrow to wide: the first scale that holds every rating of a file is taken. There is no
# 1–100: a stray 99 is far more often a mistake than a scale.
USUAL_SCALES: Final = (
    RatingScale(1, 5, 1),
    RatingScale(0.5, 5, 0.5),
    RatingScale(1, 8, 1),
    RatingScale(1, 10, 1),
    RatingScale(0.5, 10, 0.5),
)
CONTINUOUS: Final = "continuous"
# Of a continuous scale: the 201 levels of −10–10 are tenths.
STEPS: Final = 200
# Tried where a scale is named without its step.
NATURAL_STEPS: Final = (1.0, 0.5, 0.25, 0.1)
# What people write for no rating.
NONE_VALUES: Final = (0.0, -1.0, 99.0)
TOLERANCE: Final = 1e-4
# A scale that is no wider has steps of 1 where all ratings are whole.
USUAL_WIDTH: Final = 20
HINT: Final = "write MIN:MAX:STEP, for example 1:5:1, or MIN:MAX:continuous"


@dataclass(frozen=True)
class WantedScale:
    """A scale that was asked for, in the file's own units.

    minimum, maximum  None: the least and the greatest rating
    step              None: the widest natural one that every rating is on, else continuous
    continuous        rounded to 201 levels
    """

    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    continuous: bool = False

    def __post_init__(self) -> None:
        bounds = (self.minimum, self.maximum)
        if None in bounds:
            if bounds != (None, None) or not self.continuous:
                raise InputError(f"scale: {HINT}")
            return
        least, most = (float(each) for each in bounds if each is not None)
        if not -MAX_RATING <= least < most <= MAX_RATING:
            raise InputError(
                f"scale {self}: needs minimum < maximum, and both within {MAX_RATING:g}"
            )
        if self.step is not None:
            grid(least, most, self.step)

    def __str__(self) -> str:
        if self.minimum is None or self.maximum is None:
            return CONTINUOUS
        last = f":{self.step:g}" if self.step is not None else ""
        return f"{self.minimum:g}:{self.maximum:g}{f':{CONTINUOUS}' if self.continuous else last}"


@dataclass(frozen=True)
class SettledScale:
    """A scale of positive ratings, what was added to every rating, and the levels [N]."""

    scale: RatingScale
    shift: float
    levels: NDArray[np.uint8]
    notes: tuple[str, ...] = ()


def wanted_scale(text: str) -> WantedScale:
    """A scale written MIN:MAX, MIN:MAX:STEP, MIN:MAX:continuous, or continuous.

    Raises InputError.

    >>> wanted_scale("0.5:4:0.5").step, str(wanted_scale("-10:10:continuous"))
    (0.5, '-10:10:continuous')
    """
    parts = text.strip().split(":")
    continuous = parts[-1].strip().lower() == CONTINUOUS
    try:
        numbers = [float(part) for part in (parts[:-1] if continuous else parts)]
    except ValueError:
        raise InputError(f"scale {text[:40]!r}: {HINT}") from None
    if not all(map(math.isfinite, numbers)) or len(numbers) not in (
        (0, 2) if continuous else (2, 3)
    ):
        raise InputError(f"scale {text[:40]!r}: {HINT}")
    least, most, step = [*numbers, None, None, None][:3]
    return WantedScale(least, most, step, continuous)


def parse_scale(text: str) -> RatingScale:
    """A scale of positive ratings; the step is 1 unless given. Raises InputError.

    >>> str(parse_scale("0.5:4:0.5"))
    '0.5–4 in steps of 0.5'
    """
    wanted = wanted_scale(text)
    if wanted.minimum is None or wanted.maximum is None or wanted.continuous:
        raise InputError(f"scale {text[:40]!r}: write MIN:MAX:STEP, for example 1:5:1")
    return RatingScale(wanted.minimum, wanted.maximum, wanted.step or 1.0)


def grid(minimum: float, maximum: float, step: float) -> RatingScale:
    """The same many levels above 0. Raises InputError for what is no grid.

    >>> str(grid(0, 5, 1)), str(grid(1, 5, 1))
    ('1–6 in steps of 1', '1–5 in steps of 1')
    """
    shift = shift_of(minimum, step)
    try:
        return RatingScale(_clean(minimum + shift), _clean(maximum + shift), step)
    except InputError as error:
        if step > 0 and maximum - minimum >= MAX_LEVELS * step:
            raise InputError(
                f"scale {minimum:g}:{maximum:g}:{step:g}: more than {MAX_LEVELS} levels: give "
                f"{minimum:g}:{maximum:g}:{CONTINUOUS}"
            ) from None
        raise InputError(f"scale {minimum:g}:{maximum:g}:{step:g}: {error}") from None


def shift_of(minimum: float, step: float) -> float:
    """What is added to ratings of which some are not positive."""
    return _clean(step - minimum) if minimum <= 0 else 0.0


def settled(values: NDArray[np.float64], wanted: WantedScale | None) -> SettledScale | int:
    """The scale of some finite ratings [N], or the index of the first that is on none."""
    if wanted is None:
        scale = usual_scale(values)
        off = off_scale(values, scale)
        return _first(off) if off.any() else SettledScale(scale, 0.0, scale.nearest_levels(values))
    least, most = wanted.minimum, wanted.maximum
    if least is None or most is None:
        least, most = float(values.min()), float(values.max())
        if least == most:
            raise InputError(f"scale continuous: every rating is {least:g}; give MIN:MAX:STEP")
    outside = (values < least - TOLERANCE * (most - least)) | (
        values > most + TOLERANCE * (most - least)
    )
    if outside.any():
        return _first(outside)
    notes: list[str] = []
    step = wanted.step
    if step is None and not wanted.continuous:
        distinct = np.unique(values)
        step = next((each for each in NATURAL_STEPS if _on(distinct, least, most, each)), None)
    if step is None:
        step = _clean((most - least) / STEPS)
        off_by = float(np.abs(values - _nearest(values, least, step)).max())
        if off_by > TOLERANCE * step:
            notes.append(
                f"ratings are rounded to {least:g}–{most:g} in steps of {step:g}, by {off_by:.2g} "
                "at most"
            )
    elif not _on(values, least, most, step):
        off = np.abs(values - _nearest(values, least, step)) > TOLERANCE * step
        return _first(off)
    scale, shift = grid(least, most, step), shift_of(least, step)
    if shift:
        notes.append(
            f"{shift:g} is added to every rating, so that the scale {least:g}–{most:g} becomes "
            f"{scale}"
        )
    return SettledScale(scale, shift, scale.nearest_levels(values + shift), tuple(notes))


def suggestion(values: NDArray[np.float64]) -> str:
    """What to say about ratings [N] that are on no usual scale."""
    distinct = np.unique(values)
    least, most = float(distinct[0]), float(distinct[-1])
    for missing in NONE_VALUES:
        rest = distinct[distinct != missing]
        if 0 < len(rest) < len(distinct) and not off_scale(rest, usual_scale(rest)).any():
            step = _step(distinct)
            other = f", or --scale {least:g}:{most:g}:{step:g}" if missing != 99 and step else ""
            return f"give --drop-ratings {missing:g} if that means none{other}"
    if least == most:
        return "every rating is the same: give --scale MIN:MAX:STEP, or --implicit"
    step = _step(distinct)
    last = CONTINUOUS if step is None else f"{step:g}"
    return f"give --scale {least:g}:{most:g}:{last}"


def off_scale(values: NDArray[np.float64], scale: RatingScale) -> NDArray[np.bool_]:
    """Which of some finite ratings [N] are not on the scale's grid."""
    nearest = scale.values[scale.nearest_levels(values)]
    return np.asarray(np.abs(values - nearest) > TOLERANCE * scale.step)


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


def _step(distinct: NDArray[np.float64]) -> float | None:
    """The widest of the natural steps that all ratings are on, counted from the least."""
    least, most = float(distinct[0]), float(distinct[-1])
    gaps = np.diff(distinct)
    widest = float(gaps.min()) if len(gaps) else None
    # Few ratings may all be far apart, and the scale is finer.
    first = 1.0 if most - least <= USUAL_WIDTH else None
    for step in (first, widest, *NATURAL_STEPS, 0.05, 0.01):
        if step is not None and step > 0 and _on(distinct, least, most, _clean(step)):
            return _clean(step)
    return None


def _on(values: NDArray[np.float64], least: float, most: float, step: float) -> bool:
    """Whether a grid of few enough levels from `least` to `most` holds all of them."""
    count = (most - least) / step
    if count >= MAX_LEVELS or abs(count - round(count)) > TOLERANCE:
        return False
    return bool((np.abs(values - _nearest(values, least, step)) <= TOLERANCE * step).all())


def _nearest(values: NDArray[np.float64], least: float, step: float) -> NDArray[np.float64]:
    return least + np.rint((values - least) / step) * step


def _first(bad: NDArray[np.bool_]) -> int:
    return int(np.argmax(bad))


def _clean(value: float) -> float:
    """Without the last digits that subtraction leaves: 0.30000000000000004 is 0.3."""
    return float(f"{value:.12g}")
