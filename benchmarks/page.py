"""Print docs/performance.md: `python -m benchmarks.page > docs/performance.md`.

Runs every benchmark of this folder in a process of its own and prints their sections.
"""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from common.files import write_file
from common.processes import module_command

# Modules of this folder, in the page's order.
PARTS: Final = (
    *("tuning.kernel", "tuning.stages", "tuning.inference", "tuning.scaling", "tuning.everybody"),
    *("serving.neighbors", "tuning.first_request", "serving.borrowed_neighbors"),
    *("serving.load", "serving.front_kinds", "device.answer", "device.install"),
    *("bytes.encodings", "bytes.packages", "bytes.user_parameters", "serving.reports"),
)

INTRODUCTION: Final = """\
# Performance

What one defended answer costs in time, memory and bytes, compared with Algorithm 1 as the paper
writes it, with plain inference, and under load. Symbols and terms are explained in the
[glossary](glossary.md).

This page is printed by `python -m benchmarks.page --folder runs/performance > docs/performance.md`.
Sections that are in the folder already are not measured again. Each section is printed alone by its
module, as by `python -m benchmarks.tuning.kernel`. The other modules are

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
) -> None:
    """Print the page; a benchmark that fails ends it with exit code 1."""
    sections = [INTRODUCTION.format(parts="\n".join(f"- `{part}`" for part in PARTS[1:]))]
    for part in PARTS:
        kept = None if folder is None else folder / f"{part}.md"
        if kept is None or not kept.exists():
            text = printed(part, short=short)
            if kept is not None:
                write_file(kept, text.encode())
        else:
            text = kept.read_text()
        sections.append(text)
    sys.stdout.write("\n".join(sections))


def printed(part: str, *, short: bool) -> str:
    """What a benchmark prints. Raises typer.Exit when it fails; below a floor it prints, too."""
    command = module_command(f"benchmarks.{part}", *(["--short"] if short else []))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode and not done.stdout:
        raise typer.Exit(1)
    return done.stdout


if __name__ == "__main__":
    typer.run(page)
