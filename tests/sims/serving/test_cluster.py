"""`vicinal cluster`: what it refuses before it starts anything."""

from pathlib import Path

import pytest

from sims.cli import run


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("mysql://x", "give postgresql://USER@HOST:PORT/DATABASE"),
        ("postgresql://ann:pw@127.0.0.1/x", "a password here would stand in process lists"),
        ("postgresql://ann@127.0.0.1:1/x", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    address: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cluster", "--database", address, "--folder", str(tmp_path / "cluster")]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1 and "did not start" not in error
    assert not list((tmp_path / "cluster").glob("server-*"))
