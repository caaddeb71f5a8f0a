"""Ratings written in any form, packed in any way, are read as what they were."""

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from backports import zstd
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from server.data import separators
from server.data.datasets import Dataset, load_dataset
from server.data.reading_options import ReadingOptions

Row = tuple[str, str, float, int]
# Ids of letters of several alphabets, with what csv has to quote.
PLAIN = st.text("abcXYZ0123456789_", min_size=1, max_size=6)
ODD = st.text('abéß語0123,;"|: \n', min_size=1, max_size=6).map(str.strip).filter(bool)
TIME = st.integers(10**9, 2 * 10**9)


def tables(ids: st.SearchStrategy[str]) -> st.SearchStrategy[list[Row]]:
    """Ratings of 1–5, of which somebody gives a 1 and somebody a 5."""
    pairs = st.lists(st.tuples(ids, ids), min_size=2, max_size=20, unique=True)
    return pairs.flatmap(
        lambda some: st.lists(
            st.tuples(st.integers(1, 5), TIME), min_size=len(some), max_size=len(some)
        ).map(
            lambda rest: [
                (user, item, float(1 if at == 0 else 5 if at == 1 else stars), time)
                for at, ((user, item), (stars, time)) in enumerate(zip(some, rest, strict=True))
            ]
        )
    )


def lines(rows: list[Row], separator: str, *, header: str = "", end: str = "\n") -> bytes:
    text = [separator.join((u, i, f"{r:g}", str(t))) for u, i, r, t in rows]
    return (end.join([*([header] if header else []), *text]) + end).encode()


def quoted(rows: list[Row]) -> bytes:
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(["comment", "rating", "item_id", "user_id", "timestamp"])
    writer.writerows(['"a",\nb', r, i, u, t] for u, i, r, t in rows)
    return made.getvalue().encode()


def table(rows: list[Row], write: str) -> bytes:
    made = io.BytesIO()
    frame = pl.DataFrame(
        {
            "user": [u for u, *_ in rows],
            "item": [i for _, i, *_ in rows],
            "rating": [r for *_, r, _ in rows],
            "timestamp": [t for *_, t in rows],
        }
    )
    getattr(frame, write)(made)
    return made.getvalue()


def objects(rows: list[Row]) -> bytes:
    return "\n".join(
        json.dumps({"timestamp": t, "stars": r, "user_id": u, "business": i}) for u, i, r, t in rows
    ).encode()


# By the name that the file gets: how it is written.
FORMS: dict[str, Callable[[list[Row]], bytes]] = {
    "a.csv": lambda rows: lines(rows, ","),
    "headed.csv": lambda rows: lines(rows, ",", header="userId,movieId,rating,timestamp"),
    "semicolons.csv": lambda rows: lines(rows, ";", header="sep=;\nuser;item;rating;time"),
    "windows.csv": lambda rows: lines(rows, ",", end="\r\n\r\n"),
    "mac.csv": lambda rows: lines(rows, ",", end="\r"),
    "a.tsv": lambda rows: lines(rows, "\t"),
    "a.dat": lambda rows: lines(rows, "::"),
    "a.txt": lambda rows: lines(rows, "|"),
    "spaces.txt": lambda rows: lines(rows, "  "),
    "comments.out": lambda rows: lines(rows, "\t", header="% sym weighted\n% 3 4"),
    "u1.base": lambda rows: lines(rows, "\t"),
    "a.inter": lambda rows: lines(
        rows, "\t", header="user_id:token\titem_id:token\trating:float\ttimestamp:float"
    ),
    "index.csv": lambda rows: b"".join(
        [b",user,item,rating,timestamp\n"]
        + [f"{at},".encode() + lines([row], ",") for at, row in enumerate(rows)]
    ),
    "bare-index.csv": lambda rows: b"".join(
        f"{at},".encode() + lines([row], ",") for at, row in enumerate(rows)
    ),
    "a.parquet": lambda rows: table(rows, "write_parquet"),
    "a.feather": lambda rows: table(rows, "write_ipc"),
    "a.arrow": lambda rows: table(rows, "write_ipc_stream"),
    "a.jsonl": objects,
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


def check(dataset: Dataset, rows: list[Row]) -> None:
    ratings = dataset.ratings
    assert ratings.user_ids is not None and ratings.item_ids is not None
    assert dataset.timestamps is not None
    values = ratings.scale.values[ratings.levels] - dataset.shift
    read = {
        (ratings.user_ids[user], ratings.item_ids[item], float(value), int(time))
        for user, item, value, time in zip(
            ratings.users, ratings.items, values, dataset.timestamps, strict=True
        )
    }
    assert read == set(rows)


def put(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


@pytest.mark.parametrize("name", FORMS)
@given(rows=tables(PLAIN), packing=st.sampled_from([*PACKED]))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read(folder: Path, name: str, rows: list[Row], packing: str) -> None:
    data = PACKED[packing](FORMS[name](rows))
    # A running number has to be seen running.
    if name == "bare-index.csv" and len(rows) < 3:
        return
    check(load_dataset(put(folder, name + packing, data)), rows)


@given(rows=tables(ODD), chunk=st.sampled_from([5, 17, 1 << 24]))
@example(rows=[("a", 'b"', 1.0, 10**9), ('"', ",", 5.0, 10**9)], chunk=5)
@settings(max_examples=60, deadline=None)
def test_quoted_fields_hold_anything(folder: Path, rows: list[Row], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(separators, "CHUNK", chunk)
        check(load_dataset(put(folder, "quoted.csv", quoted(rows))), rows)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("utf-16-le", None),
     ("utf-16-be", None), ("latin-1", None), ("cp1252", "cp1252"), ("cp1251", "cp1251")],
)  # fmt: skip
@given(rows=tables(PLAIN))
@settings(max_examples=10, deadline=None)
def test_encodings(folder: Path, encoding: str, said: str | None, rows: list[Row]) -> None:
    letter = "ж" if encoding == "cp1251" else "€" if encoding == "cp1252" else "é"
    rows = [(letter + user, item, stars, time) for user, item, stars, time in rows]
    data = lines(rows, ",").decode().encode(encoding)
    options = ReadingOptions(encoding=said)
    check(load_dataset(put(folder, "a.csv", data), reading=options), rows)


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "microseconds", "nanoseconds", "date"])
@given(rows=tables(PLAIN))
@settings(max_examples=10, deadline=None)
def test_times_of_any_unit(folder: Path, unit: str, rows: list[Row]) -> None:
    def told(seconds: int) -> str:
        if unit == "date":
            return str(np.datetime64(seconds, "s")).replace("T", " ")
        return str(seconds * 1000 ** ["seconds", "milliseconds", "microseconds", "nanoseconds"]
                   .index(unit))  # fmt: skip

    text = "\n".join(f"{u},{i},{r:g},{told(t)}" for u, i, r, t in rows)
    check(load_dataset(put(folder, "t.csv", text.encode())), rows)


@given(rows=tables(PLAIN), order=st.permutations(["user", "item", "rating", "time", "-"]))
@settings(max_examples=40, deadline=None)
def test_columns_in_any_order(folder: Path, rows: list[Row], order: list[str]) -> None:
    places = {"user": 0, "item": 1, "rating": 2, "time": 3}
    body = [
        ",".join("x" if role == "-" else f"{row[places[role]]}" for role in order) for row in rows
    ]
    bare = put(folder, "c.csv", "\n".join(body).encode())
    named = put(folder, "n.csv", "\n".join([",".join(map("{}!".format, order)), *body]).encode())
    by_number = ",".join(f"{role}={order.index(role) + 1}" for role in places)
    by_name = ",".join(f"{role}={role}!" for role in places)
    for path, said in ((bare, ",".join(order)), (bare, by_number), (named, by_name)):
        check(
            load_dataset(path, reading=ReadingOptions.of(columns=said, header=path == named)), rows
        )


@given(
    values=st.lists(st.integers(-20, 20), min_size=2, max_size=30, unique=True),
    step=st.sampled_from([0.25, 0.5, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_any_scale(folder: Path, values: list[int], step: float) -> None:
    rows = [(f"u{at}", "i", value * step, 10**9) for at, value in enumerate(values)]
    least, most = min(values) * step, max(values) * step
    path = put(folder, "s.csv", lines(rows, ","))
    check(load_dataset(path, reading=ReadingOptions.of(scale=f"{least}:{most}:{step}")), rows)


@given(rows=tables(PLAIN), more=st.booleans())
@settings(max_examples=20, deadline=None)
def test_archives(folder: Path, rows: list[Row], more: bool) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("ml/", "")
        archive.writestr("ml/ratings.csv", lines(rows, ",").decode())
        if more:
            archive.writestr("ml/movies.csv", "movieId,title\n1,Toy Story\n")
            archive.writestr("ml/README.txt", "about")
    check(load_dataset(put(folder, "ml.zip", made.getvalue())), rows)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_options_are_what_they_say(data: st.DataObject) -> None:
    said: dict[str, Any] = {
        "columns": data.draw(st.sampled_from([None, "user,item", ["user=1", "item=b"]])),
        "scale": data.draw(st.sampled_from([None, "1:5", "-10:10:continuous", "0.5:4:0.5"])),
        "drop_ratings": data.draw(st.sampled_from([None, "0,-1,99", 0, [1.5], "empty,0"])),
        "duplicates": data.draw(st.sampled_from([None, "latest", "refuse"])),
        "min_ratings": data.draw(st.sampled_from([None, 1, 5])),
        "separator": data.draw(st.sampled_from([None, "tab", ";", "::"])),
        "header": data.draw(st.sampled_from([None, "yes", False])),
    }
    options = ReadingOptions.of(**said)
    assert ReadingOptions.from_json(options.to_json()) == options
    assert ReadingOptions.of(**options.told()) == options
    assert bool(options) == any(value is not None for value in said.values())
