"""Progress of what takes longer than two seconds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sims.terminal import notes_wanted

# Seconds between two lines of what is going on, where there are no bars.
BETWEEN_LINES: Final = 2.0

# Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


def quiet(_what: str, _done: int, _total: int) -> None:
    """A Report that shows nothing."""


def counter(report: Report, what: str, total: int) -> Callable[[int], None]:
    """A function that reports that so many more of `total` are done."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        report(what, done, total)

    return advance


@contextmanager
def shown() -> Iterator[Report]:
    """Bars on stderr, one for each thing that is done; plain lines where that is no terminal.

    Nothing where no notes are wanted.
    """
    if not notes_wanted():
        yield quiet
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description:<26}", markup=False),
        BarColumn(30),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def _lines(console: Console, clock: Callable[[], float] = time.monotonic) -> Report:
    """A line when something begins, one for each step that takes a while, and one when it is done.

    So a training of large data has a line an epoch, and thousands of users have a few.
    """
    last: dict[str, float] = {}

    def report(what: str, done: int, total: int) -> None:
        now = clock()
        if what not in last:
            last[what] = now
            console.print(f"{what} …", highlight=False, markup=False)
        if done == total:
            console.print(f"{what}: done ({total})", highlight=False, markup=False)
        elif done and now - last[what] >= BETWEEN_LINES:
            last[what] = now
            console.print(f"{what}: {done} of {total}", highlight=False, markup=False)

    return report
