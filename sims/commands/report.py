"""`vicinal report`: what one hands on of a grid or a run."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def report(
    results: Annotated[
        Path,
        typer.Argument(
            help="A folder that `vicinal grid` filled, a file of `vicinal evaluate --json`, or the "
            "folder of a demo.",
            metavar="RESULTS",
        ),
    ],
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--output",
            dir_okay=False,
            help="File to write: .html, .md, .csv (a row a result), or .json (a manifest of files "
            "and digests). Repeat it for several. Default: report.html.",
            metavar="FILE",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The grid's TOML: its title, its cells alone, and its tables; default: all cells.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Write a report: what was run, pictures, tables beside the paper's, what missed.

    The page is one file that fetches nothing, to be opened, printed or sent. It says with which
    commands and versions the results were made, as far as they were recorded.
    """
    from common.errors import InputError
    from common.files import write_output
    from sims.grid.config import read_config
    from sims.grid.results import CELLS
    from sims.progress import shown
    from sims.reporting.of_grid import grid_document
    from sims.reporting.of_run import run_document
    from sims.reporting.writing import WRITERS

    outputs = output or [Path("report.html")]
    for path in outputs:
        if path.suffix.lower() not in WRITERS:
            raise InputError(f"{path}: name a file that ends in {', '.join(WRITERS)}")
        if path.resolve() == results.resolve():
            raise InputError(f"{path}: is the file of results itself; name another one")
    if not results.exists():
        raise InputError(f"{results}: no such file or folder")
    with shown() as progress:
        if (results / CELLS).is_dir():
            asked = None if config is None else read_config(config)
            document = grid_document(results, asked, progress)
        elif config is not None:
            raise InputError("--config is of a grid, and these results are of a single run")
        else:
            document = run_document(results)
    for path in outputs:
        data = WRITERS[path.suffix.lower()](document)
        write_output(path, data)
        typer.echo(f"{path}: {len(data):,} bytes")
