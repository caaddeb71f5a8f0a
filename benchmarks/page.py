"""Print docs/performance.md: `python -m benchmarks.page > docs/performance.md`.

Runs every benchmark of this folder in a process of its own and prints their sections.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.summary import summary
from common.files import write_output
from common.processes import module_command

# Modules of this folder, in the page's order.
PARTS: Final = (
    *(
        "tuning.kernel",
        "tuning.presets",
        "tuning.stages",
        "tuning.inference",
        "tuning.scaling",
        "tuning.everybody",
    ),
    *("serving.neighbors", "serving.rated_neighbors"),
    *("tuning.first_request", "serving.borrowed_neighbors", "serving.newcomers"),
    *(
        "serving.load",
        "serving.front_kinds",
        "serving.doorman",
        "serving.gateway",
        "serving.cluster",
        "device.answer",
        "device.install",
    ),
    *("bytes.encodings", "bytes.packages", "bytes.user_parameters", "serving.reports"),
    *("scale.reading", "scale.training", "scale.evaluating"),
    *("scale.certifying", "scale.cluster"),
    *("fleet.messages", "fleet.scale", "fleet.privacy"),
)

TITLE: Final = """\
# Performance

What a defended answer costs in time, memory and bytes, on a device and on a server. Terms and
symbols are explained in the [glossary](glossary.md). The lines that follow are made from the tables
below.

"""
ABOUT: Final = """\
## How it was measured

This page is printed by `python -m benchmarks.page --folder runs/performance > docs/performance.md`.
Sections that are in the folder already are not measured again.
`python -m benchmarks.page --sections PAGE` prints a page again from its own sections. Each section
is printed alone by its module, as by `python -m benchmarks.tuning.kernel`. The other modules are

{parts}

`make bench` runs a short part in a few minutes and fails when a ratio is below its floor.

Ratios can be trusted on a busy machine, because what is compared runs in turn in one process. Times
are processor time of one thread of the machine that printed this page, unless a section says
otherwise.
"""


def page(
    short: Annotated[bool, typer.Option(help="the short part of every benchmark")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="where sections are kept; those that lie there are not run again"),
    ] = None,
    sections: Annotated[
        Path | None,
        typer.Option(help="a page whose sections are taken as they are; nothing is run"),
    ] = None,
) -> None:
    """Print the page; a benchmark that fails ends it with exit code 1."""
    if sections is None:
        text = "\n".join(section(part, short=short, folder=folder) for part in PARTS)
    else:
        text = measured(sections.read_text(encoding="utf-8"))
    sys.stdout.write(with_head(text))


def with_head(text: str) -> str:
    """The whole page from its measured sections."""
    about = ABOUT.format(parts="\n".join(f"- `{part}`" for part in PARTS[1:]))
    return f"{TITLE}{summary(text)}\n{about}\n{text}"


def measured(text: str) -> str:
    """A page without its head. Raises typer.BadParameter for another page."""
    first = re.search(f"^## (?!{ABOUT[3:].splitlines()[0]}$)", text, re.MULTILINE)
    if first is None:
        raise typer.BadParameter("this page has no section", param_hint="--sections")
    return text[first.start() :]


def section(part: str, *, short: bool, folder: Path | None) -> str:
    """What a benchmark printed, now or before."""
    kept = None if folder is None else folder / f"{part}.md"
    if kept is not None and kept.exists():
        return kept.read_text(encoding="utf-8")
    text = printed(part, short=short)
    if kept is not None:
        write_output(kept, text.encode())
    return text


def printed(part: str, *, short: bool) -> str:
    """What a benchmark prints. Raises typer.Exit when it fails; below a floor it prints, too."""
    command = module_command(f"benchmarks.{part}", *(["--short"] if short else []))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode and not done.stdout:
        raise typer.Exit(1)
    return done.stdout


if __name__ == "__main__":
    typer.run(page)
