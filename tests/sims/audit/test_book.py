"""The release `book`: what everybody reads in it, and that nobody asks for more."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.vicinal.settings import PRESETS
from common.wire.book import encode_book
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.training.train import TrainingSettings
from sims.audit.book import BookRelease, BookVersion
from sims.audit.rows import RowsRelease
from sims.progress import quiet

RATINGS = synthetic(300, 80, seed=2)


@pytest.fixture
def made(tmp_path: Path) -> BookVersion:
    training = TrainingSettings.on("synthetic", model="mf").model_copy(update={"epochs": 1})
    with ModelStore(tmp_path) as store:
        rows = RowsRelease(training, PRESETS["mf"]["vicinal"], store)
        release = BookRelease(rows)
        assert release.name == "book"
        return release.published(RATINGS, real=290, seed=0, progress=quiet)


def test_what_is_read_is_what_enough_accounts_rated(made: BookVersion) -> None:
    seen = made.read_book(made.book())
    book = made.answering.book
    assert made.book() == encode_book(book, made.answering._recommender.version.digest)
    assert len(book.items) > 0
    np.testing.assert_array_equal(seen.open_items, book.listed)
    assert seen.ratings is None and seen.vectors is None and seen.sizes.tolist() == [300]
    assert made.mu == pytest.approx(0.83)
    np.testing.assert_array_equal(made.read_list(made.book()).items, book.items)


def test_a_book_of_other_ratings_has_the_same_sigma(made: BookVersion) -> None:
    fewer = made.read_list(made.book_of(RATINGS.rows(np.arange(200))))
    assert fewer.users == 200 and fewer.sigma == made.answering.book.sigma
    same = made.read_list(made.book_of(RATINGS))
    np.testing.assert_array_equal(same.items, made.answering.book.items)


def test_nobody_asks(made: BookVersion) -> None:
    assert made.package(0) is None
    with pytest.raises(InputError, match="no requests"):
        made.read_package(b"")
    with pytest.raises(InputError, match="no requests"):
        made.unseal_package(0, b"")


def test_every_account_has_the_same_bytes_and_the_model_is_that_of_rows(made: BookVersion) -> None:
    assert made.book() == made.book()
    read = made.read_model(made.model())
    assert read is not None and read.digest == made.answering._recommender.version.digest
