"""Profiles by others are read as they are, and what nobody could have meant is one clear line."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingScale
from sims.attacks import entries, profiles
from sims.attacks.profiles import Profiles, read_profiles

FIVE = RatingScale(1, 5, 1)
EIGHT = RatingScale(1, 8, 1)
# Two fakes over six items: what every form below says.
WHOLE = [[5, 0, 5, 0, 0, 3], [5, 2, 5, 0, 0, 0]]
ROWS = [(0, 0, 5), (0, 2, 5), (0, 5, 3), (1, 0, 5), (1, 1, 2), (1, 2, 5)]


def lines(rows: Sequence[tuple[object, ...]], separator: str = ",") -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def read(path: Path, *, scale: RatingScale = FIVE) -> Profiles:
    return read_profiles(path, 6, scale, targets=(0, 2))


def table_of(profiles: Profiles) -> list[list[int]]:
    scale = profiles.ratings.scale
    table: NDArray[np.float64] = np.round(profiles.ratings.dense() * scale.maximum)
    return table.astype(int).tolist()  # type: ignore[no-any-return]


NAMED = "userId,movieId,score,timestamp\n"
TEXT = {
    "other names": NAMED + lines([(*row, 99) for row in ROWS]),
    "another order": "rating,item,user\n" + lines([(c, b, a) for a, b, c in ROWS]),
    "semicolons": "uid;iid;stars\n" + lines(ROWS, ";"),
    "quoted": '"user","item","rating"\n' + lines([tuple(f'"{x}"' for x in row) for row in ROWS]),
    "tabs, no names": lines(ROWS, "\t"),
    "tabs and times": lines([(*row, 881250949) for row in ROWS], "\t"),
    "colons": lines(ROWS, "::"),
    "spaces": lines(ROWS, "  "),
    "fakes after real users": lines([(943 + a, b, c) for a, b, c in ROWS]),
    "names of users": "user,item,rating\r\n".replace("user", "reviewerID")
    + lines([(f"fake-{a}", b, c) for a, b, c in ROWS]),
    "fractions": "user_id,item_id,rating\n" + lines([(a, b, c / 5) for a, b, c in ROWS]),
    "our names and their ratings": "user,item,rating\n"
    + lines([(a, b, c * 2) for a, b, c in ROWS]),
    "ten": "user_id,item_id,rating\n" + lines([(a, b, c * 2) for a, b, c in ROWS]),
    "items from one": "uid,iid,rating\n" + lines([(a, b + 1, c) for a, b, c in ROWS]),
    "a table": lines([tuple(row) for row in WHOLE]),
    "a table with names": lines([("", *range(6))]) + lines([("x", *WHOLE[0]), ("y", *WHOLE[1])]),
    "a table of floats": lines([tuple(f"{x:.4e}" for x in row) for row in WHOLE], " "),
}


@pytest.mark.parametrize("form", TEXT)
def test_text_of_any_usual_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / "fakes.txt"
    path.write_text(TEXT[form], newline="")
    profiles = read(path)
    assert table_of(profiles) == WHOLE, form
    assert profiles.notes["read_as"]


JSON: dict[str, object] = {
    "pairs": [[[i, r] for u, i, r in ROWS if u == user] for user in (0, 1)],
    "objects": [{str(i): r for u, i, r in ROWS if u == user} for user in (0, 1)],
    "rows": [list(row) for row in ROWS],
    "records": [{"user_id": u, "item_id": i, "rating": r} for u, i, r in ROWS],
    "a table": WHOLE,
    "by user": {f"fake{u}": {str(i): r for v, i, r in ROWS if v == u} for u in (0, 1)},
    "tables by user": {"943": WHOLE[0], "944": WHOLE[1]},
    "fractions": [[x / 5 for x in row] for row in WHOLE],
}


@pytest.mark.parametrize("form", JSON)
def test_json_of_any_usual_form(tmp_path: Path, form: str) -> None:
    (tmp_path / "fakes.json").write_text(json.dumps(JSON[form]))
    assert table_of(read(tmp_path / "fakes.json")) == WHOLE, form
    # The name of a file need not say what it is.
    (tmp_path / "fakes.dat").write_text(" \n" + json.dumps(JSON[form], indent=1))
    assert table_of(read(tmp_path / "fakes.dat")) == WHOLE, form


def test_an_object_may_say_what_is_aimed_at(tmp_path: Path) -> None:
    path = tmp_path / "fakes.json"
    path.write_text(
        json.dumps({"targets": [0, 2], "goal": "demote", "audience": [1, 7], "profiles": WHOLE})
    )
    profiles = read_profiles(path, 6, FIVE)
    assert (profiles.targets, profiles.goal, profiles.audience) == ((0, 2), "demote", (1, 7))


ARRAYS = {
    "ratings": np.array(WHOLE),
    "half precision": np.array(WHOLE, dtype="f2") / 5,
    "bytes": np.array(WHOLE, dtype="u1"),
    "rows": np.array(ROWS, dtype="f8"),
    "by columns": np.asfortranarray(np.array(WHOLE, dtype="f4")),
}


@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_of_any_usual_form(tmp_path: Path, form: str) -> None:
    np.save(tmp_path / "fakes.npy", ARRAYS[form])
    assert table_of(read(tmp_path / "fakes.npy")) == WHOLE, form


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", "[[0, 2, 5], [0, 1, 2, 3]]"),
        ("a.txt", "user,item\n0,0\n0,2\n0,5\n1,0\n1,1\n1,2\n1,3\n"),
        ("a.txt", lines([(u, i, 1) for u, i in [(0, 0), (0, 2), (0, 5)]]) + "1\t0\t1\n"[:0]),
        ("a.npy", np.array(WHOLE, dtype=float) > 0),
    ],
)
def test_interactions_are_the_maximum(
    tmp_path: Path, name: str, content: str | NDArray[np.bool_]
) -> None:
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)
    profiles = read(path)
    assert set(profiles.ratings.ratings.tolist()) == {1.0}
    assert "interactions, as ratings of 5" in profiles.notes["read_as"]
    assert profiles.ratings.items_of(0).tolist() == [0, 2, 5]


def test_ratings_of_another_scale_are_brought_to_this_one(tmp_path: Path) -> None:
    path = tmp_path / "filmtrust.txt"
    path.write_text("0 0 4\n0 2 4\n0 1 0.5\n0 3 3.5\n")
    profiles = read(path, scale=EIGHT)
    assert table_of(profiles) == [[8, 1, 8, 7, 0, 0]]
    assert profiles.notes["read_as"].endswith("ratings 0.5–4 in steps of 0.5, as 1–8 in steps of 1")


def test_one_number_beyond_the_last_item_is_counting_from_one(tmp_path: Path) -> None:
    path = tmp_path / "fakes.csv"
    path.write_text("uid,iid,rating\n0,1,5\n0,6,5\n")
    assert read(path).ratings.items_of(0).tolist() == [0, 5]
    path.write_text("uid,iid,rating\n0,0,5\n0,6,5\n")
    with pytest.raises(InputError, match=r"fakes.csv:3: item 6 is none: they lie in 0–5"):
        read(path)


def test_items_that_all_praise_are_suggested_as_targets(tmp_path: Path) -> None:
    np.save(tmp_path / "fakes.npy", np.array(WHOLE))
    with pytest.raises(InputError, match="--targets: every profile rates 0,2 at the maximum"):
        read_profiles(tmp_path / "fakes.npy", 6, FIVE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,item,stars\n0,1,9.3\n", r":2: rating 9.3 is not on the scale 1–5 .* usual scale"),
        ("user,item,stars\n0,1,5\n0,1,4\n", r":3: user 0 rates item 1 a second time"),
        ("user,item,stars\n0,1\n", r":2: 2 columns, where there are 3"),
        ("user,item,stars\n0,1,nan\n", r":2: not a number: 'nan'"),
        ("user,item,stars\n0,1_0,3\n", r":2: not a number: '1_0'"),
        ("user,item,stars\n0,1,1e99\n", r":2: rating 1e\+99 is not on"),
        ("user,item,stars\n0,1.5,3\n", r":2: item 1.5 is none"),
        ("user,item,stars\n,1,3\n", r":2: no user"),
        ("user,user,item\n0,1,3\n", r":1: expected the column names"),
        ("0,1,2,3,4\n", r":1: expected the column names"),
        ("hello\n", r":1: expected the column names"),
        ("5,0,5,0,0,3\n5,0\n", r":2: 2 columns, where there are 6"),
        ("[", r": not JSON"),
        ("[NaN]", r": not JSON that can be read: NaN is no number"),
        ('{"0": {"1": 5, "1": 4}}', r": not JSON that can be read: an object has a key twice"),
        ("[" * 100_000, r": not JSON that can be read"),
        ("[" + "9" * 5000 + "]", r": not JSON that can be read"),
        ("[[0, 1e400, 3]]", r": row 0: not a number of a sensible size"),
        ("[[0, 1, -1e400]]", r": row 0: not a number of a sensible size"),
        ("[[0, " + "9" * 400 + ", 3]]", r": row 0: not a number of a sensible size"),
        ("[[0, 1, 1e308]]", r": row 0: rating 1e\+308 is not on"),
        ("," * 100_000, r":1: expected the column names"),
        ("user,item,stars\n0,1,3" + ",0" * 100_000 + "\n", r":2: more than 3 columns"),
        ("[[0, 1], [[0, 1]]]", r": expected profiles of one kind"),
        ("[1, 2]", r": expected profiles of one kind"),
        ('["a"]', r": expected profiles of one kind"),
        ("[[[0, null]]]", r": profile 0: not a number: None"),
        ("[[true, 1, 2, 0]]", r": profile 0: not a number: True"),
        ('[{"user": 0, "item": 1}, {"user": 0}]', r": row 1: has no item"),
        ('[{"user": [], "item": 1}]', r": row 0: its user is no name"),
        ('{"profiles": 5}', r": expected a list or an object of profiles"),
        ('{"profiles": [[0, 1, 2, 3]], "goal": "lift"}', r"unknown goal 'lift'"),
        ('{"profiles": [[0, 1, 2, 3]], "audience": "us"}', r"audience 'us' are not indices"),
        ("[]", r": holds no profile"),
        ("{}", r": holds no profile"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_what_nobody_could_have_meant_is_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "fakes.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said and len(said) < 500


@pytest.mark.filterwarnings("error")
def test_floats_longer_than_those_computed_with_are_refused_where_they_lie_beyond(
    tmp_path: Path,
) -> None:
    table = np.array(WHOLE).astype(np.longdouble)
    np.save(tmp_path / "fakes.npy", table)
    assert read(tmp_path / "fakes.npy").ratings.user_count
    if np.finfo(np.longdouble).max == np.finfo(np.float64).max:
        return
    np.save(tmp_path / "fakes.npy", table * np.longdouble("1e4000"))
    with pytest.raises(InputError, match="values that are not numbers"):
        read(tmp_path / "fakes.npy")


def test_too_many_lines_are_counted_before_they_are_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "MAX_RATINGS", 5)
    monkeypatch.setattr(profiles, "MOST_COMMENTS", 0)
    path = tmp_path / "fakes.txt"
    # Lines of Windows are one each, and empty ones count.
    path.write_bytes(b"0,1,5\r\n\r\n\r\n\r\n\r\n")
    assert read(path).ratings.user_count == 1
    for end in ("\n", "\r", "\f", "\u2028"):
        path.write_text("0,1,5" + 6 * end, newline="")
        with pytest.raises(InputError, match="ratings: these are more than profiles"):
            read(path)


def test_what_a_file_says_of_itself_commands_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "fakes.csv"
    path.write_text("# attack: \x1b[31mred\x1b]0;title\x07\nuser,item,rating\n0,1,5\n")
    assert read(path).notes["attack"] == r"\x1b[31mred\x1b]0;title\x07"


def test_a_long_list_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "fakes.json"
    with path.open("wb") as opened:
        opened.write(b"[")
        opened.truncate((32 << 20) + 1)
    with pytest.raises(InputError, match="larger than 32 MiB"):
        read(path)


@pytest.mark.parametrize("name", ["a.npy", "a.txt", "a.json", "b.npy"])
def test_more_ratings_than_profiles_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(entries, "MAX_RATINGS", 5)
    path = tmp_path / name
    if name == "a.txt":
        path.write_text(lines(ROWS))
    elif name == "a.json":
        path.write_text(json.dumps(WHOLE))
    else:
        np.save(path, np.array(WHOLE if name == "a.npy" else ROWS))
    with pytest.raises(InputError, match="ratings: these are more than profiles"):
        read(path)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(-1, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("012u", max_size=2), inner),
    max_leaves=12,
)


@given(anything)
def test_any_json_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, found: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(found))
    try:
        found_profiles = read(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert found_profiles.ratings.user_count >= 1


@given(st.text('012.5,;\t: \nuseritmang-#"', max_size=120))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(text)
    try:
        found_profiles = read(path)
    except InputError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)
    else:
        assert found_profiles.ratings.user_count >= 1
