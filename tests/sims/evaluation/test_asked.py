"""Whom an evaluation asks."""

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from sims.evaluation.asked import AskedUsers, asked_users, chosen

IDS = ("ann", "bob", "cy", "dee")


def ratings() -> RatingMatrix:
    return RatingMatrix.from_triples(
        range(4), [0] * 4, [0] * 4, user_count=4, item_count=1,
        scale=RatingScale(1, 5, 1), user_ids=IDS, item_ids=("x",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (None, None),
        (3, 3),
        ("3", 3),
        ("3-3", (3,)),
        ("id:bob,0-1", ("id:bob", 0, 1)),
        (["id:bob", 2], ("id:bob", 2)),
    ],
)
def test_a_number_is_a_sample_and_names_are_users(said: object, asked: AskedUsers) -> None:
    assert asked_users(said) == asked


@pytest.mark.parametrize("said", [0, "0", "bob", [], ["bob"], [True], [1, 1], 1.5])
def test_what_names_nobody_is_refused(said: object) -> None:
    with pytest.raises(InputError, match="users"):
        asked_users(said)


def test_those_who_are_named_are_asked() -> None:
    assert chosen(("id:dee", 0), ratings(), seed=0).tolist() == [0, 3]
    assert chosen(None, ratings(), seed=0).tolist() == [0, 1, 2, 3]
    drawn = chosen(2, ratings(), seed=5)
    assert len(drawn) == 2 and (np.diff(drawn) > 0).all()
    with pytest.raises(InputError, match="did you mean bob"):
        chosen(("id:Bob",), ratings(), seed=0)
    with pytest.raises(InputError, match="none"):
        chosen((4,), ratings(), seed=0)
