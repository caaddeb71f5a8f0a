"""The server's own answers: the same as a device's, for real users only."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from client.device import answer
from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings, preset
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.recommending.neighbor_cache import NeighborCache
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from sims.attacks import make_profiles

REAL = 40
SETTINGS = VicinalSettings(neighbors=8, unrated_weight=0.1, steps=3, min_support=2)


@cache
def poisoned() -> RatingMatrix:
    real = synthetic(REAL, 60, seed=0)
    return real.stack(make_profiles("random", real, seed=0, attack_size=0.1).ratings)


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    settings = TrainingSettings(width=8, epochs=5, batch=256, learning_rate=1)
    with ModelStore(tmp_path_factory.mktemp("store")) as store:
        return Recommender(store.save(train(poisoned(), settings)), poisoned(), REAL)


@pytest.mark.parametrize(
    "settings", [SETTINGS, preset("paper", neighbors=8, steps=4)], ids=["vicinal", "paper"]
)
def test_server_and_device_give_the_same_answer(
    recommender: Recommender, settings: VicinalSettings
) -> None:
    for user in range(REAL):
        device = answer(
            recommender.version,
            recommender.neighborhood(user, settings),
            settings,
            rated=poisoned().items_of(user),
            held_out=None,
            watched=(1, 2),
            list_length=10,
        )
        assert recommender.recommend(user, settings, 10).tolist() == device.items.tolist()


def test_without_a_defense_the_model_speaks(recommender: Recommender) -> None:
    users = recommender.stored.user_parameters["user_embedding"].astype(np.float64)
    items = recommender.version.parameters["item_embedding"].astype(np.float64)
    scores = users @ items.T
    scores[poisoned().users, poisoned().items] = -np.inf
    for user in range(REAL):
        expected = np.argsort(-scores[user], kind="stable")[:10]
        found = recommender.recommend_undefended(user, 10)
        # In single precision two nearly equal scores may change places.
        np.testing.assert_allclose(scores[user][found], scores[user][expected], rtol=1e-5)


def test_nobody_is_recommended_what_they_rated(recommender: Recommender) -> None:
    for user in range(0, REAL, 5):
        rated = set(poisoned().items_of(user).tolist())
        for items in (
            recommender.recommend(user, SETTINGS, 1000),
            recommender.recommend_undefended(user, 1000),
        ):
            assert set(items.tolist()) == set(range(60)) - rated


@pytest.mark.parametrize("user", [-1, REAL, REAL + 3, 10**12])
def test_fakes_and_strangers_cannot_be_asked_for(recommender: Recommender, user: int) -> None:
    line = rf"unknown user {user}: choose 0–{REAL - 1}"
    with pytest.raises(InputError, match=line):
        recommender.neighborhood(user, SETTINGS)
    with pytest.raises(InputError, match=line):
        recommender.recommend(user, SETTINGS, 10)
    with pytest.raises(InputError, match=line):
        recommender.recommend_undefended(user, 10)


def test_fakes_are_neighbors_like_anybody(recommender: Recommender) -> None:
    everybody = recommender.nearest(np.arange(REAL), poisoned().user_count)
    assert poisoned().user_count == REAL + 4
    assert (np.sort(everybody, axis=1) == np.arange(REAL + 4)).all()


def test_who_borrows_neighbors_may_borrow_from_a_fake(recommender: Recommender) -> None:
    table = recommender.stored.user_parameters["user_embedding"].copy()
    table[2] = table[REAL + 1]
    stored = replace(recommender.stored, user_parameters={"user_embedding": table})
    lent = Recommender(stored, poisoned(), REAL, search="borrowed").nearest(np.array([2]), 5)[0]
    fakes = Recommender(stored, poisoned(), REAL).nearest(np.array([REAL + 1]), 5)[0]
    assert lent.tolist() == [2, *(fakes[fakes != 2])][:5]
    assert lent[1] == REAL + 1


def test_a_recommender_says_how_it_searches_and_counts_hits(recommender: Recommender) -> None:
    counting = Recommender(recommender.stored, poisoned(), REAL, cache=NeighborCache())
    assert counting.neighbor_search("embedding") == f"exact search over {REAL + 4} users"
    for _ in range(3):
        counting.recommend(4, SETTINGS, 10)
    counting.recommend_undefended(4, 10)
    assert (counting.neighbor_cache.hits, counting.neighbor_cache.misses) == (2, 1)
    assert counting.nearest(np.array([], dtype=np.int64), 3).shape == (0, 3)


def test_requests_leave_the_model_as_it_was(recommender: Recommender) -> None:
    tables = {**recommender.version.parameters, **recommender.stored.user_parameters}
    before = {name: table.copy() for name, table in tables.items()}
    for user in range(0, REAL, 10):
        recommender.recommend(user, SETTINGS, 10)
        recommender.recommend(user, preset("paper", neighbors=8), 10)
    for name, table in tables.items():
        np.testing.assert_array_equal(table, before[name])


def test_a_model_of_other_ratings_is_refused(recommender: Recommender) -> None:
    with pytest.raises(InputError, match="trained on other ratings"):
        Recommender(recommender.stored, poisoned().rows(range(REAL)), REAL)
