"""Reports with randomized answers, and what a tally keeps of them; keys and receipts that go."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.ranking import Counts
from common.wire import offload_pb2 as wire
from common.wire.service import REPORT_KEY_SECONDS
from server.reports import tally as module
from server.reports.reading import read_counts, read_tally
from server.reports.report import (
    RandomizedAnswers,
    Receipt,
    Report,
    ReportRefusedError,
    checked_report,
)
from server.reports.sums import Sums, sums_from_text, sums_from_wire, sums_text, sums_to_wire
from server.reports.tally import SHARD_STEP, STEP, Tally
from tests.support.receipts import receipt

ONE = Counts((1, 1), (0, 1), 1, 1, on_device=1)
FRESH = [receipt(1), receipt(2)]


def randomized(**changes: Any) -> wire.ReportRequest:
    parts: dict[str, Any] = {"epsilon": 1.0, "questions": [0, 2], "answers": [2, 1]} | changes
    return wire.ReportRequest(version="v", preset="p", key="k", randomized=wire.Randomized(**parts))


@given(hundredths=st.integers(10, 1000))
def test_randomized_answers_are_taken_with_every_epsilon_of_hundredths(hundredths: int) -> None:
    report = checked_report(randomized(epsilon=hundredths / 100), FRESH, (), allowed=None)
    assert report.randomized == RandomizedAnswers(hundredths / 100, (0, 2), (2, 1))
    # It may say how users were answered, and must then be right.
    told = randomized(epsilon=hundredths / 100)
    told.counts.on_device = 2
    assert checked_report(told, FRESH, (), allowed=None).counts.on_device == 2
    told.counts.on_device = 1
    with pytest.raises(ReportRefusedError, match="1 fresh"):
        checked_report(told, FRESH, (), allowed=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": 0.0},
        {"epsilon": 0.05},
        {"epsilon": 10.1},
        {"epsilon": float("nan")},
        {"epsilon": float("inf")},
        {"epsilon": 1e308},
        {"epsilon": -1.0},
        {"epsilon": 1.00001},
        {"answers": [3, 0]},
        {"answers": [0]},
        {"questions": [0]},
        {"questions": [0, 1, 2], "answers": [0, 1, 2]},
        {"questions": [], "answers": []},
    ],
)
def test_randomized_answers_that_nobody_can_have_given(changes: dict[str, Any]) -> None:
    with pytest.raises(ReportRefusedError) as refused:
        checked_report(randomized(**changes), FRESH, (), allowed=None)
    assert refused.value.reason == "randomized"


def answers(key: str, shard: int = 0, epsilon: float = 1.0) -> Report:
    given_ = RandomizedAnswers(epsilon, (0, 2), (2, 1))
    return Report("v", "p", key, Counts((), ()), given_, (receipt(1), receipt(2)), shard=shard)


def test_randomized_answers_are_summed_by_epsilon_and_published_in_steps(tmp_path: Path) -> None:
    with Tally(users=10, eligible=(9, 8), path=tmp_path / "t") as tally:
        for number in range(STEP):
            assert tally.submit_published("v", "p").result() == Sums.none(2)
            epsilon = 1.0 if number % 2 else 2.5
            assert tally.submit(answers(str(number), epsilon=epsilon)).result()
        half = (0, 0, 50, 0, 0, 0, 0, 50, 0)
        published = tally.submit_published("v", "p").result()
        assert published == Sums(STEP, Counts.none(2), {}, {1.0: half, 2.5: half})
        assert tally.latest == {("v", "p"): published}
        with pytest.raises(ReportRefusedError, match="questions are 0–2"):
            beyond = RandomizedAnswers(1.0, (3,), (0,))
            tally.submit(Report("v", "p", "x", Counts((), ()), beyond, (receipt(1),)))
    with Tally(users=10, eligible=(9, 8), path=tmp_path / "t") as again:
        assert again.latest == {("v", "p"): published}
    assert read_counts(tmp_path / "t", "v", "p") == (STEP, Counts.none(2))


def test_shards_are_told_from_a_hundred_reports_each_on() -> None:
    with Tally(users=10, eligible=(9, 8)) as tally:
        jobs = [
            tally.submit(Report("v", "p", str(number), ONE, shard=number % 32))
            for number in range(SHARD_STEP + STEP)
        ]
        assert all(job.result() for job in jobs)
        told = tally.submit_published("v", "p").result()
    assert told.reports == SHARD_STEP + STEP
    assert [reports for reports, _ in told.shards.values()] == [STEP] * 32


@given(
    reports=st.integers(0, 2**62),
    numbers=st.lists(st.integers(0, 2**40), min_size=6, max_size=6),
    shards=st.dictionaries(st.integers(0, 31), st.integers(1, 2**40)),
)
def test_sums_come_back_from_text_and_from_the_wire(
    reports: int, numbers: list[int], shards: dict[int, int]
) -> None:
    users, hits, *_ = sorted(numbers, reverse=True)
    counts = Counts((users,), (hits,), users, hits, on_device=numbers[0])
    sums = Sums(
        reports,
        counts,
        {shard: (count, counts) for shard, count in sorted(shards.items())},
        {0.5: tuple(numbers)},
    )
    assert sums_from_text(sums_text(sums)) == sums
    assert sums_from_wire(sums_to_wire(sums)) == sums


def rows(tally: Tally) -> tuple[int, int, int, int]:
    """Keys and receipts that are remembered, and how many the file believes there are."""

    def ask() -> tuple[int, int, int, int]:
        database = tally._file._sql
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("keys", "spent")
        ]
        state = tally._file.state()
        return counts[0], counts[1], state.keys, state.spent

    found: tuple[int, int, int, int] = tally._ask(ask).result()
    return found


def spending(number: int, issued: float) -> Report:
    return Report("v", "p", str(number), ONE, fresh=(Receipt(1, int(issued), number),))


def test_what_is_old_goes_in_pieces_with_every_report(tmp_path: Path) -> None:
    passed = 0.0
    with Tally(users=10, eligible=(9, 8), path=tmp_path / "t", passed=lambda: passed) as tally:
        for job in [tally.submit(spending(number, tally.now())) for number in range(1000)]:
            assert job.result()
        assert rows(tally) == (1000, 1000, 1000, 1000)
        passed += REPORT_KEY_SECONDS + 10
        left = []
        for number in range(1000, 1020):
            assert tally.submit(spending(number, tally.now())).result()
            keys, spent, *believed = rows(tally)
            assert [keys, spent] == believed
            left.append(keys)
        # Never many at once, and never less than what comes.
        assert all(60 <= was - now <= 70 for was, now in pairwise(left) if now > 100)
        assert left[-1] == 20


def test_receipts_that_were_forgotten_for_room_are_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SPENT", 10)
    passed = 0.0
    with Tally(users=10, eligible=(9, 8), path=tmp_path / "t", passed=lambda: passed) as tally:
        sent = []
        for number in range(30):
            passed += 10
            sent.append(spending(number, tally.now()))
            assert tally.submit(sent[-1]).result()
        keys, spent, *believed = rows(tally)
        assert (keys, spent) == (30, 10) and [keys, spent] == believed
        for report in sent:
            again = Report("v", "p", f"again {report.key}", ONE, fresh=report.fresh)
            with pytest.raises(ReportRefusedError) as refused:
                tally.submit(again).result()
            late = int(report.key) < 20
            assert refused.value.reason == ("expired" if late else "repeated")


def test_a_file_is_read_beside_its_server_and_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a file #1?.sqlite"
    with Tally(users=10, eligible=(9, 8), path=path) as tally:
        assert tally.submit(Report("v", "p", "a", ONE, shard=3)).result()
        ((whose, sums),) = read_tally(path).items()
        assert (whose.version, sums) == ("v", Sums(1, ONE, {3: (1, ONE)}, {}))
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert list(read_tally(path).values()) == [sums]
    assert before[path.name] == path.read_bytes()
