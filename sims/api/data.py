"""`vicinal.load`: ratings by name, from a file, or from what is in memory."""

from pathlib import Path
from typing import Any

from common.errors import InputError
from common.ratings import RatingScale
from server.data.datasets import KNOWN, Dataset, load_dataset
from server.data.frames import dataset_in_memory
from server.data.rows import parse_scale
from sims.numbers import seed_of
from sims.terminal import notes_wanted


def load(
    source: Any,
    *,
    name: str | None = None,
    scale: RatingScale | str | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Dataset:
    """Ratings of a data set.

    source    `ml-100k` and the like, `synthetic[:UxI]`, a rating file, a polars or pandas frame,
              a dict or a structured array of columns, a tuple (users, items, ratings[,
              timestamps]), or a scipy sparse matrix, in which 0 is unrated
    name      of what has none
    scale     as `1:5:0.5`; the first usual one that holds every rating unless given
    seed      of synthetic ratings
    progress  whether a download shows how far it is

    Raises InputError for what cannot be used, with the row and the reason, VicinalError when a
    data set cannot be fetched.
    """
    seed = seed_of(seed)
    parsed = parse_scale(scale) if isinstance(scale, str) else scale
    if not (parsed is None or isinstance(parsed, RatingScale)):
        raise InputError(f"scale {scale!r:.40}: write it as 1:5:0.5")
    if not isinstance(source, str | Path):
        return dataset_in_memory(source, name=name, scale=parsed)
    named = source in KNOWN or str(source).startswith("synthetic")
    if named and parsed is not None:
        raise InputError(f"data set {source}: has a scale of its own; leave out scale")
    shown = progress and notes_wanted()
    return load_dataset(str(source), seed=seed, scale=parsed, progress=shown)
