"""What every benchmark of this folder is: a command that prints one section of Markdown.

    python -m benchmarks.NAME [--short] [--json FILE] [--picture FILE]

It exits with 1, and a line for each, when a ratio misses its floor.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from common.threads import limit_threads


@dataclass
class Section:
    """text: Markdown; figures: what --json writes; missed: one line for each floor missed."""

    text: str
    figures: dict[str, Any]
    missed: list[str] = field(default_factory=list)


def run(
    section: Callable[[bool], Section],
    drawn: Callable[[Mapping[str, Any]], bytes] | None = None,
) -> None:
    """Be the command of a benchmark; `section` is told whether to be short, `drawn` makes an SVG
    of its figures.
    """

    def command(
        short: Annotated[bool, typer.Option(help="the small part that `make bench` runs")] = False,
        json_file: Annotated[Path | None, typer.Option("--json", help="also write figures")] = None,
        picture: Annotated[
            Path | None, typer.Option(help="also draw them, where there is a picture (SVG)")
        ] = None,
    ) -> None:
        limit_threads()
        if picture is not None and drawn is None:
            raise typer.BadParameter("this benchmark has no picture", param_hint="--picture")
        made = section(short)
        if picture is not None and drawn is not None:
            picture.write_bytes(drawn(made.figures))
        show(made, json_file)

    typer.run(command)


def show(made: Section, json_file: Path | None) -> None:
    """Print a section; ends the command with 1 where it misses a floor."""
    sys.stdout.write(made.text.rstrip() + "\n")
    if json_file is not None:
        json_file.write_text(json.dumps(made.figures, indent=1), encoding="utf-8")
    for line in made.missed:
        sys.stderr.write(f"below its floor: {line}\n")
    if made.missed:
        raise typer.Exit(1)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A Markdown table whose first `texts` columns are words and the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(heads) - texts)
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    lines.insert(1, f"|{'|'.join(rule)}|")
    return "\n".join(lines)


def milliseconds(seconds: float) -> str:
    """With three digits that say something."""
    value = 1000 * seconds
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def progress(text: str) -> None:
    """Where a long benchmark stands, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
