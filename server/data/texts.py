"""Columns of text in which much occurs again, as codes: 4 bytes a row, and work by distinct text.

Shapes: N rows, D distinct texts.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True)
class Coded:
    """A column as its distinct texts, in no order, and which of them each row has.

    texts   [D], no null
    places  of each code of the column in texts, −1 for codes that it does not have
    """

    column: pl.Series
    texts: pl.Series
    places: NDArray[np.int32]

    @classmethod
    def of(cls, column: pl.Series) -> "Coded":
        """Of text, categorical or not."""
        if column.dtype != pl.Categorical:
            column = column.cast(pl.Categorical)
        distinct = column.drop_nulls().unique() if column.null_count() else column.unique()
        codes = distinct.to_physical().to_numpy()
        places = np.full(int(codes.max(initial=0)) + 1, -1, dtype=np.int32)
        places[codes] = np.arange(len(codes), dtype=np.int32)
        return cls(column, distinct.cast(pl.String), places)

    def spread(self, values: NDArray[Kind]) -> NDArray[Kind]:
        """What each row's text has [N], of values by distinct text [D]; no row may be null."""
        codes = self.column.to_physical().to_numpy()
        by_code = np.zeros(len(self.places), dtype=values.dtype)
        there = self.places >= 0
        by_code[there] = values[self.places[there]]
        spread: NDArray[Kind] = by_code[codes]
        return spread


def coded(column: pl.Series) -> pl.Series:
    """The same texts as codes."""
    return column.cast(pl.Categorical)


def as_floats(column: pl.Series) -> pl.Series:
    """Numbers of any column, null where there is none."""
    if column.dtype != pl.Categorical:
        return column.cast(pl.Float64, strict=False)
    if column.null_count():
        return column.cast(pl.String).cast(pl.Float64, strict=False)
    found = Coded.of(column)
    numbers = found.texts.cast(pl.Float64, strict=False)
    missing = numbers.is_null().to_numpy()
    spread = pl.Series(column.name, found.spread(numbers.fill_null(0.0).to_numpy()))
    if missing.any():
        spread = spread.set(pl.Series(found.spread(missing)), None)
    return spread
