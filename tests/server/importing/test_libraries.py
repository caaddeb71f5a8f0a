"""Models that implicit and LensKit have really trained rank here as they do there."""

from pathlib import Path
from typing import Any

import implicit
import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from common.ratings import RatingMatrix
from server.data.rows import checked
from server.data.synthetic import synthetic
from server.importing.factors import Factors, read_factors, with_biases
from server.importing.fit import fit_of
from server.importing.imported import ImportedModel, bring_in, keep
from server.importing.places import Place
from server.model_store import ModelStore
from server.recommending.recommender import Recommender

USERS, ITEMS, LENGTH = 80, 120, 20


@pytest.fixture(scope="module")
def ratings() -> RatingMatrix:
    """With ids whose order is not that of the libraries' rows."""
    plain = synthetic(USERS, ITEMS, 3000, seed=1)
    table = pl.DataFrame(
        {
            "line": range(len(plain)),
            "user": [f"u{user * 37 % 101}" for user in plain.users],
            "item": [str(item * 59 % 211) for item in plain.items],
            "rating": plain.scale.values[plain.levels],
        }
    )
    return checked(table, "ratings").indexed().ratings


def ids(ratings: RatingMatrix) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assert ratings.user_ids is not None and ratings.item_ids is not None
    return ratings.user_ids, ratings.item_ids


def served(folder: Path, ratings: RatingMatrix, own: Factors, shared: Factors) -> Recommender:
    """The recommender of imported factors, which fit the ratings."""
    found, of_users, of_items = bring_in("theirs", own, shared, ratings, real=ratings.user_count)
    assert (of_users.missing, of_items.missing) == (0, 0)
    assert not fit_of(found.users, found.items, ratings).doubtful
    with ModelStore(folder / "store") as store:
        keep(found, store)
        version = ImportedModel("theirs").version(ratings, store)
    return Recommender(version, ratings, ratings.user_count)


def same(ours: list[str], theirs: list[str], scores: dict[str, float]) -> None:
    """The same ranking up to items whose scores are the same but for rounding."""
    span = max(scores.values()) - min(scores.values())
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == other or abs(scores[mine] - scores[other]) < 1e-5 * span


@pytest.mark.parametrize("kind", ["als", "bpr", "lmf"])
def test_implicit(kind: str, tmp_path: Path, ratings: RatingMatrix) -> None:
    common = {"factors": 8, "random_state": 1}
    models = {
        "als": implicit.als.AlternatingLeastSquares(**common),
        "bpr": implicit.bpr.BayesianPersonalizedRanking(
            **common, learning_rate=0.1, iterations=200
        ),
        "lmf": implicit.lmf.LogisticMatrixFactorization(**common),
    }
    order = np.random.default_rng(2).permutation(USERS)
    matrix = csr_matrix(ratings.rows(order).dense())
    model = models[kind]
    model.fit(matrix, show_progress=False)
    model.save(str(tmp_path / "model.npz"))
    user_ids, item_ids = ids(ratings)
    (tmp_path / "users.txt").write_text("\n".join(user_ids[user] for user in order))
    (tmp_path / "items.txt").write_text("\n".join(item_ids))
    file = Place(tmp_path / "model.npz")
    own, _ = read_factors("user", file, ids=Place(tmp_path / "users.txt"))
    shared, _ = read_factors("item", file, ids=Place(tmp_path / "items.txt"))
    ours = served(tmp_path, ratings, own, shared)
    for row, user in enumerate(order.tolist()):
        theirs, scores = model.recommend(row, matrix[[row]], N=LENGTH)
        mine = ours.recommend_undefended(user, LENGTH)
        all_scores = model.user_factors[row] @ model.item_factors.T
        np.testing.assert_allclose(scores, all_scores[theirs], rtol=1e-4, atol=1e-5)
        named = {item_ids[item]: float(score) for item, score in enumerate(all_scores)}
        same([item_ids[item] for item in mine], [item_ids[item] for item in theirs], named)


@pytest.fixture
def lenskit_data(ratings: RatingMatrix) -> Any:
    pandas = pytest.importorskip("pandas")
    data = pytest.importorskip("lenskit.data")
    user_ids, item_ids = ids(ratings)
    return data.from_interactions_df(
        pandas.DataFrame(
            {
                "user_id": [user_ids[user] for user in ratings.users],
                "item_id": [item_ids[item] for item in ratings.items],
                "rating": ratings.scale.values[ratings.levels],
            }
        )
    )


def test_lenskit_with_biases(tmp_path: Path, ratings: RatingMatrix, lenskit_data: Any) -> None:
    als = pytest.importorskip("lenskit.als")
    data = pytest.importorskip("lenskit.data")
    training = pytest.importorskip("lenskit.training")
    model = als.BiasedMFScorer(embedding_size=8, epochs=20, user_embeddings="prefer")
    model.train(lenskit_data, training.TrainingOptions(rng=1))
    bias = model.bias
    np.savez(
        tmp_path / "model.npz",
        user_embeddings=model.user_embeddings,
        item_embeddings=model.item_embeddings,
        user_biases=bias.user_biases,
        item_biases=bias.item_biases,
    )
    np.save(tmp_path / "users.npy", model.users.ids().astype(str))
    np.save(tmp_path / "items.npy", model.items.ids().astype(str))
    file = Place(tmp_path / "model.npz")
    own, of_users = read_factors("user", file, ids=Place(tmp_path / "users.npy"), biases=file)
    shared, of_items = read_factors("item", file, ids=Place(tmp_path / "items.npy"), biases=file)
    factors = with_biases(
        own, shared, user_biases=of_users, item_biases=of_items, global_bias=bias.global_bias
    )
    ours = served(tmp_path, ratings, *factors)
    assert ours.version.manifest.width == 10
    lenskit_ranks(ours, ratings, model, data)


def test_lenskit_without_biases_in_parquet(
    tmp_path: Path, ratings: RatingMatrix, lenskit_data: Any
) -> None:
    als = pytest.importorskip("lenskit.als")
    data = pytest.importorskip("lenskit.data")
    training = pytest.importorskip("lenskit.training")
    pandas = pytest.importorskip("pandas")
    model = als.ImplicitMFScorer(embedding_size=8, epochs=20, user_embeddings="prefer")
    model.train(lenskit_data, training.TrainingOptions(rng=1))
    tables = (("users", model.user_embeddings), ("items", model.item_embeddings))
    for kind, table in tables:
        frame = pandas.DataFrame(table, index=getattr(model, kind).ids())
        frame.columns = frame.columns.map(str)
        frame.to_parquet(tmp_path / f"{kind}.parquet")
    own, _ = read_factors("user", Place(tmp_path / "users.parquet"))
    shared, _ = read_factors("item", Place(tmp_path / "items.parquet"))
    lenskit_ranks(served(tmp_path, ratings, own, shared), ratings, model, data)


def lenskit_ranks(ours: Recommender, ratings: RatingMatrix, model: Any, data: Any) -> None:
    user_ids, item_ids = ids(ratings)
    items = data.ItemList(item_ids=list(item_ids))
    for user in range(USERS):
        scores = model(data.RecQuery(user_id=user_ids[user]), items).scores()
        unrated = np.setdiff1d(np.arange(ITEMS), ratings.items_of(user))
        theirs = unrated[np.argsort(-scores[unrated], kind="stable")][:LENGTH]
        mine = ours.recommend_undefended(user, LENGTH)
        named = dict(zip(item_ids, map(float, scores), strict=True))
        same([item_ids[item] for item in mine], [item_ids[item] for item in theirs], named)
