"""Print docs/performance.md: `python -m benchmarks.page > docs/performance.md`.

Runs every benchmark of this folder in a process of its own and prints their sections.
"""

import subprocess
import sys
from typing import Annotated, Final

import typer

# Modules of this folder, in the page's order.
PARTS: Final = (
    *("kernel", "stages", "inference", "scaling", "everybody"),
    *("neighbors", "first_request", "borrowed_neighbors", "load", "front_kinds"),
    *("device_answer", "device_install", "encodings"),
    *("packages", "user_parameters", "reports"),
)

INTRODUCTION: Final = """\
# Performance

This page is printed by `python -m benchmarks.page > docs/performance.md`; a section alone by
`python -m benchmarks.NAME`, with NAME among {parts}. `make bench` runs a short part in a few
minutes and fails when a ratio is below its floor.

Ratios hold on a busy machine, for what is compared runs in turn in one process; times are
processor time of one thread of the machine that printed this page.
"""


def page(
    short: Annotated[bool, typer.Option(help="the short part of every benchmark")] = False,
) -> None:
    """Print the page; a benchmark that fails ends it with exit code 1."""
    sections = [INTRODUCTION.format(parts=", ".join(f"`{part}`" for part in PARTS))]
    for part in PARTS:
        command = [sys.executable, "-m", f"benchmarks.{part}", *(["--short"] if short else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode and not done.stdout:
            raise typer.Exit(1)
        sections.append(done.stdout)
    sys.stdout.write("\n".join(sections))


if __name__ == "__main__":
    typer.run(page)
