"""Whoever reads a tally beside the server that writes it: nothing happens to either."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import InputError
from common.ranking import Counts
from server.reports.reading import read_tally
from server.reports.tally import Tally
from sims.commands.tally_report import told_by_file
from tests.support.modules import ENVIRONMENT, ROOT, command


def test_a_reader_that_comes_and_goes_ends_no_server(tmp_path: Path) -> None:
    path = tmp_path / "tally.sqlite"
    server = subprocess.Popen(
        command("tests.faults.support.counting", str(path)),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "counting\n"
        # Each of them is the last to close the file, as far as SQLite's locks tell.
        seen = [sum(sums.reports for sums in read_tally(path).values()) for _ in range(50)]
        counted, _ = server.communicate(timeout=60)
    finally:
        server.kill()
    assert server.returncode == 0
    [total] = read_tally(path).values()
    assert sorted(seen) == seen and seen[-1] <= total.reports == int(counted)


DEEP = "[" * 100_000
SUM = "version, preset, measured"


@pytest.mark.parametrize(
    ("damage", "opens"),
    [
        ("UPDATE totals SET counts = '[[1e999],[0],1,0,0,0,1,0,0]'", False),
        (f"UPDATE totals SET counts = '{DEEP}'", False),
        ("UPDATE totals SET reports = -1", False),
        (f"INSERT INTO shards SELECT {SUM}, 32, reports, counts FROM totals", False),
        (f"INSERT INTO randomized SELECT {SUM}, 1e999, '[1,1,1,1,1,1]' FROM totals", False),
        (f"INSERT INTO randomized SELECT {SUM}, -1e9, '[1,1,1,1,1,1]' FROM totals", False),
        (f"INSERT INTO randomized SELECT {SUM}, 1, '[1,1,1]' FROM totals", False),
        ("CREATE TRIGGER z AFTER INSERT ON keys BEGIN DELETE FROM totals; END", False),
        (
            "ALTER TABLE totals RENAME TO t; CREATE VIEW totals AS WITH RECURSIVE c(x) AS "
            f"(SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {SUM}, x AS reports, counts "
            "FROM t, c",
            False,
        ),
        # What this server does not measure, it does not look into.
        ("UPDATE totals SET preset = char(27) || '[2J'", True),
        ("UPDATE totals SET version = x'ff00'", True),
        ("UPDATE totals SET measured = 'x'", True),
        (f"UPDATE totals SET measured = '{DEEP}'", True),
        ("UPDATE totals SET measured = '[[], [1, 2, 3], 50]'", True),
    ],
)
def test_a_tally_that_somebody_has_written_to_is_refused_in_a_line(
    tmp_path: Path, damage: str, opens: bool
) -> None:
    path = tmp_path / "tally.sqlite"
    with Tally(users=10, eligible=(5,), path=path) as tally:
        tally.add("v", "vicinal", "key", Counts((1,), (0,), 1, on_device=1))
    with closing(sqlite3.connect(path)) as database:
        database.executescript(damage)
    with pytest.raises(InputError) as refused:
        told_by_file(path)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300
    if opens:
        Tally(users=10, eligible=(5,), path=path).close()
    else:
        with pytest.raises(InputError, match="cannot be used"):
            Tally(users=10, eligible=(5,), path=path)


def test_the_other_end_of_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a file"):
        read_tally(tmp_path / "pipe")
