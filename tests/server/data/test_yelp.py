"""Yelp's public review format."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from server.data.yelp import read_reviews

from common.errors import InputError
from common.ratings import RatingScale
from server.data.formats import read_ratings


def review(user: str, business: str, stars: object, date: object = "2018-07-07 22:09:11") -> str:
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
        ("", "not a review"),
        ("[" * 100_000, "not a review"),
        ("[1]", "not a review"),
        ("9" * 5000, "not a review"),
        ('{"user_id": "a", "stars": 3, "date": ""}', "no field 'business_id'"),
        (review("a", "x", "3"), "not a review"),
        (review("a", "x", True), "not a review"),
        (review("a", "x", 10**400), "not a review"),
        (review("a", "x", 3, "yesterday"), "not a review"),
        (review("\ud800", "x", 3), "not a review"),
        (review("", "x", 3), "the user is missing"),
        (review("a", "x", float("nan")), "rating nan is not a finite number"),
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
