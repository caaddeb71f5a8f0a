"""Files as people really have them: read as what they are, or refused with the way on."""

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingScale
from server.data.datasets import load_dataset
from server.data.reading_options import ReadingOptions
from tests.support.own_files import (
    AGAIN,
    ITEMS,
    ROWS,
    USERS,
    check,
    codes,
    crossing,
    lines,
    read,
    refusal,
)

# ---- 01, 02: Amazon ----


def test_items_before_users_are_doubted_and_can_be_said(tmp_path: Path) -> None:
    data = lines("B33{i:05},A5{u:06}QX,{r}.0,{t}")
    turned = read(tmp_path, "Gadgets.csv", data)
    assert codes(turned) == ["swapped"] and turned.ratings.user_count == ITEMS
    for said in ({"columns": "item,user,rating,timestamp"}, {"format": "amazon"}):
        dataset = read(tmp_path, "Gadgets.csv", data, **said)
        check(dataset)
        assert codes(dataset) == []
        assert dataset.ratings.user_ids is not None
        assert dataset.ratings.user_ids[0] == "A5000000QX"


@pytest.mark.parametrize("item", ["parent_asin", "item_id"])
def test_milliseconds_and_parent_asin(tmp_path: Path, item: str) -> None:
    data = lines("A{u},B{i},{r}.0,{t}137", f"user_id,{item},rating,timestamp")
    dataset = read(tmp_path, "Gadgets.csv", data)
    check(dataset)
    assert dataset.timestamps is not None
    assert dataset.timestamps.min() == min(t for *_, t in ROWS)
    assert dataset.notes == ("times are taken for milliseconds (--time-unit)",)
    wrong = read(tmp_path, "Gadgets.csv", data, time_unit="seconds")
    assert codes(wrong) == ["odd-times"]


# ---- 03: repeated pairs ----


def test_exact_duplicates_are_harmless(tmp_path: Path) -> None:
    dataset = read(tmp_path, "r.csv", lines("{u},{i},{r},{t}", rows=[*ROWS, *ROWS[:5]]))
    check(dataset)
    assert dataset.notes == ("5 rows that repeat another one exactly are left out",)


def test_other_duplicates_are_counted_and_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, "r.csv", lines("{u},{i},{r},{t}", rows=[*ROWS, *AGAIN]))
    assert f"r.csv line {len(ROWS) + 1}: duplicate pair: user '0' rated item '1' on line 1" in text
    assert f"and {len(AGAIN) - 1} more such pairs: say which counts with --duplicates" in text


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("how", ["latest", "first", "mean"])
def test_one_of_several_ratings_counts(tmp_path: Path, how: str, timed: bool) -> None:
    # Time, and not the order of lines, says which is the latest.
    rows = [*AGAIN, *ROWS] if timed else [*ROWS, *AGAIN]
    form = "{u},{i},{r},{t}" if timed else "{u},{i},{r}"
    dataset = read(tmp_path, "r.csv", lines(form, rows=rows), duplicates=how)
    check(dataset)
    old = {(u, i): r for u, i, r, _ in ROWS}
    new = {(u, i): r for u, i, r, _ in AGAIN}
    expected = {
        pair: new.get(pair, stars)
        if how == "latest"
        else stars
        if how == "first" or pair not in new
        else int(np.floor((stars + new[pair]) / 2 + 0.5))
        for pair, stars in old.items()
    }
    ratings = dataset.ratings
    read_back = zip(ratings.users, ratings.items, ratings.levels + 1, strict=True)
    assert {(int(u), int(i)): int(r) for u, i, r in read_back} == expected


# ---- 04: Book-Crossing ----


def test_semicolons_quotes_and_latin_1(tmp_path: Path) -> None:
    dataset = read(tmp_path, "BX-Book-Ratings.csv", crossing())
    check(dataset)
    assert dataset.ratings.item_ids is not None and dataset.ratings.item_ids[0] == "0é"
    assert any("latin-1" in note for note in dataset.notes)
    check(read(tmp_path, "r.csv", crossing(), separator=";", encoding="latin-1"))


def test_ratings_that_mean_none_are_dropped_when_that_is_said(tmp_path: Path) -> None:
    data = crossing().replace(b'"1"\r', b'"0"\r')
    text = refusal(tmp_path, "BX-Book-Ratings.csv", data)
    assert "rating 0 is out of scale" in text and "give --drop-ratings 0" in text
    zeros = sum(r == 1 for *_, r, _ in ROWS)
    for said in ({"drop_ratings": "0"}, {"format": "bookcrossing"}):
        dataset = read(tmp_path, "BX-Book-Ratings.csv", data, **said)
        assert len(dataset.ratings) == len(ROWS) - zeros
        assert f"{zeros} rows left out: their rating is 0, which means none" in dataset.notes
    assert read(tmp_path, "b.csv", data, format="bookcrossing").ratings.scale == RatingScale(
        1, 10, 1
    )


# ---- 05: implicit feedback ----


def test_constant_ratings_are_doubted(tmp_path: Path) -> None:
    dataset = read(tmp_path, "clicks.csv", lines("{u},{i},1", "user_id,item_id,rating"))
    assert codes(dataset) == ["constant-ratings"]
    assert "give --implicit; the scale 1–5 in steps of 1 is a guess" in dataset.doubts[0].text


@pytest.mark.parametrize(
    ("head", "form"),
    [
        ("user_id,item_id,timestamp", "{u},{i},{t}"),
        ("user_id,item_id", "{u},{i}"),
        ("user_id,artist,plays", "{u},{i},{t}"),
        ("user_id,item_id,rating", "{u},{i},{r}"),
    ],
)
def test_interactions_need_no_rating(tmp_path: Path, head: str, form: str) -> None:
    columns = "user=user_id,item=artist" if "artist" in head else None
    dataset = read(tmp_path, "c.csv", lines(form, head), implicit=True, columns=columns)
    check(dataset)
    assert dataset.ratings.scale == RatingScale(1, 1, 1)
    assert dataset.ratings.ratings.tolist() == [1] * len(ROWS)
    assert codes(dataset) == []
    if "rating" not in head:
        text = refusal(tmp_path, "c.csv", lines(form, head), columns=columns)
        assert "no column for rating" in text and "--implicit" in text


def test_interactions_count_once(tmp_path: Path) -> None:
    data = lines("{u},{i},{r}", rows=[*ROWS, *AGAIN])
    check(read(tmp_path, "c.csv", data, implicit=True))
    data = lines("{u},{i},{r}", "user,item,plays", rows=[*ROWS, (0, 0, 0, 0)])
    check(read(tmp_path, "c.csv", data, implicit=True))


# ---- 07, 08: scales ----


def test_jester_in_both_forms(tmp_path: Path) -> None:
    # −10–10 with two decimals.
    values = {(u, i): round(-9.99 + r * 3.33 + u / 100, 2) for u, i, r, _ in ROWS}
    long = "\n".join(f"{u},{i},{v}" for (u, i), v in values.items()).encode()
    assert "give --scale " in refusal(tmp_path, "long.csv", long)
    wide = [
        ",".join(
            [str(sum(user == u for u, _ in values))]
            + [str(values.get((user, item), 99)) for item in range(ITEMS)]
        )
        for user in range(USERS)
    ]
    matrix = "\n".join(wide).encode()
    assert "--format matrix, or jester, for users by items" in refusal(
        tmp_path, "matrix.csv", matrix
    )
    found = [
        read(tmp_path, "long.csv", long, scale="-10:10"),
        read(tmp_path, "long.csv", long, scale="-10:10:continuous"),
        read(tmp_path, "long.csv", long, format="jester"),
        read(tmp_path, "matrix.csv", matrix, format="jester"),
    ]
    for dataset in found:
        check(dataset)
        assert dataset.ratings.scale.level_count == 201
        assert dataset.shift == pytest.approx(10.1)
        assert any("rounded to -10–10 in steps of 0.1" in note for note in dataset.notes)
    assert len({dataset.ratings.digest() for dataset in found}) == 1
    ratings = found[0].ratings
    own = ratings.scale.values[ratings.levels] - found[0].shift
    expected = [values[int(u), int(i)] for u, i in zip(ratings.users, ratings.items, strict=True)]
    np.testing.assert_allclose(own, expected, atol=0.0501)
    wrong = matrix.replace(b"99", b"98")
    assert "first field" in refusal(tmp_path, "matrix.csv", wrong, format="jester")


@pytest.mark.parametrize(
    ("scale", "levels", "shift"),
    [
        ("0:5:1", 6, 1),
        ("0:1:1", 2, 1),
        ("5:100:5", 20, 0),
        ("0.125:1:0.125", 8, 0),
        ("-1:1:1", 3, 2),
        ("0:100:continuous", 201, 0.5),
    ],
)
def test_any_scale_is_suggested_and_taken(
    tmp_path: Path, scale: str, levels: int, shift: float
) -> None:
    least, most, last = scale.split(":")
    step = 0.25 if last == "continuous" else float(last)
    count = round((float(most) - float(least)) / step)
    data = "\n".join(
        f"{u},{i},{float(least) + step * ((u * 7 + i) % (count + 1)):g}"
        for u in range(300)
        for i in range(2)
    ).encode()
    text = refusal(tmp_path, "s.csv", data)
    assert f"--scale {scale}" in text
    dataset = read(tmp_path, "s.csv", data, scale=scale)
    assert (dataset.ratings.scale.level_count, dataset.shift) == (levels, shift)
    assert bool(shift) == any("is added to every rating" in note for note in dataset.notes)


def test_a_scale_whose_top_nobody_uses_is_doubted(tmp_path: Path) -> None:
    data = "\n".join(f"{u},{i},{1 + (u + i) % 7 / 2}" for u in range(9) for i in range(7)).encode()
    dataset = read(tmp_path, "h.csv", data)
    assert dataset.ratings.scale == RatingScale(0.5, 5, 0.5)
    assert codes(dataset) == ["unused-top"] and "--scale 1:4:0.5" in dataset.doubts[0].text
    assert codes(read(tmp_path, "h.csv", data, scale="0.5:4:0.5")) == []


# ---- 09, 10: columns that are none of ours ----


@pytest.mark.parametrize(
    ("form", "head"),
    [
        ("{u},{i},{r},{t}", "0,1,2,3"),
        ("{n},{u},{i},{r}", None),
        ("{n},{u},{i},{r},{t}", None),
        ("{n},{u},{i},{r}", "Unnamed: 0,userId,movieId,rating"),
        ("{n},{u},{i},{r},{t}", ",userId,movieId,rating,timestamp"),
        ('{u},{i},{r},"Story {i}, The",Drama|Comedy', "userId,movieId,rating,title,genres"),
        ('{u},{i},{r},"Nice ""{i}"",\nagain"', "user_id,recipe_id,rating,review"),
    ],
)
def test_other_columns_are_left_out(tmp_path: Path, form: str, head: str | None) -> None:
    dataset = read(tmp_path, "f.csv", lines(form, *([head] if head else [])))
    check(dataset)
    assert any("left out: column" in note or "names of columns" in note for note in dataset.notes)
    assert codes(dataset) == []


def test_a_field_more_of_recbole(tmp_path: Path) -> None:
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\treview:token_seq"
    check(read(tmp_path, "l.inter", lines("u{u}\ti{i}\t{r}.0\t{t}.0\tgood stuff", head)))


def test_a_first_line_that_may_be_both_is_refused(tmp_path: Path) -> None:
    data = lines("9{u},9{i},{r}", "0,1,2")
    text = refusal(tmp_path, "p.csv", data)
    assert "line 1: is a rating, or the names that pandas writes" in text
    check(read(tmp_path, "p.csv", data, header=True))
    assert len(read(tmp_path, "p.csv", data, header="no").ratings) == len(ROWS) + 1
    # User 0 and item 1 are met again: it is a rating.
    rows = [row for row in ROWS if row[:2] != (0, 1)]
    check(read(tmp_path, "q.csv", lines("{u},{i},{r}", "0,1,2", rows=rows)))


def test_words_over_numbers_are_doubted_when_they_are_read(tmp_path: Path) -> None:
    data = lines("{u},{i},{r}", "who,what,3")
    assert "header-as-rating" in codes(read(tmp_path, "h.csv", data))


def test_ids_that_look_alike_are_doubted(tmp_path: Path) -> None:
    rows = b"7,a,1\n7.0,b,5\n7,caf\xc3\xa9,2\n7.0,cafe\xcc\x81,3\n"
    assert codes(read(tmp_path, "a.csv", rows)) == ["alike-ids", "alike-ids"]


def test_a_running_number_for_users_is_doubted(tmp_path: Path) -> None:
    data = lines("{n},{i},{r}", "user,item,rating")
    assert "running-number" in codes(read(tmp_path, "n.csv", data))


# ---- 14, 18: names and archives ----


@pytest.mark.parametrize("name", ["my data (v2)/ratings [é] 2024.csv", "RATINGS.CSV"])
def test_any_name(tmp_path: Path, name: str) -> None:
    check(read(tmp_path, name, lines("{u},{i},{r},{t}")))


@pytest.mark.parametrize("name", ["r.txt", "r.csv", "ratings"])
def test_spaces_between_fields(tmp_path: Path, name: str) -> None:
    dataset = read(tmp_path, name, lines("{u} {i} {r}"))
    check(dataset)
    assert dataset.notes == ("fields are separated by spaces (--separator)",)


def test_decimal_commas_and_blank_lines(tmp_path: Path) -> None:
    data = lines("{u};{i};{r},5\n", "sep=;", "user;item;rating")
    dataset = read(tmp_path, "e.csv", data)
    check(dataset)
    assert "ratings have decimal commas" in dataset.notes
    assert dataset.ratings.scale == RatingScale(0.5, 10, 0.5)


@pytest.mark.parametrize(
    ("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_packed_file_is_bounded_and_its_damage_is_told(
    tmp_path: Path, suffix: str, pack: Any
) -> None:
    data = pack(lines("{u},{i},{r},{t}"))
    assert "cannot be read" in refusal(tmp_path, f"r.csv{suffix}", data[:-9])
    assert "cannot be read" in refusal(tmp_path, f"r.csv{suffix}", b"1,2,3\n\0")
    check(read(tmp_path, f"r.csv{suffix}", data + pack(b"\n")))


def test_an_archive_of_several_files(tmp_path: Path) -> None:
    path = tmp_path / "several.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("d/train.csv", lines("{u},{i},{r},{t}").decode())
        archive.writestr("d/items.csv", "item,title\n1,x\n")
    with pytest.raises(InputError, match=r"name one with --member: d/train\.csv, d/items\.csv"):
        load_dataset(str(path))
    for member in ("d/train.csv", "train.csv"):
        check(load_dataset(str(path), reading=ReadingOptions(member=member)))
    with pytest.raises(InputError, match="holds no one file 'other'"):
        load_dataset(str(path), reading=ReadingOptions(member="other"))


# ---- names that one has to say ----


def test_names_that_are_said_are_looked_for_in_line_1(tmp_path: Path) -> None:
    """In another language, and where the rating is not the third column."""
    data = lines("{n};a{i};k{u};{r}", "n;artikel;kunde;note")
    said = {"columns": "item=artikel,user=kunde,rating=note"}
    check(read(tmp_path, "r.csv", data, **said))
    wrong = {"columns": "item=artikel,user=kundin,rating=note"}
    assert "kundin" in refusal(tmp_path, "r.csv", data, **wrong)


# ---- R ----


@pytest.mark.parametrize(
    ("file", "separator", "said"), [("r.csv", ",", {}), ("r.txt", " ", {"separator": "space"})]
)
def test_row_names_that_the_header_does_not_count_are_left_out(
    tmp_path: Path, file: str, separator: str, said: dict[str, Any]
) -> None:
    header = separator.join(('"user"', '"item"', '"rating"'))
    data = lines(separator.join(('"{n}"', "{u}", "{i}", "{r}")), header)
    dataset = read(tmp_path, file, data, **said)
    check(dataset)
    assert any("row names" in note for note in dataset.notes)
    # One line that is as long as the header: what is missing there, nobody knows.
    short = data.replace(b"\n", f"\n9{separator}9{separator}9\n".encode(), 1)
    assert "wrong number of fields" in refusal(tmp_path, file, short, **said)
