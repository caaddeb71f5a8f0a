"""The books of a store: what is the same over versions, and what all of them give away."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import PRESETS
from server.data.synthetic import synthetic
from server.recommending.book import MU, BookSettings, item_book, weighed_counts
from server.versions.books import HISTORY_FILE, KEY_FILE, noise_key, published_book
from tests.support.ratings import from_rows

HOW = replace(PRESETS["mf"]["vicinal"], assumed_fakes=0.1)
VERSION = "ab" * 32


def published(store: Path, ratings: RatingMatrix, version: str = VERSION) -> NDArray[np.int32]:
    return published_book(store, ratings, HOW, version).book.items


def test_key_and_history_are_for_the_owner_alone(tmp_path: Path) -> None:
    published(tmp_path / "store", synthetic(300, 60, seed=1))
    for name in (KEY_FILE, HISTORY_FILE):
        assert stat.S_IMODE((tmp_path / "store" / name).stat().st_mode) == 0o600


def test_a_book_is_that_of_the_key(tmp_path: Path) -> None:
    ratings = synthetic(300, 60, seed=1)
    made = published_book(tmp_path, ratings, HOW, VERSION)
    how = BookSettings.of(HOW.tolerated_fakes(300))
    alone = item_book(ratings, HOW, noise_key((tmp_path / KEY_FILE).read_bytes(), how), how=how)
    np.testing.assert_array_equal(made.book.items, alone.items)
    assert (made.form.mu, made.form.size) == (alone.mu, len(made.data))
    assert made.form.mu == pytest.approx(MU) and made.form.mu_life == made.form.mu


def test_versions_of_the_same_ratings_cannot_be_averaged(tmp_path: Path) -> None:
    """Whoever averages what fresh noise lists learns counts; sticky noise says the same always."""
    raters = np.random.default_rng(0).integers(0, 100, 200)
    users = [np.flatnonzero(raters > user).tolist() for user in range(100)]
    ratings = from_rows([*users, *([[]] * 300)], item_count=200)
    how = BookSettings.of(HOW.tolerated_fakes(400))
    threshold = published_book(tmp_path / "store", ratings, HOW, VERSION).book.threshold
    true = weighed_counts(ratings, how.cap) >= threshold

    def wrong(books: list[NDArray[np.int32]]) -> float:
        """Of guesses which items' counts reach the threshold, from the share of books."""
        listed = np.zeros(200)
        for items in books:
            listed[items] += 1 / len(books)
        return float(np.mean((listed > 0.5) != true))

    sticky = [published(tmp_path / "store", ratings) for _ in range(40)]
    fresh = [published(tmp_path / f"{key}", ratings) for key in range(40)]
    single = float(np.mean([wrong([one]) for one in fresh]))
    assert wrong(fresh) < 0.5 * single  # the attack works where noise is fresh
    assert wrong(sticky) == wrong(sticky[:1])
    assert len(json.loads((tmp_path / "store" / HISTORY_FILE).read_text())) == 1


def test_books_of_other_ratings_add_up_and_the_same_one_adds_nothing(tmp_path: Path) -> None:
    first, second = synthetic(300, 60, seed=1), synthetic(300, 60, seed=2)
    forms = [
        published_book(tmp_path, ratings, HOW, version).form
        for ratings, version in ((first, "ab" * 32), (second, "cd" * 32), (first, "ef" * 32))
    ]
    assert [form.mu_life**2 for form in forms] == pytest.approx([MU**2, 2 * MU**2, 2 * MU**2])
    assert forms[0].digest != forms[2].digest  # of another version, and the same list
    assert forms[0].size == forms[2].size


def test_the_same_counts_with_another_deviation_have_noise_of_their_own(tmp_path: Path) -> None:
    """Two scales of one noise would give the counts away."""
    rows = synthetic(700, 60, seed=1)
    few = published_book(tmp_path, rows, HOW, VERSION)
    more = rows.stack(from_rows([[]] * 900, item_count=60))
    many = published_book(tmp_path, more, HOW, VERSION)
    assert many.book.sigma > few.book.sigma and many.form.mu < MU
    squares = many.form.mu**2 + few.form.mu**2
    assert many.form.mu_life**2 == pytest.approx(squares)
    secret = (tmp_path / KEY_FILE).read_bytes()
    keys = {noise_key(secret, BookSettings(100, one.book.sigma)) for one in (few, many)}
    assert len(keys) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-2],
        lambda text: text.replace(":0.", ":-0."),
        lambda text: text.replace('{"', '{"x'),
        lambda text: f"[{text}]",
        lambda text: "nothing",
    ],
)
def test_a_damaged_history_is_no_history(tmp_path: Path, damage: Callable[[str], str]) -> None:
    ratings = synthetic(300, 60, seed=1)
    published(tmp_path, ratings)
    path = tmp_path / HISTORY_FILE
    damaged = damage(path.read_text())
    path.write_text(damaged)
    with pytest.raises(InputError, match="is damaged"):
        published(tmp_path, ratings)
    assert path.read_text() == damaged


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    published(tmp_path, synthetic(300, 60, seed=1))
    (tmp_path / KEY_FILE).chmod(0o644)
    with pytest.raises(InputError, match="others can read"):
        published(tmp_path, synthetic(300, 60, seed=1))
