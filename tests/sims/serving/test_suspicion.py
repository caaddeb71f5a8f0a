"""The lift of new accounts, as the table of the page has it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ratings import RatingMatrix, RatingScale
from sims.serving.suspicion import lifts
from sims.serving.suspicion import main as table


def ratings_of(table: NDArray[np.bool_]) -> RatingMatrix:
    users, items = np.nonzero(table)
    return RatingMatrix.from_triples(
        users,
        items,
        np.zeros(len(users), dtype=np.int64),
        user_count=len(table),
        item_count=table.shape[1],
        scale=RatingScale(1, 5, 1),
    )


def test_a_lift_is_the_share_among_neighbors_over_that_of_accounts() -> None:
    # Everybody's only neighbor is the copy of the user, who came later: all places are theirs.
    genuine = np.eye(20, dtype=bool)
    value, low, high = lifts(ratings_of(np.concatenate([genuine, genuine])), 20, 2)
    assert value == low == high == 2.0


@pytest.mark.slow
def test_the_table_has_a_row_for_each_attack(capsys: pytest.CaptureFixture[str]) -> None:
    table("synthetic:80x120", 1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 1 + 8 and all(line.count("|") == 7 for line in lines)
