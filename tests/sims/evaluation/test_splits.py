"""Leave-one-out: what is held out is gone from training, and nothing else is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.datasets import Dataset
from server.data.held_out import HeldOut
from sims.evaluation.splits import Split, hold_out_one, leave_one_out, without

SCALE = RatingScale(1, 5, 1)


def matrix(rows: list[list[int]], item_count: int = 12) -> RatingMatrix:
    users = [user for user, row in enumerate(rows) for _ in row]
    items = [item for row in rows for item in row]
    return RatingMatrix.from_triples(
        users,
        items,
        [item % 5 for item in items],
        user_count=len(rows),
        item_count=item_count,
        scale=SCALE,
        user_ids=tuple(f"u{user}" for user in range(len(rows))),
    )


def dataset(
    ratings: RatingMatrix, *, times: list[int] | None = None, held_out: HeldOut | None = None
) -> Dataset:
    stamps = None if times is None else np.array(times, dtype=np.int64)
    return Dataset("hand-made", ratings, stamps, held_out, "a test")


ROWS = st.lists(
    st.lists(st.integers(0, 11), max_size=6, unique=True).map(sorted), min_size=1, max_size=8
)


@given(rows=ROWS, seed=st.integers(0, 2**32), kind=st.sampled_from(["random", "latest"]))
@settings(max_examples=150, deadline=None)
def test_train_and_held_out_make_up_the_whole(rows: list[list[int]], seed: int, kind: str) -> None:
    ratings = matrix(rows)
    split = leave_one_out(dataset(ratings, times=list(range(len(ratings)))), kind=kind, seed=seed)
    assert split.kind == kind
    for user, row in enumerate(rows):
        item = split.held_out.items[user]
        if len(row) < 2:
            assert (item, split.held_out.levels[user]) == (-1, 0)
            assert split.train.items_of(user).tolist() == row
        else:
            assert item in row
            assert split.held_out.levels[user] == item % 5
            assert split.train.items_of(user).tolist() == [each for each in row if each != item]
            if kind == "latest":
                assert item == row[-1]
    assert (split.train.levels == split.train.items % 5).all()
    assert split.train.user_ids == ratings.user_ids
    assert split.held_out.users.tolist() == [user for user, row in enumerate(rows) if len(row) > 1]


def test_the_seed_decides_and_every_rating_can_be_drawn() -> None:
    ratings = matrix([[0, 4, 7], [1, 2]])
    drawn = [leave_one_out(dataset(ratings), seed=seed).held_out.items for seed in range(300)]
    again = leave_one_out(dataset(ratings), seed=17).held_out.items
    assert again.tolist() == drawn[17].tolist()
    for user, count in ((0, 3), (1, 2)):
        shares = np.unique([items[user] for items in drawn], return_counts=True)[1] / 300
        assert len(shares) == count
        assert np.abs(shares - 1 / count).max() < 0.12


def test_latest_goes_by_time_not_by_item() -> None:
    ratings = matrix([[0, 4, 7], [1, 2]])
    split = leave_one_out(dataset(ratings, times=[5, 9, 3, 8, 1]), kind="latest")
    assert split.held_out.items.tolist() == [4, 1]


def test_among_equally_new_ratings_the_seed_decides() -> None:
    data = dataset(matrix([[0, 4, 7]]), times=[9, 9, 3])
    drawn = {
        int(leave_one_out(data, kind="latest", seed=seed).held_out.items[0]) for seed in range(40)
    }
    assert drawn == {0, 4}


def test_a_published_split_is_the_default_where_there_is_one() -> None:
    held_out = HeldOut(np.array([7, -1], dtype=np.int32), np.array([2, 0], dtype=np.uint8))
    data = dataset(matrix([[0, 4, 7], [1, 2]]), held_out=held_out)
    split = leave_one_out(data, seed=5)
    assert split.kind == "published"
    assert split.held_out is held_out
    assert split.train.items.tolist() == [0, 4, 1, 2]
    assert leave_one_out(data, kind="random", seed=5).kind == "random"


def test_validation_draws_differ_from_test_draws_of_the_same_seed() -> None:
    ratings = matrix([list(range(12))] * 40)
    test = leave_one_out(dataset(ratings), seed=3).held_out.items
    validation = hold_out_one(ratings, seed=3)
    assert isinstance(validation, Split)
    assert (test == validation.held_out.items).mean() < 0.5
    again = hold_out_one(ratings, seed=3).held_out.items
    assert again.tolist() == validation.held_out.items.tolist()
    assert len(validation.train) == len(ratings) - 40


@pytest.mark.parametrize(
    ("kind", "seed", "message"),
    [
        ("newest", 0, "choose one of published, given, random, latest"),
        ("published", 0, "no published split"),
        ("latest", 0, "no timestamps"),
        ("random", -1, "seed -1"),
    ],
)
def test_a_split_that_cannot_be_is_refused(kind: str, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        leave_one_out(dataset(matrix([[0, 4]])), kind=kind, seed=seed)


def test_held_out_items_must_have_been_rated() -> None:
    held_out = HeldOut(np.array([0, 5], dtype=np.int32), np.zeros(2, dtype=np.uint8))
    with pytest.raises(InputError, match="user 1 has not rated the held-out item 5"):
        without(matrix([[0, 4], [1, 2]]), held_out)
    with pytest.raises(InputError, match="of 2 users do not fit 1"):
        without(matrix([[0, 5]]), held_out)
    with pytest.raises(InputError, match="one item and one level"):
        HeldOut(np.zeros(2, dtype=np.int32), np.zeros(3, dtype=np.uint8))
