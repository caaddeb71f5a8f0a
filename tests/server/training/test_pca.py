"""Suspects by principal components: the ranking by hand, and who is left out of what."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.models import MODELS
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings
from server.data.synthetic import synthetic
from server.model_store import ModelStore, TrainedModel
from server.recommending.recommender import Recommender
from server.training.fold_in import RIDGE, fitted
from server.training.methods import Pca, Unrated
from server.training.pca import loadings, suspect_count, suspects
from server.training.train import TrainingSettings, train
from server.versions.deployment import read_deployment, write_deployment
from sims.selection.presets import Trial, validation
from tests.support.ratings import from_table

# Three who vary together, 0 and 1 alike and 2 nearly so, and one who goes against nobody: its
# z-scores have no correlation with those of 0 and 1.
FOUR = [
    [5, 5, 5, 0, 0, 0],
    [4, 4, 4, 0, 0, 0],
    [5, 5, 0, 0, 0, 0],
    [5, 0, 0, 5, 0, 0],
]


def test_z_scores_and_eigenvectors_by_hand() -> None:
    """z of 0 and 1 is (1, 1, 1, −1, −1, −1); of 2 (√2, √2, then −1/√2 four times).

    Of 3 it is √2 at items 0 and 3, −1/√2 elsewhere. Their products over the 6 items: 0 with 1: 1;
    0 with 2: 3√2/6 = 1/√2; 0 with 3: 0; 2 with 3: (2 − 1 − 1 + 3 · ½) / 6 = ¼.
    """
    root = 1 / np.sqrt(2)
    covariance = np.array(
        [[1, 1, root, 0], [1, 1, root, 0], [root, root, 1, 0.25], [0, 0, 0.25, 1]]
    )
    _, vectors = np.linalg.eigh(covariance)
    found = loadings(from_table(FOUR), 2)
    np.testing.assert_allclose(np.abs(found), np.abs(vectors[:, ::-1][:, :2]), atol=1e-6)


def test_the_one_who_varies_with_nobody_is_suspected() -> None:
    # ¼ of fakes beside each real user: of four rows round(4 · 0.25 / 1.25) = 1.
    assert suspects(from_table(FOUR), 0.25, 1).tolist() == [3]
    assert suspects(from_table(FOUR), 0.0, 1).tolist() == []


def test_who_has_rated_nothing_or_all_alike_is_handled() -> None:
    rows = [[0] * 6, *FOUR, [3] * 6]
    # The last does not vary at all; the first has nothing that could be left out.
    assert suspects(from_table(rows), 0.2, 1).tolist() == [5]
    assert suspects(from_table(rows), 1.0, 1).tolist() == [3, 4, 5]
    assert suspects(from_table([[0] * 6] * 3), 1.0, 3).tolist() == []
    assert suspects(from_table([[5, 0, 0]]), 1.0, 3).tolist() == []


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), users=st.integers(66, 90), components=st.integers(1, 4))
def test_loadings_are_those_of_the_whole_covariance(seed: int, users: int, components: int) -> None:
    """The iteration for large matrices against a decomposition of the dense one."""
    ratings = synthetic(users, 80, seed=seed)
    dense = ratings.dense().astype(np.float64)
    spreads = dense.std(1, keepdims=True)
    scores = np.divide(
        dense - dense.mean(1, keepdims=True), spreads, out=np.zeros_like(dense), where=spreads > 0
    )
    left = np.linalg.svd(scores)[0][:, :components]
    found = loadings(ratings, components)
    np.testing.assert_allclose(np.abs(found), np.abs(left), atol=1e-6)


@pytest.mark.parametrize(
    ("users", "share", "count"), [(971, 0.03, 28), (943, 0.03, 27), (10, 0, 0)]
)
def test_as_many_are_suspected_as_are_assumed(users: int, share: float, count: int) -> None:
    assert suspect_count(users, share) == count


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), alpha=st.sampled_from([0.0, 0.1, 0.4, 1.0]))
def test_a_folded_in_vector_minimizes_the_users_part_of_the_loss(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    ratings = synthetic(12, 30, seed=seed)
    items = rng.normal(size=(30, 4)).astype(np.float32)
    vectors = fitted(items, ratings, alpha)
    dense = ratings.dense().astype(np.float64)
    for vector, row in zip(vectors.astype(np.float64), dense, strict=True):
        weights = np.where(row > 0, 1, alpha)
        gram = (items * weights[:, None]).T.astype(np.float64) @ items
        ridge = RIDGE * np.trace(gram) / 4
        gradient = gram @ vector - (weights * row) @ items + ridge * vector
        np.testing.assert_allclose(gradient, 0, atol=1e-4)


@cache
def ratings() -> RatingMatrix:
    return synthetic(40, 60, seed=0)


def trained(model: str, method: Pca) -> TrainedModel:
    return train(
        ratings(), TrainingSettings(model=model, width=6, batch=16, epochs=3, robust=method)
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("then", [None, Unrated()])
def test_training_does_not_see_the_suspects(model: str, then: Unrated | None) -> None:
    """The shared parameters are those of a training on the others alone."""
    method = Pca(share=0.2, then=then)
    found = trained(model, method)
    assert found.left_out.tolist() == suspects(ratings(), 0.2, 2).tolist()
    assert len(found.left_out) == 7
    kept = np.setdiff1d(np.arange(40), found.left_out)
    others = train(
        ratings().rows(kept),
        TrainingSettings(model=model, width=6, batch=16, epochs=3, robust=then),
    )
    for name, table in others.shared_parameters.items():
        np.testing.assert_array_equal(found.shared_parameters[name], table)
    for name, table in others.user_parameters.items():
        np.testing.assert_array_equal(found.user_parameters[name][kept], table)
        assert np.isfinite(found.user_parameters[name]).all()
    assert found.manifest.users == 40
    assert found.manifest.training_digest != others.manifest.training_digest


@pytest.mark.parametrize("model", MODELS)
def test_a_suspect_is_nobodys_neighbor_and_is_answered(model: str, tmp_path: Path) -> None:
    with ModelStore(tmp_path / "store") as store:
        stored = store.save(trained(model, Pca(share=0.2)))
        again = store.load(stored.version.digest)
    assert again.left_out.tolist() == stored.left_out.tolist() != []
    recommender = Recommender(again, ratings(), 40)
    write_deployment(tmp_path / "served", recommender, bytes(32))
    settings = VicinalSettings(12, 0.4, 2, min_support=2)
    for each in (recommender, read_deployment(tmp_path / "served")):
        assert each.neighbors == 33
        everybody = each.nearest(np.arange(40), 33)
        for user, nearest in enumerate(everybody):
            assert nearest[0] == user and len(set(nearest.tolist())) == 33
            assert not set(nearest[1:].tolist()) & set(stored.left_out.tolist())
        suspect = int(stored.left_out[0])
        listed = each.recommend(suspect, settings, 10)
        assert not set(listed.tolist()) & set(ratings().items_of(suspect).tolist())
        assert np.isfinite(each.plain_scores(suspect)).all()
        rows = each.neighborhood(suspect, settings).ratings
        assert set(rows.items_of(0).tolist()) <= set(ratings().items_of(suspect).tolist())


def test_neighbors_come_in_the_searchs_own_order(tmp_path: Path) -> None:
    with ModelStore(tmp_path) as store:
        stored = store.save(trained("nsvd", Pca(share=0.2)))
    recommender = Recommender(stored, ratings(), 40)
    index = recommender._offloader.index("embedding")
    left_out = set(stored.left_out.tolist())
    for user in range(40):
        order = index.neighbors([user], 40)[0].tolist()[1:]
        expected = [user, *(each for each in order if each not in left_out)]
        assert recommender.nearest(np.array([user]), 9)[0].tolist() == expected[:9]


# Fakes among as many suspects as there are fakes, measured: see docs/decisions/0020-suspects.md.
FOUND = {"random": (26, 28), "average": (24, 28), "mixrand": (0, 6), "vicinity": (0, 6)}


@pytest.mark.realdata
@pytest.mark.parametrize("attack", FOUND)
def test_fakes_made_at_random_are_found_and_mixed_ones_are_not(attack: str) -> None:
    prepared = validation("ml-100k", 0, "mf", Trial(attack))
    found = suspects(prepared.poisoned, 0.03, 2)
    least, most = FOUND[attack]
    assert len(found) == 28
    assert least <= int((found >= prepared.user_count).sum()) <= most
