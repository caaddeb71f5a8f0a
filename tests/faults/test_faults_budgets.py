"""Budgets of neighbors outlive a killed server, and presets are the operator's to give."""

from pathlib import Path

import pytest

from client.link.connection import BudgetSpentError, Connection
from client.session import Session
from client.stores.ratings import read_local_ratings
from client.stores.versions import VersionStore
from common.errors import InputError
from tests.faults.support.served import ServedProcess

pytestmark = pytest.mark.slow
USERS = 60


def test_who_was_shown_whom_is_known_after_a_kill(tmp_path: Path) -> None:
    arguments = ("--dataset", f"synthetic:{USERS}x200", "--k", "12", "--daily-exposure", "1")
    with ServedProcess(tmp_path / "server", arguments) as server:
        local = read_local_ratings(server.ratings)

        def refused() -> set[int]:
            found = set()
            with Connection(server.address, patience=60) as connection:
                description = connection.describe()
                for user in range(USERS):
                    try:
                        connection.package(description, user, "vicinal", local.own(user))
                    except BudgetSpentError:
                        found.add(user)
                        assert connection.recommend(description, user, "vicinal")
                with pytest.raises(InputError, match="paper"):
                    connection.package(description, 0, "paper", local.own(0))
            return found

        before = refused()
        assert 0 < len(before) < USERS
        server.kill()
        server.start()
        assert refused() == before
        with Connection(server.address, patience=60) as connection:
            store = VersionStore(tmp_path / "device")
            session = Session(connection, store, local, preset="vicinal")
            assert session.answer_one(min(before)).counts.by_server == 1
