"""What counts the faults must see them: ledgers and tallies with a fault put into them."""

from dataclasses import asdict
from pathlib import Path

import pytest

from common.ranking import Counts
from server.reports.tally import Tally
from tests.faults.support.device_process import PRESET
from tests.faults.support.figures import (
    Downtime,
    Figures,
    Oracle,
    Requests,
    check_answers,
    check_reports,
    good,
    markdown,
    requests_of,
)
from tests.faults.support.ledger import Entry, Ledger, last_entries, read_ledger
from tests.support.serving import make_scene

VERSION = "a" * 64
ONE = Counts((1, 1), (0, 1), 1, 1)


def said(what: str, key: str, **more: object) -> Entry:
    return {"what": what, "key": key, "version": VERSION, "counts": asdict(ONE), **more}


def reports(tmp_path: Path, ledger: list[Entry], keys: str, owed: str = "") -> Figures:
    """Figures for a ledger, and a tally that has counted `keys`."""
    path = tmp_path / "tally.sqlite"
    with Tally(users=9, eligible=(9, 9), path=path) as tally:
        for key in keys:
            tally.add(VERSION, PRESET, key, ONE)
    figures = Figures({"one": Requests([0.1], 1)}, answers=1)
    check_reports(figures, [ledger], path, frozenset(owed))
    return figures


def whole(key: str) -> list[Entry]:
    return [said("made", key), said("kept", key), said("counted", key)]


def test_reports_that_are_all_counted_are_good(tmp_path: Path) -> None:
    figures = reports(tmp_path, whole("a") + whole("b"), "ab")
    assert good(figures, 0.999) and figures.reports.counted == 2
    assert any("| **lost** | 0 |" in line for line in markdown(figures))


@pytest.mark.parametrize(
    ("ledger", "keys", "field"),
    [
        (whole("a") + whole("b"), "a", "lost"),
        ([said("made", "a"), said("kept", "a")], "", "lost"),
        (whole("a"), "ab", "unknown"),
    ],
)
def test_a_report_that_is_lost_or_nobodys_is_seen(
    tmp_path: Path, ledger: list[Entry], keys: str, field: str
) -> None:
    figures = reports(tmp_path, ledger, keys)
    assert getattr(figures.reports, field) == 1 and not good(figures, 0.999)


def test_what_is_owed_or_refused_is_not_lost(tmp_path: Path) -> None:
    ledger = [said("made", "a"), said("kept", "a"), said("made", "b"), said("kept", "b")]
    figures = reports(tmp_path, [*ledger, said("refused", "b")], "", owed="a")
    assert (figures.reports.lost, figures.reports.owed, figures.reports.refused) == (0, 1, 1)


def test_a_sum_that_is_not_its_reports_is_seen(tmp_path: Path) -> None:
    ledger = whole("a")
    ledger[0]["counts"] = asdict(ONE + ONE)
    figures = reports(tmp_path, ledger, "a")
    assert figures.sums_differ == [VERSION[:12]] and not good(figures, 0.999)


def test_requests_are_told_apart_by_how_they_ended() -> None:
    def ask(at: float, what: str, **more: object) -> list[Entry]:
        return [{"what": "ask", "at": at}, {"what": what, "at": at, **more}]

    away = [Downtime(10.0, 12.0)]
    no_answer = "NoAnswerError: no answer from a server"
    entries = [
        *ask(0.0, "ended", seconds=1.0),
        *ask(1.0, "ended", seconds=9.0),
        {"what": "ask", "at": 10.0},  # its device was killed
        *ask(11.0, "failed", seconds=2.0, error=no_answer),
        *ask(20.0, "failed", seconds=2.0, error=no_answer),
        {"what": "ask", "at": 30.0},
    ]
    phone = requests_of(entries, "phone", 5.0, away)
    assert (phone.answered, phone.late, phone.cut_off, phone.no_way) == (1, 1, 2, 1)
    assert phone.failed == [no_answer] and phone.share == 1 / 3
    patient = requests_of(entries, "patient", 5.0, away)
    assert (len(patient.failed), patient.no_way) == (2, 0)


def test_a_wrong_answer_is_seen(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    scene.catalog()
    version = scene.recommender.version.digest
    oracle = Oracle(scene.folder, "paper")
    items = list(oracle.items(version, 3))
    mixed = [items[1], items[0], *items[2:]]
    figures = Figures()
    for shown in (items, mixed):
        entry = {"user": 3, "version": version, "items": shown, "stale": 0}
        check_answers(figures, [[{"what": "answered", "entries": [entry]}]], oracle)
    assert (figures.answers, figures.versions, len(figures.wrong)) == (2, 1, 1)


def test_the_end_of_a_ledger_is_read_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    assert read_ledger(path) == last_entries(path) == []
    ledger = Ledger(path)
    for number in range(5000):
        ledger.write("ask", at=number)
    with path.open("ab") as opened:
        opened.write(b'{"what": "cut')
    assert len(read_ledger(path)) == 5000
    last = last_entries(path)
    assert 100 < len(last) < 5000 and last == read_ledger(path)[-len(last) :]
