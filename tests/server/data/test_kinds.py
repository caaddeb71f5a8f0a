"""Files under names that say something else, folders of them, and what is no file of ratings."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from server.data.databases import table_of, without_secrets
from server.data.datasets import load_dataset
from server.data.magic import packing_of
from tests.support.own_files import ROWS, lines, meant, read, refusal, told

CSV = lines("{u},{i},{r}", "user,item,rating")
JSON = lines('{{"user":{u},"item":{i},"rating":{r}}}')
FRAME = pl.DataFrame(
    {"user": [r[0] for r in ROWS], "item": [r[1] for r in ROWS], "rating": [r[2] for r in ROWS]}
)


def zipped(**members: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return written.getvalue()


def tarred() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        info = tarfile.TarInfo("ratings.csv")
        info.size = len(CSV)
        archive.addfile(info, io.BytesIO(CSV))
    return written.getvalue()


def stream() -> bytes:
    written = io.BytesIO()
    FRAME.write_ipc_stream(written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("plain.csv.gz", CSV),
        ("packed.csv", gzip.compress(CSV)),
        ("zip.csv", zipped(ratings=CSV)),
        ("json.csv", JSON),
        ("csv.json", CSV),
        ("stream.arrows", stream()),
        ("stream.bin", stream()),
    ],
)
def test_a_file_is_what_it_holds(tmp_path: Path, name: str, data: bytes) -> None:
    assert told(read(tmp_path, name, data)) == meant()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("r.csv", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page"),
        ("r.csv", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("r.csv", b"SQLite format 3\x00" + bytes(100), "sqlite:///PATH?table=NAME"),
        ("r.db", b"x", "sqlite:///PATH?table=NAME"),
        ("r.csv", tarred(), "is a tar archive"),
        ("r.tar.gz", gzip.compress(tarred()), "is a tar archive: unpack it"),
        ("r.tgz", gzip.compress(CSV), "unpack it first"),
        ("r.csv", zipped(**{"[Content_Types].xml": b"<x/>"}), "save it as csv"),
        ("r.xlsx", b"x", "save it as csv"),
        ("r.pkl", b"\x80\x04\x95", "a pickle, which is never opened"),
        ("r.npz", b"x", "vicinal.load"),
        ("r.json", json.dumps({"user": {"0": 1}, "item": {"0": 2}, "rating": {"0": 3}}).encode(),
         "--fields, as user=user.0"),
        ("r.json", json.dumps({"user": [1], "item": [2], "rating": [3]}).encode(), "lines=True"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_ratings_says_what_to_do(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    assert message in refusal(tmp_path, name, data)


@given(st.binary(max_size=64), st.sampled_from(["", ".gz", ".xz", ".csv"]))
def test_any_bytes_are_packed_somehow(first: bytes, suffix: str) -> None:
    found = packing_of(first, suffix)
    assert found in ("", suffix, ".gz", ".xz", ".bz2", ".zst", ".zip")
    assert packing_of(gzip.compress(first), suffix) == ".gz"


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [(a_pipe, "is no regular file"), (a_link, "a link to nothing"), (a_loop, "a link to nothing")],
)
def test_what_is_there_and_no_file(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "r.csv")
    with pytest.raises(InputError, match=message):
        load_dataset(str(tmp_path / "r.csv"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("https://example.org/ratings.csv", "nothing is fetched from addresses: download"),
        ("s3://bucket/ratings.csv", "nothing is fetched from addresses: download"),
        ("file:///tmp/r.csv", "give the path alone: /tmp/r.csv"),
        ("mysql://ann:secret@host/db?table=t", "mysql: databases are postgresql://"),
    ],
)
def test_addresses_are_told_as_such(spec: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(spec)
    assert message in str(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("word", ["password", "PASSWORD", "pass%77ord", "%70assword", "passwor%64"])
def test_a_password_is_hidden_however_it_is_spelled(word: str) -> None:
    spec = f"postgresql://ann@127.0.0.1/db?table=t&{word}=hush"
    assert "hush" not in without_secrets(spec)
    with pytest.raises(InputError, match="a password here would stand") as caught:
        table_of(spec)
    assert "hush" not in str(caught.value)


def test_three_slashes_of_an_absolute_path_are_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "r.db").write_bytes(b"")
    with pytest.raises(InputError, match="has four slashes"):
        table_of(f"sqlite:///{str(tmp_path)[1:]}/r.db?table=t")


# ---- folders ----


def test_parts_of_a_text_are_one_data_set(tmp_path: Path) -> None:
    for part in range(3):
        (tmp_path / f"part-0000{part}-c000.csv").write_bytes(
            lines("{u},{i},{r}", "user,item,rating", rows=ROWS[part::3])
        )
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / ".part-00000.crc").touch()
    found = load_dataset(str(tmp_path))
    assert told(found) == meant() and found.notes[0] == "3 files of one data set"
    (tmp_path / "part-00001-c000.csv").write_text("user,item,rating\n1,2,x\n")
    with pytest.raises(InputError, match=r"/part-00001-c000.csv line 2: rating 'x'"):
        load_dataset(str(tmp_path))
    (tmp_path / "part-00001-c000.csv").write_text("user,item,rating,time\n1,2,3,1400000000\n")
    with pytest.raises(InputError, match=r"part-00001-c000.csv has other columns than part-00000"):
        load_dataset(str(tmp_path))
    # Files of different tables are not thrown together.
    (tmp_path / "movies.csv").write_text("movieId,title\n1,x\n")
    with pytest.raises(InputError, match="is a folder, not a rating file"):
        load_dataset(str(tmp_path))


def test_a_row_of_a_part_is_named_with_its_file(tmp_path: Path) -> None:
    for part in (1, 2):
        (tmp_path / f"r{part}.csv").write_text(f"user,item,rating\na,b,{part}\n")
    with pytest.raises(InputError, match=r"/r2.csv line 2: duplicate pair: .* on line 2 already"):
        load_dataset(str(tmp_path))


def test_folders_named_by_ids_keep_their_zeros(tmp_path: Path) -> None:
    for user in ("007", "7"):
        (tmp_path / f"user={user}").mkdir()
        FRAME.filter(pl.col("user") == 7).drop("user").write_parquet(
            tmp_path / f"user={user}" / "0.parquet"
        )
    found = told(load_dataset(str(tmp_path)))
    assert {user for user, _ in found} == {"007", "7"}


def test_parquet_files_of_a_folder_may_differ(tmp_path: Path) -> None:
    FRAME[:50].write_parquet(tmp_path / "a.parquet")
    other = FRAME[50:].with_columns(pl.col("rating").cast(pl.Float32), pl.lit(1).alias("more"))
    other.select("more", "rating", "item", "user").write_parquet(tmp_path / "b.parquet")
    assert told(load_dataset(str(tmp_path))) == meant()
    FRAME.drop("item").write_parquet(tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"one of the files has no column 'item'"):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        pl.col("user").cast(pl.Float64),
        pl.col("user").cast(pl.String).cast(pl.Binary),
        pl.col("rating").cast(pl.String),
        pl.col("rating").cast(pl.Decimal(4, 2)),
        pl.col("user").cast(pl.String).cast(pl.Categorical),
    ],
)
def test_types_of_other_writers(tmp_path: Path, change: pl.Expr) -> None:
    FRAME.with_columns(change).write_parquet(tmp_path / "r.parquet")
    assert told(load_dataset(str(tmp_path / "r.parquet"))) == meant()


def test_ids_with_fractions_are_none(tmp_path: Path) -> None:
    FRAME.with_columns(pl.col("user") + 0.5).write_parquet(tmp_path / "r.parquet")
    with pytest.raises(InputError, match="'user' has fractions, which are no ids"):
        load_dataset(str(tmp_path / "r.parquet"))


# ---- a line a user ----


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("none", ["", "NA", "0"])
def test_a_matrix_of_users_by_items(tmp_path: Path, ids: bool, none: str) -> None:
    stars = {(u, i): str(r) for u, i, r, _ in ROWS}
    users, items = sorted({u for u, _ in stars}), sorted({i for _, i in stars})
    rows = [[stars.get((u, i), none) for i in items] for u in users]
    if ids:
        rows = [["", *(f"item {i}" for i in items)]] + [
            [f"user {u}", *row] for u, row in zip(users, rows, strict=True)
        ]
    data = "\n".join(",".join(row) for row in rows).encode()
    said = {"drop_ratings": "0"} if none == "0" else {}
    found = read(tmp_path, "m.csv", data, format="matrix", **said)
    assert told(found) == (meant("user {u}", "item {i}") if ids else meant())
    if none == "0":
        assert "--drop-ratings 0" in refusal(tmp_path, "m.csv", data, format="matrix")


def test_a_matrix_of_decimal_commas(tmp_path: Path) -> None:
    stars = {(u, i): f"{r},0" for u, i, r, _ in ROWS}
    users, items = sorted({u for u, _ in stars}), sorted({i for _, i in stars})
    rows = [["user", *map(str, items)]]
    rows += [[str(u), *(stars.get((u, i), "") for i in items)] for u in users]
    data = "\r\n".join(";".join(row) for row in rows).encode()
    assert told(read(tmp_path, "m.csv", data, format="matrix")) == meant()


def test_a_matrix_of_uneven_rows_is_refused(tmp_path: Path) -> None:
    text = refusal(tmp_path, "m.csv", b"user,a,b\nx,1,2\ny,1,2,3,4\n", format="matrix")
    assert "m.csv" in text and "Traceback" not in text
    wide = ",".join(map(str, range(30)))
    assert "--format matrix, or jester" in refusal(tmp_path, "w.csv", f"{wide}\n{wide}\n".encode())


def test_lists_of_items(tmp_path: Path) -> None:
    data = b"".join(
        f"{user} {' '.join(str(i) for u, i, *_ in ROWS if u == user)}\n".encode()
        for user in sorted({u for u, *_ in ROWS})
    )
    found = read(tmp_path, "train.txt", data + b"99\n", format="lightgcn")
    assert told(found) == dict.fromkeys(meant(), 1.0)
    assert "1 users without items are left out" in found.notes
    assert "no lines of a user" in refusal(tmp_path, "e.txt", b"1\n2\n", format="lightgcn")
    text = refusal(tmp_path, "s.txt", data, format="lightgcn", scale="1:5:1")
    assert "have no ratings: leave out --scale" in text
