"""Catalogs of items as publishers write them, and what titles become of them."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from server.data.datasets import load_dataset
from server.data.frames import dataset_in_memory
from server.data.reading_options import ReadingOptions
from server.data.titles import titles_of

TITLES = ("Toy Story (1995)", "Misérables, Les", None)


def ratings(ids: tuple[str, ...] | None = ("1", "2", "3")) -> RatingMatrix:
    return RatingMatrix.from_triples(
        [0] * 3, range(3), [0] * 3, user_count=1, item_count=3,
        scale=RatingScale(1, 5, 1), item_ids=ids,
    )  # fmt: skip


CATALOGS: dict[str, bytes] = {
    "u.item": "1|Toy Story (1995)|01-Jan-1995||http://x|0|0\n2|Misérables, Les||||0|1\n".encode(
        "latin-1"
    ),
    "movies.dat": "1::Toy Story (1995)::Animation|Children's\n2::Misérables, Les::Drama\n".encode(
        "latin-1"
    ),
    "movies.csv": 'movieId,title,genres\n1,Toy Story (1995),A|B\n2,"Misérables, Les",D\n'.encode(),
    "BX-Books.csv": '"ISBN";"Book-Title";"Author"\n"1";"Toy Story (1995)";"x"\n'
    '"2";"Misérables, Les";"Hugo"\n'.encode("latin-1"),
    "artists.dat": "id\tname\turl\n1\tToy Story (1995)\tu\n2\tMisérables, Les\tu\n".encode(),
    "meta.jsonl": "".join(
        json.dumps({"main_category": "x", "title": title, "asin": f"0{at}", "parent_asin": str(at)})
        + "\n"
        for at, title in enumerate(TITLES, start=1)
    ).encode(),
    "books.json.gz": gzip.compress(
        b'{"isbn": "", "book_id": "1", "title": "Toy Story (1995)"}\n'
        + '{"isbn": "9", "book_id": "2", "title": "Misérables, Les"}\n'.encode()
    ),
    "games.json": (
        "{'id': '1', 'title': 'Toy Story (1995)'}\n{'id': '2', 'title': 'Misérables, Les'}\n"
        "{'id': '4'}\n"
    ).encode(),
}


@pytest.mark.parametrize("name", CATALOGS)
def test_catalogs_of_public_data_sets_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CATALOGS[name])
    columns = ("id=book_id",) if name == "books.json.gz" else None
    titles, note = titles_of(str(tmp_path / name), ratings(), columns)
    assert titles == TITLES and "2 of 3" in note


def test_a_table_is_read_in_a_process_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    pl.DataFrame({"code": [1, 2], "caption": TITLES[:2]}).write_parquet(path)
    with pytest.raises(InputError, match=r"no column for the id among 'code'.*--item-columns"):
        titles_of(str(path), ratings(), None)
    assert titles_of(str(path), ratings(), ("id=code", "title=caption"))[0] == TITLES
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="not a parquet"):
        titles_of(str(path), ratings(), None)


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("item_id,title\n7,x\n", None, "titles of none of the 3 items"),
        ("item_id,item,title\n1,1,x\n", None, "more than one column for the id"),
        ("item_id,price\n1,2\n", None, "no column for the title"),
        ("item_id,title\n1\n", None, "only 1 fields"),
        ("item_id,title\n1,x\n", ("key=item_id",), "write id=NAME"),
        ("", None, "empty"),
    ],
)
def test_other_files_are_refused_with_the_way_on(
    tmp_path: Path, text: str, columns: tuple[str, ...] | None, message: str
) -> None:
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        titles_of(str(tmp_path / "items.csv"), ratings(), columns)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        titles_of(str(tmp_path / "none.csv"), ratings(), None)


def test_titles_come_with_files_and_frames(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("user,item,rating\na,x,3\nb,y,4\nb,x,5\n")
    (tmp_path / "i.csv").write_text('item,title\ny,"Up, up"\n')
    reading = ReadingOptions.of(items=str(tmp_path / "i.csv"))
    found = load_dataset(str(tmp_path / "r.csv"), reading=reading)
    assert found.titles == (None, "Up, up")
    assert found.item_names.told([1]) == [{"index": 1, "id": "y", "title": "Up, up"}]
    with pytest.raises(InputError, match="--items"):
        ReadingOptions.of(item_columns="id=item")


@pytest.mark.realdata
def test_a_data_set_without_ids_takes_the_publishers(tmp_path: Path) -> None:
    (tmp_path / "u.item").write_text("1|Toy Story (1995)|\n1682|Last|\n")
    found = load_dataset("ml-100k", reading=ReadingOptions.of(items=str(tmp_path / "u.item")))
    assert found.titles is not None
    assert (found.titles[0], found.titles[1681]) == ("Toy Story (1995)", "Last")


def test_frames_do_not_lose_their_titles(tmp_path: Path) -> None:
    import vicinal as vc  # noqa: PLC0415

    (tmp_path / "i.csv").write_text("item,title\n8,Up\n")
    frame = pl.DataFrame({"user": [1, 2], "item": [7, 8], "rating": [3, 4]})
    assert vc.load(frame, items=tmp_path / "i.csv").titles == (None, "Up")
    assert dataset_in_memory(frame).titles is None
