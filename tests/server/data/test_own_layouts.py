"""Splits of one's own, thin data, and the layouts of public data sets."""

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from server.data.datasets import load_dataset
from server.data.layouts import LAYOUTS
from server.data.reading_options import ReadingOptions
from tests.support.own_files import (
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

# ---- 15: a split of one's own ----


@pytest.mark.parametrize("end", [(".base", ".test"), (".train.rating", ".test.rating")])
def test_a_test_file_is_held_out(tmp_path: Path, end: tuple[str, str]) -> None:
    last = {u: (u, i, r, t) for u, i, r, t in ROWS}
    rest = [row for row in ROWS if row not in last.values()]
    path = tmp_path / f"u1{end[1]}"
    path.write_bytes(lines("{u}\t{i}\t{r}\t{t}", rows=[*last.values()]))
    dataset = read(tmp_path, f"u1{end[0]}", lines("{u}\t{i}\t{r}\t{t}", rows=rest), test=str(path))
    check(dataset)
    assert dataset.held_out is not None and dataset.held_out_kind == "given"
    assert dataset.held_out.items.tolist() == [i for _, i, *_ in last.values()]
    # A pair that is trained on, too.
    path.write_bytes(lines("{u}\t{i}\t{r}\t{t}", rows=rest[:2]))
    text = refusal(tmp_path, f"u1{end[0]}", lines("{u}\t{i}\t{r}\t{t}", rows=rest), test=str(path))
    assert f"{path} line 1: a held-out pair is in" in text


def test_of_several_test_ratings_the_latest_is_measured(tmp_path: Path) -> None:
    rows = [row for row in ROWS if row[1] > 3]
    test = [row for row in ROWS if row[1] <= 3]
    path = tmp_path / "t.csv"
    path.write_bytes(lines("{u},{i},{r},{t}", rows=[*test, (99, 1, 1, 1_300_000_000)]))
    dataset = read(tmp_path, "r.csv", lines("{u},{i},{r},{t}", rows=rows), test=str(path))
    assert dataset.held_out is not None
    assert len(dataset.held_out.users) == USERS == dataset.ratings.user_count
    assert len(dataset.ratings) == len(rows) + USERS
    assert any("1 test ratings left out: of users who have no other" in n for n in dataset.notes)
    assert any("of several of a user the latest is measured" in n for n in dataset.notes)


# ---- 16: a long tail ----


def test_users_with_one_rating_are_doubted(tmp_path: Path) -> None:
    data = "\n".join(f"u{n},i{n % 9},{1 + n % 5}" for n in range(40)).encode()
    dataset = read(tmp_path, "o.csv", data)
    assert codes(dataset) == ["one-rating-users"]


def test_a_core_has_enough_ratings_of_everybody(tmp_path: Path) -> None:
    some = [(u, i, r, t) for u, i, r, t in ROWS if i < 11]
    rare = [(u + 500, u % 3, 3, 1_300_000_000) for u in range(5)]
    data = lines("{u},{i},{r},{t}", rows=[*some, *rare, (0, 77, 3, 1_300_000_000)])
    dataset = read(tmp_path, "c.csv", data, min_ratings=5)
    counts = np.diff(dataset.ratings.indptr)
    assert counts.min() >= 5 and dataset.ratings.item_counts().min() >= 5
    assert dataset.ratings.user_ids == tuple(map(str, range(USERS)))
    assert "6 ratings left out" in dataset.notes[0]
    assert "leaves no rating" in refusal(tmp_path, "c.csv", data, min_ratings=100)


# ---- layouts ----

PUBLISHED = {
    "movielens": ("ratings.dat", lines("{u}::{i}::{r}::{t}")),
    "amazon": ("a.csv", lines("B{i},A{u},{r}.0,{t}")),
    "amazon-2014": ("a.csv", lines("A{u},B{i},{r}.0,{t}")),
    "goodreads": ("g.csv", lines("{u},{i},1,{r},0", "user_id,book_id,is_read,rating,is_reviewed")),
    "bookcrossing": ("BX-Book-Ratings.csv", crossing()),
    "lastfm": ("plays.tsv", lines("{u}\t\tBand {i}\t{t}")),
    "netflix": (
        "combined_data_1.txt",
        b"".join(
            f"{item}:\n".encode()
            + lines("{u},{r},2005-09-06", rows=[row for row in ROWS if row[1] == item])
            for item in range(ITEMS)
        ),
    ),
    "lastfm-1k": (
        "userid-timestamp-artid-artname-traid-traname.tsv",
        lines("{u}\t2009-05-04T23:08:57Z\t\tBand {i}\t\tSong {n}"),
    ),
    "lightgcn": (
        "train.txt",
        "\n".join(
            " ".join(map(str, [user, *(i for u, i, *_ in ROWS if u == user)]))
            for user in range(USERS)
        ).encode(),
    ),
    "matrix": (
        "m.csv",
        "\n".join(
            ",".join(
                str({(u, i): r for u, i, r, _ in ROWS}.get((user, item), ""))
                for item in range(ITEMS)
            )
            for user in range(USERS)
        ).encode(),
    ),
    "steam": (
        "s.json",
        lines("{{'username': '{u}', 'product_id': '{i}', 'hours': {r}.0, 'date': '2017-03-17'}}"),
    ),
    "jester": ("long.csv", lines("{u},{i},{r}.25")),
    "yelp": (
        "y.json",
        lines(
            '{{"user_id": "{u}", "business_id": "{i}", "stars": {r}, '
            '"date": "2018-07-07 22:09:11"}}'
        ),
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_reads_its_files(tmp_path: Path, name: str) -> None:
    file, data = PUBLISHED[name]
    dataset = read(tmp_path, file, data, format=name)
    check(dataset)
    assert "swapped" not in codes(dataset)


@pytest.mark.parametrize(
    ("name", "file", "data"),
    [
        ("lastfm", "user_artists.dat", lines("{u}\t{i}\t{t}", "userID\tartistID\tweight")),
        ("movielens", "r.csv", lines("{u},{i},{r}")),
        ("movielens", "r.csv", lines("{u},{i},{r}.0,{t}", "userId,movieId,rating,timestamp")),
        ("amazon", "a.csv", lines("{u},{i},{r}.0,{t}000", "user_id,parent_asin,rating,timestamp")),
        ("jester", "r.csv", lines("{u},{i},{r}.25", "userId,itemId,rating")),
        ("goodreads", "g.json", lines('{{"user_id": "{u}", "book_id": {i}, "rating": {r}}}')),
    ],
)
def test_a_layout_has_several_files(tmp_path: Path, name: str, file: str, data: bytes) -> None:
    check(read(tmp_path, file, data, format=name))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("bookcrossing", "BX-Book-Ratings.csv"),
        ("netflix", "combined_data_1.txt"),
        ("lastfm", "usersha1-artmbid-artname-plays.tsv"),
        ("lastfm-1k", "userid-timestamp-artid-artname-traid-traname.tsv"),
        ("steam", "steam_reviews.json"),
        ("goodreads", "goodreads_interactions.json"),
    ],
)
def test_a_refused_file_is_known_by_its_name(tmp_path: Path, name: str, file: str) -> None:
    data = PUBLISHED[name][1]
    if name == "bookcrossing":
        data += b'"1";"2";"0"\r\n'
    if name == "goodreads":
        data = b'{"user_id": "1", "book_id": "2", "rating": 0}'
    assert refusal(tmp_path, file, data).endswith(f"; is it of --format {name}?")
    assert "is it of" not in refusal(tmp_path, f"my {file}", data)
    read(tmp_path, file, data if name != "goodreads" else data.replace(b"0}", b"5}"), format=name)


def test_the_page_names_every_layout() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "own-data.md").read_text("utf-8")
    assert set(re.findall(r"--format ([a-z0-9-]+)", page)) == set(LAYOUTS)


def test_netflix_lines_without_a_movie_are_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, "n.txt", b"1,2,2005-09-06\n1:\n", format="netflix")
    assert "n.txt line 1: not user,rating,date under a line `movie:`" in text


@pytest.mark.parametrize(
    ("names", "pack"),
    [
        (("combined_data_1.txt", "combined_data_2.txt"), bytes),
        (("mv_0000001.txt", "mv_0000002.txt", "mv_0000003.txt"), bytes),
        (("combined_data_1.txt.gz", "combined_data_2.txt.gz"), gzip.compress),
    ],
)
def test_netflix_files_of_a_folder_are_one_data_set(
    tmp_path: Path, names: tuple[str, ...], pack: Callable[[bytes], bytes]
) -> None:
    together = b""
    for at, name in enumerate(names):
        text = f"{at + 1}:\n" + "".join(f"{u},{1 + (u + at) % 5},2005-09-06\n" for u in range(20))
        together += text.encode()
        # Without a line end, as some have them: the next file begins a line.
        (tmp_path / name).write_bytes(pack(text.rstrip().encode()))
    (tmp_path / "README").write_text("no ratings")
    (tmp_path / "movie_titles.csv").write_text("1,2003,Dinosaur Planet\n")
    options = ReadingOptions.of(format="netflix")
    found = load_dataset(str(tmp_path), reading=options)
    whole = tmp_path / "whole.txt"
    whole.write_bytes(together)
    assert found.ratings.digest() == load_dataset(str(whole), reading=options).ratings.digest()
    with pytest.raises(InputError, match="--format netflix"):
        load_dataset(str(tmp_path))


# ---- hints ----


def test_what_is_no_number_is_left_out_when_that_is_said(tmp_path: Path) -> None:
    data = lines("{u},{i},{r},{t}") + b"1,500,,1200000000\n2,500,NA,1200000000\n3,5,0,1200000001\n"
    text = refusal(tmp_path, "e.csv", data)
    assert "rating '' is not a finite number (--drop-ratings empty)" in text
    dataset = read(tmp_path, "e.csv", data, drop_ratings="empty,0", duplicates="first")
    check(dataset)
    assert dataset.notes[:2] == (
        "2 rows left out: their rating is no number",
        "1 rows left out: their rating is 0, which means none",
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"columns": "user,item,mood"}, "no column 'mood'|holds no names, so none is 'mood'"),
        ({"columns": "user=9,item=1,rating=2"}, "column 9: there are 4, counted from 1"),
        ({"columns": "user=a,item=1,rating=2"}, "holds no names of columns: give numbers"),
        ({"columns": "user,user,item"}, "name each column and each role once"),
        ({"columns": "user,item"}, "no column for rating: give --columns"),
        ({"fields": "user=a"}, "fields are of JSON lines"),
        ({"separator": "|"}, "give --separator|one field"),
        ({"scale": "6:7"}, "is out of scale 6:7: give --scale"),
        ({"member": "x"}, "is no zip archive: leave out --member x"),
        ({"test": "no.csv"}, "no.csv: no such file"),
        ({"format": "netflix"}, "as Netflix's files have them"),
    ],
)
def test_what_does_not_fit_says_what_would(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, "x.csv", lines("{u},{i},{r},{t}"), **said)
