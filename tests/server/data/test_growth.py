"""Ratings that grow: known users and items keep their indices, checked against plain dicts."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from server.data.datasets import Dataset, load_dataset
from server.data.growth import (
    KnownIds,
    ids_file,
    ids_of,
    in_known_order,
    index_of,
    keep_ids,
    read_ids,
)
from server.data.reading_options import ReadingOptions

PAIRS = st.dictionaries(
    st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("pqrstuvw")),
    st.tuples(st.integers(1, 5), st.integers(0, 99)),
    min_size=1,
    max_size=40,
)


def write(path: Path, pairs: dict[tuple[str, str], tuple[int, int]]) -> Path:
    rows = "".join(f"{u},{i},{r},{t}\n" for (u, i), (r, t) in pairs.items())
    path.write_text(f"user,item,rating,timestamp\n{rows}")
    return path


def by_name(dataset: Dataset) -> dict[tuple[str, str], tuple[int, int]]:
    ratings, times = dataset.ratings, dataset.timestamps
    assert ratings.user_ids is not None and ratings.item_ids is not None and times is not None
    return {
        (ratings.user_ids[u], ratings.item_ids[i]): (int(ratings.scale.values[level]), int(time))
        for u, i, level, time in zip(
            ratings.users, ratings.items, ratings.levels, times, strict=True
        )
    }


@settings(max_examples=60, deadline=None)
@given(first=PAIRS, then=PAIRS, last=PAIRS)
def test_known_ids_keep_their_index_whatever_comes_and_goes(
    tmp_path_factory: pytest.TempPathFactory,
    first: dict[tuple[str, str], tuple[int, int]],
    then: dict[tuple[str, str], tuple[int, int]],
    last: dict[tuple[str, str], tuple[int, int]],
) -> None:
    folder = tmp_path_factory.mktemp("growth")
    options = ReadingOptions.of(scale="1:5:1")
    known: KnownIds | None = None
    for pairs in (first, then, last):
        loaded = load_dataset(str(write(folder / "ratings.csv", pairs)), reading=options)
        grown = in_known_order(loaded, known)
        now = ids_of(grown.ratings)
        assert now is not None
        # The same ratings under the same names, with the same times.
        assert by_name(grown) == pairs
        before = known or KnownIds((), ())
        assert now.users[: len(before.users)] == before.users
        assert now.items[: len(before.items)] == before.items
        assert set(now.users) == set(before.users) | {user for user, _ in pairs}
        assert set(now.items) == set(before.items) | {item for _, item in pairs}
        for at, name in enumerate(now.users):
            rated = {now.items[item] for item in grown.ratings.items_of(at)}
            assert rated == {item for user, item in pairs if user == name}
        keep_ids(folder / "ids.json", grown.ratings)
        known = read_ids(folder / "ids.json")
        assert known == now


def test_what_is_held_out_moves_with_its_user(tmp_path: Path) -> None:
    train = {("b", "p"): (4, 1), ("b", "q"): (3, 2), ("c", "p"): (2, 3)}
    options = ReadingOptions.of(
        scale="1:5:1", test=str(write(tmp_path / "test.csv", {("c", "q"): (5, 4)}))
    )
    loaded = load_dataset(str(write(tmp_path / "train.csv", train)), reading=options)
    grown = in_known_order(loaded, KnownIds(("z", "c"), ("q",)))
    assert grown.held_out is not None and grown.ratings.user_ids == ("z", "c", "b")
    assert grown.held_out.items.tolist() == [-1, 0, -1]
    assert grown.held_out.levels.tolist() == [0, 4, 0]


def test_ratings_without_ids_are_as_they_are() -> None:
    loaded = load_dataset("synthetic:20x30")
    assert in_known_order(loaded, KnownIds(("a",), ("b",))) is loaded


def test_a_damaged_map_is_refused_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ids.json"
    assert read_ids(path) is None
    loaded = load_dataset(str(write(tmp_path / "r.csv", {("a", "p"): (1, 0), ("b", "p"): (5, 0)})))
    for damaged in ('{"users": ["a", "a"], "items": []}', "{", '{"users": [1], "items": []}', "[]"):
        path.write_text(damaged)
        with pytest.raises(InputError, match="damaged"):
            read_ids(path)
        with pytest.raises(InputError, match="damaged"):
            keep_ids(path, loaded.ratings)
        assert path.read_text() == damaged


def test_a_map_is_of_a_place_and_its_columns(tmp_path: Path) -> None:
    plain = ReadingOptions()
    one = ids_file(tmp_path, "ratings.csv", plain)
    assert one == ids_file(tmp_path, str(Path("ratings.csv").absolute()), plain)
    assert one == ids_file(tmp_path, "ratings.csv", ReadingOptions.of(min_ratings=5))
    assert one != ids_file(tmp_path, "others.csv", plain)
    assert one != ids_file(tmp_path, "ratings.csv", ReadingOptions.of(columns="item,user,rating"))


def test_a_user_is_found_as_the_server_numbered_it(tmp_path: Path) -> None:
    path, store, plain = tmp_path / "r.csv", tmp_path / "store", ReadingOptions()
    write(path, {("m", "p"): (1, 0), ("z", "p"): (5, 0)})
    with pytest.raises(InputError, match=r"has no ids of .*r.csv: give --store, --dataset"):
        index_of("id:m", str(path), store, plain)
    pairs = {("m", "p"): (1, 0), ("z", "p"): (5, 0), ("a", "p"): (3, 0)}
    for count in (2, 3):
        write(path, dict(list(pairs.items())[:count]))
        ids = ids_file(store, str(path), plain)
        keep_ids(ids, in_known_order(load_dataset(str(path)), read_ids(ids)).ratings)
    # A file that is read alone has the newcomer first.
    found = [index_of(f"id:{name}", str(path), store, plain) for name in "mza"]
    assert found == [0, 1, 2]
    assert load_dataset(str(path)).ratings.user_ids == ("a", "m", "z")
    with pytest.raises(InputError, match="user: no user has the id 'y'"):
        index_of("id:y", str(path), store, plain)
    with pytest.raises(InputError, match="id:m: whose id this is says --dataset"):
        index_of("id:m", None, store, plain)


def test_a_matrix_over_more_or_fewer_items_keeps_the_rest() -> None:
    ratings = load_dataset("synthetic:20x30").ratings
    wide = ratings.over_items(40)
    assert wide.item_count == 40 and np.array_equal(wide.items, ratings.items)
    narrow = ratings.over_items(10)
    assert narrow.item_count == 10 and narrow.user_count == 20
    assert np.array_equal(narrow.dense(), ratings.dense()[:, :10])
