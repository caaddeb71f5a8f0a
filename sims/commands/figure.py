"""`vicinal figure`: pictures of a grid's results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sims.commands import options

if TYPE_CHECKING:
    from sims.figures.outcomes import Outcomes

app = typer.Typer(add_completion=False)

NAMES = (
    "before-after",
    "heat-map",
    "scatter",
    "k-ablation",
    "alpha-ablation",
    "attack-sizes",
    "embeddings",
    "demo",
    "history",
)


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help=f"What to draw: {' '.join(NAMES)}.", metavar="NAME")],
    results: Annotated[
        Path,
        typer.Argument(
            help="A folder that `vicinal grid` filled, one of its cells' files, or (before-after, "
            "heat-map, scatter) a page that it printed, as its tables.md; of demo and history, the "
            "folder of `vicinal demo` or `vicinal simulate --rounds`."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", dir_okay=False, help="The picture to write, .png or .svg."),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", help="Which one, where the results have several.", metavar="NAME"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Which one, where the results have several.", metavar="NAME"),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(
            "--attack",
            help="For before-after and embeddings: which one, where the results have several.",
            metavar="NAME",
        ),
    ] = None,
    defense: Annotated[
        list[str] | None,
        typer.Option(
            "--defense",
            help="Draw this one alone, beside undefended and references; repeat for several.",
            metavar="NAME",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="For curves: which one of several.", metavar="NAME"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", help="For embeddings: which one of several; other figures take the mean."
        ),
    ] = None,
    store: options.StoreOption = Path("runs/store"),
) -> None:
    """Draw a picture of results.

    before-after: bars of hit ratio and accuracy under one attack, every defense of the folder.
    heat-map: every defense against every attack. scatter: hit ratio against accuracy, a point for
    each defense under each attack. k-ablation, alpha-ablation, attack-sizes: both against k, α or
    the share of fakes, a line an attack. embeddings: t-SNE of users, fakes marked; trains the model
    of the cell unless the store has it. demo: bars of what `vicinal demo` measured. history: both
    over the rounds of a fleet.

    Numbers are means over seeds, error bars and ± their standard deviation.
    """
    from common.errors import InputError
    from common.names import unknown
    from sims.figures.style import KINDS, save
    from sims.grid.results import read_named
    from sims.progress import shown

    if name not in NAMES:
        raise unknown("figure", name, NAMES)
    if output.suffix.lower().removeprefix(".") not in KINDS:
        raise InputError(f"{output}: name a file that ends in .{' or .'.join(KINDS)}")
    if name == "embeddings":
        from sims.figures.embedding import embeddings_figure

        with shown() as report:
            drawn = embeddings_figure(
                read_named(results),
                dataset=dataset,
                model=model,
                attack=attack,
                seed=seed,
                store=store,
                report=report,
            )
    elif name in ("k-ablation", "alpha-ablation", "attack-sizes"):
        from sims.figures.ablation import SWEPT, ablation

        cells = read_named(results)
        drawn = ablation(cells, SWEPT[name], dataset=dataset, model=model, preset=preset)
    elif name == "demo":
        from sims.figures.bars import before_and_after, read_demo

        drawn = before_and_after(read_demo(results), None)
    elif name == "history":
        from sims.figures.history import history_figure
        from sims.fleet.history import read_history

        drawn = history_figure(read_history(results))
    else:
        from sims.figures.bars import before_and_after
        from sims.figures.heat_map import heat_map
        from sims.figures.scatter import scatter

        outcomes = _outcomes(results, dataset, model)
        if defense:
            outcomes = outcomes.of_defenses(defense)
        if name == "before-after":
            drawn = before_and_after(outcomes, attack)
        else:
            drawn = heat_map(outcomes) if name == "heat-map" else scatter(outcomes)
    save(drawn, output)


def _outcomes(results: Path, dataset: str | None, model: str | None) -> "Outcomes":
    """Of a folder, a cell's file or a printed page."""
    from sims.figures.outcomes import outcomes_of, read_page
    from sims.grid.results import read_named

    if results.suffix == ".md" and results.is_file():
        return read_page(results, dataset=dataset, model=model)
    return outcomes_of(read_named(results), dataset=dataset, model=model)
