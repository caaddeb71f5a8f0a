"""Callers who leave in the middle: whoever waits for the same thing gets it all the same."""

import asyncio
from contextlib import suppress
from pathlib import Path

import numpy as np

from server.trust.budget_file import BudgetFile
from server.trust.budgets import NeighborBudget

CALLERS = 200


def test_one_who_leaves_while_a_budget_is_kept_ends_it_for_nobody(tmp_path: Path) -> None:
    neighbors = np.arange(300, dtype=np.uint32)
    file = BudgetFile(tmp_path / "budgets.sqlite")
    budget = NeighborBudget(1000, file=file)

    async def leave(user: int) -> None:
        call = asyncio.create_task(budget.keep(budget.show(user, neighbors)))
        await asyncio.sleep(0)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.001)

    async def callers() -> None:
        for user in range(CALLERS):
            await leave(user)
        async with asyncio.timeout(10):
            await budget.keep(budget.show(CALLERS, neighbors))

    asyncio.run(callers())
    file.close()
    after = BudgetFile(tmp_path / "budgets.sqlite")
    assert len(after.rows(budget._day)) == (CALLERS + 1) * len(neighbors)
    after.close()
