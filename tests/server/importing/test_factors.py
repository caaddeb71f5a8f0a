"""Users' and items' factors with their ids and biases, in all forms that libraries write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from common.errors import InputError
from server.importing import parquet
from server.importing.factors import Factors, checked_bias, read_factors, with_biases
from server.importing.ids import read_ids
from server.importing.places import Place, place

ROWS = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
IDS = ("b", "a", "c")


def read(table: Path | Place, **files: Path | None) -> tuple[Factors, Any]:
    places = {name: None if path is None else Place(path) for name, path in files.items()}
    return read_factors("user", table if isinstance(table, Place) else Place(table), **places)


def spark(folder: Path, ids: list[int], rows: Any) -> Path:
    """As Spark's ALS writes its factors: part files in a folder, rows in any order."""
    folder.mkdir()
    table = pl.DataFrame(
        {"id": ids, "features": np.asarray(rows).tolist()},
        schema={"id": pl.Int32, "features": pl.List(pl.Float32)},
    )
    table.head(1).write_parquet(folder / "part-00000-x.snappy.parquet")
    table.slice(1).write_parquet(folder / "part-00001-x.snappy.parquet")
    table.clear().write_parquet(folder / "part-00002-x.snappy.parquet")
    (folder / "_SUCCESS").touch()
    return folder


def test_every_form_gives_the_same_rows(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS.astype(np.float64))
    np.savez(tmp_path / "a.npz", user_factors=ROWS, item_factors=ROWS[:1])
    save_file({"weight": ROWS}, tmp_path / "a.safetensors")
    pl.DataFrame({"0": ROWS[:, 0], "1": ROWS[:, 1]}).write_parquet(tmp_path / "a.parquet")
    for end in ("npy", "npz", "safetensors", "parquet"):
        found, biases = read(tmp_path / f"a.{end}")
        np.testing.assert_array_equal(found.rows, ROWS)
        assert (found.ids, biases, found.rows.dtype) == (None, None, np.dtype(np.float32))


def test_ids_are_read_in_every_form(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    (tmp_path / "ids.txt").write_text('b\r\n"a"\nc\n')
    (tmp_path / "headed.csv").write_text("user_id\nb\na\nc\n")
    (tmp_path / "ids.json").write_text(json.dumps(IDS))
    (tmp_path / "map.json").write_text('{"a": 1, "b": 0, "c": 2}')
    np.save(tmp_path / "ids.npy", np.array(IDS))
    pl.DataFrame({"user": IDS, "n": [1, 2, 3]}).write_parquet(tmp_path / "ids.parquet")
    for name in ("ids.txt", "headed.csv", "ids.json", "map.json", "ids.npy", "ids.parquet"):
        found, _ = read(tmp_path / "a.npy", ids=tmp_path / name)
        assert found.ids == IDS, name
    np.save(tmp_path / "numbers.npy", np.array([7, 0, 12]))
    assert read_ids(Place(tmp_path / "numbers.npy")) == ("7", "0", "12")
    assert read_ids(Place(tmp_path / "ids.parquet", "n")) == ("1", "2", "3")


def test_what_spark_writes(tmp_path: Path) -> None:
    folder = spark(tmp_path / "userFactors", [2, 0, 1], ROWS)
    found, _ = read(folder)
    assert found.ids == ("2", "0", "1")
    np.testing.assert_array_equal(found.rows, ROWS)
    # StringIndexer's labels: Spark's ids are their places.
    (tmp_path / "labels.json").write_text(json.dumps(["zero", "one", "two"]))
    assert read(folder, ids=tmp_path / "labels.json")[0].ids == ("two", "zero", "one")
    (tmp_path / "labels.json").write_text(json.dumps(["zero", "one"]))
    with pytest.raises(
        InputError, match="zero-based rows of this file of 2: 1 are not, such as '2'"
    ):
        read(folder, ids=tmp_path / "labels.json")


def test_the_index_of_a_frame_is_ids(tmp_path: Path) -> None:
    frame = pl.DataFrame({"0": ROWS[:, 0], "1": ROWS[:, 1], "__index_level_0__": IDS})
    frame.write_parquet(tmp_path / "a.parquet")
    found, _ = read(tmp_path / "a.parquet")
    assert found.ids == IDS
    np.testing.assert_array_equal(found.rows, ROWS)


def test_a_padding_row_is_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.concatenate([np.zeros((1, 2), np.float32), ROWS]))
    np.save(tmp_path / "b.npy", np.arange(4, dtype=np.float32))
    (tmp_path / "ids.json").write_text(json.dumps(["[PAD]", *IDS]))
    found, biases = read(tmp_path / "a.npy", ids=tmp_path / "ids.json", biases=tmp_path / "b.npy")
    assert found.ids == IDS
    np.testing.assert_array_equal(found.rows, ROWS)
    np.testing.assert_array_equal(biases, [1, 2, 3])


def test_biases_of_a_table_with_ids_are_found_by_them(tmp_path: Path) -> None:
    folder = spark(tmp_path / "users", [2, 0, 1], ROWS)
    biases = tmp_path / "b.parquet"
    pl.DataFrame({"id": [0, 1, 2], "bias": [0.5, 1.5, 2.5]}).write_parquet(biases)
    np.testing.assert_array_equal(read(folder, biases=biases)[1], [2.5, 0.5, 1.5])
    pl.DataFrame({"id": [0, 1, 3], "bias": [0.5, 1.5, 2.5]}).write_parquet(biases)
    with pytest.raises(InputError, match="no bias for 1 of 3 ids"):
        read(folder, biases=biases)


def test_biases_with_ids_are_not_taken_in_their_order(tmp_path: Path) -> None:
    table, biases = tmp_path / "a.npy", tmp_path / "b.parquet"
    np.save(table, ROWS)
    pl.DataFrame({"id": [2, 0, 1], "bias": [2.5, 0.5, 1.5]}).write_parquet(biases)
    np.testing.assert_array_equal(read(table, biases=biases)[1], [0.5, 1.5, 2.5])
    pl.DataFrame({"id": ["c", "a", "b"], "bias": [2.5, 0.5, 1.5]}).write_parquet(biases)
    with pytest.raises(InputError, match="no bias for 3 of 3 row numbers of user factors"):
        read(table, biases=biases)


def test_what_parts_hold_together_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spark(tmp_path / "users", [2, 0, 1], ROWS)
    monkeypatch.setattr(parquet, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(InputError, match="its tables are larger than"):
        read(folder)


def test_biases_become_columns_that_change_no_prediction() -> None:
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    own, shared = rng.normal(size=5), rng.normal(size=7)
    kinds = [
        Factors(kind, rows.astype(np.float32), None)
        for kind, rows in (("user", users), ("item", items))
    ]
    left, right = with_biases(
        *kinds,
        user_biases=own.astype(np.float32),
        item_biases=shared.astype(np.float32),
        global_bias=3.5,
    )
    predicted = users @ items.T + own[:, None] + shared + 3.5
    np.testing.assert_allclose(left.rows @ right.rows.T, predicted, atol=1e-5)
    assert with_biases(*kinds)[0].rows.shape == (5, 3)
    assert with_biases(*kinds, item_biases=shared.astype(np.float32))[0].rows.shape == (5, 4)


def broken(tmp_path: Path, array: Any, name: str = "a.npy") -> Path:
    np.save(tmp_path / name, array)
    return tmp_path / name


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((3, 2), dtype=np.int64), "holds int64: factors are floats"),
        (np.array([["a"]]), "holds <U1: factors are floats"),
        (np.ones(3), r"has shape \(3,\), not a row for each"),
        (np.ones((2, 2, 2)), r"has shape \(2, 2, 2\), not a row for each"),
        (np.ones((0, 2)), r"has shape \(0, 2\)"),
        (np.ones((2, 4097)), "4097 columns; at most 4096 are read"),
        (np.array([[1.0, np.nan], [np.inf, 1]]), "2 numbers are not finite"),
        (np.array([[1e30]]), r"numbers up to 1e\+30: these are no factors"),
        (np.zeros((3, 2)), "all numbers are 0: the model is not trained"),
    ],
)
def test_what_are_no_factors_is_refused(tmp_path: Path, array: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(broken(tmp_path, array))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a\nb\n", "2 ids for 3 rows of user factors"),
        ("a.txt", "a\n\nc\n", "a.txt line 2: the id is missing"),
        ("a.txt", "", "the file is empty"),
        ("a.txt", "a\nb\na\n", "1 user ids occur twice, such as 'a'"),
        ("a.json", "[1, 2, null]", "entry 2: ids are text or whole numbers, not 'None'"),
        ("a.json", "[1, 2, true]", "entry 2: ids are text or whole numbers, not 'True'"),
        ("a.json", '{"a": 0, "b": 2}', "the rows are 0–1, each once"),
        ("a.json", '{"a": 0, "b": "1"}', "the rows are 0–1, each once"),
        ("a.json", "3", "give a list of ids, or an object"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", f"[{'1' * 5000}]", "not JSON|too many digits"),
        ("a.pt", "", "can run code and are not read"),
    ],
)
def test_what_are_no_ids_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read(broken(tmp_path, ROWS), ids=tmp_path / name)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"id": [1, 2], "features": [[1.0], [1.0, 2.0]]}, "lists are of different lengths"),
        ({"id": [1, 2], "features": [[1], [2]]}, "its lists hold Int64: factors are floats"),
        ({"id": [1, 2], "a": [[1.0]] * 2, "b": [[1.0]] * 2}, "give one column of lists"),
        ({"id": [1, 2]}, "give one column of lists"),
        ({"id": [1, None], "a": [1.0, 2.0]}, "row 2 has no id"),
        ({"id": ["a", "a"], "a": [1.0, 2.0]}, "1 user ids occur twice, such as 'a'"),
        ({"id": [1, 2], "a": [1.0, None]}, "1 numbers are not finite"),
    ],
)
def test_a_parquet_table_of_something_else_is_refused(
    tmp_path: Path, table: dict[str, Any], message: str
) -> None:
    pl.DataFrame(table).write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.parquet")


def test_text_beyond_the_last_character_is_refused(tmp_path: Path) -> None:
    damaged = np.array(IDS)
    damaged.view(np.uint32)[0] = 0x7FFFFFFF
    np.save(tmp_path / "ids.npy", damaged)
    with pytest.raises(InputError, match="its text is damaged"):
        read_ids(Place(tmp_path / "ids.npy"))


def test_empty_lists_are_refused(tmp_path: Path) -> None:
    rows = pl.DataFrame({"features": [[], []]}, schema={"features": pl.List(pl.Float32)})
    rows.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="its lists are empty"):
        read(tmp_path / "a.parquet")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    path = spark(tmp_path / "users", [2, 0, 1], ROWS) / "part-00000-x.snappy.parquet"
    data = bytearray(path.read_bytes())
    data[-20:] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a parquet file"):
        read(tmp_path / "users")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pth", "can run code and are not read"),
        ("a.txt", "unknown kind of file '.txt'"),
        ("a.npy:rows", "holds one array: leave out :rows"),
        ("empty", "a folder without .parquet files"),
    ],
)
def test_files_of_other_kinds_are_refused(tmp_path: Path, name: str, message: str) -> None:
    broken(tmp_path, ROWS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=message):
        read(place(str(tmp_path / name)))


def test_a_place_that_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a:b").touch()
    assert place(str(tmp_path / "a:b")) == Place(tmp_path / "a:b")
    assert place(str(tmp_path / "c:b")) == Place(tmp_path / "c", "b")
    assert place("x:/a/b.npy") == Place(Path("x:/a/b.npy"))


def test_factors_of_two_models_are_refused() -> None:
    with pytest.raises(InputError, match="users have 2 factors and items 3"):
        with_biases(Factors("user", ROWS, None), Factors("item", np.ones((2, 3), np.float32), None))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e9])
def test_a_mean_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(InputError, match="global bias"):
        checked_bias(value)
