"""Where servers keep things, and fleets: in files of their own, or in a PostgreSQL, or played."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sims.processes.postgresql import PostgreSQL
from tests.support.fleets import Fleet, make_fleet
from tests.support.places import Place, new_schema
from tests.support.superlink import SuperLink, superlink


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


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return make_fleet(tmp_path_factory.mktemp("store"))


@pytest.fixture
def link() -> Iterator[SuperLink]:
    with superlink() as found:
        yield found
