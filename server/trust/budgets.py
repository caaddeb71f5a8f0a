"""How many neighbors a user is shown in a day, and how many users a neighbor is shown to.

The first bounds what one account can learn; the second, what many accounts together can learn of
one user. Both count from midnight UTC, and what was shown before is free.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Protocol, final

import numpy as np
from numpy.typing import NDArray

from common.wire import offload_pb2 as wire
from server.trust.budget_file import BudgetFile, Shown
from server.workers.frames import Call, Status, WorkerResult, Workers

SECONDS_PER_DAY: Final = 86_400
BUDGET_TEXT: Final = (
    "this user has been shown as many neighbors as a day allows: come back tomorrow"
)
EXPOSURE_TEXT: Final = (
    "a neighbor of this user has been shown to as many as a day allows: come back tomorrow"
)
# Calls whose replies show neighbors, or sum up what they rated.
SHOWING: Final[dict[Call, type[Any]]] = {
    "GetPackage": wire.PackageRequest,
    "Explain": wire.ExplainRequest,
}
Users = NDArray[np.uint32]
NOBODY: Final[Users] = np.empty(0, dtype=np.uint32)


class BudgetSpentError(Exception):
    """A package would show more than may be shown in a day; the text says of what."""


class BudgetAwayError(Exception):
    """What was shown today cannot be looked up now: nobody is shown more."""


class Budget(Protocol):
    """How much may be shown in a day, wherever it is counted."""

    async def spend(self, user: int, neighbors: Users) -> None:
        """Count what a user is about to be shown; it outlives this process when this returns.

        Raises BudgetSpentError, BudgetAwayError, and counts nothing then.
        """


@final
class NeighborBudget:
    """What was shown since midnight UTC.

    most      distinct neighbors that a user is shown; None: any number
    exposure  distinct users that a neighbor is shown to; None: any number
    file      where it is kept; None: in memory only
    clock     seconds since 1970
    """

    def __init__(
        self,
        most: int | None = None,
        exposure: int | None = None,
        *,
        file: BudgetFile | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._most = most
        self._exposure = exposure
        self._file = file
        self._clock = clock
        self._day = self._today()
        # 4 bytes a neighbor and user, in sorted arrays.
        self._shown: dict[int, Users] = {}
        self._seen: Counter[int] = Counter()
        self._last: Future[None] | None = None
        rows = [] if file is None else file.rows(self._day)
        for user, group in groupby(rows, key=lambda row: row.user):
            self._count(user, np.array([row.neighbor for row in group], dtype=np.uint32))

    async def spend(self, user: int, neighbors: Users) -> None:
        """As Budget says."""
        await self.keep(self.show(user, neighbors))

    def show(self, user: int, neighbors: Users) -> list[Shown]:
        """Count what a user is about to be shown; what of it is new.

        Raises BudgetSpentError, and counts nothing then.
        """
        # A clock that is set back does not open the day before again.
        day = max(self._day, self._today())
        if day != self._day:
            self._day = day
            self._shown.clear()
            self._seen.clear()
        before = self._shown.get(user, NOBODY)
        new = np.setdiff1d(neighbors, before)
        if self._most is not None and len(before) + len(new) > self._most:
            raise BudgetSpentError(BUDGET_TEXT)
        if self._exposure is not None and any(
            self._seen[one] >= self._exposure for one in new.tolist()
        ):
            raise BudgetSpentError(EXPOSURE_TEXT)
        self._count(user, new)
        return [Shown(day, user, neighbor) for neighbor in new.tolist()]

    async def keep(self, rows: list[Shown]) -> None:
        """Returns when what was counted outlives this process."""
        if self._file is not None and rows:
            self._last = self._file.add(rows)
        # Also for one who is shown nothing new: another call may have counted it a moment ago.
        if self._last is not None and not self._last.done():
            await asyncio.wrap_future(self._last)

    def _count(self, user: int, new: Users) -> None:
        self._shown[user] = np.union1d(self._shown.get(user, NOBODY), new)
        if self._exposure is not None:
            self._seen.update(new.tolist())

    def _today(self) -> int:
        return int(self._clock() // SECONDS_PER_DAY)


@final
class BudgetedWorkers:
    """Workers whose packages and explanations are refused when a budget is spent."""

    def __init__(self, workers: Workers, budget: Budget) -> None:
        self._workers = workers
        self._budget = budget

    async def ask(self, call: Call, preset: str, request: bytes) -> WorkerResult:
        """Raises BudgetSpentError, BudgetAwayError, and what the workers themselves raise."""
        result = await self._workers.ask(call, preset, request)
        if call in SHOWING and result.status is Status.ANSWERED:
            user = SHOWING[call].FromString(request).user
            neighbors = np.frombuffer(result.neighbors, dtype="<u4")
            await self._budget.spend(user, neighbors[neighbors != user])
        return result


@contextmanager
def kept_budget(
    most: int | None,
    exposure: int | None,
    path: Path,
    *,
    clock: Callable[[], float] = time.time,
) -> Iterator[NeighborBudget | None]:
    """A budget that is kept in a file; None where nothing is limited. Raises InputError."""
    if most is None and exposure is None:
        yield None
        return
    file = BudgetFile(path)
    try:
        yield NeighborBudget(most, exposure, file=file, clock=clock)
    finally:
        file.close()
