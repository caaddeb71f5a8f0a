"""`vicinal evaluate`: one attack, one defense, one data set."""

import json
from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.options import StudyOptions
from sims.commands.reading import ReadingFlags
from sims.commands.training import TrainingFlags

app = typer.Typer(add_completion=False)


@app.command()
@expanded()
def evaluate(
    study: StudyOptions,
    reading: ReadingFlags,
    training: TrainingFlags,
    release: options.ReleaseOption = "rows",
    users: options.UsersOption = None,
    store: options.StoreOption = Path("runs/store"),
    processes: options.ProcessesOption = None,
    ray: options.RayOption = None,
    baselines: options.BaselinesOption = None,
    json_file: options.JsonOption = None,
    track: options.TrackOption = None,
    per_user: Annotated[
        Path | None,
        typer.Option(
            "--per-user",
            dir_okay=False,
            callback=options.writable,
            help="Write each user's outcome to this Parquet file, for `vicinal compare`.",
            metavar="FILE",
        ),
    ] = None,
) -> None:
    """Measure one attack against one defense on one data set.

    Prints hit ratio and accuracy of the clean, the attacked and the defended model, beside
    simple recommenders that nobody defends. Trained models are kept in the store and used again.
    """
    from rich.console import Console

    from common.files import write_output
    from sims.evaluation.per_user import write_per_user
    from sims.evaluation.study import evaluate as evaluated
    from sims.progress import shown
    from sims.recorded import recorded
    from sims.tracking.places import tracked

    places = tracked(track)
    with shown() as progress:
        evaluation = evaluated(
            study.study(
                reading.options(),
                users=users,
                baselines=baselines,
                release=release,
                fleet=training.fleet(study.attack),
            ),
            store,
            processes=processes,
            ray=ray,
            progress=progress,
        )
    told = {**evaluation.to_json(), "run": recorded()}
    if json_file is not None:
        write_output(json_file, (json.dumps(told, indent=2) + "\n").encode())
    if per_user is not None:
        write_per_user(per_user, evaluation.per_user())
    Console().print(evaluation.table())
    places.write(told, kept=json_file)
