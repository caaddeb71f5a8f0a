"""`vicinal grid`: many cells, in parallel, beside the paper's."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def grid(
    config: Annotated[
        Path, typer.Argument(help="What to run (TOML), as in configs/smoke.toml.", metavar="CONFIG")
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Folder that keeps the results; default: runs/grid/DIGEST."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Cells measured at a time; default: one a core."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="Address of a Ray cluster to run on; default: one of its own here.",
            metavar="ADDRESS",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Measure the cells again that failed.")
    ] = False,
    track: options.TrackOption = None,
) -> None:
    """Run data sets × models × attacks × defenses × presets × seeds; print tables.

    A cell that has a result is not run again, so that an interrupted grid goes on where it
    stopped. The folder holds results.parquet and tables.md in the end.
    """
    import time

    from rich.console import Console

    from common.errors import VicinalError
    from common.files import write_output
    from common.processes import core_count
    from sims.grid.config import read_config
    from sims.grid.page import page_of
    from sims.grid.results import add_run, cell_path, runs_in, write_parquet
    from sims.grid.run import run_grid
    from sims.grid.table import failures, pages
    from sims.progress import shown
    from sims.recorded import command_line
    from sims.tracking.places import tracked

    asked = read_config(config)
    folder = folder or Path("runs/grid") / asked.digest()
    processes, start = processes or core_count(), time.monotonic()
    places = tracked(track)
    following = places.grid(folder, asked)
    try:
        with shown() as report:
            results = run_grid(
                asked,
                folder,
                report=report,
                processes=processes,
                address=address,
                retry_failed=retry_failed,
                warn=lambda text: typer.echo(f"warning: {text}", err=True),
                done=following.add,
            )
    finally:
        add_run(
            folder,
            seconds=time.monotonic() - start,
            processes=processes,
            command=command_line(),
        )
    write_parquet(folder / "results.parquet", results)
    page = page_of(asked, results, command=f"vicinal grid {config}", runs=runs_in(folder))
    write_output(folder / "tables.md", page.encode())
    console = Console()
    for table in pages(asked, results):
        console.print(table.table(console.width))
    told = (
        f"† misses a goal. {len(results)} cells in {folder}; tables.md there has spread, "
        "the paper's figures and the goals"
    )
    console.print(told, markup=False, highlight=False)
    following.finish(
        {cell_path(folder, cell): one for cell, one in zip(asked.cells(), results, strict=True)}
    )
    if failed := failures(results):
        for line in failed:
            console.print(f"failed: {line}", markup=False, highlight=False, soft_wrap=True)
        raise VicinalError(
            f"{len(failed)} of {len(results)} cells failed (see above); "
            "run it again with --retry-failed once mended"
        )
