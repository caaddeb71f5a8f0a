"""A look at a version, against counts made by hand; and what it sees of accounts near everybody."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.recommending.survey import Survey, surveyed
from tests.support.scenes import (
    PRESETS,
    SCALE,
    USERS,
    WATCHED,
    Scene,
    make_scene,
    recommender_of,
)

OLD = 30
# An item that nobody genuine rates.
LAST = 128


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("survey"))


@pytest.mark.parametrize("preset", ["paper", "vicinal"])
def test_a_survey_is_counts(scene: Scene, preset: str) -> None:
    recommender, settings = scene.recommender, PRESETS[preset]
    held_out = np.full(USERS, -1, dtype=np.int32)
    held_out[::2] = 59
    found = surveyed(recommender, settings, WATCHED, 10, most=99, before=OLD, held_out=held_out)
    expected = dict.fromkeys(Survey.__dataclass_fields__, 0.0)
    shares, common, places = [], [], []
    for user in range(OLD):
        near = recommender.nearest(np.array([user]), settings.neighbors, settings.neighbors_by)
        others = [each for each in near[0].tolist() if each != user]
        places += others
        shares.append(sum(OLD <= each < USERS for each in others) / len(others))
        defended = set(recommender.recommend(user, settings, 10).tolist())
        plain = set(recommender.recommend_undefended(user, 10).tolist())
        common.append(len(defended & plain) / len(plain))
        rated = set(recommender.ratings.items_of(user).tolist())
        for item in set(WATCHED) - rated:
            expected["eligible"] += 1
            expected["hits_defended"] += item in defended
            expected["hits_undefended"] += item in plain
        if user % 2 == 0:
            expected["held_out"] += 1
            expected["found_defended"] += 59 in defended
            expected["found_undefended"] += 59 in plain
    accounts = recommender.ratings.user_count
    expected |= {
        "users": OLD,
        "new_accounts": (USERS - OLD) / accounts,
        "new_neighbors": float(np.mean(shares)),
        "new_neighbors_error": float(np.std(shares, ddof=1) / np.sqrt(OLD)),
        "hub_neighbors": max(places.count(each) for each in set(places)) / len(places),
        "common": float(np.mean(common)),
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value), name


def test_a_sample_is_the_same_each_time_and_of_users_of_before(scene: Scene) -> None:
    first, again = (
        surveyed(scene.recommender, PRESETS["paper"], WATCHED, 10, most=7, before=OLD)
        for _ in range(2)
    )
    assert first == again and first.users == 7
    whole = surveyed(scene.recommender, PRESETS["paper"], WATCHED, 10, most=99)
    assert whole.users == USERS and whole.new_accounts == whole.new_neighbors == 0


def crowd(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Users of two tastes, who also rate what everybody does."""
    table = np.zeros((count, LAST + 1), dtype=bool)
    for user in range(count):
        table[user, rng.choice(8, 6, replace=False)] = True
        table[user, 8 + 60 * (user % 2) + rng.choice(60, 8, replace=False)] = True
    return table


def looked_at(newcomers: NDArray[np.bool_], path: Path) -> Survey:
    rng = np.random.default_rng(5)
    table = np.concatenate([crowd(120, rng), newcomers])
    users, items = np.nonzero(table)
    levels = np.zeros(len(users), dtype=np.int64)
    ratings = RatingMatrix.from_triples(
        users, items, levels, user_count=len(table), item_count=LAST + 1, scale=SCALE
    )
    recommender, _ = recommender_of(path, ratings, len(table), rng)
    settings = VicinalSettings(12, 0.2, 1, neighbors_by="ratings")
    return surveyed(recommender, settings, (), 10, most=200, before=120)


def test_accounts_that_are_near_everybody_stand_out(tmp_path: Path) -> None:
    honest = looked_at(crowd(12, np.random.default_rng(6)), tmp_path / "honest")
    profiles = np.zeros((12, LAST + 1), dtype=bool)
    profiles[:, :8] = True  # what everybody rates, and an item to be promoted
    profiles[:, LAST] = True
    fakes = looked_at(profiles, tmp_path / "fakes")
    for survey in (honest, fakes):
        assert survey.new_accounts == 12 / 132 and survey.users == 120
    low = fakes.new_neighbors - 2 * fakes.new_neighbors_error
    assert low > 2 * fakes.new_accounts
    assert honest.new_neighbors < 1.5 * honest.new_accounts
    assert fakes.hub_neighbors > honest.hub_neighbors
