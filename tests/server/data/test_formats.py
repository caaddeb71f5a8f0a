"""Rating files of every kind: what they mean, and how a bad one is refused."""

import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.ratings import RatingScale
from server.data.formats import SEPARATED, parse, read_ratings
from server.data.reading_options import ReadingOptions
from server.data.rows import FixedIds, IndexedRatings, RatingRows

ROWS = [("7", "30", 4.0, 100), ("7", "4", 5.0, 200), ("12", "30", 1.0, 300)]


def parsed(suffix: str, data: bytes, name: str) -> RatingRows:
    return parse(data, name, suffix, ReadingOptions())


def parse_csv(data: bytes, name: str) -> RatingRows:
    return parsed(".csv", data, name)


def parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def lines(separator: str, *head: str) -> bytes:
    body = (separator.join(map(str, row)) for row in ROWS)
    return "\n".join([*head, *body]).encode()


USERS, ITEMS, VALUES, TIMES = (list(column) for column in zip(*ROWS, strict=True))
FILES = {
    "headless.csv": lines(","),
    "named.csv": lines(",", "userId,movieId,rating,timestamp"),
    "quoted.csv": lines(",", '"User ID","item_id","Stars","time"').replace(b",30,", b',"30",'),
    "windows.csv": lines(",", "\ufeffuser,item,rating,timestamp").replace(b"\n", b"\r\n") + b"\r\n",
    "turned.csv": b"rating,timestamp,item,user\n4.0,100,30,7\n5.0,200,4,7\n1.0,300,30,12\n",
    "u.data": lines("\t"),
    "some.tsv": lines("\t", "uid\tiid\tscore\ttimestamp"),
    "ratings.dat": lines("::") + b"\n",
    "x.inter": lines("\t", "user_id:token\titem_id:token\trating:float\ttimestamp:float"),
    "n.parquet": parquet(user=[7, 7, 12], item=[30, 4, 30], rating=VALUES, timestamp=TIMES),
    "t.parquet": parquet(userId=USERS, itemId=ITEMS, stars=[4, 5, 1], time=[100.0, 200.0, 300.0]),
}


def check_rows(indexed: IndexedRatings) -> None:
    ratings = indexed.ratings
    assert ratings.user_ids == ("7", "12")
    assert ratings.item_ids == ("4", "30")
    assert ratings.users.tolist() == [0, 0, 1]
    assert ratings.items.tolist() == [0, 1, 1]
    assert ratings.scale == RatingScale(1, 5, 1)
    assert ratings.scale.values[ratings.levels].tolist() == [5, 4, 1]
    assert indexed.timestamps is not None
    assert indexed.timestamps.dtype == np.int64
    assert indexed.timestamps.tolist() == [200, 100, 300]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_kind_of_file_says_the_same(tmp_path: Path, name: str, compressed: bool) -> None:
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(FILES[name]) if compressed else FILES[name])
    check_rows(read_ratings(path).indexed())


def test_datetimes_of_parquet_are_seconds() -> None:
    moments = pl.Series([0, 90, 1_000_000_000]).cast(pl.Datetime("ms"))
    data = parquet(user=["a", "b", "c"], item=[1, 1, 1], rating=[1, 2, 3], timestamp=moments)
    times = parsed(".parquet", data, "x.parquet").indexed().timestamps
    assert times is not None
    assert times.tolist() == [0, 0, 1_000_000]


def test_without_timestamps_there_are_none() -> None:
    assert parse_csv(b"a,b,3", "x.csv").indexed().timestamps is None


BAD = [
    ("x.csv", b"", "x.csv: the file is empty"),
    ("x.csv", b"\n\r\n", "x.csv: the file is empty"),
    ("x.csv", b"user,item,rating\n", "x.csv: holds no ratings"),
    ("x.csv", b"1,2,3\n1,3,x\n", "x.csv line 2: rating 'x' is not a finite number"),
    ("x.csv", b"user,item,rating\n1,3,\n", "x.csv line 2: rating '' is not a finite number"),
    ("x.csv", b"1,2,3\n1,3,nan\n", "x.csv line 2: rating 'nan' is not a finite number"),
    ("x.csv", b"1,2,3\n1,3,1e999\n", "x.csv line 2: rating '1e999' is not a finite number"),
    ("x.csv", b"1,2,-inf\n", "x.csv line 1: rating '-inf' is not a finite number"),
    ("x.csv", b"1,2,3,4\n1,3,3,soon\n", "x.csv line 2: timestamp 'soon' is not a finite number"),
    ("x.csv", b"1,2,3,4\n1,3,3,1e300\n", "x.csv line 2: timestamp '1e300' is not a finite"),
    ("x.csv", b"1,2,3\n,3,3\n", "x.csv line 2: the user is missing"),
    ("x.csv", b'1,2,3\n2,"",3\n', "x.csv line 2: the item is missing"),
    ("x.csv", b"1,2,3\n1,3\n", "x.csv line 2: wrong number of fields: 2, where line 1 has 3"),
    ("x.csv", b"1,2,3\nx\n1,3,3\n", "x.csv line 2: wrong number of fields: 1"),
    ("x.csv", b"1,2,3\n\n1,3\n", "x.csv line 3: wrong number of fields: 2"),
    ("x.csv", b"1,2,3\n1,3,3,4\n", "x.csv line 2: wrong number of fields: 4"),
    ("x.csv", b"1,2,3,4,5\n", "x.csv line 1: neither a rating nor names of columns"),
    ("x.csv", b"a,b,c\n1,2,3\n", "x.csv line 1: neither a rating nor names of columns"),
    ("x.csv", b"user,item,ratng\n", "x.csv line 1: no column for rating in "
     "'user', 'item', 'ratng': is it 'ratng'?"),
    ("x.csv", b"user,item,uid,rating\n", "x.csv line 1: 'user' and 'uid' may both be the user: say "
     "which with --columns"),
    ("x.csv", b"1,2\n", "x.csv line 1: two fields, so there are no ratings: give --implicit"),
    ("x.csv", b"0,1,2\n5,6,1\n", "x.csv line 1: is a rating, or the names that pandas writes for "
     "columns: give --header yes or --header no"),
    ("x.csv", b"user,rating\n1,2\n", "x.csv line 1: no column for item"),
    ("x.csv", b"1,2,3\n5,6,1\n1,2,4\n", "x.csv line 3: duplicate pair: user '1' rated item '2' on "
     "line 1 already"),
    ("x.csv", b"1,2,3\n1,3,99\n", "give --drop-ratings 99 if that means none"),
    ("x.csv", b"1,2,3\n1,3,0\n", "give --drop-ratings 0 if that means none, or --scale 0:3:1"),
    ("x.csv", b"1,2,-1.5\n1,3,2\n", "line 1: rating -1.5 is out of scale"),
    ("x.csv", b"1,2,30\n1,3,60\n", "give --scale 30:60:30"),
    ("x.csv", b"1,2,3\n1,3,3.7\n", "x.csv line 2: rating 3.7 is out of scale"),
    ("x.csv", b"1,2,3\n\x85,3,3\n", "x.csv line 2: not UTF-8 text: name its encoding"),
    ("x.csv", b"\xc3\xa9,2,3\n\xff,3,3\n", "line 2: not UTF-8 text, though other lines are"),
    ("x.tsv", b"one\n", "x.tsv line 1: neither a rating nor names of columns"),
    ("x.inter", b"1\t2\t3\n", "x.inter line 1: an .inter file starts with a header"),
    ("x.parquet", b"PAR1nonsensePAR1", "x.parquet: not a parquet file"),
    ("x.parquet", parquet(user=[1.5], item=[1], rating=[1]), "'user' has fractions, which are no"),
    ("x.parquet", parquet(user=[1], item=[1], rating=["five"]), "x.parquet row 1: rating"),
    ("x.parquet", parquet(user=[1, 2], item=[1, None], rating=[1, 1]), "row 2: the item is"),
    ("x.parquet", parquet(user=[1], item=[1]), "x.parquet: no column for rating"),
    ("x.parquet", parquet(user=[], item=[], rating=[]), "x.parquet"),
    ("x.txt", b"one", "x.txt: cannot tell what separates the fields: give --separator"),
    ("x.xlsx", b"1 2 3", "x.xlsx: unknown kind of file '.xlsx'"),
    ("x.csv.zip", b"PK", "x.csv.zip: cannot be read"),
    ("x.json", b'{"user": 1, "item": 2, "rating": 3}\n{]', "x.json line 2: not an object of JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_a_bad_file_is_refused_with_place_and_reason(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_ratings(path).indexed()
    text = str(caught.value)
    assert message in text.replace(f"{tmp_path}/", "")
    assert str(path) in text
    assert "\n" not in text


def test_a_value_of_a_stranger_does_not_flood_the_message() -> None:
    with pytest.raises(InputError) as caught:
        parse_csv(b"1,2,3\n1,3," + b"y" * 10_000, "x.csv")
    assert len(str(caught.value)) < 120


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"1,2,3\n" * 1000)
    with pytest.raises(InputError, match="larger than"):
        read_ratings(path, max_bytes=5999)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ("1 2 5", RatingScale(1, 5, 1)),
        ("0.5 4", RatingScale(0.5, 5, 0.5)),
        ("1 7", RatingScale(1, 8, 1)),
        ("1 9", RatingScale(1, 10, 1)),
        ("2.5 9", RatingScale(0.5, 10, 0.5)),
    ],
)
def test_the_narrowest_usual_scale_is_taken(values: str, scale: RatingScale) -> None:
    data = "\n".join(f"u,i{at},{value}" for at, value in enumerate(values.split()))
    ratings = parse_csv(data.encode(), "x.csv").indexed().ratings
    assert ratings.scale == scale


def test_a_given_scale_is_kept_to() -> None:
    rows = parse_csv(b"u,a,60\nu,b,5\n", "x.csv")
    ratings = rows.indexed(scale=RatingScale(1, 100, 1)).ratings
    assert ratings.levels.tolist() == [59, 4]
    with pytest.raises(InputError, match=r"line 1: rating 60 is out of scale 1–5 in steps of 1"):
        rows.indexed(scale=RatingScale(1, 5, 1))


def test_ids_that_are_no_numbers_sort_as_text() -> None:
    ratings = parse_csv(b"10,b,1\n9,a,2\nx,c,3\n", "x.csv").indexed().ratings
    assert ratings.user_ids == ("10", "9", "x")
    assert ratings.users.tolist() == [0, 1, 2]
    assert ratings.item_ids == ("a", "b", "c")


@pytest.mark.parametrize(
    "bad", ["0,1,3", "4,1,3", "1,0,3", "1,5,3", "x,1,3", "1.0,1,3", "1e30,1,3"]
)
def test_fixed_ids_must_lie_in_range(bad: str) -> None:
    ids = FixedIds(1, user_count=3, item_count=4)
    rows = parse_csv(f"3,4,5\n{bad}".encode(), "x.csv")
    with pytest.raises(InputError, match=r"x\.csv line 2: (user|item) '.*' is not an id from 1 to"):
        rows.indexed(ids=ids)


def test_fixed_ids_are_indices() -> None:
    ids = FixedIds(1, user_count=3, item_count=4)
    ratings = parse_csv(b"3,4,5\n", "x.csv").indexed(ids=ids).ratings
    assert ratings.user_ids is None
    assert (ratings.user_count, ratings.item_count) == (3, 4)
    assert ratings.items_of(2).tolist() == [3]


TEXT = st.text(
    st.sampled_from('0123456789.,:;\t\n\r"- einfaNu_\x00\ufeff\ud83dé') | st.characters(),
    max_size=80,
)


@pytest.mark.parametrize("suffix", [*SEPARATED, ".txt"])
@given(data=st.binary(max_size=120) | TEXT.map(lambda text: text.encode(errors="surrogatepass")))
@example(data=b"user,item,rating\n")
@example(data=b"1\x002,3,4")
@settings(max_examples=150, deadline=None)
def test_hostile_bytes_are_input_errors_at_worst(suffix: str, data: bytes) -> None:
    try:
        indexed = parsed(suffix, data, "hostile").indexed()
    except InputError as error:
        assert "hostile" in str(error) and "\n" not in str(error)
    else:
        assert len(indexed.ratings) > 0


VALID = FILES["n.parquet"]


# With these the reader, tried in a process of its own, asks for terabytes and is aborted.
@example(position=50, byte=127, cut=0)
@example(position=200, byte=127, cut=0)
@example(position=314, byte=127, cut=0)
@example(position=482, byte=127, cut=0)
@given(
    position=st.integers(0, len(VALID) - 1),
    byte=st.integers(0, 255),
    cut=st.integers(0, 60) | st.just(0),
)
@settings(max_examples=10, deadline=None)
def test_a_damaged_parquet_file_is_an_input_error_at_worst(
    position: int, byte: int, cut: int
) -> None:
    data = VALID[:position] + bytes([byte]) + VALID[position + 1 : len(VALID) - cut]
    try:
        parsed(".parquet", data, "hostile").indexed()
    except InputError as error:
        assert "hostile" in str(error) and "\n" not in str(error)


def test_a_reader_that_is_aborted_takes_nobody_with_it() -> None:
    """At least one of the known bytes still ends the child; if none does, it may be given up."""
    ends = []
    for position in (50, 200, 314, 482):
        data = VALID[:position] + b"\x7f" + VALID[position + 1 :]
        with pytest.raises(InputError) as caught:
            parsed(".parquet", data, "hostile")
        ends.append(str(caught.value))
    assert "hostile: not a parquet file, or a damaged one" in ends


@given(
    table=st.dictionaries(
        st.tuples(st.integers(0, 30), st.integers(0, 30)),
        st.integers(1, 5),
        min_size=1,
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(table: dict[tuple[int, int], int]) -> None:
    data = "\n".join(f"{user},{item},{rating}" for (user, item), rating in table.items())
    ratings = parse_csv(data.encode(), "x.csv").indexed(scale=RatingScale(1, 5, 1)).ratings
    assert ratings.user_ids is not None and ratings.item_ids is not None
    users, items = np.array(ratings.user_ids, dtype=int), np.array(ratings.item_ids, dtype=int)
    read = zip(users[ratings.users], items[ratings.items], ratings.levels + 1, strict=True)
    assert {(user, item): int(rating) for user, item, rating in read} == table
