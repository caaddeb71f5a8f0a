"""Top K against a plain sort; counts against the definitions in the paper's Appendix D."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from common.errors import VicinalError
from common.ranking import Counts, HeldOutItem, count_user, top_items

scores_with_ties = hnp.arrays(
    np.float32,
    st.integers(1, 30),
    elements=st.one_of(
        st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0]), st.floats(-(2.0**100), 2.0**100, width=32)
    ),
)


@given(scores_with_ties, st.data())
def test_top_items_are_a_plain_sort(scores: NDArray[np.float32], data: st.DataObject) -> None:
    items = st.integers(0, len(scores) - 1)
    rated = np.array(sorted(data.draw(st.sets(items))), dtype=np.int32)
    count = data.draw(st.integers(0, 35))
    before = scores.copy()
    unrated = [item for item in range(len(scores)) if item not in rated.tolist()]
    expected = sorted(unrated, key=lambda item: (-scores[item], item))[:count]
    assert top_items(scores, rated, count).tolist() == expected
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    scores = np.array([1, score, 0], dtype=np.float32)
    with pytest.raises(VicinalError, match="not a finite number"):
        top_items(scores, np.array([0], dtype=np.int32), 2)


def test_hit_ratio_and_accuracy_by_hand() -> None:
    """Four users, K = 2, target items 0 and 1."""
    watched = (0, 1)
    users = [
        # top K, rated, held out: both targets shown; the liked item found
        ([0, 1], [5], HeldOutItem(1, liked=True)),
        # has rated target 0, so it does not count for it
        ([1, 3], [0], HeldOutItem(4, liked=True)),
        # shown neither; the item found was not liked
        ([2, 3], [4], HeldOutItem(3, liked=False)),
        # nothing held out
        ([0, 2], [4, 5], None),
    ]
    total = Counts.none(2)
    for shown, rated, held_out in users:
        total += count_user(np.array(shown), np.array(rated, dtype=np.int32), watched, held_out)
    assert total == Counts((3, 4), (2, 2), users=3, user_hits=2, liked=2, liked_hits=1)
    assert total.hit_ratio_per_item == (2 / 3, 2 / 4)
    assert total.hit_ratio == (2 / 3 + 2 / 4) / 2
    assert total.accuracy == 2 / 3
    assert total.accuracy_thresholded == 1 / 2


def test_nobody_counted_is_zero_and_no_division() -> None:
    assert (Counts.none(2).hit_ratio, Counts.none(0).hit_ratio) == (0, 0)
    assert (Counts.none(1).accuracy, Counts.none(1).accuracy_thresholded) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), unique=True),
            st.sets(st.integers(0, 9)),
            st.none() | st.builds(HeldOutItem, st.integers(0, 9), st.booleans()),
        ),
        max_size=6,
    )
)
def test_counts_add_up_in_any_order(
    users: list[tuple[list[int], set[int], HeldOutItem | None]],
) -> None:
    each = [
        count_user(np.array(shown), np.array(sorted(rated), dtype=np.int32), (1, 7), held_out)
        for shown, rated, held_out in users
    ]
    forward, backward = Counts.none(2), Counts.none(2)
    for one, other in zip(each, reversed(each), strict=True):
        forward, backward = forward + one, other + backward
    assert forward == backward
    assert all(one.hits[n] <= one.eligible[n] <= 1 for one in each for n in (0, 1))
    assert 0 <= forward.hit_ratio <= 1 and 0 <= forward.accuracy <= 1


@pytest.mark.parametrize(
    "impossible",
    [
        {"eligible": (1,), "hits": (2,)},
        {"eligible": (1,), "hits": (-1,)},
        {"eligible": (1,), "hits": ()},
        {"users": 1, "user_hits": 2},
        {"users": 1, "liked": 2},
        {"users": 2, "liked": 1, "user_hits": 2, "liked_hits": 2},
        {"users": 2, "liked": 2, "user_hits": 1, "liked_hits": 2},
        {"users": -1},
    ],
)
def test_impossible_counts_are_refused(impossible: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"impossible counts|argument 2 is shorter"):
        Counts(**{"eligible": (), "hits": (), **impossible})  # type: ignore[arg-type]


def test_counts_of_other_items_do_not_add_up() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Counts.none(2) + Counts.none(1)
