"""`vicinal audit`: what a release gives away of its users, by attacks on the bytes it sends."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import InputError
from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

if TYPE_CHECKING:  # heavy, and of no use until the command runs
    from common.vicinal.settings import VicinalSettings
    from server.model_store import Versions
    from sims.audit.release import Release

app = typer.Typer(add_completion=False)


def _goal(name: str, what: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, min=0, max=1, help=f"Goal: {what}.")
    return option


@app.command()
@expanded()
def audit(
    reading: ReadingFlags,
    dataset: options.DatasetOption = "ml-100k",
    model: options.ModelOption = "mf",
    release: options.ReleaseOption = "rows",
    preset: options.PresetOption = "vicinal",
    k: options.NeighborsOption = None,
    min_support: options.MinSupportOption = None,
    neighbors_by: options.NeighborsByOption = None,
    assume_fakes: options.AssumeFakesOption = None,
    row_cap: options.RowCapOption = None,
    fold_in: options.FoldInOption = False,
    train_privacy: Annotated[
        float | None,
        typer.Option(
            "--train-privacy",
            min=0.01,
            max=1e4,
            help="Train mf with an item table of this ε, at δ = 1e-5; its noise is no secret here.",
        ),
    ] = None,
    attack: options.AttackOption = "mixrand",
    known: Annotated[
        int, typer.Option("--known", min=1, help="Ratings of a person that the attacker knows.")
    ] = 8,
    knowledge: Annotated[
        str,
        typer.Option("--knowledge", help="Which ones: random, or rare, of the rarest items."),
    ] = "random",
    noise: Annotated[
        int,
        typer.Option("--noise", min=0, max=255, help="Levels that a known rating may be off."),
    ] = 0,
    splits: Annotated[
        int, typer.Option("--splits", min=1, help="Do everything so often, for the errors.")
    ] = 3,
    accounts: Annotated[
        int, typer.Option("--accounts", min=1, help="Spies, at most half as many as users.")
    ] = 200,
    queries: Annotated[
        int, typer.Option("--queries", min=10, help="People who are asked about, at most.")
    ] = 400,
    seed: options.SeedOption = 0,
    max_linkage: Annotated[
        float, _goal("--max-linkage", "most people who are found by their known ratings, or named")
    ] = 0.01,
    max_auc: Annotated[
        float, _goal("--max-auc", "of a guess who is a member, the model's own aside")
    ] = 0.55,
    max_exposed: Annotated[
        float, _goal("--max-exposed", "most users whose row one package has, of all")
    ] = 0.01,
    max_hr: Annotated[
        float, _goal("--max-hr", "hit ratio under the attack, and in a flood's audience")
    ] = 0.05,
    min_accuracy: Annotated[
        float,
        _goal(
            "--min-accuracy", "accuracy under the attack ÷ that of rows, preset vicinal, without"
        ),
    ] = 0.9,
    store: options.StoreOption = Path("runs/store"),
    processes: options.FewProcessesOption = None,
    ray: options.RayOption = None,
    json_file: options.JsonOption = None,
    track: options.TrackOption = None,
) -> None:
    """Say what a release gives away of its users, and whether it still defends.

    Publishes versions of a data set with fakes in it, and attacks the bytes that a server would
    send. Ends with exit code 1 when a goal is missed, a line each. docs/privacy.md has results.
    """
    from rich.console import Console

    from common.files import write_output
    from common.models import architecture
    from common.vicinal.settings import capped, space_named
    from common.vicinal.settings import preset as preset_named
    from server.model_store import ModelStore
    from sims.audit.audit import Plan, audited
    from sims.audit.goals import Goals, estimates
    from sims.audit.knowledge import Knowledge, choice_named
    from sims.audit.report import Audit, table_of
    from sims.evaluation.distant_store import store_of
    from sims.evaluation.experiment import NO_ATTACK, Experiment, check, load
    from sims.processes.workers import workers
    from sims.progress import shown
    from sims.recorded import recorded
    from sims.tracking.places import tracked

    goals = Goals(max_linkage, max_auc, max_exposed, max_hr, min_accuracy)
    changed = {
        "--k": k,
        "--min-support": min_support,
        "--neighbors-by": neighbors_by,
        "--assume-fakes": assume_fakes,
        "--row-cap": row_cap,
        "--train-privacy": train_privacy,
    }
    settings = preset_named(
        preset,
        model=architecture(model),
        neighbors=k,
        min_support=min_support,
        neighbors_by=None if neighbors_by is None else space_named(neighbors_by),
        assumed_fakes=options.parse_share("--assume-fakes", assume_fakes),
        row_cap=row_cap,
        fold_in=fold_in,
    )
    if attack == NO_ATTACK:
        raise InputError("an audit plants fakes: give an attack that makes some")
    experiment = Experiment(dataset, model, attack=attack, seed=seed, reading=reading.options())
    check(experiment)
    plan = Plan(
        experiment, Knowledge(known, choice_named(knowledge), noise), splits, accounts, queries
    )
    places = tracked(track)
    usual = preset_named("vicinal", model=architecture(model))
    with (
        workers(processes, ray, usual=1) as found_workers,
        ModelStore(store) as opened,
        shown() as progress,
    ):
        loaded = load(experiment)
        models = store_of(found_workers, opened)
        splits_found = audited(
            plan,
            _release(release, dataset, model, preset, settings, models, epsilon=train_privacy),
            _release("rows", dataset, model, "vicinal", usual, models),
            loaded,
            workers=found_workers,
            progress=progress,
        )
    users = loaded.ratings.user_count
    found = Audit(
        plan,
        release,
        preset,
        {
            **{option: str(value) for option, value in changed.items() if value is not None},
            **({"--fold-in": ""} if fold_in else {}),
        },
        capped(settings, users),
        loaded.source,
        users,
        goals,
        estimates(splits_found),
    )
    told = {**found.to_json(), "run": recorded()}
    if json_file is not None:
        write_output(json_file, (json.dumps(told, indent=2) + "\n").encode())
    console = Console()
    console.print(table_of(told))
    for line in found.missed:
        typer.echo(line)
    places.write(told, kept=json_file)
    if found.missed:
        raise typer.Exit(1)


def _release(
    name: str,
    dataset: str,
    model: str,
    preset: str,
    settings: "VicinalSettings",
    store: "Versions",
    *,
    epsilon: float | None = None,
) -> "Release":
    """Raises InputError for an unknown name, and for a model that is not trained here.

    epsilon  of a private training, in place of the preset's own
    """
    from common.models import architecture, model_named
    from common.vicinal.book import check_book, release_named
    from server.training.methods import Private
    from server.training.train import TrainingSettings, require_trainable
    from sims.audit.book import BookRelease
    from sims.audit.rows import RowsRelease
    from sims.evaluation.defenses import RVD, defense_named
    from sims.evaluation.experiment import require_parameters

    asked = release_named(name)
    require_parameters(model)
    robust = defense_named(RVD, model=model, preset=preset).robust
    if epsilon is not None:
        robust = Private(epsilon=epsilon)
        require_trainable(model, robust)
    training = TrainingSettings.on(dataset, model=model, robust=robust)
    rows = RowsRelease(training, settings, store)
    if asked == "rows":
        return rows
    check_book(model_named(architecture(model)), settings)
    return BookRelease(rows)
