"""Offload packages: the user's row first, anonymous rows after it, and only supported items."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from common.versions.version import Manifest
from common.vicinal.settings import VicinalSettings
from common.wire.rounding import rounded
from server.data.synthetic import synthetic
from server.recommending.neighbor_cache import NeighborCache
from server.recommending.offload import (
    SEARCHES,
    Offloader,
    Search,
    order_by_content,
    search_named,
    supported,
)
from tests.support.crossing import crossed
from tests.support.ratings import from_rows

RATINGS = synthetic(30, 40, seed=1)
EMBEDDINGS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
OFFLOADER = Offloader(RATINGS, {"user_embedding": EMBEDDINGS}, lambda: EMBEDDINGS, version="a")


def settings_of(neighbors: int, min_support: int = 1) -> VicinalSettings:
    return VicinalSettings(neighbors, unrated_weight=0.1, steps=1, min_support=min_support)


@given(st.integers(0, 29), st.integers(1, 30))
def test_a_neighborhood_is_the_user_and_the_nearest(user: int, count: int) -> None:
    neighborhood = OFFLOADER.neighborhood(user, settings_of(count))
    assert len(neighborhood) == count
    distances = ((EMBEDDINGS - EMBEDDINGS[user]) ** 2).sum(1)
    expected = [user, *np.argsort(distances)[1:count].tolist()]
    own = rounded(EMBEDDINGS)
    table = neighborhood.user_parameters["user_embedding"]
    received = [*zip(map(bytes, neighborhood.ratings.dense()), map(bytes, table), strict=True)]
    known = [(RATINGS.dense()[one].tobytes(), own[one].tobytes()) for one in expected]
    assert received[0] == known[0] and sorted(received) == sorted(known)


@given(st.integers(0, 10**6))
def test_the_order_of_rows_is_decided_by_their_content(seed: int) -> None:
    rng = np.random.default_rng(seed)
    members = rng.permutation(30)[:12]
    table = rounded(EMBEDDINGS)

    def ordered(users: NDArray[np.int64]) -> tuple[str, bytes]:
        ratings, own = RATINGS.rows(users), {"user_embedding": table[users]}
        order = order_by_content(ratings, own)
        return ratings.rows(order).digest(), own["user_embedding"][order].tobytes()

    others = np.concatenate([members[:1], rng.permutation(members[1:])])
    assert ordered(members) == ordered(others)


def test_a_neighborhood_carries_no_ids() -> None:
    named = RatingMatrix(
        RATINGS.indptr,
        RATINGS.items,
        RATINGS.levels,
        RATINGS.item_count,
        RATINGS.scale,
        tuple(f"person {user}" for user in range(30)),
    )
    neighborhood = Offloader(named, {}, lambda: EMBEDDINGS, version="a").neighborhood(
        3, settings_of(5)
    )
    assert neighborhood.ratings.user_ids is None


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_supported_keeps_items_that_enough_rows_rated(seed: int, least: int) -> None:
    rng = np.random.default_rng(seed)
    table = rng.random((5, 7)) < rng.random(7)
    users, items = np.nonzero(table)
    rows = RatingMatrix.from_triples(
        users,
        items,
        rng.integers(0, 5, len(users)),
        user_count=5,
        item_count=7,
        scale=RatingScale(1, 5, 1),
    )
    expected = rows.dense() * (table.sum(0) >= least)
    np.testing.assert_array_equal(supported(rows, least).dense(), expected)


def test_min_support_applies_to_the_neighborhood() -> None:
    whole = OFFLOADER.neighborhood(0, settings_of(10)).ratings
    kept = OFFLOADER.neighborhood(0, settings_of(10, min_support=4)).ratings
    assert 0 < len(kept) < len(whole)
    counts = kept.item_counts()
    assert counts[counts > 0].min() >= 4


def test_only_min_support_lets_others_change_the_users_own_row() -> None:
    # It decides the order of the tail (common.vicinal.support).
    rows: list[tuple[int, ...]] = [(0, 1, 2), (0, 1, 3), (0, 2, 3), (5, 6)]
    clones: list[tuple[int, ...]] = [(0, 1)] * 2

    def own(rows: list[tuple[int, ...]], least: int) -> list[int]:
        settings = VicinalSettings(
            3, 0.1, 0, min_support=least, neighbors_by="ratings", assumed_fakes=0.5
        )
        offloader = Offloader(from_rows(rows, 9), {}, lambda: EMBEDDINGS, version="a")
        items: list[int] = offloader.neighborhood(0, settings).ratings.items_of(0).tolist()
        return items

    assert own(rows, 1) == own(rows + clones, 1) == [0, 1, 2]
    assert (own(rows, 2), own(rows + clones, 2)) == ([0, 1, 2], [0, 1])


@pytest.mark.parametrize("user", [-1, 30])
def test_an_unknown_user_is_refused(user: int) -> None:
    with pytest.raises(InputError, match=rf"unknown user {user}: choose 0–29"):
        OFFLOADER.neighborhood(user, settings_of(2))


def test_more_neighbors_than_users_are_refused() -> None:
    with pytest.raises(InputError, match="k = 31 neighbors asked of 30 users"):
        OFFLOADER.neighborhood(0, settings_of(31))


def nearest_by_distance(user: int, count: int) -> list[int]:
    distances = ((EMBEDDINGS - EMBEDDINGS[user]) ** 2).sum(1)
    nearest: list[int] = np.argsort(distances)[:count].tolist()
    return nearest


@given(st.integers(0, 29), st.integers(1, 30))
def test_borrowed_neighbors_are_those_of_the_nearest_other_user(user: int, count: int) -> None:
    offloader = Offloader(RATINGS, {}, lambda: EMBEDDINGS, version="a", search="borrowed")
    lender = nearest_by_distance(user, 2)[1]
    lent = [other for other in nearest_by_distance(lender, count) if other != user]
    assert offloader.nearest(user, count).tolist() == [user, *lent][:count]


def test_a_single_user_has_nobody_to_borrow_from() -> None:
    alone = Offloader(RATINGS.rows([4]), {}, lambda: EMBEDDINGS[:1], version="a", search="borrowed")
    assert alone.nearest(0, 1).tolist() == [0]
    with pytest.raises(InputError, match="k = 2 neighbors asked of 1 users"):
        alone.nearest(0, 2)


def test_a_user_alone_is_not_sought() -> None:
    offloader = Offloader(RATINGS, {}, lambda: EMBEDDINGS, version="a")
    assert offloader.nearest(3, 1).tolist() == [3]
    assert (offloader.cache.hits, offloader.cache.misses) == (0, 0)


def test_neighbors_are_found_once_for_a_user_and_k() -> None:
    offloader = Offloader(RATINGS, {}, lambda: EMBEDDINGS, version="a")
    for settings in (settings_of(10), settings_of(10, min_support=4), settings_of(11)):
        offloader.neighborhood(5, settings)
    assert (offloader.cache.hits, offloader.cache.misses) == (1, 2)


def test_versions_and_searches_share_a_cache_without_mixing() -> None:
    cache = NeighborCache()
    others = EMBEDDINGS[::-1].copy()
    for _ in range(2):
        for version, table in (("a", EMBEDDINGS), ("b", others)):
            for search in SEARCHES:
                sharing = Offloader(
                    RATINGS,
                    {},
                    partial(np.asarray, table),
                    version=version,
                    search=search,
                    cache=cache,
                )
                lonely = Offloader(
                    RATINGS, {}, partial(np.asarray, table), version=version, search=search
                )
                for user in range(30):
                    ours, theirs = sharing.nearest(user, 7), lonely.nearest(user, 7)
                    np.testing.assert_array_equal(ours, theirs)
    assert cache.hits > cache.misses > 0


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_have_names(name: Search) -> None:
    assert search_named(name) == name


def test_an_unknown_search_is_refused() -> None:
    with pytest.raises(InputError, match="'fast': choose one of auto, exact, borrowed"):
        search_named("fast")


@given(
    user=st.integers(0, 29),
    cap=st.integers(1, 30),
    support=st.integers(1, 5),
    fold_in=st.booleans(),
)
def test_rows_that_are_cut_are_the_most_rated_items_and_a_device_has_what_the_server_has(
    user: int, cap: int, support: int, fold_in: bool
) -> None:
    whole = settings_of(10, support)
    how = replace(whole, row_cap=cap, fold_in=fold_in)
    sent, before = OFFLOADER.neighborhood(user, how), OFFLOADER.neighborhood(user, whole)
    assert bool(sent.user_parameters) != fold_in
    raters = RATINGS.item_counts()
    kept = []
    for row in range(1, 10):
        items = before.ratings.items_of(row)
        kept.append(sorted(items[np.lexsort((items, -raters[items]))[:cap]].tolist()))
    found = [sent.ratings.items_of(row).tolist() for row in range(1, 10)]
    assert sorted(found) == sorted(kept)
    # The device knows all that its user rated, and of a row what it was sent.
    manifest = Manifest("mf", 30, 40, 4, *_scale(RATINGS.scale), "0" * 64, "0" * 64)
    hidden = OFFLOADER.hidden(user, how, sent)
    received = crossed(sent, manifest, how, RATINGS.rows([user]), hidden)
    assert received.ratings.digest() == sent.ratings.digest()
    assert received.user_parameters.keys() == sent.user_parameters.keys()
    for name, table in sent.user_parameters.items():
        np.testing.assert_array_equal(received.user_parameters[name], table)
    own = RATINGS.items_of(user)
    inside = sent.ratings.items_of(0)
    others = np.unique(np.concatenate([np.array(items, dtype=np.int64) for items in found]))
    assert inside.tolist() == (own[np.isin(own, others)] if support > 1 else own).tolist()


def _scale(scale: RatingScale) -> tuple[float, float, float]:
    return scale.minimum, scale.maximum, scale.step
