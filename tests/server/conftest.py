"""Where servers keep things: in files of their own, or in a PostgreSQL that they share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sims.processes.postgresql import PostgreSQL
from tests.support.places import Place, new_schema


@pytest.fixture(scope="session")
def running_postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


@pytest.fixture
def postgresql(running_postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> PostgreSQL:
    """Running, with its password where servers look for it."""
    monkeypatch.setenv("PGPASSWORD", PostgreSQL.PASSWORD)
    return running_postgresql


@pytest.fixture(params=["file", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """What the contract of both is tested with; empty, and the same when it is opened again."""
    if request.param == "file":
        return Place(tmp_path, None)
    running: PostgreSQL = request.getfixturevalue("postgresql")
    return Place(tmp_path, running.database(new_schema()))
