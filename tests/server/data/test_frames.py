"""Ratings in memory, whatever holds them: the same matrix as from a file, ids as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from common.errors import InputError
from server.data.datasets import Dataset, load_dataset
from server.data.frames import dataset_in_memory

USERS, ITEMS = ["b", "a", "b", "c"], [10, 9, 9, 10]
RATINGS, TIMES = [5.0, 3.0, 1.0, 4.0], [4, 3, 2, 1]


def columns() -> dict[str, Any]:
    return {"user": USERS, "item": ITEMS, "rating": RATINGS, "timestamp": TIMES}


def pandas_like() -> Any:
    class Frame:
        """What pandas has in common with others."""

        def __init__(self, data: dict[str, Any]) -> None:
            self.data, self.columns = data, list(data)

        def __getitem__(self, name: str) -> Any:
            values = self.data[name]
            return np.array(values, dtype=object) if isinstance(values[0], str) else values

    return Frame(columns())


def structured() -> Any:
    rows = list(zip(USERS, ITEMS, RATINGS, TIMES, strict=True))
    kinds = [("user", "U5"), ("item", "i8"), ("rating", "f4"), ("timestamp", "i8")]
    return np.array(rows, dtype=kinds)


@pytest.fixture
def from_file(tmp_path: Path) -> Dataset:
    pl.DataFrame(columns()).write_csv(tmp_path / "ratings.csv")
    return load_dataset(str(tmp_path / "ratings.csv"))


@pytest.mark.parametrize(
    "source",
    [
        pl.DataFrame(columns()),
        pl.DataFrame(columns()).with_columns(pl.col("user").cast(pl.Categorical)),
        pl.DataFrame(columns()).select("timestamp", "item", "rating", "user"),
        pl.DataFrame(columns()).rename({"user": "userId", "rating": "stars"}).with_columns(more=1),
        pandas_like(),
        structured(),
        columns(),
        (USERS, ITEMS, RATINGS, TIMES),
        tuple(map(np.array, (USERS, ITEMS, RATINGS, TIMES))),
    ],
    ids=[
        "polars",
        "categories",
        "order",
        "names",
        "pandas-like",
        "structured",
        "dict",
        "lists",
        "arrays",
    ],
)
def test_it_is_what_a_file_gives(source: Any, from_file: Dataset) -> None:
    found = dataset_in_memory(source)
    assert found.ratings.digest() == from_file.ratings.digest()
    assert found.ratings.user_ids == from_file.ratings.user_ids == ("a", "b", "c")
    assert found.ratings.item_ids == ("9", "10")
    assert found.timestamps is not None and from_file.timestamps is not None
    assert found.timestamps.tolist() == from_file.timestamps.tolist()
    assert found.text_ids == {"user"}


def test_pandas_itself() -> None:
    pandas = pytest.importorskip("pandas")
    found = dataset_in_memory(pandas.DataFrame(columns()))
    assert found.ratings.digest() == dataset_in_memory(columns()).ratings.digest()


def test_a_lazy_frame_is_collected() -> None:
    frame = pl.DataFrame({"user": [1, 2], "item": [5, 6], "rating": [3, 4]})
    lazy, eager = (dataset_in_memory(each).ratings for each in (frame.lazy(), frame))
    assert lazy.digest() == eager.digest()


def test_the_first_three_columns_where_names_say_nothing() -> None:
    plain = dataset_in_memory(pl.DataFrame({"x": USERS, "y": ITEMS, "z": RATINGS, "w": TIMES}))
    assert plain.ratings.digest() == dataset_in_memory(columns()).ratings.digest()
    assert plain.timestamps is None


def test_what_is_masked_is_missing() -> None:
    masked = np.ma.masked_array([5.0, 3.0, 1.0, 4.0], mask=[False, False, True, False])
    with pytest.raises(InputError, match="row 2: rating None is not a finite number"):
        dataset_in_memory({**columns(), "rating": masked})
    ids = np.ma.masked_array([1, 2, 1, 3], mask=[False, True, False, False])
    with pytest.raises(InputError, match="row 1: the user is missing"):
        dataset_in_memory({**columns(), "user": ids})
    whole = np.ma.masked_array(ITEMS, mask=[False] * 4)
    found = dataset_in_memory({**columns(), "item": whole})
    assert found.ratings.digest() == dataset_in_memory(columns()).ratings.digest()
    assert found.text_ids == {"user"}


def test_numpys_numbers_are_ids_also_among_objects() -> None:
    items = np.array([np.int64(10), np.int32(9), 9, 10], dtype=object)
    found = dataset_in_memory({**columns(), "item": items})
    assert found.ratings.item_ids == ("9", "10") and found.text_ids == {"user"}


def test_dates_are_seconds() -> None:
    frame = pl.DataFrame(columns()).with_columns(pl.from_epoch("timestamp", time_unit="s"))
    times = dataset_in_memory(frame).timestamps
    assert times is not None
    assert times.tolist() == dataset_in_memory(columns()).timestamps.tolist()  # type: ignore[union-attr]


def test_ids_stay_what_they_were() -> None:
    text = dataset_in_memory((["007", "7", "7"], ["1", "1", "2"], [1, 2, 3]))
    assert text.ratings.user_ids == ("007", "7") and text.text_ids == {"user", "item"}
    gaps = dataset_in_memory((np.array([3.0, 5.0]), [1, 2], [1, 2]))
    assert gaps.ratings.user_ids == ("3", "5") and not gaps.text_ids


def test_a_sparse_matrix_has_indices_for_ids() -> None:
    dense = np.array([[0, 5, 0], [1, 0, 0], [0, 0, 0]])
    stored = sparse.csr_matrix(dense + np.eye(3, dtype=int))
    stored[[0, 1, 2], [0, 1, 2]] = 0
    assert stored.nnz == 5
    for matrix in (sparse.csr_matrix(dense), sparse.coo_array(dense), stored):
        found = dataset_in_memory(matrix)
        assert len(found.ratings) == 2
        assert found.ratings.user_ids is None
        assert (np.rint(found.ratings.dense() * 5) == dense).all()


def test_what_is_loaded_stays(from_file: Dataset) -> None:
    assert dataset_in_memory(from_file) is from_file
    assert dataset_in_memory(from_file.ratings).ratings is from_file.ratings


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, "data: a NoneType: give a polars or pandas frame"),
        (np.zeros((3, 4)), r"data: a ndarray of shape \(3, 4\): give a polars"),
        ((USERS, ITEMS), "data: a tuple: give"),
        ({"user": USERS, "rating": RATINGS}, "dict: no column for item in 'user', 'rating': give"),
        (
            pl.DataFrame({"id": ITEMS, "user_id": USERS, "item_id": ITEMS, "ratng": RATINGS}),
            "no column for rating in 'id', 'user_id', 'item_id', 'ratng': is it 'ratng'",
        ),
        ({"x": USERS, "y": ITEMS}, "dict: no column for rating in 'x', 'y': give"),
        ([(1, 2, 3), (1, 5, 4), (7, 8, 5)], "data: a list: give a polars"),
        ([USERS, ITEMS, RATINGS], "data: a list: give a polars"),
        ({**columns(), "rating": np.array([True] * 4)}, "column rating: holds true and false"),
        (sparse.csr_matrix(np.eye(3, dtype=bool)), "sparse matrix: holds true and false"),
        ({"user": USERS, "uid": USERS, "item": ITEMS, "rating": RATINGS}, "may both be the user"),
        ({**columns(), "rating": [5, 3, "x", 4]}, "row 2: rating 'x' is not a finite number"),
        (
            {**columns(), "rating": [5, 3, None, 4]},
            "dict row 2: rating None is not a finite number",
        ),
        ({**columns(), "user": ["b", None, "b", "c"]}, "dict row 1: the user is missing"),
        ({**columns(), "item": [1.5, 2, 3, 4]}, "column item: ids are text or whole numbers"),
        ({**columns(), "item": [(1,), 2, 3, 4]}, "column item: holds other things"),
        ({**columns(), "rating": [5, 3]}, "columns of different lengths: user 4, item 4, rating 2"),
        ({**columns(), "rating": [5, 3, 99, 4]}, "row 2: rating 99 is out of scale"),
        ({**columns(), "rating": [[5], [3], [9], [4]]}, "not one value a rating"),
        ((["a", "a"], [1, 1], [1, 2]), "arrays row 1: duplicate pair"),
        (([], [], []), "holds no ratings"),
    ],
    ids=range(21),
)
def test_what_cannot_be_used_is_one_clear_line(source: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        dataset_in_memory(source)
    assert "\n" not in str(raised.value)
