"""`vicinal figure`: pictures of a grid's results."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)

NAMES = ("before-after", "k-ablation", "alpha-ablation", "embeddings")


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help=" ".join(NAMES), metavar="NAME")],
    results: Annotated[
        Path,
        typer.Argument(help="A folder that `vicinal grid` filled, or one of its cells' files."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", dir_okay=False, help="A .png or .svg file.")
    ],
    dataset: Annotated[str | None, typer.Option("--dataset", help="Of several.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Of several.")] = None,
    attack: Annotated[
        str | None, typer.Option("--attack", help="Of several; ablations draw all of them.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Of several; for ablations.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of several; for embeddings, others take the mean.")
    ] = None,
    store: options.StoreOption = Path("runs/store"),
) -> None:
    """Draw results.

    before-after: bars of hit ratio and accuracy. k-ablation, alpha-ablation: both against k or
    α, with ranking by popularity as a line. embeddings: t-SNE of users, fakes marked; trains the
    model of the cell unless the store has it.
    """
    from common.errors import InputError
    from common.names import unknown
    from sims.figures.bars import KINDS
    from sims.grid.results import read_result, read_results
    from sims.progress import shown

    if name not in NAMES:
        raise unknown("figure", name, NAMES)
    if output.suffix.lower().removeprefix(".") not in KINDS:
        raise InputError(f"{output}: name a file that ends in .{' or .'.join(KINDS)}")
    cells = [read_result(results)] if results.is_file() else read_results(results)
    if name == "embeddings":
        from sims.figures.embedding import draw_embeddings

        with shown() as report:
            draw_embeddings(
                cells,
                output,
                dataset=dataset,
                model=model,
                attack=attack,
                seed=seed,
                store=store,
                report=report,
            )
        return
    from sims.figures.grid import draw_alpha_ablation, draw_before_and_after, draw_k_ablation

    if name == "before-after":
        draw_before_and_after(cells, output, dataset=dataset, model=model, attack=attack)
        return
    draw = draw_k_ablation if name == "k-ablation" else draw_alpha_ablation
    draw(cells, output, dataset=dataset, model=model, preset=preset)
