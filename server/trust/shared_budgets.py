"""The daily budget of neighbors that servers keep together, in PostgreSQL.

Whoever asks one server after another is shown no more than by one: what is shown is looked up and
counted in one transaction. Users are counted apart from one another, so that none waits for others,
but where the same neighbors are shown with a limit of exposure.
"""

import asyncio
from collections.abc import Callable
from typing import Final, final

import numpy as np

from server.sql.postgresql import Database
from server.sql.statements import SqlError, Transactions
from server.trust.budgets import (
    BUDGET_TEXT,
    EXPOSURE_TEXT,
    SECONDS_PER_DAY,
    BudgetAwayError,
    BudgetSpentError,
    Users,
)

# Old days go in pieces, so that nobody waits for a million rows.
_PIECE: Final = 10_000


@final
class SharedBudget:
    """As NeighborBudget, whose arguments these are."""

    def __init__(
        self,
        database: Database,
        most: int | None = None,
        exposure: int | None = None,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._most = most
        self._exposure = exposure
        self._clock = clock
        self._day = -1

    async def spend(self, user: int, neighbors: Users) -> None:
        """As NeighborBudget.spend(); raises BudgetAwayError, too."""
        try:
            await asyncio.to_thread(self._spend, user, np.unique(neighbors).tolist())
        except SqlError as error:
            raise BudgetAwayError from error

    def _spend(self, user: int, neighbors: list[int]) -> None:
        today = int(self._clock() // SECONDS_PER_DAY)
        with self._database.transaction() as sql:
            # A clock that is set back, or behind another server's, opens no day again.
            asked = "SELECT greatest(?, coalesce(max(day), 0)) FROM shown"
            day = int(sql.execute(asked, (today,)).fetchone()[0])
            # One call of a user at a time.
            sql.execute(
                "INSERT INTO shown_to VALUES (?, ?, 0) ON CONFLICT (day, viewer) "
                "DO UPDATE SET neighbors = shown_to.neighbors",
                (day, user),
            )
            new = [
                int(one)
                for (one,) in sql.execute(
                    "INSERT INTO shown SELECT ?, ?, unnest(?::bigint[]) "
                    "ON CONFLICT DO NOTHING RETURNING neighbor",
                    (day, user, neighbors),
                ).fetchall()
            ]
            counted = sql.execute(
                "UPDATE shown_to SET neighbors = neighbors + ? WHERE (day, viewer) = (?, ?) "
                "RETURNING neighbors",
                (len(new), day, user),
            ).fetchone()[0]
            if self._most is not None and new and counted > self._most:
                raise BudgetSpentError(BUDGET_TEXT)
            if new and self._exposure is not None:
                self._expose(sql, day, sorted(new))
        if day != self._day:
            self._day = day
            self._forget(day)

    def _expose(self, sql: Transactions, day: int, new: list[int]) -> None:
        """In the order of neighbors, so that two calls wait for each other one way only.

        Raises BudgetSpentError.
        """
        most = sql.execute(
            "WITH counted AS (INSERT INTO shown_of SELECT ?, one, 1 "
            "FROM unnest(?::bigint[]) WITH ORDINALITY AS given (one, place) ORDER BY place "
            "ON CONFLICT (day, neighbor) DO UPDATE SET viewers = shown_of.viewers + 1 "
            "RETURNING viewers) SELECT max(viewers) FROM counted",
            (day, new),
        ).fetchone()[0]
        assert self._exposure is not None
        if most > self._exposure:
            raise BudgetSpentError(EXPOSURE_TEXT)

    def _forget(self, day: int) -> None:
        for table, key in (
            ("shown", "(day, viewer, neighbor)"),
            ("shown_to", "(day, viewer)"),
            ("shown_of", "(day, neighbor)"),
        ):
            gone = _PIECE
            while gone == _PIECE:
                with self._database.transaction() as sql:
                    columns = key.strip("()")
                    gone = sql.execute(
                        f"DELETE FROM {table} WHERE {key} IN "
                        f"(SELECT {columns} FROM {table} WHERE day < ? LIMIT {_PIECE})",
                        (day,),
                    ).rowcount
