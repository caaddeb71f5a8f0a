"""A neighborhood is refused when its parts do not fit."""

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from common.vicinal.neighborhood import Neighborhood


def rows(count: int) -> RatingMatrix:
    return RatingMatrix.from_triples(
        [], [], [], user_count=count, item_count=3, scale=RatingScale(1, 5, 1)
    )


def test_its_length_is_its_rows() -> None:
    table = np.zeros((2, 4), dtype=np.float32)
    assert len(Neighborhood(rows(2), {"user_embedding": table})) == 2


def test_no_rows_other_rows_and_values_that_are_none_are_refused() -> None:
    table = np.zeros((2, 4), dtype=np.float32)
    with pytest.raises(InputError, match="no rows"):
        Neighborhood(rows(0), {})
    with pytest.raises(InputError, match="user_embedding has 2 rows"):
        Neighborhood(rows(3), {"user_embedding": table})
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="user_embedding is not finite"):
            Neighborhood(rows(2), {"user_embedding": table + np.float32(bad)})
