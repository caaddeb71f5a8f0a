"""One interface, two places: what is kept in a folder's files, or in a schema of PostgreSQL."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.reports.tally import FILE_NAME, Tally
from server.sql.postgresql import Database
from server.trust.budget_file import FILE_NAME as BUDGETS
from server.trust.budgets import Budget, kept_budget
from server.trust.shared_budgets import SharedBudget


def new_schema() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@dataclass(frozen=True)
class Place:
    """address: of a database; None: files in the folder."""

    folder: Path
    address: str | None

    @contextmanager
    def tally(self, **options: Any) -> Iterator[Tally]:
        if self.address is None:
            with Tally(path=self.folder / FILE_NAME, **options) as tally:
                yield tally
            return
        with Database(self.address) as database, Tally(database=database, **options) as tally:
            yield tally

    @contextmanager
    def budget(
        self, most: int | None, exposure: int | None, clock: Callable[[], float]
    ) -> Iterator[Budget]:
        if self.address is None:
            with kept_budget(most, exposure, self.folder / BUDGETS, clock=clock) as budget:
                assert budget is not None
                yield budget
            return
        with Database(self.address) as database:
            yield SharedBudget(database, most, exposure, clock=clock)
