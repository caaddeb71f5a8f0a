"""`vicinal track`: results that are there already, to a tracker."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def track(
    results: Annotated[
        Path,
        typer.Argument(
            help="A file of --json, or the folder of `vicinal grid`, of a demo or of rounds.",
            metavar="RESULTS",
        ),
    ],
    places: Annotated[
        list[str],
        typer.Argument(
            help="mlflow[:ADDRESS] or tensorboard[:FOLDER], as of --track.", metavar="PLACE..."
        ),
    ],
) -> None:
    """Write results to MLflow or TensorBoard that were not written there by --track.

    What is there already is not written again. docs/how-to/track.md says what is written.
    """
    from common.errors import InputError
    from sims.grid.results import CELLS
    from sims.tracking.of_grid import grid_runs
    from sims.tracking.places import tracked, written
    from sims.tracking.results import runs_in

    if not results.exists():
        raise InputError(f"{results}: no such file or folder")
    found = tracked(places)
    runs = grid_runs(results, None) if (results / CELLS).is_dir() else runs_in(results)
    for tracker in found.trackers:
        written(tracker, runs)
