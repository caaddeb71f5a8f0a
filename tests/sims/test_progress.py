"""Lines of progress where stderr is no terminal."""

import io

from rich.console import Console

from sims.progress import BETWEEN_LINES, _lines


def test_slow_steps_have_a_line_each_and_quick_ones_do_not() -> None:
    now, written = 0.0, io.StringIO()
    report = _lines(Console(file=written, width=80), lambda: now)
    for epoch in range(4):
        report("train", epoch, 3)
        now += BETWEEN_LINES
    for user in range(101):
        report("ask", user, 100)
        now += BETWEEN_LINES / 64
    assert written.getvalue().splitlines() == [
        "train …",
        "train: 1 of 3",
        "train: 2 of 3",
        "train: done (3)",
        "ask …",
        "ask: 64 of 100",
        "ask: done (100)",
    ]
