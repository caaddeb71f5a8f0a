"""Rating scales and the rating matrix, against plain Python."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale

FIVE = RatingScale(1, 5, 1)

Triples = list[tuple[int, int, int]]


@st.composite
def triples(draw: st.DrawFn) -> tuple[Triples, int, int]:
    """Ratings in any order, users and items: U, I in 1–6."""
    users, items = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    pair = st.tuples(st.integers(0, users - 1), st.integers(0, items - 1))
    pairs = draw(st.lists(pair, unique=True))
    return [(*each, draw(st.integers(0, 4))) for each in pairs], users, items


def matrix(rows: Triples, users: int, items: int) -> RatingMatrix:
    who, what, levels = ([row[n] for row in rows] for n in range(3))
    return RatingMatrix.from_triples(
        who, what, levels, user_count=users, item_count=items, scale=FIVE
    )


def table_of(rows: Triples, users: int, items: int) -> NDArray[np.float64]:
    table = np.zeros((users, items))
    for user, item, level in rows:
        table[user, item] = (level + 1) / 5
    return table


@given(triples(), st.data())
def test_the_matrix_is_the_table(given_rows: tuple[Triples, int, int], data: st.DataObject) -> None:
    rows, users, items = given_rows
    made, table = matrix(rows, users, items), table_of(rows, users, items)
    np.testing.assert_allclose(made.dense(), table, rtol=1e-6)
    assert (made.user_count, made.item_count, len(made)) == (users, items, len(rows))
    assert made.item_counts().tolist() == (table > 0).sum(0).tolist()
    for user in range(users):
        assert made.items_of(user).tolist() == np.flatnonzero(table[user]).tolist()
    chosen = data.draw(st.lists(st.integers(0, users - 1)))
    np.testing.assert_array_equal(made.rows(chosen).dense(), made.dense()[chosen])
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=items, max_size=items)))
    np.testing.assert_array_equal(made.of_items(kept).dense(), made.dense() * kept)
    # Parts are not checked again, and would pass.
    for part in (made.rows(chosen), made.of_items(kept), made.over_items(items)):
        again = RatingMatrix(part.indptr, part.items, part.levels, items, FIVE)
        assert again.digest() == part.digest() and not part.items.flags.writeable
    np.testing.assert_array_equal(made.stack(made).dense(), np.vstack([made.dense()] * 2))


@given(triples(), st.data())
def test_the_order_of_triples_does_not_matter_to_the_digest(
    given_rows: tuple[Triples, int, int], data: st.DataObject
) -> None:
    rows, users, items = given_rows
    shuffled = data.draw(st.permutations(rows))
    assert matrix(rows, users, items).digest() == matrix(shuffled, users, items).digest()


def test_the_digest_changes_with_anything_that_matters() -> None:
    rows = [(0, 1, 2), (1, 0, 3)]
    others = [
        matrix([(0, 1, 2), (1, 0, 4)], 2, 2),
        matrix([(0, 0, 2), (1, 0, 3)], 2, 2),
        matrix([(1, 1, 2), (1, 0, 3)], 2, 2),
        matrix(rows, 3, 2),
        matrix(rows, 2, 3),
        RatingMatrix.from_triples(
            [0, 1], [1, 0], [2, 3], user_count=2, item_count=2, scale=RatingScale(1, 8, 1)
        ),
    ]
    digests = {other.digest() for other in others}
    assert len(digests) == len(others) and matrix(rows, 2, 2).digest() not in digests
    floats = RatingMatrix.from_triples(
        [0, 1], [1, 0], [2, 3], user_count=2, item_count=2, scale=RatingScale(1.0, 5.0, 1.0)
    )
    assert floats.digest() == matrix(rows, 2, 2).digest()


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 1, 2), (0, 1, 3)],
        [(2, 0, 0)],
        [(-1, 0, 0)],
        [(0, 2, 0)],
        [(0, -1, 0)],
        [(0, 2**32, 0)],  # 0 in 32 bits
        [(2**63 - 1, 0, 0)],
        [(0, 0, 5)],
        [(0, 0, 256)],  # 0 in 8 bits
        [(0, 0, -1)],
    ],
)
def test_triples_out_of_range_or_twice_are_refused(rows: Triples) -> None:
    for make in (list, np.array):
        who, what, levels = (make([row[n] for row in rows]) for n in range(3))
        with pytest.raises(InputError):
            RatingMatrix.from_triples(who, what, levels, user_count=2, item_count=2, scale=FIVE)


@given(
    hnp.arrays(np.int64, st.integers(0, 5)),
    hnp.arrays(np.int32, st.integers(0, 4)),
    hnp.arrays(np.uint8, st.integers(0, 4)),
)
def test_hostile_arrays_are_refused_or_a_matrix(
    indptr: NDArray[np.int64], items: NDArray[np.int32], levels: NDArray[np.uint8]
) -> None:
    try:
        made = RatingMatrix(indptr, items, levels, 3, FIVE)
    except InputError:
        return
    assert made.dense().shape == (len(indptr) - 1, 3)
    assert (made.dense() > 0).sum() == len(items)


@pytest.mark.parametrize("users", [[-1], [0, -1], [2], [0, 2]])
def test_rows_that_are_none_are_refused(users: list[int]) -> None:
    with pytest.raises(IndexError):
        matrix([(0, 0, 1), (1, 1, 2)], 2, 3).rows(users)


def test_row_pointers_whose_differences_overflow_are_refused() -> None:
    large = 2**63 - 1
    indptr = np.array([0, large, -large - 1, -1, 2])
    with pytest.raises(InputError):
        RatingMatrix(indptr, np.arange(2, dtype=np.int32), np.zeros(2, dtype=np.uint8), 3, FIVE)


def test_other_items_or_scales_are_not_stacked() -> None:
    one = matrix([(0, 0, 0)], 1, 2)
    with pytest.raises(InputError, match="cannot be stacked"):
        one.stack(matrix([(0, 0, 0)], 1, 3))


SCALES = [FIVE, RatingScale(1, 8, 1), RatingScale(0.5, 5, 0.5), RatingScale(0.1, 1, 0.1)]


@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_levels_and_values_are_inverse(scale: RatingScale) -> None:
    everything = np.arange(scale.level_count, dtype=np.uint8)
    np.testing.assert_array_equal(scale.levels(scale.values), everything)
    np.testing.assert_array_equal(scale.nearest_levels(scale.values), everything)
    assert scale.values[-1] == pytest.approx(scale.maximum)
    assert scale.fractions[0] > 0 and scale.fractions[-1] == 1


@given(st.sampled_from(SCALES), st.floats(-1e9, 1e9))
def test_the_nearest_level_is_the_nearest(scale: RatingScale, value: float) -> None:
    level = int(scale.nearest_levels(value))
    assert abs(scale.values[level] - value) <= np.abs(scale.values - value).min() + 1e-6


@pytest.mark.parametrize("value", [0, 5.5, 3.4, float("nan"), float("inf"), -float("inf"), 1e300])
@pytest.mark.filterwarnings("error")
def test_a_value_off_the_grid_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="is not on the scale 1–5 in steps of 1"):
        FIVE.levels([1, value])


@pytest.mark.parametrize(
    "limits",
    [
        (0, 5, 1),
        (6, 5, 1),
        (1, 5, 0),
        (1, 5, -1),
        (1, 5, 3),
        (1, 5, 0.001),
        (1, 5, 5e-324),  # 4 / 5e-324 is infinite
        (1, float("inf"), 1),
        (1, 10**400, 10**398),
        (float("nan"), 5, 1),
        (1, 5, float("nan")),
        (1, 5, float("inf")),
    ],
)
def test_a_scale_that_is_none_is_refused(limits: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="rating scale"):
        RatingScale(*limits)


def test_a_scale_of_one_level_says_who_met_what() -> None:
    scale = RatingScale(1, 1, 1)
    assert scale.level_count == 1 and scale.fractions.tolist() == [1]
    assert scale.nearest_levels([-3, 0.2, 9]).tolist() == [0, 0, 0]
    assert str(scale) == "1 alone"


def test_arrays_are_lent_and_not_copied() -> None:
    indptr, items = np.array([0, 1]), np.array([0], dtype=np.int32)
    matrix = RatingMatrix(indptr, items, np.zeros(1, dtype=np.uint8), 1, RatingScale(1, 5, 1))
    assert np.shares_memory(matrix.items, items) and items.flags.writeable
    for array in (matrix.indptr, matrix.items, matrix.levels, matrix.users, matrix.ratings):
        assert not array.flags.writeable


def test_users_below_others_with_ids_have_ids_too() -> None:
    scale = RatingScale(1, 5, 1)
    plain = RatingMatrix.from_triples(
        [0, 1], [0, 1], [1, 2], user_count=2, item_count=2, scale=scale
    )
    named = replace(plain, user_ids=("a", "b"), item_ids=("x", "y"))
    assert named.stack(plain).user_ids == ("a", "b", "fake-0", "fake-1")
    assert named.stack(replace(plain, user_ids=("c", "d"))).user_ids == ("a", "b", "c", "d")
    assert named.stack(plain).item_ids == ("x", "y")
    assert plain.stack(named).user_ids is None
