"""A version's book: who counts, what noise does, and that its answer is that of rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.device import answer_from_book
from common.errors import InputError, VicinalError
from common.models import MODELS, model_named
from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.book import BookReader, ItemBook, check_book, release_named
from common.vicinal.fold_in import CONFIDENCE, RIDGE, own_parameters
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import PRESETS, VicinalSettings
from common.vicinal.support import unlisted_last
from common.vicinal.tuning import ServedModel, tuned_scores
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.recommending.book import (
    BookRecommender,
    BookSettings,
    item_book,
    life_mu,
    noise,
    weighed_counts,
)
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings, train
from tests.support.ratings import from_rows

ASSUMED = replace(PRESETS["mf"]["vicinal"], exploration=0.0, margin=1)
EXACT = BookSettings(cap=10**6, sigma=0.0)
KEY = b"secret"


def served(name: str, seed: int, items: int = 30, width: int = 4) -> ServedModel:
    rng = np.random.default_rng(seed)
    shapes = MODELS[name].shared_shapes(items, width)
    tables = {one: rng.standard_normal(shape, dtype=np.float32) for one, shape in shapes.items()}
    return ServedModel(MODELS[name], tables)


def vectors_of(model: ServedModel, own: RatingMatrix) -> dict[str, NDArray[np.float32]]:
    return own_parameters(model.model, model.parameters["item_embedding"], model.item_gram, own)


@pytest.mark.parametrize("name", MODELS)
@given(seed=st.integers(0, 10**6), user=st.integers(0, 19), share=st.floats(0.01, 0.4))
@settings(max_examples=15, deadline=None)
def test_without_noise_or_cap_it_is_the_answer_of_admitted_rows(
    name: str, seed: int, user: int, share: float
) -> None:
    """The oracle: a neighborhood of all users, no steps, what too few rated taken out."""
    ratings = synthetic(20, 30, seed=seed)
    how = replace(ASSUMED, assumed_fakes=share, steps=0, neighbors=20)
    own, model = ratings.rows([user]), served(name, seed)
    enough = ratings.item_counts() >= how.required_raters(20)
    everybody = ratings.rows([user, *(each for each in range(20) if each != user)])
    vector = vectors_of(model, own)
    rows = everybody.of_items(enough)
    tables = {key: np.repeat(table, 20, axis=0) for key, table in vector.items()}
    if model.model.inputs == "none":
        expected = tuned_scores(model, Neighborhood(rows, tables), how)
    else:  # an encoder reads its user's rating of an item that is not admitted, too
        expected = model.plain_scores(Neighborhood(everybody, tables))
    book = item_book(ratings, how, KEY, how=EXACT)
    np.testing.assert_array_equal(book.items, np.flatnonzero(enough))
    found = BookReader(model, book).scores(own)
    listed = book.items
    np.testing.assert_allclose(found[listed], expected[listed], rtol=1e-4, atol=1e-5)
    others = np.setdiff1d(np.arange(30), listed)
    if len(listed) and len(others):
        assert found[others].max() < found[listed].min()


@pytest.mark.parametrize("name", MODELS)
@given(
    seed=st.integers(0, 10**6),
    share=st.floats(0, 1),
    rated=st.floats(0, 1),
    count=st.integers(1, 40),
)
@settings(max_examples=25, deadline=None)
def test_what_is_read_of_the_listed_items_alone_is_the_top_of_all(
    name: str, seed: int, share: float, rated: float, count: int
) -> None:
    """The oracle: every item is scored from a dense row, and what is not listed is put last."""
    rng = np.random.default_rng(seed)
    model = served(name, seed)
    listed = np.flatnonzero(rng.random(30) < share).astype(np.int32)
    book = ItemBook(20, 30, listed, cap=1, threshold=1, sigma=0.0)
    own = from_rows([np.flatnonzero(rng.random(30) < rated).tolist()], item_count=30)
    plain = model.plain_scores(Neighborhood(own, vectors_of(model, own)))
    reader = BookReader(model, book)
    scores = reader.scores(own)
    np.testing.assert_allclose(scores[listed], plain[listed], rtol=1e-4, atol=1e-5)
    expected = top_items(unlisted_last(scores, book.listed, own.items), own.items, count)
    found = reader.top(own, count)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_a_hostile_table_ends_in_one_line_whatever_is_listed() -> None:
    """Numbers that a version may hold, and whose products are none any more."""
    table = np.full((30, 4), 1e30, dtype=np.float32)
    model = ServedModel(model_named("mf"), {"item_embedding": table})
    book = ItemBook(20, 30, np.arange(20, dtype=np.int32), cap=1, threshold=1, sigma=0.0)
    for count in (3, 25):
        with pytest.raises(VicinalError):
            answer_from_book(
                BookReader(model, book),
                from_rows([[0, 1]], item_count=30),
                held_out=None,
                watched=(),
                list_length=count,
            )


def test_a_vector_by_hand() -> None:
    """Two items and one dimension: (5 + c·(1)·1 + ρ·5) p = (1 + c)·1."""
    table = np.array([[1.0], [2.0]], dtype=np.float32)
    model = ServedModel(model_named("mf"), {"item_embedding": table})
    own = from_rows([[0]], item_count=2)
    expected = (1 + CONFIDENCE) / (5 + CONFIDENCE + RIDGE * 5)
    np.testing.assert_allclose(vectors_of(model, own)["user_embedding"], [[expected]], 1e-6)


def test_a_book_by_hand() -> None:
    """Of four accounts one may be a fake: f = 1, and an item needs two raters."""
    ratings = from_rows([[0, 1], [0], [0, 2], [2, 3]], item_count=4)
    how = replace(ASSUMED, assumed_fakes=0.25)
    book = item_book(ratings, how, KEY, how=EXACT)
    assert (book.items.tolist(), book.threshold, book.mu) == ([0, 2], 2, float("inf"))


@given(seed=st.integers(0, 10**6), cap=st.integers(1, 12))
def test_no_account_moves_the_counts_by_more_than_the_root_of_the_cap(seed: int, cap: int) -> None:
    ratings = synthetic(15, 25, seed=seed)
    counts = weighed_counts(ratings, cap)
    table = ratings.dense() > 0
    weights = np.minimum(1, np.sqrt(cap / np.maximum(table.sum(axis=1), 1)))
    np.testing.assert_allclose(counts, (table * weights[:, None]).sum(axis=0))
    # An account that is gone, whoever it was, or that rates nothing any more.
    moved = counts - weighed_counts(ratings.rows(np.arange(14)), cap)
    assert (moved >= -1e-12).all() and moved.max(initial=0) <= 1 + 1e-12
    assert (moved**2).sum() <= cap * (1 + 1e-9)


def test_the_same_counts_have_the_same_noise_and_others_have_another() -> None:
    counts = (np.arange(4000) % 50).astype(np.float64)
    first = noise(counts, 12.0, KEY)
    np.testing.assert_array_equal(first, noise(counts + 1e-13, 12.0, KEY))
    assert abs(first.mean()) < 4 * 12 / np.sqrt(4000)
    assert abs(first.std() - 12) < 0.6
    assert (first != noise(counts, 12.0, b"other")).all()
    changed = counts.copy()
    changed[7] += 1
    again = noise(changed, 12.0, KEY)
    # Of all items: which count it was is not told.
    assert (first != again).all()
    assert abs(np.corrcoef(first, again)[0, 1]) < 0.07


@given(fakes=st.integers(1, 10**6))
def test_no_book_has_more_than_its_mu_and_of_many_accounts_less(fakes: int) -> None:
    how, more = BookSettings.of(fakes), BookSettings.of(2 * fakes)
    assert how.cap**0.5 / how.sigma <= 0.83 + 1e-9
    assert more.sigma >= how.sigma and more.cap == how.cap
    assert life_mu(0.4, 9) == pytest.approx(1.2)


def test_fakes_alone_get_half_of_their_items_in_and_fewer_with_a_margin() -> None:
    """200 items that every assumed fake rated, and nobody else."""
    fakes = from_rows([range(200)] * 30, item_count=200)
    real = from_rows([[]] * 970, item_count=200)
    how = replace(ASSUMED, assumed_fakes=0.03)
    everybody = real.stack(fakes)
    book = item_book(everybody, how, KEY, how=BookSettings(200, 25.0, margin=0.0))
    assert book.threshold == 30 and 70 < len(book.items) < 130
    book = item_book(everybody, how, KEY, how=BookSettings(200, 25.0, margin=1.0))
    # Beyond a standard deviation is one in six.
    assert book.threshold == 55 and len(book.items) < 60


@pytest.mark.parametrize("name", ["mf", "nsvd", "autorec", "cdae"])
def test_a_recommender_answers_as_a_device_with_the_book(tmp_path: Path, name: str) -> None:
    ratings: RatingMatrix = synthetic(60, 40, seed=1)
    with ModelStore(tmp_path) as store:
        stored = store.save(train(ratings, TrainingSettings(model=name, epochs=2)))
        recommender = Recommender(stored, ratings, 50)
        how = replace(PRESETS[name]["vicinal"], assumed_fakes=0.1)
        answering = BookRecommender(recommender, how, KEY)
        own = ratings.rows([3])
        scores = BookReader(stored.version.served, item_book(ratings, how, KEY)).scores(own)
        np.testing.assert_array_equal(
            answering.recommend(3, how, 10), top_items(scores, own.items, 10)
        )
        np.testing.assert_array_equal(
            answering.recommend_undefended(3, 10), recommender.recommend_undefended(3, 10)
        )
        assert answering.supported(3, how).sum() == len(answering.book.items)


@pytest.mark.parametrize(
    ("model", "how", "line"),
    [
        ("ease", PRESETS["ease"]["vicinal"], "rows of others"),
        ("mf", PRESETS["mf"]["paper"], "preset vicinal"),
        ("mf", replace(ASSUMED, assumed_fakes=0.0), "assume some"),
        ("mf", replace(ASSUMED, row_cap=20), "a book shows no rows: leave out --row-cap"),
        ("mf", replace(ASSUMED, fold_in=True), "leave out --row-cap and --fold-in"),
    ],
)
def test_what_no_book_can_do(model: str, how: VicinalSettings, line: str) -> None:
    with pytest.raises(InputError, match=line):
        check_book(model_named(model), how)


def test_names_of_releases() -> None:
    assert [release_named(name) for name in ("rows", "book")] == ["rows", "book"]
    with pytest.raises(InputError, match="unknown release 'nothing'"):
        release_named("nothing")
    with pytest.raises(InputError, match="take --release book"):
        release_named("cells")


@pytest.mark.parametrize("items", [[2, 1], [1, 1], [-1], [5]])
def test_items_ascend_and_are_some(items: list[int]) -> None:
    with pytest.raises(InputError, match="do not ascend"):
        ItemBook(9, 5, np.array(items, dtype=np.int32), cap=1, threshold=1, sigma=0.0)
