"""Lines of JSON: Yelp's reviews and others, by their fields."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.ratings import RatingScale
from server.data.formats import read_ratings
from server.data.reading_options import ReadingOptions
from server.data.rows import RatingRows


def read_reviews(path: Path, *, max_bytes: int | None = None) -> RatingRows:
    return read_ratings(path, max_bytes=max_bytes)


def review(user: object, business: str, stars: object, date: object = "2018-07-07 22:09:11") -> str:
    return json.dumps(
        {
            "review_id": "KU_O5udG6zpxOg-VcAEodg",
            "user_id": user,
            "business_id": business,
            "stars": stars,
            "useful": 0,
            "text": "If you decide to eat here,\nbring time.",
            "date": date,
        }
    )


GOOD = [
    review("mh_-eMZ6K5RLWhZyISBhwA", "XQfwVwDr-v0ZS3_CbbE5Xw", 3.0),
    review("OyoGAe7OKpv6SyGZT5g77Q", "7ATYjTIgM3jUlt4UM3IypQ", 5.0, "1970-01-02 00:00:00"),
]


@pytest.mark.parametrize("name", ["yelp_academic_dataset_review.json", "r.jsonl.gz"])
def test_reviews_are_ratings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = "\n".join(GOOD).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    indexed = read_ratings(path).indexed(scale=RatingScale(1, 5, 1))
    ratings = indexed.ratings
    assert ratings.user_ids == ("OyoGAe7OKpv6SyGZT5g77Q", "mh_-eMZ6K5RLWhZyISBhwA")
    assert ratings.item_ids == ("7ATYjTIgM3jUlt4UM3IypQ", "XQfwVwDr-v0ZS3_CbbE5Xw")
    assert ratings.items.tolist() == [0, 1]
    assert ratings.levels.tolist() == [4, 2]
    assert indexed.timestamps is not None
    assert indexed.timestamps.tolist() == [86400, 1531001351]


def test_the_latest_review_of_a_pair_counts(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(
        "\n".join(
            [
                review("a", "x", 1, "2019-01-01 00:00:00"),
                review("a", "x", 5, "2020-01-01 00:00:00"),
                review("a", "x", 3, "2018-01-01 00:00:00"),
            ]
        )
    )
    assert read_reviews(path).indexed().ratings.levels.tolist() == [4]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, "not an object of JSON"),
        ("[1]", "not an object of JSON"),
        ("9" * 5000, "not an object of JSON"),
        ('{"user_id": "a", "stars": 3, "date": ""}', "the item is missing"),
        (review("a", "x", "three"), "rating 'three' is not a finite number"),
        (review("a", "x", True), "rating 'True' is not a finite number"),
        (review("a", "x", 10**400), "rating '10000"),
        (review("a", "x", 3, "yesterday"), "timestamp 'yesterday' is not a finite number, nor a"),
        (review("\ud800", "x", 3), "field 'user_id' holds no user"),
        (review(1.5, "x", 3), "field 'user_id' holds no user"),
        (review("", "x", 3), "the user is missing"),
        (review("a", "x", float("nan")), "rating 'nan' is not a finite number"),
        (review("a", "x", 6), "rating 6 is out of scale"),
        (" " * 1_100_000, "longer than 1 MiB"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(f"{GOOD[0]}\n{line}\n{GOOD[1]}\n")
    with pytest.raises(InputError) as caught:
        read_ratings(path).indexed(scale=RatingScale(1, 5, 1))
    assert f"{path} line 2: {message}" in str(caught.value)


def test_empty_and_too_large_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("")
    with pytest.raises(InputError, match="the file is empty"):
        read_reviews(path)
    path.write_text("\n".join(GOOD))
    with pytest.raises(InputError, match="larger than"):
        read_reviews(path, max_bytes=300)


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(
    data=st.binary(max_size=60)
    | st.fixed_dictionaries(
        {"user_id": VALUES, "business_id": VALUES, "stars": VALUES, "date": VALUES}
    ).map(lambda value: json.dumps(value).encode())
)
@example(data=review("a", "x", 3, "0001-01-01T00:00:00+14:00").encode())
@example(data=review("a", "x", 3, "9999-12-31").encode())
@settings(max_examples=200, deadline=None)
def test_hostile_lines_are_input_errors_at_worst(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "hostile.json"
    path.write_bytes(data)
    try:
        read_reviews(path).indexed()
    except InputError as error:
        assert "hostile" in str(error)


AMAZON = {"reviewerID": "A1", "asin": "B1", "overall": 4.0, "unixReviewTime": 1286264909}
KINDS = {
    "amazon": [AMAZON, {**AMAZON, "reviewerID": "A2", "overall": 2}],
    "2023": [
        {
            "user_id": who,
            "asin": "X",
            "parent_asin": "B1",
            "rating": stars,
            "timestamp": 1286264909137,
        }
        for who, stars in (("A1", 4), ("A2", 2))
    ],
    "goodreads": [
        {
            "user_id": who,
            "book_id": "B1",
            "rating": stars,
            "date_added": "Tue Oct 05 07:48:29 +0000 2010",
        }
        for who, stars in (("A1", 4), ("A2", 2))
    ],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["lines", "array", "python", "blank"])
def test_records_are_read_by_their_fields(tmp_path: Path, kind: str, form: str) -> None:
    path = tmp_path / "r.jsonl"
    dumped = [json.dumps(each) for each in KINDS[kind]]
    path.write_text(
        {
            "lines": "\n".join(dumped),
            "array": json.dumps(KINDS[kind], indent=1),
            "python": "\n".join(map(repr, KINDS[kind])) + "\n",
            "blank": "\n" + "\n\n".join(dumped) + "\n\n",
        }[form]
    )
    indexed = read_ratings(path).indexed()
    assert indexed.ratings.user_ids == ("A1", "A2")
    assert indexed.ratings.item_ids == ("B1",)
    assert indexed.ratings.levels.tolist() == [3, 1]
    assert indexed.timestamps is not None
    assert indexed.timestamps.tolist() == [1286264909] * 2


def test_fields_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(
        '{"who": {"id": 7}, "what": "x", "note": 3, "more": 1}\n'
        '{"what": "y", "note": 5, "who": {"id": 8}}\n'
    )
    options = ReadingOptions.of(fields="user=who.id,item=what,rating=note")
    ratings = read_ratings(path, options).indexed().ratings
    assert (ratings.user_ids, ratings.item_ids) == (("7", "8"), ("x", "y"))
    with pytest.raises(InputError, match="neither a rating nor names of columns"):
        read_ratings(path)
    with pytest.raises(InputError, match="no column 'nobody'"):
        read_ratings(path, ReadingOptions.of(fields="user=nobody,item=what,rating=note"))


def test_lines_of_python_are_constants_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    line = "{'username': 'p', 'product_id': '7', 'hours': 14.0}"
    path.write_text(f"{line}\n" + "{'username': __import__('os'), 'product_id': 1, 'hours': 1}\n")
    with pytest.raises(InputError, match="line 2: not an object of JSON"):
        read_ratings(path, ReadingOptions(implicit=True))
    path.write_text(line)
    with pytest.raises(InputError, match="or --implicit to count 'hours'"):
        read_ratings(path)
    for options in (ReadingOptions(format="steam"), ReadingOptions(implicit=True)):
        path.write_text(line.replace("}", ", 'date': '2017-03-17'}"))
        assert len(read_ratings(path, options).indexed().ratings) == 1
