"""Attacks on data of which the truth is known: nothing leaks, everything leaks, sums leak."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.training.methods import Private
from server.training.ranking import Ials
from server.training.train import TrainingSettings, train
from sims.audit.attributes import guessed, hits
from sims.audit.exposure import accounts_to, content, exposed, rank_of, sums_of
from sims.audit.knowledge import Background, Knowledge
from sims.audit.linkage import Claims, linked, named
from sims.audit.membership import TESTS, auc, model_fit, model_span
from sims.audit.seen import Seen, distinct, together
from tests.support.ratings import from_rows, from_table
from tests.support.releases import cells, whole

RATINGS = synthetic(300, 200, 12_000)
MEMBERS, OTHERS, SHADOWS = (RATINGS.rows(np.arange(at, at + 100)) for at in (0, 100, 200))
BACKGROUND = Background(SHADOWS)
# Of the AUC of 100 members and 100 others who do not differ.
CHANCE = np.sqrt(201 / (12 * 100 * 100))


def known(people: RatingMatrix, knowledge: Knowledge | None = None, seed: int = 0) -> RatingMatrix:
    rng = np.random.default_rng(seed)
    return (knowledge or Knowledge()).of(people, RATINGS.item_counts(), rng=rng)


def guess(seen: Seen, name: str, few: int = 8) -> float:
    some = known(MEMBERS, Knowledge(few)), known(OTHERS, Knowledge(few))
    people = some if name == "plain" else (MEMBERS, OTHERS)
    return auc(*(TESTS[name](seen, each, BACKGROUND) for each in people))


@given(
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.integers(0, 5)),
    hnp.arrays(np.float64, st.integers(1, 20), elements=st.integers(0, 5)),
)
def test_auc_counts_pairs(members: np.ndarray, others: np.ndarray) -> None:
    above = members[:, None] > others
    ties = members[:, None] == others
    assert auc(members, others) == pytest.approx((above + ties / 2).mean())


@pytest.mark.parametrize("name", ["full", "whitened"])
def test_plain_profiles_tell_every_member(name: str) -> None:
    assert guess(whole(MEMBERS), name) > 0.995


def test_few_known_ratings_tell_some() -> None:
    few, more = (guess(whole(MEMBERS), "plain", count) for count in (8, 20))
    assert 0.5 + 2 * CHANCE < few < more and more > 0.7


@pytest.mark.parametrize("name", TESTS)
def test_people_who_are_not_shown_are_not_told_apart(name: str) -> None:
    assert guess(whole(SHADOWS), name) == pytest.approx(0.5, abs=4 * CHANCE)


def test_sums_tell_members_whitened_and_noise_hides_them() -> None:
    exact = {name: guess(cells(MEMBERS, 10), name) for name in TESTS}
    assert exact["whitened"] > 0.8
    assert exact["whitened"] > exact["full"] + 0.1
    # Ten ones against a deviation of 100: nothing is left.
    for name in TESTS:
        assert guess(cells(MEMBERS, 10, noise=100.0), name) == pytest.approx(0.5, abs=4 * CHANCE)


@pytest.mark.parametrize(
    ("knowledge", "least"),
    [
        (Knowledge(200), 0.95),  # all but one rating
        (Knowledge(8), 0.9),
        (Knowledge(8, "rare"), 0.95),
        (Knowledge(8, noise=1), 0.2),
    ],
)
def test_a_plain_profile_is_linked(knowledge: Knowledge, least: float) -> None:
    people = np.arange(50)
    claims = linked(whole(RATINGS), known(RATINGS.rows(people), knowledge), knowledge)
    precision, recall = claims.judged(np.arange(300), people)
    assert precision >= 0.95 and recall >= least


def test_nobody_like_anybody_else_is_always_linked() -> None:
    apart = from_rows([range(5 * row, 5 * row + 5) for row in range(40)], 200)
    few = Knowledge(4).of(apart, apart.item_counts(), rng=np.random.default_rng(0))
    claims = linked(whole(apart.rows(np.arange(40)[::-1])), few, Knowledge(4))
    assert claims.lines.tolist() == list(range(39, -1, -1))


def test_who_is_not_there_is_not_linked() -> None:
    claims = linked(whole(SHADOWS), known(OTHERS), Knowledge())
    assert (claims.lines >= 0).mean() < 0.5
    assert claims.judged(np.arange(200, 300), np.arange(100, 200))[1] == 0.0


@pytest.mark.parametrize("seen", [Seen.nothing(200), cells(MEMBERS)])
def test_nobody_is_linked_or_named_without_rows(seen: Seen) -> None:
    assert linked(seen, known(MEMBERS), Knowledge()).judged(np.full(len(seen), -1), np.arange(100))
    assert (linked(seen, known(MEMBERS), Knowledge()).lines == -1).all()
    assert (named([seen], "ratings", 200).lines == -1).all()


def test_claims_are_judged() -> None:
    owners, people = np.array([5, 6, -1]), np.array([5, 6, 7, 8])
    assert Claims(np.array([0, 0, 2, -1])).judged(owners, people) == (1 / 3, 1 / 4)
    assert Claims(np.full(4, -1)).judged(owners, people) == (1.0, 0.0)


def test_who_is_in_whose_package_is_named() -> None:
    from server.recommending.rated_neighbors import RatedNeighborIndex  # noqa: PLC0415

    nearest = RatedNeighborIndex(RATINGS).neighbors(np.arange(300), 20)[:, 1:]
    packages = [whole(RATINGS.rows(row)) for row in nearest]
    precision, recall = named(packages, "ratings", 200).judged(nearest.ravel(), np.arange(300))
    assert precision > 0.9 and recall > 0.8
    # Neighbors that were drawn at random are not computed from the rows.
    drawn = np.random.default_rng(0).integers(0, 300, nearest.shape)
    packages = [whole(RATINGS.rows(row)) for row in drawn]
    assert named(packages, "ratings", 200).judged(drawn.ravel(), np.arange(300))[1] < 0.05


def advantage(seen: Seen) -> float:
    some = known(MEMBERS), known(OTHERS)
    members, others = (
        hits(guessed(seen, each, BACKGROUND), each, people)
        for each, people in zip(some, (MEMBERS, OTHERS), strict=True)
    )
    return members - others


def test_a_profile_that_is_shown_gives_its_attributes() -> None:
    assert advantage(whole(MEMBERS)) > 0.2
    # Ten guesses about each of 200 people.
    assert advantage(whole(SHADOWS)) == pytest.approx(0, abs=0.1)
    assert advantage(Seen.nothing(200)) == pytest.approx(0, abs=0.1)


def test_hits_are_counted_without_what_is_known() -> None:
    people = from_rows([[*range(12)], [0, 1]], 30)
    some = from_rows([[0], [0]], 30)
    scores = np.tile(np.arange(30.0)[::-1], (2, 1))
    # Items 1 to 10 are named: all of the first one's, one of the second one's.
    assert hits(scores, some, people) == pytest.approx((10 + 1) / 20)


def test_knowledge_is_of_the_person_and_leaves_something() -> None:
    people = from_table([[5, 4, 3, 0, 1], [1, 0, 0, 0, 0], [0, 2, 2, 2, 2]])
    raters = np.array([9, 1, 8, 2, 7])
    rare = Knowledge(2, "rare").of(people, raters, rng=np.random.default_rng(0))
    assert [rare.items_of(row).tolist() for row in range(3)] == [[1, 4], [], [1, 3]]
    off = Knowledge(3, noise=1).of(people, raters, rng=np.random.default_rng(1)).dense()
    true = people.dense()
    assert ((off > 0) <= (true > 0)).all()
    assert (np.abs(off - true)[off > 0] <= 0.2 + 1e-6).all() and (off != true)[off > 0].any()


def test_cut_rows_of_one_vector_are_one_user() -> None:
    table = np.array([[5, 0, 3], [0, 4, 3], [1, 1, 1]])
    vectors = np.array([[1.0], [1.0], [2.0]], dtype=np.float32)
    parts = [
        Seen.of_rows(from_table(table[:1]), vectors[:1]),
        Seen.of_rows(from_table(table[1:]), vectors[1:]),
    ]
    seen, which = distinct(together(parts, 3))
    assert which.tolist() == [0, 0, 1]
    assert seen.ratings is not None
    assert (seen.ratings.dense() * 5).tolist() == [[5, 4, 3], [1, 1, 1]]


def test_content_and_exposure_of_hand_made_packages() -> None:
    first = Seen.of_rows(from_rows([[0, 1], [1, 2]], 4))
    found = content([first, Seen.nothing(4)], 10)
    assert (found.rows, found.users, found.single) == (1.0, 0.1, 1.0)
    owners = [np.array([1, 2]), np.array([2, 12]), np.array([-1])]
    assert exposed(owners, 10).tolist() == [0, 1, 2, 0, 0, 0, 0, 0, 0, 0]


def test_accounts_to_a_share_of_users() -> None:
    alone = [np.array([user]) for user in range(10)]
    needed, reached = accounts_to(alone, 20, rng=np.random.default_rng(0))
    assert needed == {10: 2, 50: 10, 90: None} and reached == 0.5
    assert accounts_to([], 20, rng=np.random.default_rng(0)) == ({10: None, 50: None, 90: None}, 0)


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 3)
    )
)
def test_rank_is_that_of_the_matrix(sums: np.ndarray) -> None:
    assert rank_of(sums) == np.linalg.matrix_rank(sums)


def test_rows_of_a_package_are_added_up_and_cells_are_not() -> None:
    assert sums_of([whole(MEMBERS), cells(MEMBERS)], 200).shape == (1 + 5, 200)
    assert rank_of(sums_of([cells(MEMBERS)], 200)) == 5
    assert sums_of([], 200).shape == (0, 200)


def test_an_item_table_tells_its_members_and_a_private_one_does_not(tmp_path: Path) -> None:
    found = {}
    with ModelStore(tmp_path) as store:
        for name, robust in (("ials", Ials()), ("private", Private(epsilon=1.0))):
            settings = TrainingSettings(model="mf", robust=robust, width=32)
            mine, theirs = (
                store.save(train(people, settings)).version for people in (MEMBERS, SHADOWS)
            )
            for test in (model_span, model_fit):
                scores = [test(mine, each) - test(theirs, each) for each in (MEMBERS, OTHERS)]
                found[name, test] = auc(*scores)
    assert found["ials", model_span] > found["ials", model_fit] > 0.5 + 4 * CHANCE
    for test in (model_span, model_fit):
        assert found["private", test] == pytest.approx(0.5, abs=4 * CHANCE)
