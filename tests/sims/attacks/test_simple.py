"""Attacks that a hand can calculate: what they rate, and how."""

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.budget import most_rated
from sims.attacks.neighborhoods import nearest_by_ratings
from tests.support.ratings import from_table

# Rows of five items, 0 where unrated: item 0 has three ratings (mean 4), item 1 two (mean 2.5, the
# nearest even level is 2), item 2 two (mean 5), item 3 one.
TABLE = [[5, 2, 5, 0, 0], [4, 3, 0, 1, 0], [3, 0, 5, 0, 0], [0, 0, 0, 0, 2]]


def rows_of(
    name: str, ratings: RatingMatrix, size: float = 0.5, **options: int | str
) -> list[list[int]]:
    made = make_profiles(
        name, ratings, seed=0, targets=(4,), attack_size=size, options=options
    ).ratings
    scaled: list[list[int]] = np.round(made.dense() * 5).astype(int).tolist()
    return scaled


def test_avgpop_by_hand() -> None:
    # Nine ratings of four users: profiles of two, so one filler; the most popular is item 0.
    assert rows_of("avgpop", from_table(TABLE)) == [[4, 0, 0, 0, 5]] * 2
    # 36 ratings of twelve users. Item 0 has 36 in 10 ratings, item 1 has 22 in 8, items 2 and 3
    # have 8 ratings each, too, and come after it.
    twelve = from_table([*TABLE[:3], [0, 0, 0, 2, 2]] * 2 + [[3, 3, 3, 3, 0]] * 4)
    assert rows_of("avgpop", twelve, 0.1) == [[4, 3, 0, 0, 5]]


def test_avgpop_draws_from_a_pool_where_it_has_one() -> None:
    real = synthetic(200, 120, seed=1)
    made = make_profiles("avgpop", real, seed=0, options={"popular": 6, "pool": 15})
    fillers = np.setdiff1d(made.ratings.items, made.targets)
    assert set(fillers.tolist()) <= set(most_rated(real, made.targets, 15).tolist())
    assert len(np.unique(made.ratings.dense(), axis=0)) == 6
    assert set(np.diff(made.ratings.indptr).tolist()) == {6 + 5}


def test_targets_only_by_hand() -> None:
    assert rows_of("targets-only", from_table(TABLE)) == [[0, 0, 0, 0, 5]] * 2


def test_most_rated_by_hand() -> None:
    assert most_rated(from_table(TABLE), (4,), 9).tolist() == [0, 1, 2, 3]
    assert most_rated(from_table(TABLE), (0,), 2).tolist() == [1, 2]


def test_a_group_is_its_center_and_those_nearest_to_it() -> None:
    real = synthetic(200, 120, seed=1)
    made = make_profiles("group", real, seed=3, options={"audience": 20, "fillers": 8})
    assert made.goal == "promote" and len(made.audience) == 20
    nearest = nearest_by_ratings(real, 19)[0]
    centers = [
        user for user in made.audience if {user, *nearest[user].tolist()} == set(made.audience)
    ]
    assert centers
    among = real.rows(list(made.audience))
    chosen = most_rated(among, made.targets, 8)
    assert sorted([*chosen.tolist(), *made.targets]) == made.ratings.items_of(0).tolist()
    table = among.dense() * 5
    means = np.array([table[table[:, item] > 0, item].mean() for item in chosen])
    row = made.ratings.dense()[0, chosen] * 5
    assert np.abs(row - means).max() <= 0.5 + 1e-6


def test_a_flood_is_near_every_user_of_one_neighborhood_and_no_copy() -> None:
    real = synthetic(300, 120, seed=1)
    made = make_profiles("flood", real, seed=3, options={"around": 9, "exchanged": 0.2})
    assert len(made.audience) == 9 == made.ratings.user_count
    table, fakes = real.dense() > 0, made.ratings.dense() > 0
    targets = list(made.targets)
    table[:, targets] = fakes[:, targets] = False
    shared = fakes @ table.T.astype(np.float64)
    cosines = shared / np.sqrt(fakes.sum(1)[:, None] * np.maximum(table.sum(1), 1))
    # The nearest real user of each is one of the neighborhood, a different one each.
    nearest = cosines.argmax(axis=1)
    assert set(nearest.tolist()) == set(made.audience)
    assert (cosines.max(axis=1) < 0.999).all() and (cosines.max(axis=1) > 0.7).all()
    whole = make_profiles("flood", real, seed=3, options={"around": 9, "exchanged": 0.0})
    exact = (whole.ratings.dense() > 0) & ~np.isin(np.arange(120), targets)
    rows = [row for row in exact if (table == row).all(axis=1).any()]
    assert rows  # of users who fit the budget
    with pytest.raises(InputError, match="exchanged=2"):
        make_profiles("flood", real, seed=3, options={"exchanged": 2.0})


def test_an_audience_is_of_the_real_users_whatever_the_attacker_knows() -> None:
    real = synthetic(200, 120, seed=1)
    options = {"audience": 20, "knowledge": 0.5}
    made = make_profiles("group", real, seed=3, options=options)
    known = np.array(made.audience)
    assert len(known) == 20 and known.max() >= 100
    # Those who are aimed at are alike: more so than others.
    table = nearest_by_ratings(real, 199)
    rank = np.empty((200, 200), dtype=int)
    np.put_along_axis(rank, table[0], np.arange(199)[None, :].repeat(200, axis=0), axis=1)
    assert np.median(rank[np.ix_(known, known)]) < 80


@pytest.mark.parametrize("style", ["lovehate", "rivals", "average"])
def test_what_is_to_fall_gets_the_minimum(style: str) -> None:
    real = synthetic(200, 120, seed=1)
    made = make_profiles("nuke", real, seed=0, options={"style": style})
    table = made.ratings.dense()
    assert made.goal == "demote" and made.audience == ()
    popular = set(np.argsort(-real.item_counts(), kind="stable")[:20].tolist())
    assert set(made.targets) <= popular
    assert (table[:, list(made.targets)] == np.float32(0.2)).all()
    table[:, list(made.targets)] = 0
    if style == "average":
        assert len(np.unique(table)) > 3
    else:
        assert set(np.unique(table).tolist()) == {0, 1}
    if style == "rivals":
        assert set(np.flatnonzero(table[0])) <= set(most_rated(real, made.targets, 40).tolist())


@pytest.mark.parametrize(("share", "near"), [(0.5, 6), (0.0, 1), (1.0, 11), (0.25, 3)])
def test_a_budget_is_split_as_asked(share: float, near: int) -> None:
    real = synthetic(400, 120, seed=1)
    made = make_profiles(
        "split",
        real,
        seed=0,
        options={"share": share, "poison": "average", "surround": "targets-only"},
    )
    sizes = np.diff(made.ratings.indptr)
    assert (sizes == 5).sum() == near and len(sizes) == 12
    # Those of the model come first.
    assert (sizes[-near:] == 5).all()


def test_hub_clones_are_whole_rows_where_these_fit() -> None:
    real = synthetic(300, 200, seed=1)
    made = make_profiles("hubclones", real, seed=0, options={"k": 20, "space": "ratings"})
    table, rows = made.ratings.dense(), real.dense()
    for each in (table, rows):
        each[:, list(made.targets)] = 0
    assert len(np.unique(table, axis=0)) == 9
    for fake in table:
        assert (rows == fake).all(axis=1).any()
