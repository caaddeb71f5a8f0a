"""Budgets of neighbors, with clocks of their own, in memory and in files."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.wire import offload_pb2 as wire
from server.trust.budget_file import BudgetFile, Shown
from server.trust.budgets import (
    EXPOSURE_TEXT,
    SECONDS_PER_DAY,
    Budget,
    BudgetedWorkers,
    BudgetSpentError,
    NeighborBudget,
    kept_budget,
)
from server.workers.frames import Call, Status, WorkerResult
from tests.support.modules import ENVIRONMENT, ROOT
from tests.support.places import Place


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def shown(budget: Budget, user: int, *neighbors: int) -> None:
    asyncio.run(budget.spend(user, np.array(neighbors, dtype=np.uint32)))


def test_neighbors_shown_before_are_free_and_midnight_forgets(place: Place) -> None:
    clock = Clock()
    with place.budget(5, None, clock) as budget:
        shown(budget, 1, 10, 11, 12)
        shown(budget, 1, 12, 11, 10)
        with pytest.raises(BudgetSpentError):
            shown(budget, 1, 13, 14, 15)
        # What was held back was not shown: two more fit.
        shown(budget, 1, 13, 14)
        shown(budget, 2, 15, 16)
        with pytest.raises(BudgetSpentError):
            shown(budget, 1, 15)
        shown(budget, 1, 10, 14)
        clock.now = SECONDS_PER_DAY - 0.5
        with pytest.raises(BudgetSpentError):
            shown(budget, 1, 15)
        clock.now = float(SECONDS_PER_DAY)
        shown(budget, 1, 15, 16, 17, 18, 19)


def test_a_neighbor_is_shown_to_so_many_users_in_a_day(place: Place) -> None:
    clock = Clock()
    with place.budget(None, 2, clock) as budget:
        shown(budget, 1, 10, 11)
        shown(budget, 2, 10, 12)
        with pytest.raises(BudgetSpentError, match=EXPOSURE_TEXT):
            shown(budget, 3, 10, 13)
        # Whoever was shown it before is shown it again, and what was held back was not counted.
        shown(budget, 1, 10)
        for user in (3, 4):
            shown(budget, user, 13)
        clock.now = float(SECONDS_PER_DAY)
        shown(budget, 3, 10, 13)
        # A clock that is set back opens no other day.
        clock.now = 0.0
        shown(budget, 4, 10)
        with pytest.raises(BudgetSpentError):
            shown(budget, 5, 10)


def test_what_was_shown_is_known_when_it_is_opened_again(place: Place) -> None:
    clock = Clock()
    for _ in range(2):
        with place.budget(3, 2, clock) as budget:
            shown(budget, 1, 10, 11)
            shown(budget, 2, 10)
    with place.budget(3, 2, clock) as budget:
        shown(budget, 1, 10, 11, 12)
        for user, neighbor in ((1, 13), (3, 10)):
            with pytest.raises(BudgetSpentError):
                shown(budget, user, neighbor)
    clock.now = float(SECONDS_PER_DAY)
    with place.budget(3, 2, clock) as budget:
        shown(budget, 1, 13, 14, 15)


def test_a_file_is_for_its_owner_and_none_is_made_without_limits(tmp_path: Path) -> None:
    path = tmp_path / "budgets.sqlite"
    with kept_budget(3, 2, path):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with kept_budget(None, None, tmp_path / "none") as nothing:
        assert nothing is None
    assert not (tmp_path / "none").exists()


def test_a_file_holds_one_day(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "budgets.sqlite"
    file = BudgetFile(path)
    budget = NeighborBudget(2, file=file, clock=clock)
    shown(budget, 1, 10, 11)
    clock.now += SECONDS_PER_DAY
    shown(budget, 1, 12)
    file.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM shown").fetchall() == [(1, 1, 12)]


KILLED = """
import asyncio, sys
from pathlib import Path
import numpy as np
from server.trust.budget_file import BudgetFile
from server.trust.budgets import NeighborBudget
budget = NeighborBudget(10**6, file=BudgetFile(Path(sys.argv[1])))
for neighbor in range(10**6):
    asyncio.run(budget.keep(budget.show(1, np.array([neighbor], dtype=np.uint32))))
    print(neighbor, flush=True)
"""


def test_what_was_told_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "budgets.sqlite"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        told = [int(child.stdout.readline()) for _ in range(200)]
        os.kill(child.pid, signal.SIGKILL)
        told += [int(line) for line in child.stdout if line.endswith("\n")]
    with kept_budget(len(told) + 1, None, path) as budget:
        assert budget is not None
        with pytest.raises(BudgetSpentError):
            shown(budget, 1, 10**6, 10**6 + 1)
        shown(budget, 1, *told)


def test_a_full_disk_is_said_and_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "budgets.sqlite"
    file = BudgetFile(path)
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE shown RENAME TO away")
    file.add([Shown(1, 2, 3)]).result(20)
    assert "no such table" in caplog.text
    with sqlite3.connect(path) as other:
        other.execute("ALTER TABLE away RENAME TO shown")
    file.add([Shown(1, 2, 4)]).result(20)
    assert file.rows(1) == [Shown(1, 2, 3), Shown(1, 2, 4)]
    file.close()


def test_what_is_no_such_file_is_left_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (a)")
    link = tmp_path / "link"
    link.symlink_to(other)
    noise = tmp_path / "noise"
    noise.write_bytes(b"x" * 5000)
    for path in (other, link, noise):
        before = other.read_bytes()
        with pytest.raises(InputError, match="move it away"):
            BudgetFile(path)
        assert other.read_bytes() == before


def test_a_package_counts_the_neighbors_and_not_the_user() -> None:
    class Fixed:
        def __init__(self) -> None:
            self.status = Status.ANSWERED

        async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
            neighbors = np.array([7, 20, 21], dtype="<u4").tobytes()
            return WorkerResult(self.status, b"reply", neighbors=neighbors)

    fixed = Fixed()
    workers = BudgetedWorkers(fixed, NeighborBudget(2, clock=Clock()))

    def ask(user: int, call: Call = "GetPackage") -> WorkerResult:
        request = wire.PackageRequest(user=user).SerializeToString()
        return asyncio.run(workers.ask(call, "paper", request))

    assert ask(7).data == b"reply"
    assert ask(7, "Explain").data == b"reply"
    showing: tuple[Call, ...] = ("GetPackage", "Explain")
    for call in showing:
        with pytest.raises(BudgetSpentError):
            ask(8, call)
    # Neither a list of items nor a refusal shows anybody.
    assert ask(8, "Recommend").data == b"reply"
    fixed.status = Status.REFUSED
    assert ask(8).status is Status.REFUSED
