"""Ids, ratings and dates as programs and people spell them, and what stands above a table.

Each file is compared with what it says, pair by pair: nothing may be misread in silence.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.data.columns import by_names
from server.data.reading_options import ReadingOptions
from server.data.separators import opened
from tests.support.own_files import ROWS, codes, lines, meant, read, refusal, told

HEADER = "user,item,rating"
DAY_FIRST = "%d/%m/%Y"


# ---- quotes ----


@pytest.mark.parametrize(
    ("name", "form", "item"),
    [
        # An inch is no quote, at the end of a field neither.
        ("r.csv", '{u},{i}"|{r}', '{i}"'),
        ("r.csv", '{u},"{i} ""x"", y",{r}', '{i} "x", y'),
        # As MySQL writes quotes, and as programs write that put a blank behind commas.
        ("r.csv", '"{u}","{i}\\"x, y","{r}"', '{i}"x, y'),
        ("r.csv", '"{u}", "{i}, y", {r}', "{i}, y"),
        ("r.tsv", '{u}\t"{i}" x\t{r}', '"{i}" x'),
        ("r.tsv", '{u}\t"{i} ""x"""\t{r}', '{i} "x"'),
        ("r.tsv", '{u}\t"{i}\t{r}', '"{i}'),
    ],
)
def test_quotes_hold_fields_together_or_are_letters(
    tmp_path: Path, name: str, form: str, item: str
) -> None:
    head = "user,item,rating" if name == "r.csv" else "user\titem\trating"
    data = lines(form.replace("|", ","), head)
    assert told(read(tmp_path, name, data)) == meant(item=item)


def test_two_ids_stay_two_where_one_begins_with_a_quote(tmp_path: Path) -> None:
    data = lines("{u}\t{i}\t{r}", "x\tname\t3", 'x\t"name\t4')
    found = told(read(tmp_path, "r.tsv", data))
    assert found["x", "name"] == 3 and found["x", '"name'] == 4


def test_quotes_amid_fields_are_told_in_words(tmp_path: Path) -> None:
    text = refusal(tmp_path, "r.csv", lines('{u},a "b,c" {i},{r}', HEADER))
    assert "schema" not in text and ("quotes" in text or "wrong number of fields" in text)


@given(st.text("ab\"' \t", max_size=8))
def test_a_field_is_opened_only_whole(text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    assert opened(f" {quoted} ") == text
    plain = text.strip(" \t")
    if not (len(plain) > 1 and plain[0] == plain[-1] == '"'):
        assert opened(text) == plain


# ---- above the table ----


@pytest.mark.parametrize(
    "head",
    [
        "# user,item,rating",
        "#user,item,rating",
        "# made by hand\nuser,item,rating",
        "#made by hand\n#of ratings and users and items\nuser,item,rating",
        "// made by hand\nuser,item,rating",
        "% bip weighted\n%% 3 4\nuser,item,rating",
    ],
)
def test_comments_are_left_out_and_names_behind_them_are_not(tmp_path: Path, head: str) -> None:
    assert told(read(tmp_path, "r.csv", lines("{u},{i},{r}", head))) == meant()
    turned = head.replace("user,item,rating", "item,user,rating")
    assert told(read(tmp_path, "r.csv", lines("{i},{u},{r}", turned))) == meant()


@pytest.mark.parametrize("mark", ["%", "#"])
def test_an_id_that_begins_as_a_comment_is_an_id(tmp_path: Path, mark: str) -> None:
    data = lines(mark + "E5{u},{i},{r}")
    assert told(read(tmp_path, "r.csv", data)) == meant(user=mark + "E5{u}")


def test_many_comments_are_read_once(tmp_path: Path) -> None:
    # Each of them might name the columns: looking at all others for each would take hours.
    head = "\n".join(["#a,b,c", *["# user,item,rating"] * 200_000])
    assert told(read(tmp_path, "r.csv", lines("{u},{i},{r}", head.split("\n", 1)[1]))) == meant()
    assert told(read(tmp_path, "s.csv", lines("{u},{i},{r}", "#\n" * 200_000 + "#x"))) == meant()


def test_lines_above_are_skipped_when_that_is_said(tmp_path: Path) -> None:
    data = lines("{u},{i},{r}", "Export of ratings, all, of them, today", HEADER)
    assert "--skip-lines" in refusal(tmp_path, "r.csv", lines("{u},{i},{r}", "Export", HEADER))
    assert told(read(tmp_path, "r.csv", data, skip_lines=1)) == meant()
    assert "skip lines -1" in refusal(tmp_path, "r.csv", data, skip_lines=-1)


def test_matrix_market_has_a_line_of_sizes(tmp_path: Path) -> None:
    kind = "%%MatrixMarket matrix coordinate {} general\n% made by scipy\n5 5 5"
    data = lines("{u} {i} {r}", kind.format("integer"))
    assert told(read(tmp_path, "r.mtx", data)) == meant()
    for other in ("matrix array real general", "matrix coordinate real symmetric"):
        text = refusal(tmp_path, "r.mtx", lines("{u} {i} {r}", f"%%MatrixMarket {other}", "5 5 5"))
        assert "only `matrix coordinate" in text


@pytest.mark.parametrize(
    ("form", "head", "said"),
    [
        ("{u},{i},{r},", (), {}),
        ("{u},{i},{r},{t},", (), {}),
        ("{u},{i},{r},", (HEADER,), {}),
        ("{u}\t\t{i}\t\t{r}", (), {"separator": "tab"}),
        ("  {u} \t{i}   {r}\t{t}", (), {"separator": "space"}),
        ("{u} {i}\t{r} {t}", (), {}),
    ],
)
def test_separators_without_fields_are_nothing(
    tmp_path: Path, form: str, head: tuple[str, ...], said: dict[str, Any]
) -> None:
    name = "r.csv" if "," in form else "r.txt"
    assert told(read(tmp_path, name, lines(form, *head), **said)) == meant()


def test_marks_of_order_are_no_letters(tmp_path: Path) -> None:
    marked = "\ufeff\ufeff".encode() + lines("{u},{i},{r}", HEADER)
    assert told(read(tmp_path, "r.csv", marked)) == meant()


def test_nul_bytes_are_no_text(tmp_path: Path) -> None:
    assert "line 2: holds NUL bytes" in refusal(tmp_path, "r.csv", lines("{u}\0,{i},{r}", HEADER))


# ---- ratings ----


@pytest.mark.parametrize(
    ("spelled", "said", "factor"),
    [
        (["20%", "40 %", "60%", "80%", "100%"], {"scale": "20:100:20"}, 20),
        (["1/5", "2/5", "3 / 5", "4/5", "5/5"], {}, 1),
        (["1.0 out of 5 stars", "2 out of 5", "3/5", "4.0 out of 5 stars", "5/5"], {}, 1),
        (["1 star", "2 stars", "3 Stars", "4 stars", "5 stars"], {}, 1),
        (["bad", "weak", "Fair", "good", "best"],
         {"words": "bad=1,weak=2,fair=3,good=4,best=5"}, 1),
        (["1", "2", "3", "good", "5"], {"words": {"good": 4}}, 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_ratings_in_words(
    tmp_path: Path, name: str, spelled: list[str], said: dict[str, Any], factor: int
) -> None:
    rows = [(u, i, spelled[r - 1]) for u, i, r, _ in ROWS]
    if name == "r.csv":
        data = "\n".join([HEADER, *(f"{u},{i},{r}" for u, i, r in rows)]).encode()
    else:
        objects = [json.dumps({"user": u, "item": i, "rating": r}) for u, i, r in rows]
        data = "\n".join(objects).encode()
    expected = {pair: factor * stars for pair, stars in meant().items()}
    assert told(read(tmp_path, name, data, **said)) == expected


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_true_and_false_are_1_and_0(tmp_path: Path, name: str) -> None:
    if name == "r.csv":
        rows = [f"{u},{i},{r > 2}" for u, i, r, _ in ROWS]
        data = "\n".join([HEADER, *rows]).encode()
    else:
        data = "\n".join(
            json.dumps({"user": u, "item": i, "rating": r > 2}) for u, i, r, _ in ROWS
        ).encode()
    assert "--scale 0:1:1" in refusal(tmp_path, name, data)
    found = read(tmp_path, name, data, scale="0:1:1")
    assert told(found) == {pair: float(stars > 2) for pair, stars in meant().items()}
    assert found.notes[0] == "ratings are true, 1, or false, 0"


@pytest.mark.parametrize("wrong", ["up", "up=", "=1", "up=nan"])
def test_words_need_numbers(tmp_path: Path, wrong: str) -> None:
    assert "write WORD=NUMBER" in refusal(tmp_path, "r.csv", lines("{u},{i},up"), words=wrong)
    text = refusal(tmp_path, "r.csv", lines("{u},{i},down"), words="up=1")
    assert "'down' is not a finite number (--drop-ratings empty, --words)" in text


def test_json_may_lack_ratings_or_call_them_null(tmp_path: Path) -> None:
    ratings: list[dict[str, Any]] = [{"rating": None}, {}, *({"rating": n} for n in range(1, 6))]
    rows: list[dict[str, Any]] = [
        {"user": u, "item": i, **ratings[(u + i) % 7]} for u, i, *_ in ROWS[1:]
    ]
    rows.insert(0, {"user": 0, "item": 1, "rating": None})
    data = "\n".join(map(json.dumps, rows)).encode()
    assert "line 1: rating None is not a finite number" in refusal(tmp_path, "r.json", data)
    found = told(read(tmp_path, "r.json", data, drop_ratings="empty"))
    assert found == {
        (str(row["user"]), str(row["item"])): row["rating"] for row in rows if row.get("rating")
    }


# ---- ids ----


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_whole_numbers_with_a_fraction_of_nothing_are_whole(tmp_path: Path, name: str) -> None:
    data = lines("{u}.0,{i},{r}", HEADER)
    if name == "r.jsonl":
        data = lines('{{"user":{u}.0,"item":{i},"rating":{r}}}')
    assert told(read(tmp_path, name, data)) == meant()
    # Where only some are written so, nothing is done.
    assert codes(read(tmp_path, "s.csv", data[:0] + lines("{u}.0,{i},{r}", HEADER, "7,99,3"))) == [
        "alike-ids"
    ]


def test_single_quotes_around_all_ids_are_quotes(tmp_path: Path) -> None:
    assert told(read(tmp_path, "r.csv", lines("'{u}','{i}',{r}", HEADER))) == meant()


@pytest.mark.parametrize("none", ["NULL", "NA", "\\N", "nan", ""])
def test_who_is_nobody_can_be_left_out(tmp_path: Path, none: str) -> None:
    data = lines("{u},{i},{r}", HEADER, f"{none},1,5", f"{none},2,5")
    if none:
        found = read(tmp_path, "r.csv", data)
        assert "missing-ids" in codes(found) and any(none in each.text for each in found.doubts)
        again = refusal(tmp_path, "s.csv", data + f"{none},1,4\n".encode())
        assert f"--drop-ids {none}" in again
    else:
        assert "the user is missing (--drop-ids empty" in refusal(tmp_path, "r.csv", data)
    found = read(tmp_path, "r.csv", data, drop_ids=none or "empty")
    assert told(found) == meant() and codes(found) == []
    assert "no rating is left" in refusal(
        tmp_path, "t.csv", f"{HEADER}\n{none},1,5\n{none},2,5\n".encode(),
        drop_ids=none or "empty",
    )  # fmt: skip


def test_rounded_ids_are_doubted(tmp_path: Path) -> None:
    assert "rounded-ids" in codes(read(tmp_path, "r.csv", lines("1.{u:02}E+11,{i},{r}", HEADER)))


@pytest.mark.parametrize(
    ("names", "user"),
    [
        (["user_name", "user_id", "item_id", "rating"], 1),
        (["movie", "movie_id", "customer", "score"], 2),
    ],
)
def test_a_name_beside_an_id_is_no_second_one(names: list[str], user: int) -> None:
    assert by_names(names, "x", ReadingOptions()).positions["user"] == user


def test_two_columns_of_one_name_are_told_by_number(tmp_path: Path) -> None:
    data = lines("{u},{i},{r},9", "user,item,rating,rating")
    assert "--columns rating=3,…" in refusal(tmp_path, "r.csv", data)
    assert told(read(tmp_path, "r.csv", data, columns="user=1,item=2,rating=3")) == meant()


# ---- dates ----


def dated(form: str) -> bytes:
    return "\n".join(
        ["user,item,rating,date"]
        + [f'{u},{i},{r},"{datetime.fromtimestamp(t, UTC).strftime(form)}"' for u, i, r, t in ROWS]
    ).encode()


@pytest.mark.parametrize(
    "form",
    [
        "%d.%m.%Y",
        "%d.%m.%Y %H:%M:%S",
        "%d.%m.%y %H:%M:%S",
        DAY_FIRST,
        "%m/%d/%Y",
        "%m/%d/%Y %I:%M:%S %p",
        "%m/%d/%y",
        "%d-%m-%Y",
        "%d %b %Y",
        "%Y-%m-%d %H:%M:%S UTC",
        "%a, %d %b %Y %H:%M:%S +0000",
    ],
)
def test_dates_of_other_countries(tmp_path: Path, form: str) -> None:
    found = read(tmp_path, "r.csv", dated(form))
    assert found.timestamps is not None
    short = 1 if "%S" in form else 86_400
    assert found.timestamps.tolist() == [t // short * short for *_, t in ROWS]


def test_a_day_that_may_be_a_month_is_asked_for(tmp_path: Path) -> None:
    data = b"user,item,rating,date\na,b,3,03/04/2015\na,c,4,05/06/2015\n"
    text = refusal(tmp_path, "r.csv", data)
    assert "03/04/2015 may begin with the day or with the month: give --time-unit day-first" in text
    for unit, month in (("day-first", 4), ("month-first", 3)):
        found = read(tmp_path, "r.csv", data, time_unit=unit)
        assert found.timestamps is not None
        first = datetime.fromtimestamp(int(found.timestamps[0]), UTC)
        assert (first.month, first.day) == (month, 7 - month)
