"""Groups of like taste: found where they are plain, the same every time, none too small."""

import numpy as np
import pytest

from common.ratings import RatingMatrix
from sims.evaluation.groups import LEAST, MOST_GROUPS, groups_of
from tests.support.ratings import from_table


def two_tastes(first: int, second: int, seed: int = 0) -> RatingMatrix:
    """Users who rate items of one half alone, and users who rate items of the other alone."""
    rng = np.random.default_rng(seed)
    table = np.zeros((first + second, 40), dtype=bool)
    table[:first, :20] = rng.random((first, 20)) < 0.6
    table[first:, 20:] = rng.random((second, 20)) < 0.6
    return from_table(table)


@pytest.mark.parametrize("sizes", [(60, 45), (30, 80), (50, 50)])
def test_two_tastes_are_two_groups(sizes: tuple[int, int]) -> None:
    groups = groups_of(two_tastes(*sizes))
    first, second = groups[: sizes[0]], groups[sizes[0] :]
    assert len(set(first.tolist())) == len(set(second.tolist())) == 1 and first[0] != second[0]
    # Group 0 is the largest.
    assert np.bincount(groups).tolist() == sorted(sizes, reverse=True)


def test_the_same_ratings_give_the_same_groups() -> None:
    rng = np.random.default_rng(1)
    ratings = from_table(rng.random((400, 90)) < 0.2)
    first = groups_of(ratings)
    np.testing.assert_array_equal(first, groups_of(ratings))
    sizes = np.bincount(first)
    assert sizes.min() >= LEAST and 2 <= len(sizes) <= MOST_GROUPS
    assert (np.diff(sizes) <= 0).all()


def test_a_taste_of_few_users_joins_the_nearest_group() -> None:
    groups = groups_of(two_tastes(95, LEAST - 5))
    assert (np.bincount(groups) >= LEAST).all()


def test_few_users_are_one_group_and_empty_rows_belong_somewhere() -> None:
    assert groups_of(two_tastes(20, 20)).tolist() == [0] * 40
    assert (np.bincount(groups_of(from_table(np.zeros((120, 30), dtype=bool)))) >= LEAST).all()
    same = np.zeros((120, 30), dtype=bool)
    same[:, :4] = True
    assert (np.bincount(groups_of(from_table(same))) >= LEAST).all()
    assert groups_of(from_table(np.zeros((0, 5), dtype=bool))).tolist() == []
