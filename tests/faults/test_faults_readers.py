"""Whoever reads a tally beside the server that writes it: nothing happens to either."""

import subprocess
from pathlib import Path

from server.reports.reading import read_tally
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
