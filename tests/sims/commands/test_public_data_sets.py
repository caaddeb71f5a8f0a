"""Every row of the table of public data sets: its command, run on a sample in that layout."""

import bz2
import gzip
import io
import json
import re
import shlex
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from server.data.datasets import KNOWN
from sims.cli import run
from tests.support.own_files import ITEMS, ROWS, USERS, crossing, lines

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "own-data.md"
MOVIELENS = lines("{u},{i},{r}.0,{t}", "userId,movieId,rating,timestamp")
IMPLICIT: Final = 1.0
STARS: Final = sum(r for *_, r, _ in ROWS) / len(ROWS)


def packed(folder: str, **members: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{folder}/{name}.csv", data)
    return written.getvalue()


def of_objects(make: Callable[[int, int, int, int], Any], shown: Callable[[Any], str]) -> bytes:
    return "\n".join(shown(make(*row)) for row in ROWS).encode()


def dated(form: str, *head: str, day: str = "%Y-%m-%d") -> bytes:
    """{d} is the day."""
    body = [
        form.format(u=u, i=i, r=r, t=t, d=datetime.fromtimestamp(t, UTC).strftime(day))
        for u, i, r, t in ROWS
    ]
    return "\n".join([*head, *body, ""]).encode()


def of_lists(*, tested: bool) -> bytes:
    """A user's last item is tested, the others are not."""
    found = []
    for user in range(USERS):
        items = [i for u, i, *_ in ROWS if u == user]
        found.append([user, *(items[-1:] if tested else items[:-1])])
    return "\n".join(" ".join(map(str, row)) for row in found).encode()


def netflix() -> bytes:
    body = b""
    for item in range(ITEMS):
        body += f"{item}:\n".encode()
        body += lines("{u},{r},2005-09-06", rows=[row for row in ROWS if row[1] == item])
    return body


def jester() -> bytes:
    rows = []
    for user in range(USERS):
        stars = {i: r for u, i, r, _ in ROWS if u == user}
        rows.append([len(stars), *(float(stars.get(i, 99)) for i in range(ITEMS))])
    return "\n".join(",".join(map(str, row)) for row in rows).encode()


def matrix() -> bytes:
    rows = [["user", *(f"item {i}" for i in range(ITEMS))]]
    for user in range(USERS):
        stars = {i: r for u, i, r, _ in ROWS if u == user}
        rows.append([str(user), *(str(stars.get(i, "")) for i in range(ITEMS))])
    return "\n".join(",".join(row) for row in rows).encode()


AMAZON = (
    '{{"reviewerID":"A{u}","asin":"B{i}","reviewerName":"x","overall":{r}.0,"unixReviewTime":{t}}}'
)
AMAZON_23 = (
    '{{"rating":{r}.0,"asin":"v{i}","parent_asin":"B{i}","user_id":"A{u}","timestamp":{t}123}}'
)
GOODREADS = (
    '{{"user_id":"{u}","book_id":"{i}","rating":{r},"date_added":"Sun Jul 30 07:44:10 -0700 2017"}}'
)
YELP = (
    '{{"review_id":"x","user_id":"{u}","business_id":"{i}","stars":{r}.0,'
    '"date":"2018-07-07 22:09:11"}}'
)
STEAM = (
    "{{'username': '{u}', 'product_id': '{i}', 'hours': {r}.0, 'date': '2017-03-17', "
    "'text': \"it's\"}}"
)
# What each sample of the table holds; a folder is a dict of files.
SAMPLES: Final[dict[str, Any]] = {
    "ml-25m.zip": packed("ml-25m", ratings=MOVIELENS, movies=b"movieId,title\n1,x\n", tags=b"a\n"),
    "ml-latest-small.zip": packed("ml-latest-small", ratings=MOVIELENS, links=b"movieId\n1\n"),
    "user_ratedmovies-timestamps.dat": lines(
        "{u}\t{i}\t{r}\t{t}000", "userID\tmovieID\trating\ttimestamp"
    ),
    "All_Beauty.csv.gz": gzip.compress(
        lines("A{u},B{i},{r}.0,{t}123", "user_id,parent_asin,rating,timestamp")
    ),
    "All_Beauty.jsonl.gz": gzip.compress(lines(AMAZON_23)),
    "Books.csv": lines("B{i},A{u},{r}.0,{t}"),
    "reviews_Books_5.json.gz": gzip.compress(lines(AMAZON)),
    "ratings_Books.csv": lines("A{u},B{i},{r}.0,{t}"),
    "goodreads_interactions.csv": lines(
        "{u},{i},1,{r},0", "user_id,book_id,is_read,rating,is_reviewed", "0,99,1,0,0"
    ),
    "goodreads_reviews.json.gz": gzip.compress(lines(GOODREADS)),
    "goodbooks-10k.zip": packed(
        "goodbooks-10k",
        ratings=lines("{u},{i},{r}", "user_id,book_id,rating"),
        books=b"book_id,title\n1,x\n",
    ),
    "BX-Book-Ratings.csv": crossing() + b'"7";"99";"0"\r\n',
    "usersha1-artmbid-artname-plays.tsv": lines('{u}\t\tThe "{i}" band\t{t}'),
    "userid-timestamp-artid-artname-traid-traname.tsv": lines(
        "user_{u}\t2009-05-04T23:08:57Z\t\tartist {i}\t\ttrack {n}"
    ),
    "user_artists.dat": lines("{u}\t{i}\t{t}", "userID\tartistID\tweight"),
    "netflix-prize": {"combined_data_1.txt": netflix(), "movie_titles.csv": b"1,2003,x\n"},
    "combined_data_1.txt": netflix(),
    "ratings.csv": lines('"{n}",{u},{i},{r}', "user,item,rating"),
    "steam_reviews.json.gz": gzip.compress(lines(STEAM)),
    "steam-200k.csv": lines('{u},"Game {i}, the",purchase,1.0,0')
    + lines('{u},"Game {i}, the",play,{r}.5,0'),
    "recommendations.csv": "\n".join(
        ["app_id,helpful,funny,date,is_recommended,hours,user_id,review_id"]
        + [f"{i},0,0,2022-12-12,{str(r > 2).lower()},1.5,{u},{t}" for u, i, r, t in ROWS]
    ).encode(),
    "jester-data-1.csv": jester(),
    "jester_ratings.dat": lines("{u}\t\t{i}\t\t{r}.250"),
    "yelp_academic_dataset_review.json": lines(YELP),
    "film-ratings.txt": lines("{u} {i} {r}").replace(b" 5\n", b" 0.5\n"),
    "movie-ratings.txt": dated("{u},{i},3,{t},{r},{d}"),
    "ratings_data.txt.bz2": bz2.compress(lines("{u} {i} {r}")),
    "RAW_interactions.csv": lines(
        '{u},{i},2003-02-17,{r},"good, ""really""\n!"',
        "user_id,recipe_id,date,rating,review",
        "0,99,2003-02-17,0,bad",
    ),
    "out.epinions": lines("{u} {i} {r} {t}", "% bip weighted posweighted", "% 180 30 12"),
    "DMSC.csv": dated(
        "{t},film {i},4,user {u},{d},{r},很好，看,5",
        "ID,Movie_Name_CN,Number,Username,Date,Star,Comment,Like",
    ),
    "ml-20m.inter": lines(
        "{u}\t{i}\t{r}\t{t}", "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    ),
    "train.txt": of_lists(tested=False),
    "test.txt": of_lists(tested=True),
    "Gowalla_totalCheckins.txt.gz": gzip.compress(
        lines("{u}\t2010-10-19T23:55:27Z\t30.2\t-97.7\t{i}")
    ),
    "dataset_TSMC2014_NYC.txt": dated(
        "{u}\t{i}\t4bf\tArts & Crafts\t40.7\t-74.0\t-240\t{d}", day="%a %b %d %H:%M:%S +0000 %Y"
    ),
    "events.csv": lines("{t}000,{u},view,{i},", "timestamp,visitorid,event,itemid,transactionid"),
    "ratebeer.json.gz": gzip.compress(
        of_objects(
            lambda u, i, r, t: {
                "review/overall": f"{r}/20",
                "beer/beerId": str(i),
                "review/profileName": f"u{u}",
                "review/time": str(t),
            },
            repr,
        )
    ),
    "review-Alaska.json.gz": gzip.compress(
        lines(
            '{{"user_id":"{u}","name":"x","time":{t}123,"rating":{r},"gmap_id":"{i}"}}',
            '{"user_id":"0","name":"x","time":1600000000123,"rating":null,"gmap_id":"99"}',
        )
    ),
    "rating.csv": lines("{u},{i},{r}", "user_id,anime_id,rating", "0,99,-1"),
    "tweets.dat": lines("{u}::{i:07}::{r}::{t}"),
    "online-retail.csv": dated(
        '5{t},S{i},"MUG, RED",{r},{d},2.5,{u},United Kingdom',
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
        "536,S99,MUG,1,12/01/2010 8:26,2.5,,United Kingdom",
        day="%m/%d/%Y %H:%M",
    ),
    "matrix.csv": matrix(),
    "ratings.mtx": lines(
        "{u} {i} {r}", "%%MatrixMarket matrix coordinate integer general", "%", "30 12 180"
    ),
    "u1.base": lines("{u}\t{i}\t{r}\t{t}", rows=[row for n, row in enumerate(ROWS) if n % 6]),
    "u1.test": lines("{u}\t{i}\t{r}\t{t}", rows=ROWS[::6]),
}  # fmt: skip
# Where ratings are no stars of 1–5, their mean as `describe` says it.
MEANS: Final = {
    **dict.fromkeys(
        ("usersha1-artmbid-artname-plays.tsv", "user_artists.dat", "steam_reviews.json.gz",
         "userid-timestamp-artid-artname-traid-traname.tsv", "steam-200k.csv", "train.txt",
         "Gowalla_totalCheckins.txt.gz", "dataset_TSMC2014_NYC.txt", "events.csv",
         "online-retail.csv"),
        IMPLICIT,
    ),
    "recommendations.csv": sum(r > 2 for *_, r, _ in ROWS) / len(ROWS),
    "jester_ratings.dat": STARS + 0.2,
    "film-ratings.txt": sum(r if r < 5 else 0.5 for *_, r, _ in ROWS) / len(ROWS),
}  # fmt: skip


def commands() -> list[tuple[str, str]]:
    """Each row's name and its commands; of several files, one each."""
    text = PAGE.read_text("utf-8").split("## Public data sets")[1].split("\n## ")[0]
    found = []
    for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE):
        title, _, cell = row.partition(" | ")
        spans = re.findall(r"`([^`]+)`", cell)
        for span in spans:
            command = span if span.startswith("vicinal ") else None
            if command is None and spans[0].startswith("vicinal "):
                command = " ".join([*spans[0].split()[:3], span, *spans[0].split()[4:]])
            if command is not None:
                found.append((title, command))
    return found


@pytest.mark.parametrize(("title", "command"), commands())
def test_the_command_of_a_row_reads_such_a_file(
    title: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(command)
    name = words[3]
    if name in KNOWN:
        return
    monkeypatch.chdir(tmp_path)
    for each in (word for word in words if word in SAMPLES):
        sample = SAMPLES[each]
        if isinstance(sample, dict):
            Path(each).mkdir()
            for file, data in sample.items():
                Path(each, file).write_bytes(data)
        else:
            Path(each).write_bytes(sample)
    assert run([*words[1:], "--json"]) == 0, capsys.readouterr().err
    said = json.loads(capsys.readouterr().out)
    assert (said["users"], said["items"]) == (USERS, ITEMS), title
    if name != "u1.base":
        assert said["ratings"] == len(ROWS)
        assert said["mean"] == pytest.approx(MEANS.get(name, STARS), abs=0.001)
    # What stands in the user's column, and not in the item's.
    ids = {re.sub(r"\D", "", each) for each in said["first_users"]}
    assert ids <= {str(u) for u in range(USERS)} and len(ids) == len(said["first_users"])
    doubts = {each["code"] for each in said["warnings"]}
    assert doubts <= {"unused-top", "constant-ratings", "odd-times"}, said["warnings"]


def test_every_row_has_a_command() -> None:
    rows = re.findall(r"^\| .+ \|$", PAGE.read_text("utf-8").split("## Files")[0], re.MULTILINE)
    assert len({title for title, _ in commands()}) == len(rows) - 1 > 35
