"""The adaptive attack: hubs are hubs, and its fakes are heard where others' are not."""

from pathlib import Path

import numpy as np

from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from sims.attacks import make_profiles
from sims.attacks.neighborhoods import times_listed

REAL = synthetic(300, 200, seed=1)
K = 20


def test_hubs_are_counted_as_a_full_distance_table_counts_them() -> None:
    listed = times_listed(REAL, K, seed=3)
    trained = train(REAL, TrainingSettings(seed=3))
    points = trained.user_parameters["user_embedding"].astype(np.float64)
    distances = ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = np.argsort(distances, axis=1)[:, : K - 1]
    expected = np.bincount(nearest.ravel(), minlength=REAL.user_count)
    assert listed.sum() == REAL.user_count * (K - 1)
    # Near ties may fall either way in single precision.
    assert np.abs(listed - expected).sum() <= 0.01 * listed.sum()


def share_of_fakes(attack: str, folder: Path, **options: int) -> float:
    profiles = make_profiles(attack, REAL, seed=0, options=options)
    both = REAL.stack(profiles.ratings)
    with ModelStore(folder) as store:
        stored = store.save(train(both, TrainingSettings(seed=0)))
        nearest = Recommender(stored, both, REAL.user_count).nearest(np.arange(REAL.user_count), K)
    return float((nearest[:, 1:] >= REAL.user_count).mean())


def test_fakes_are_among_the_neighbors_more_often_than_mixtures(tmp_path: Path) -> None:
    adaptive = share_of_fakes("vicinity", tmp_path / "vicinity", k=K)
    mixed = share_of_fakes("mixrand", tmp_path / "mixrand")
    assert adaptive > max(2 * mixed, 0.005)


def test_fakes_are_clones_of_as_many_hubs_as_asked() -> None:
    real = REAL.dense()
    for hubs, expected in ((0, 9), (2, 2), (1, 1)):
        profiles = make_profiles("vicinity", REAL, seed=0, options={"hubs": hubs, "k": K})
        table = profiles.ratings.dense()
        table[:, list(profiles.targets)] = 0
        clones = set()
        for row in table:
            same = (real[:, row > 0] == row[row > 0]).all(axis=1)
            assert same.any()
            clones.add(int(np.flatnonzero(same)[0]))
        assert len(clones) == expected
