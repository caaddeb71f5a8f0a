"""Profiles files: what is written is read, and what nobody could have meant is one clear line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from sims.attacks import entries
from sims.attacks.profiles import Profiles, read_profiles, write_profiles

FIVE = RatingScale(1, 5, 1)
HALVES = RatingScale(0.5, 5, 0.5)
HEADER = "# targets: 2 0\n"
COLUMNS = "user,item,rating\n"


def profiles_of(scale: RatingScale, rows: list[tuple[int, int, int]], users: int) -> Profiles:
    who, what, levels = zip(*rows, strict=True)
    ratings = RatingMatrix.from_triples(
        who, what, levels, user_count=users, item_count=6, scale=scale
    )
    return Profiles(ratings, (2, 0), {"attack": "hand", "seed": "4"})


@st.composite
def any_profiles(draw: st.DrawFn) -> Profiles:
    scale = draw(st.sampled_from([FIVE, HALVES]))
    users = draw(st.integers(1, 5))
    pairs = {(user, draw(st.integers(0, 5))) for user in range(users)}  # nobody without a rating
    pairs |= draw(st.sets(st.tuples(st.integers(0, users - 1), st.integers(0, 5))))
    level = st.integers(0, scale.level_count - 1)
    return profiles_of(scale, [(*pair, draw(level)) for pair in sorted(pairs)], users)


@given(any_profiles())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, made: Profiles) -> None:
    path = tmp_path_factory.getbasetemp() / "made.csv"
    write_profiles(path, made)
    read = read_profiles(path, 6, made.ratings.scale)
    assert read.ratings.digest() == made.ratings.digest()
    assert read.targets == made.targets and read.notes == made.notes


def test_the_same_profiles_are_the_same_bytes(tmp_path: Path) -> None:
    made = profiles_of(FIVE, [(0, 2, 4), (0, 0, 4), (1, 5, 1)], 2)
    for name in ("a", "b"):
        write_profiles(tmp_path / name, made)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    text = (tmp_path / "a").read_text()
    assert text.startswith("# vicinal profiles 1\n# targets: 2 0\n")
    assert text.endswith("user,item,rating\n0,0,5\n0,2,5\n1,5,2\n")


@pytest.mark.parametrize(
    "text",
    [
        HEADER + COLUMNS + "7,2,5\n7,0,5\n3,1,1\n",
        "# targets: 2, 0\nuser, item, rating\n7,2,5\n7,0,5.0\n 3 , 1 , 1",
        "\ufeff# targets: 2 0\r\nuser,item,rating\r\n7,2,5\r\n7,0,5\r\n3,1,1\r\n",
        "# by hand\n" + HEADER + COLUMNS + "3,1,1\n7,0,5\n7,2,5\n",
    ],
)
def test_a_file_by_anybody_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "foreign.csv"
    path.write_text(text, encoding="utf-8", newline="")
    read = read_profiles(path, 6, FIVE)
    assert read.targets == (2, 0)
    # Users 3 and 7 become rows 0 and 1.
    np.testing.assert_array_equal(
        np.round(read.ratings.dense() * 5), [[0, 1, 0, 0, 0, 0], [5, 0, 5, 0, 0, 0]]
    )


def test_given_targets_replace_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + COLUMNS + "0,4,5\n")
    read = read_profiles(path, 6, FIVE, targets=(4,))
    assert read.targets == (4,)
    write_profiles(path, read)
    assert read_profiles(path, 6, FIVE).targets == (4,)


def test_a_file_without_targets_needs_them_given(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(COLUMNS + "0,4,5\n")
    with pytest.raises(InputError, match=r"p.csv: names no targets; give them with --targets"):
        read_profiles(path, 6, FIVE)
    assert read_profiles(path, 6, FIVE, targets=(4,)).targets == (4,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r":1: expected the column names"),
        (HEADER, r":2: expected the column names"),
        (HEADER + "item,judge,rating\n0,1,5\n", r":2: expected the column names"),
        (HEADER + "0,1,5\n", r":2: expected the column names"),
        (HEADER + COLUMNS, r": holds no profile"),
        ("# targets: two\n" + COLUMNS + "0,1,5\n", r"targets 'two' are not indices of items"),
        ("# targets: 1 1\n" + COLUMNS + "0,1,5\n", r"p.csv: a target is named twice"),
        ("# targets: 6\n" + COLUMNS + "0,1,5\n", r"p.csv: target 6 is not an item \(0–5\)"),
        ("# targets: -1\n" + COLUMNS + "0,1,5\n", r"p.csv: target -1 is not an item"),
        (HEADER + COLUMNS + "0,1,5\n0,1\n", r":4: not user,item,rating"),
        (HEADER + COLUMNS + "0,1,5\n\n0,2,5\n", r":4: not user,item,rating"),
        (HEADER + COLUMNS + "0,1,5,9\n", r":3: not user,item,rating"),
        (HEADER + COLUMNS + "a,1,5\n", r":3: not user,item,rating"),
        (HEADER + COLUMNS + "0,1.5,5\n", r":3: not user,item,rating"),
        (HEADER + COLUMNS + "0,1,five\n", r":3: not user,item,rating"),
        (HEADER + COLUMNS + "-1,1,5\n", r":3: users count from 0, items lie in 0–5"),
        (HEADER + COLUMNS + "9223372036854775808,1,5\n", r":3: users count from 0"),
        (HEADER + COLUMNS + "0,6,5\n", r":3: users count from 0, items lie in 0–5"),
        (HEADER + COLUMNS + "0,1,5\n0,-1,5\n", r":4: users count from 0, items lie in 0–5"),
        (HEADER + COLUMNS + "0,1,0\n", r":3: rating 0 is not on the scale 1–5"),
        (HEADER + COLUMNS + "0,1,6\n", r":3: rating 6 is not on the scale"),
        (HEADER + COLUMNS + "0,1,3.5\n", r":3: rating 3.5 is not on the scale"),
        (HEADER + COLUMNS + "0,1,nan\n", r":3: rating nan is not on the scale"),
        (HEADER + COLUMNS + "0,1,inf\n", r":3: rating inf is not on the scale"),
        (HEADER + COLUMNS + "0,1,5\n1,1,5\n0,1,4\n", r":5: user 0 rates item 1 a second time"),
        (
            "# goal: demot\n" + HEADER + COLUMNS + "0,1,5\n",
            r"unknown goal 'demot': did you mean demo",
        ),
        ("# audience: me\n" + HEADER + COLUMNS + "0,1,5\n", r"audience 'me' are not indices of u"),
        ("# audience: 4 4\n" + HEADER + COLUMNS + "0,1,5\n", r"audience: name users in ascending"),
        ("# audience: -4\n" + HEADER + COLUMNS + "0,1,5\n", r"audience: users count from 0"),
        ("# digest: 00\n" + HEADER + COLUMNS + "0,1,5\n", r"p.csv: damaged: its rows do not match"),
    ],
)
# A warning on stderr beside the one line would be a second line.
@pytest.mark.filterwarnings("error")
def test_a_malformed_file_is_refused_with_its_place(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_profiles(path, 6, FIVE)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_goal_and_audience_are_kept_and_need_not_be_there(tmp_path: Path) -> None:
    made = profiles_of(FIVE, [(0, 2, 4), (0, 1, 3)], 1)
    write_profiles(tmp_path / "old.csv", made)
    assert "goal" not in (tmp_path / "old.csv").read_text()
    old = read_profiles(tmp_path / "old.csv", 6, FIVE)
    assert (old.goal, old.audience) == ("promote", ())
    aimed = replace(made, goal="demote", audience=(1, 3, 99))
    write_profiles(tmp_path / "aimed.csv", aimed)
    read = read_profiles(tmp_path / "aimed.csv", 6, FIVE)
    assert (read.goal, read.audience, read.notes) == ("demote", (1, 3, 99), made.notes)


def test_a_changed_rating_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    write_profiles(path, profiles_of(FIVE, [(0, 2, 4), (0, 1, 3)], 1))
    path.write_text(path.read_text().replace("0,1,4", "0,1,3"))
    with pytest.raises(InputError, match="damaged"):
        read_profiles(path, 6, FIVE)


def test_more_ratings_than_profiles_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    write_profiles(path, profiles_of(FIVE, [(0, 2, 4), (0, 0, 4), (1, 5, 1)], 2))
    monkeypatch.setattr(entries, "MAX_RATINGS", 3)
    assert len(read_profiles(path, 6, FIVE).ratings) == 3
    monkeypatch.setattr(entries, "MAX_RATINGS", 2)
    with pytest.raises(InputError, match=r"a\.csv: more than 2 ratings"):
        read_profiles(path, 6, FIVE)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(InputError):
            read_profiles(path, 6, FIVE)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    for name in ("p.csv", "p.npy"):
        path = tmp_path / name
        with path.open("wb") as opened:
            opened.truncate(1 << 30)
        with pytest.raises(InputError, match="larger than 256 MiB"):
            read_profiles(path, 6, FIVE, targets=(1,))


@given(st.binary(max_size=300))
def test_hostile_bytes_never_do_more_than_be_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    header = b"\x93NUMPY\x01\x00" + (len(data) + 1).to_bytes(2, "little")
    for name, prefix in [
        ("h.csv", b""),
        ("h.csv", (HEADER + COLUMNS).encode()),
        ("h.npy", b""),
        ("h.npy", header),
    ]:
        (folder / name).write_bytes(prefix + data + b"\n")
        try:
            read = read_profiles(folder / name, 6, FIVE, targets=(1,))
        except InputError as error:
            assert str(error).startswith(str(folder / name))
        else:
            assert read.ratings.user_count >= 1


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 not a zip file",
        b"\x80\x04N.",
        npy_header("{'descr':'<f8','fortran_order':False,'shape':(1000000000,6)}\n"),
        npy_header("{'descr':'<f8','fortran_order':False,'shape':(10**40,6)}\n"),
        npy_header("{'descr':'<f8','fortran_order':False,'shape':(1" + "0" * 40 + ",6)}\n"),
        npy_header("{'descr':'<f8','fortran_order':False,'shape':(-1,6)}\n") + b"\0" * 48,
        npy_header("{'descr':'<f8','fortran_order':False,'shape':(True,True)}\n") + b"\0" * 8,
        npy_header("{'descr':'|O','fortran_order':False,'shape':(1,6)}\n") + b"\0" * 48,
        npy_header("{'descr':'<f8,(','fortran_order':False,'shape':(1,6)}\n") + b"\0" * 48,
        npy_header("(" * 5000),
        npy_header("-" * 4000 + "1"),
    ],
    ids=range(12),
)
def test_a_hostile_table_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.npy"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"p\.npy: not a \.npy table of numbers"):
        read_profiles(path, 6, FIVE, targets=(1,))


def test_a_pickle_in_a_table_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "p.npy"
    np.save(path, np.array([[Path("/")]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"not a \.npy table"):
        read_profiles(path, 1, FIVE, targets=(0,))


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f4", "f8"])
def test_a_table_of_fractions_is_read(tmp_path: Path, dtype: str) -> None:
    table = np.array([[0, 0.2, 1, 0, 0, 0.6], [0.4, 0, 1, 0, 0.8, 0]], dtype=dtype)
    np.save(tmp_path / "p.npy", table)
    read = read_profiles(tmp_path / "p.npy", 6, FIVE, targets=(2,))
    np.testing.assert_allclose(read.ratings.dense(), table.astype("f4"), atol=1e-3)
    assert read.notes["attack"] == "p.npy"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.ones((2, 5)), r"expected a table of fakes × 6 items"),
        (np.ones(6), r"expected a table of fakes × 6 items"),
        (np.ones((0, 6)), r"holds no profile"),
        (np.full((1, 6), np.nan), r"values that are not numbers"),
        (np.full((1, 6), np.inf), r"values that are not numbers"),
        (np.full((1, 6), 1j), r"values that are not numbers"),
        (np.full((1, 6), "a"), r"values that are not numbers"),
        (np.full((1, 6), 0.3), r"rating 1.5 is not on the scale .* \(values are ratings ÷ 5\)"),
        (np.full((1, 6), -0.2), r"rating -1 is not on the scale"),
        (np.full((1, 6), 11), r"rating 11 is not on the scale 1–5 in steps of 1 and the ratings"),
    ],
)
def test_a_table_of_anything_else_is_refused(
    tmp_path: Path, table: NDArray[np.float64], message: str
) -> None:
    np.save(tmp_path / "p.npy", table)
    with pytest.raises(InputError, match=message):
        read_profiles(tmp_path / "p.npy", 6, FIVE, targets=(2,))
