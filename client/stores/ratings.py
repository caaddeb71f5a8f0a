"""What a device knows of its own user; none of it is ever sent.

Shapes: U users on this device file, I items.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.errors import InputError
from common.files import write_file
from common.ranking import HeldOutItem
from common.ratings import RatingMatrix, RatingScale

MAX_BYTES: Final = 4 << 30
_DTYPES: Final = {
    "indptr": np.int64,
    "items": np.int32,
    "levels": np.uint8,
    "held_out": np.int32,
    "held_out_liked": np.uint8,
    "scale": np.float64,
    "item_count": np.int64,
}


@dataclass(frozen=True)
class LocalRatings:
    """Own ratings of the users of a device process, and each one's held-out item.

    train           U × I ratings, row u the user's own; the items are masked when ranking
    held_out        int32 [U], the item that evaluation hid, −1 where none
    held_out_liked  bool [U], whether its rating reaches the threshold
    """

    train: RatingMatrix
    held_out: NDArray[np.int32]
    held_out_liked: NDArray[np.bool_]

    def __post_init__(self) -> None:
        users = self.train.user_count
        if self.held_out.shape != (users,) or self.held_out_liked.shape != (users,):
            raise InputError("device ratings: not one held-out item per user")
        if users and not (-1 <= self.held_out.min() <= self.held_out.max() < self.train.item_count):
            raise InputError("device ratings: a held-out item is out of range")

    def held_out_of(self, user: int) -> HeldOutItem | None:
        if self.held_out[user] < 0:
            return None
        return HeldOutItem(int(self.held_out[user]), bool(self.held_out_liked[user]))


def write_local_ratings(path: Path, local: LocalRatings) -> None:
    """Write a device file (safetensors), whole or not at all; read_local_ratings reads it.

    Raises OSError.
    """
    scale = local.train.scale
    write_file(
        path,
        save(
            {
                "indptr": local.train.indptr,
                "items": local.train.items,
                "levels": local.train.levels,
                "held_out": local.held_out.astype(np.int32),
                "held_out_liked": local.held_out_liked.astype(np.uint8),
                "scale": np.array([scale.minimum, scale.maximum, scale.step], dtype=np.float64),
                "item_count": np.array([local.train.item_count], dtype=np.int64),
            }
        ),
    )


def read_local_ratings(path: Path) -> LocalRatings:
    """Raises InputError when the file is not a device file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
        tables = load(path.read_bytes())
        for name, dtype in _DTYPES.items():
            if tables[name].dtype != dtype or tables[name].ndim != 1:
                raise InputError(
                    f"{path}: {name} is {tables[name].dtype}, not a row of {np.dtype(dtype)}"
                )
        train = RatingMatrix(
            tables["indptr"],
            tables["items"],
            tables["levels"],
            int(tables["item_count"][0]),
            RatingScale(*tables["scale"].tolist()),
        )
        return LocalRatings(train, tables["held_out"], tables["held_out_liked"].astype(bool))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a device file; write one with `vicinal serve`") from error
