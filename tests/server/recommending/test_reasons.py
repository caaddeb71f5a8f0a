"""Reasons against counts made by hand, and against the list that they explain."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.vicinal.settings import VicinalSettings
from server.recommending.certificate import UNREACHABLE, Certificate
from server.recommending.reasons import MOST_ITEMS, Admitted, explained
from tests.support.scenes import FAKES, ITEMS, USERS, Scene, make_scene

EVERYBODY = USERS + FAKES
SETTINGS = st.builds(
    VicinalSettings,
    st.integers(2, EVERYBODY),
    st.just(0.2),
    st.just(1),
    neighbors_by=st.sampled_from(["ratings", "random"]),
    assumed_fakes=st.sampled_from([0.0, 0.03, 0.1, 0.3]),
    margin=st.integers(1, 4),
    candidates=st.sampled_from([0, 5]),
    exploration=st.sampled_from([0.0, 0.3]),
    min_support=st.integers(1, 2),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("reasons"))


@given(settings=SETTINGS, user=st.integers(0, USERS - 1), data=st.data())
def test_reasons_are_counts(
    scene: Scene, settings: VicinalSettings, user: int, data: st.DataObject
) -> None:
    recommender = scene.recommender
    items = data.draw(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=5))
    found = explained(recommender, user, settings, np.array(items))
    table = np.zeros((EVERYBODY, ITEMS), dtype=bool)
    for one in range(EVERYBODY):
        table[one, recommender.ratings.items_of(one)] = True
    near = recommender.nearest(np.array([user]), settings.neighbors, settings.neighbors_by)[0]
    neighborhood = recommender.neighborhood(user, settings)
    prices = Certificate(recommender.ratings, settings).prices(user)
    assert found.neighbors == settings.neighbors - 1 and found.accounts == EVERYBODY
    for item, reason in zip(items, found.reasons, strict=True):
        shown = item in neighborhood.ratings.items
        assert reason.item == item
        assert reason.supporters == (table[near[1:], item].sum() if shown else 0)
        if settings.candidates == 0:
            assert reason.raters == table[:, item].sum()
        assert reason.price == (None if prices[item] == UNREACHABLE else prices[item])
        if table[user, item]:
            assert reason.admitted is Admitted.RATED
        elif reason.raters >= found.required_raters:
            assert reason.admitted is Admitted.FOR_RATERS
        else:
            assert reason.admitted in (Admitted.NO, Admitted.DRAWN)
            assert settings.exploration > 0 or reason.admitted is Admitted.NO


def test_what_is_recommended_is_admitted(scene: Scene) -> None:
    settings = VicinalSettings(20, 0.2, 1, neighbors_by="ratings", assumed_fakes=0.1, margin=2)
    for user in range(USERS):
        items = scene.recommender.recommend(user, settings, 3)
        reasons = explained(scene.recommender, user, settings, items).reasons
        assert {reason.admitted for reason in reasons} == {Admitted.FOR_RATERS}
        assert all(reason.supporters > 0 and reason.price == 0 for reason in reasons)


def test_nothing_is_proved_where_some_are_suspected(scene: Scene) -> None:
    recommender = make_scene(scene.recommender.path.parent, seed=0).recommender
    recommender.stored = replace(recommender.stored, left_out=np.array([1]))
    settings = VicinalSettings(5, 0.2, 1, neighbors_by="ratings", assumed_fakes=0.1)
    found = explained(recommender, 3, settings, np.array([1, 2]))
    assert found.form == "" and {reason.price for reason in found.reasons} == {None}


@pytest.mark.parametrize("items", [[], [ITEMS], list(range(ITEMS)) * 2])
def test_items_that_there_are_not(scene: Scene, items: list[int]) -> None:
    assert len(items) != MOST_ITEMS
    with pytest.raises(InputError):
        explained(scene.recommender, 3, VicinalSettings(5, 0.2, 1), np.array(items, dtype=int))
