"""Ids as people write them, and the map that says which index each has."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.ids import PREFIX, Names, ids_digest, indices_of, map_csv, parse_named, read_map

TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\x85\u2028\u2029"),
    min_size=1,
    max_size=12,
).filter(lambda text: text == text.strip())
LISTS = st.lists(TEXTS, min_size=1, max_size=8, unique=True)


def quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'{PREFIX}"{doubled}"'


@given(LISTS, st.lists(st.integers(0, 999), max_size=4, unique=True))
def test_quoted_ids_and_indices_come_back(names: list[str], indices: list[int]) -> None:
    text = ",".join([*map(str, indices), *map(quoted, names)])
    assert parse_named("--users", text) == (*indices, *(PREFIX + name for name in names))


def test_plain_ids_hold_blanks_and_mix_with_ranges() -> None:
    assert parse_named("--users", "id:a b, 3-5 ,id:7") == ("id:a b", 3, 4, 5, "id:7")


@pytest.mark.parametrize(
    "text", ["id:A,B", "A", "", ",", "1,,2", "3-1", "id:a,id:a", 'id:"a', "0-99999999", "1,0-3"]
)
def test_what_names_nobody_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^--users [^\n]*$"):
        parse_named("--users", text)


def test_a_file_has_an_id_a_line(tmp_path: Path) -> None:
    path = tmp_path / "ids.txt"
    path.write_text('\ufeffa,b\r\n\nid:"x"\n 7\n', encoding="utf-8")
    assert parse_named("--users", f"@{path}") == ("id:a,b", 'id:id:"x"', "id: 7")
    with pytest.raises(InputError, match="no such file"):
        parse_named("--users", f"@{tmp_path / 'none'}")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        parse_named("--users", f"@{path}")


def test_names_are_found_or_those_near_are_told() -> None:
    ids = ("ALICE", "ALINE", "BOB\x1b[31m")

    def found(*named: int | str) -> tuple[int, ...]:
        return indices_of(named, ids, 3, kind="user", option="--users")

    assert found("id:ALINE", 2) == (1, 2)
    with pytest.raises(InputError, match="did you mean ALICE or ALINE"):
        found("id:ALICF")
    with pytest.raises(InputError) as error:
        found("id:BOB")
    assert "\x1b" not in str(error.value)
    for wrong, words in (((3,), "none"), ((0, "id:ALICE"), "twice")):
        with pytest.raises(InputError, match=words):
            found(*wrong)
    with pytest.raises(InputError, match="no ids"):
        indices_of(["id:7"], None, 3, kind="user", option="--users")


@given(LISTS, LISTS, st.booleans(), st.booleans())
def test_a_map_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    items: list[str],
    users: list[str],
    titled: bool,
    with_users: bool,
) -> None:
    path = tmp_path_factory.mktemp("map") / "ids.csv"
    names = Names(tuple(items), tuple(f'the "{name}",\n' for name in items) if titled else None)
    whole = Names(tuple(users)) if with_users else None
    path.write_text(map_csv(names, len(items), whole, len(users)), encoding="utf-8", newline="")
    read = read_map(path)
    assert read.items == names and read.users == (tuple(users) if with_users else None)
    read.require(ids_digest(tuple(items), len(items)))
    with pytest.raises(InputError, match="map of other items"):
        read.require(ids_digest((*items, "one more"), len(items) + 1))
    with pytest.raises(InputError, match="does not say"):
        read.require("")


def test_a_map_of_items_without_ids_fits_them(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text(map_csv(Names(), 12))
    read_map(path).require(ids_digest(None, 12))
    with pytest.raises(InputError, match="map of other items"):
        read_map(path).require(ids_digest(None, 13))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "user,item\n1,2\n",
        "kind,index,id\n",
        "kind,index,id\nitem,1,a\n",
        "kind,index,id\nitem,0,a\nitem,1,a\n",
        "kind,index,id\nthing,0,a\n",
        'kind,index,id\nitem,0,"a\n',
        "kind,index,id,title\nitem,0,a\n",
    ],
)
def test_what_is_no_map_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids.csv").write_text(text)
    with pytest.raises(InputError, match=r"ids\.csv"):
        read_map(tmp_path / "ids.csv")


def test_a_title_from_a_file_is_shown_in_a_short_line() -> None:
    shown = Names(("b",), ("x" * 500 + "\x1b[31m\n",)).shown(0)
    assert len(shown) < 60 and "\x1b" not in shown and "\n" not in shown


def test_a_file_has_an_id_a_line_and_no_other_end_of_lines(tmp_path: Path) -> None:
    # What str.splitlines takes for ends of lines may be letters of an id.
    ids = ["a", "b\u2028c", "d\x85e", "f\x0bg", "id:h", "1-2"]
    for end in ("\n", "\r\n"):
        (tmp_path / "ids").write_bytes(end.join([*ids, ""]).encode())
        named = parse_named("--users", f"@{tmp_path / 'ids'}")
        assert named == tuple(f"id:{each}" for each in ids)
