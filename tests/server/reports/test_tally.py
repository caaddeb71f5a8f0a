"""Reports, added up and kept."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import InputError, VicinalError
from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from common.wire.service import REPORT_KEY_SECONDS
from server.reports import tally as module
from server.reports.report import RandomizedAnswers, Receipt, Report
from server.reports.tally import MAX_KEY_LENGTH, STEP, Tally, measured_by
from tests.support.places import Place

ONE = Counts((1, 0), (1, 0), 1, 1, 1, 1)


def test_many_threads_and_repeated_keys_in_memory_add_up_to_each_key_once() -> None:
    with Tally(users=10, eligible=(9, 8)) as tally:
        add_from_many_threads(tally)


def test_many_threads_and_repeated_keys_add_up_to_each_key_once(place: Place) -> None:
    with place.tally(users=10, eligible=(9, 8)) as tally:
        add_from_many_threads(tally)


def add_from_many_threads(tally: Tally) -> None:
    keys = [str(number % 300) for number in range(1200)]
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda key: tally.add("v", "paper", key, ONE), keys))
    assert sum(counted) == 300
    assert tally.total("v", "paper") == (300, Counts((300, 0), (300, 0), 300, 300, 300, 300))
    assert tally.total("w", "paper") == (0, Counts.none(2))


def test_a_restart_keeps_sums_and_keys(place: Place) -> None:
    with place.tally(users=10, eligible=(9, 8)) as tally:
        assert tally.add("v", "paper", "key", ONE)
    with place.tally(users=10, eligible=(9, 8)) as again:
        assert not again.add("v", "paper", "key", ONE)
        assert again.add("v", "vicinal", "other", ONE)
        assert again.total("v", "paper") == again.total("v", "vicinal") == (1, ONE)


def test_what_waits_is_written_before_the_end_in_few_commits(place: Place) -> None:
    with place.tally(users=10, eligible=(9, 8)) as tally:
        held = threading.Event()
        tally._ask(lambda: held.wait(10))
        waiting = [tally.submit(Report("v", "p", str(number), ONE)) for number in range(500)]
        held.set()
        tally.close()
    assert all(future.result() for future in waiting)
    with place.tally(users=10, eligible=(9, 8)) as again:
        assert again.total("v", "p")[0] == 500
    with pytest.raises(VicinalError, match="closed"):
        tally.add("v", "p", "late", ONE)


def test_sums_of_other_settings_are_others(place: Place) -> None:
    settings = VicinalSettings(8, 0.1, 2)
    variants = [
        measured_by({"p": settings}, (3, 5), 50),
        measured_by({"p": replace(settings, neighbors=9)}, (3, 5), 50),
        measured_by({"p": settings}, (3, 6), 50),
        measured_by({"p": settings}, (3, 5), 10),
        measured_by({"p": settings}, (3, 5), 50, "book"),
    ]
    for number, measured in enumerate(variants):
        with place.tally(users=10, eligible=(9, 8), measured=measured) as tally:
            assert tally.total("v", "p") == (0, Counts.none(2))
            assert tally.add("v", "p", str(number), ONE)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts((10, 0), (0, 0), 10), "10 eligible users, but there are 9"),
        (Counts((0, 0), (0, 0), 11), "11 users, but there are 10"),
        (Counts((0,), (0,)), "1 watched items, not 2"),
    ],
)
def test_more_than_there_is_is_refused(counts: Counts, text: str) -> None:
    with Tally(users=10, eligible=(9, 8)) as tally:
        with pytest.raises(InputError, match=text):
            tally.add("v", "paper", "key", counts)
        assert tally.total("v", "paper")[0] == 0


@pytest.mark.parametrize("key", ["", "k" * (MAX_KEY_LENGTH + 1), "a\0b", "a\nb"])
def test_a_key_is_a_short_word(key: str) -> None:
    with Tally(users=1, eligible=()) as tally, pytest.raises(InputError, match="key"):
        tally.add("v", "paper", key, Counts.none(0))


def test_keys_are_kept_for_their_time_and_no_longer(place: Place) -> None:
    now = 0.0
    with place.tally(users=10, eligible=(9, 8), passed=lambda: now) as tally:
        assert tally.add("v", "p", "a", ONE)
        now += REPORT_KEY_SECONDS - 1
        assert not tally.add("v", "p", "a", ONE)
        now += 2
        # With the next report that is counted it is forgotten.
        assert tally.add("v", "p", "b", ONE)
        assert tally.add("v", "p", "a", ONE)
        assert tally.total("v", "p")[0] == 3


def test_the_number_of_keys_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    now = 0.0
    with place.tally(users=10, eligible=(9, 8), passed=lambda: now) as tally:
        for key in "abcde":
            now += 1
            assert tally.add("v", "p", key, ONE)
        assert tally.add("v", "p", "a", ONE)
        assert not tally.add("v", "p", "d", ONE)


def test_names_that_no_table_takes_are_of_nothing(place: Place) -> None:
    with place.tally(users=10, eligible=(9, 8)) as tally:
        assert tally.total("v\0", "p") == tally.total("v", "p\n") == (0, Counts.none(2))


def test_a_receipt_is_counted_once_and_a_report_that_fails_fails_alone(place: Place) -> None:
    now = int(time.time())
    first = Report("v", "p", "a", ONE, fresh=(Receipt(1, now, -(1 << 63)),))
    again = Report("v", "p", "b", ONE, fresh=first.fresh)
    stale = Report("v", "p", "c", ONE, stale=first.fresh)
    old = Report("v", "p", "d", ONE, fresh=(Receipt(1, now - REPORT_KEY_SECONDS - 9, 5),))
    with place.tally(users=10, eligible=(9, 8)) as tally:
        held = threading.Event()
        # All in one commit.
        tally._ask(lambda: held.wait(10))
        futures = [tally.submit(each) for each in (first, again, stale, old)]
        held.set()
        assert futures[0].result() and futures[2].result()
        for future, why in ((futures[1], "before"), (futures[3], "too old")):
            with pytest.raises(InputError, match=why):
                future.result()
        assert tally.total("v", "p")[0] == 2
    # One that failed has left nothing: its key is new.
    with place.tally(users=10, eligible=(9, 8)) as tally:
        assert tally.submit(Report("v", "p", "b", ONE)).result()


def test_shards_randomized_answers_and_what_is_published_are_kept(place: Place) -> None:
    answers = RandomizedAnswers(0.5, (0, 2), (1, 2))
    with place.tally(users=10, eligible=(9, 8)) as tally:
        for number in range(STEP):
            tally.submit(Report("v", "p", str(number), ONE, answers, shard=number % 3)).result()
        published = tally.submit_published("v", "p").result()
        sums = tally._ask(lambda: tally._file.sums(tally._whose("v", "p"))).result()
    assert published.reports == STEP and published.counts.users == STEP and not published.shards
    assert published.randomized == {0.5: (0, STEP, 0, 0, 0, 0, 0, 0, STEP)}
    assert {shard: reports for shard, (reports, _) in sums.shards.items()} == {0: 34, 1: 33, 2: 33}
    with place.tally(users=10, eligible=(9, 8)) as tally:
        assert tally.submit_published("v", "p").result() == published
        assert tally.latest == {("v", "p"): published}


def damaged_in_the_middle(path: Path) -> None:
    with Tally(users=10, eligible=(9, 8), path=path) as tally:
        for number in range(2000):
            tally.submit(Report("v", "p", f"{number:064}", ONE))
    data = bytearray(path.read_bytes())
    data[5000:60000] = b"\xa5" * 55000
    path.write_bytes(data)


def impossible_sum(path: Path) -> None:
    Tally(users=10, eligible=(9, 8), path=path).close()
    with sqlite3.connect(path) as database:
        values = ("v", "p", "", 1, "[[1],[2],0,0,0,0,0,0,0]")
        database.execute("INSERT INTO totals VALUES (?,?,?,?,?)", values)
    database.close()


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (a)")
    database.close()


def other_format(path: Path) -> None:
    Tally(users=10, eligible=(9, 8), path=path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 7")
    database.close()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda path: path.write_bytes(b"no database " * 1000), "not a database"),
        (lambda path: path.mkdir(), "unable to open"),
        (damaged_in_the_middle, "damaged|malformed"),
        (impossible_sum, "impossible counts"),
        (other_database, "not a tally"),
        (other_format, "format 7"),
    ],
)
def test_a_file_that_is_no_tally_is_refused_in_one_line(
    make: object, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(InputError, match=text) as refused:
        Tally(users=10, eligible=(9, 8), path=path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    assert "--tally" in str(refused.value)
    if make is other_database:
        assert path.read_bytes() == before


def test_a_file_that_cannot_be_written_counts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tally.sqlite"
    with Tally(users=10, eligible=(9, 8), path=path) as tally:
        assert tally.add("v", "p", "a", ONE)
        other = sqlite3.connect(path)
        other.execute("DROP TABLE keys")
        other.close()
        with pytest.raises(VicinalError, match="no such table"):
            tally.add("v", "p", "b", ONE)
        assert tally.total("v", "p") == (1, ONE)
