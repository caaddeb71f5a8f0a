"""Data sets by name: where their files are looked for, and what the real ones look like."""

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingScale
from server.data import sources
from server.data.datasets import KNOWN, Dataset, cache_folder, load_dataset
from server.data.reading_options import ReadingOptions
from sims.evaluation.splits import leave_one_out

TARGETS = {
    "ml-100k": [1485, 1320, 821, 1562, 1531],
    "filmtrust": [1576, 926, 942, 848, 107],
}
U_DATA = b"1\t5\t3\t100\n943\t1682\t5\t200\n1\t2\t4\t300\n"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VICINAL_DATA", raising=False)
    monkeypatch.delenv("VICINAL_CACHE", raising=False)


@pytest.fixture
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known data sets whose size and digest are not held against what is made here."""
    for name, known in KNOWN.items():
        monkeypatch.setitem(KNOWN, name, replace(known, counts=None, digest=None))


@pytest.fixture(scope="module")
def real() -> Path:
    if "VICINAL_DATA" not in os.environ:
        pytest.skip("VICINAL_DATA names no folder of real ratings")
    return Path(os.environ["VICINAL_DATA"])


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


SPLIT = {
    "ml-100k/ml-100k.train.rating": b"0\t4\t3\n942\t1681\t5\n",
    "ml-100k/ml-100k.test.rating": b"0\t1\t4\n",
}


def check_small(dataset: Dataset) -> None:
    ratings = dataset.ratings
    assert (ratings.user_count, ratings.item_count) == (943, 1682)
    assert ratings.users.tolist() == [0, 0, 942]
    assert ratings.items.tolist() == [1, 4, 1681]
    assert ratings.levels.tolist() == [3, 2, 4]
    assert ratings.user_ids is None


@pytest.mark.usefixtures("_of_any_size")
def test_a_published_split_is_a_union_that_says_what_it_holds_out(tmp_path: Path) -> None:
    dataset = load_dataset("ml-100k", data_folder=put(tmp_path, SPLIT))
    check_small(dataset)
    assert dataset.timestamps is None
    assert dataset.held_out is not None
    assert dataset.held_out.users.tolist() == [0]
    assert (dataset.held_out.items[0], dataset.held_out.levels[0]) == (1, 3)
    assert "published split" in dataset.source
    assert leave_one_out(dataset).train.items.tolist() == [4, 1681]


@pytest.mark.usefixtures("_of_any_size")
def test_times_of_a_published_split_come_from_the_raw_file(tmp_path: Path) -> None:
    dataset = load_dataset(
        "ml-100k", data_folder=put(tmp_path, {**SPLIT, "ml-100k/u.data": U_DATA})
    )
    check_small(dataset)
    assert dataset.held_out is not None
    assert dataset.timestamps is not None
    assert dataset.timestamps.tolist() == [300, 100, 200]


def zipped(member: str, data: bytes, folder: Path) -> bytes:
    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path.read_bytes()


@pytest.mark.usefixtures("_of_any_size")
@pytest.mark.parametrize("where", ["ml-100k/", ""])
@pytest.mark.parametrize("kind", ["u.data", "ml-100k.inter", "ml-100k.zip"])
def test_the_raw_file_keeps_the_published_shape(tmp_path: Path, where: str, kind: str) -> None:
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    data = {
        "u.data": U_DATA,
        "ml-100k.inter": header + U_DATA,
        "ml-100k.zip": zipped("ml-100k/u.data", U_DATA, tmp_path),
    }[kind]
    dataset = load_dataset("ml-100k", data_folder=put(tmp_path / "data", {where + kind: data}))
    check_small(dataset)
    assert dataset.held_out is None
    assert dataset.timestamps is not None
    assert dataset.timestamps.tolist() == [300, 100, 200]


@pytest.mark.usefixtures("_of_any_size")
def test_movielens_1m_is_read_from_its_own_format(tmp_path: Path) -> None:
    rows = b"1::1193::5::978300760\n1::661::3::978302109\n6040::1193::1::956704219\n"
    archive = zipped("ml-1m/ratings.dat", rows, tmp_path)
    dataset = load_dataset("ml-1m", data_folder=put(tmp_path, {"ml-1m/ml-1m.zip": archive}))
    assert dataset.ratings.user_ids == ("1", "6040")
    assert dataset.ratings.item_ids == ("661", "1193")
    assert dataset.ratings.levels.tolist() == [2, 4, 0]
    assert dataset.timestamps is not None


@pytest.mark.usefixtures("_of_any_size")
def test_yelp_is_read_where_its_file_is(tmp_path: Path) -> None:
    line = b'{"user_id":"a","business_id":"b","stars":4.0,"date":"2020-01-01 00:00:00"}\n'
    name = "yelp/yelp_academic_dataset_review.json"
    dataset = load_dataset("yelp", data_folder=put(tmp_path, {name: line}))
    assert (dataset.ratings.user_count, dataset.ratings.item_count) == (1, 1)
    assert dataset.ratings.scale == RatingScale(1, 5, 1)


def test_a_file_is_a_data_set(tmp_path: Path) -> None:
    path = put(tmp_path, {"mine.csv": b"ann,tea,60\nbob,tea,5\n"}) / "mine.csv"
    dataset = load_dataset(str(path), reading=ReadingOptions.of(scale="1:100"))
    assert dataset.name == "mine.csv"
    assert dataset.ratings.user_ids == ("ann", "bob")
    assert dataset.source == f"file {path}"


def test_synthetic_is_spelled_with_its_size() -> None:
    dataset = load_dataset("synthetic:30x40x300", seed=4)
    assert (dataset.ratings.user_count, dataset.ratings.item_count) == (30, 40)
    assert len(dataset.ratings) == 300
    assert load_dataset("synthetic:30x40", seed=4).ratings.item_count == 40
    assert dataset.source == "synthetic ratings, seed 4"


@pytest.mark.usefixtures("_of_any_size")
def test_the_environment_names_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VICINAL_DATA", str(put(tmp_path, SPLIT)))
    check_small(load_dataset("ml-100k"))
    assert cache_folder().name == "vicinal"
    monkeypatch.setenv("VICINAL_CACHE", str(tmp_path / "cache"))
    assert cache_folder() == tmp_path / "cache"


def broken(**files: bytes) -> dict[str, bytes]:
    return {**SPLIT, **{f"ml-100k/ml-100k.{part}.rating": data for part, data in files.items()}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ml-100k/ml-100k.train.rating": b"0\t1\t3"}, "test.rating is missing"),
        (broken(test=b"0\t4\t3\n"), "a held-out pair is in ml-100k.train.rating too"),
        (broken(test=b"0\t1\t3\n0\t2\t3\n"), "user 0 has more than one held-out rating"),
        (broken(test=b"943\t1\t3\n"), "line 1: user '943' is not an id from 0 to 942"),
        (broken(train=b"0\t1\t3\n0\t9\t6\n"), "line 2: rating 6 is out of scale 1–5"),
        ({**SPLIT, "ml-100k/u.data": b"1\t5\t3\t100\n"}, "hold different ratings"),
        ({"ml-100k/u.data": b"0\t5\t3\t100\n"}, "line 1: user '0' is not an id from 1 to 943"),
        ({"ml-100k/ml-100k.zip": b"PK"}, "cannot be read"),
    ],
)
def test_broken_files_at_hand_are_refused(
    tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset("ml-100k", data_folder=put(tmp_path, files))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "ml-10m",
            "choose one of ml-100k, ml-1m, filmtrust, yelp, synthetic",
        ),
        ("", "choose one of"),
        ("synthetic:12", "write synthetic:USERSxITEMS"),
        ("synthetic:-1x5", "write synthetic:USERSxITEMS"),
        ("synthetic:0x5", "needs a user"),
        ("yelp", "VICINAL_DATA/yelp"),
        ("filmtrust", "VICINAL_DATA/filmtrust"),
    ],
)
def test_a_data_set_that_cannot_be_had_says_what_to_do(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(spec)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_dataset("ml-100k", data_folder=tmp_path / "nowhere")


def test_what_can_be_fetched_has_no_other_way_to_be_supplied() -> None:
    for name, known in KNOWN.items():
        assert (known.supply is None) == (name in sources.SOURCES)


# ---- real ratings ----

SHAPES = {
    "ml-100k": (943, 1682, 99_057 + 943),
    "ml-1m": (6040, 3706, 1_000_209),
    "filmtrust": (796, 2011, 30_084 + 796),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", SHAPES)
def test_real_data_sets_have_their_shape(real: Path, name: str) -> None:
    dataset = load_dataset(name, data_folder=real)
    ratings = dataset.ratings
    assert (ratings.user_count, ratings.item_count, len(ratings)) == SHAPES[name]
    assert (ratings.item_counts() > 0).all()
    assert (dataset.timestamps is not None) == (name == "ml-100k")


@pytest.mark.realdata
@pytest.mark.parametrize("name", TARGETS)
def test_published_targets_are_unpopular(real: Path, name: str) -> None:
    dataset = load_dataset(name, data_folder=real)
    counts = dataset.ratings.item_counts()[TARGETS[name]]
    assert ((counts >= 1) & (counts <= 4)).all()
    split = leave_one_out(dataset)
    assert split.kind == "published"
    assert len(split.held_out.users) == dataset.ratings.user_count
    assert len(split.train) == len(dataset.ratings) - dataset.ratings.user_count


@pytest.mark.realdata
def test_the_published_split_of_movielens_is_not_by_time(real: Path) -> None:
    dataset = load_dataset("ml-100k", data_folder=real)
    assert dataset.timestamps is not None and dataset.held_out is not None
    latest = np.maximum.reduceat(dataset.timestamps, dataset.ratings.indptr[:-1])
    held = dataset.ratings.items == dataset.held_out.items[dataset.ratings.users]
    assert (dataset.timestamps[held] == latest).sum() == 37


@pytest.mark.realdata
def test_the_raw_file_and_the_published_split_are_the_same_ratings(
    real: Path, tmp_path: Path
) -> None:
    raw = put(tmp_path, {"u.data": (real / "ml-100k" / "u.data").read_bytes()})
    from_raw = load_dataset("ml-100k", data_folder=raw)
    assert from_raw.held_out is None
    published = load_dataset("ml-100k", data_folder=real)
    assert from_raw.ratings.digest() == published.ratings.digest()


@pytest.mark.parametrize("name", ["ratings.csv", "ml-1m/ratings.csv"])
def test_a_foreign_file_of_a_known_name_is_refused(tmp_path: Path, name: str) -> None:
    folder = put(tmp_path, {name: b"userId,movieId,rating\n1,2,3\n2,3,4\n"})
    with pytest.raises(InputError) as caught:
        load_dataset("ml-1m", data_folder=folder)
    text = str(caught.value)
    assert f"{folder / name}: is not ml-1m: it has 2 users, 2 items, 2 ratings" in text
    assert "1,000,209 ratings; to use the file, give its path: --dataset" in text


def test_other_ratings_of_the_same_size_are_doubted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path, {"ml-1m/ratings.csv": b"1,2,3\n2,3,4\n"})
    monkeypatch.setitem(KNOWN, "ml-1m", replace(KNOWN["ml-1m"], counts=(2, 2, 2)))
    dataset = load_dataset("ml-1m", data_folder=folder)
    assert [doubt.code for doubt in dataset.doubts] == ["other-contents"]
    same = replace(KNOWN["ml-1m"], counts=(2, 2, 2), digest=dataset.ratings.digest())
    monkeypatch.setitem(KNOWN, "ml-1m", same)
    assert load_dataset("ml-1m", data_folder=folder).doubts == ()


def test_a_known_data_set_is_not_read_otherwise() -> None:
    with pytest.raises(InputError, match="is read as it is published or made: leave out scale"):
        load_dataset("synthetic", reading=ReadingOptions.of(scale="1:5"))


def test_a_file_that_is_not_there_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ratings.csv").write_text("1,2,3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"ratngs\.csv: no such file: did you mean ratings\.csv"):
        load_dataset("ratngs.csv")
    with pytest.raises(InputError, match="ratings: no such file: did you mean"):
        load_dataset("ratings")
    for spec in ("~/ratings.csv", "'ratings.csv'", '"~/ratings.csv"', f"{tmp_path}/ratings.csv"):
        assert load_dataset(spec).name == "ratings.csv"
    with pytest.raises(InputError, match=r"missing\.csv: no such file"):
        load_dataset("missing.csv")
    with pytest.raises(InputError, match="no/such: no such file"):
        load_dataset("no/such")
    with pytest.raises(InputError, match="is a folder, not a rating file"):
        load_dataset(str(tmp_path))
