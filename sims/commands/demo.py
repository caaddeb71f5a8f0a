"""`vicinal demo`: poison, train, defend on devices, compare."""

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

if TYPE_CHECKING:
    from datetime import datetime

    from rich.table import Table

app = typer.Typer(add_completion=False)

ROWS = {
    "clean": "clean model",
    "undefended": "undefended",
    "defended_vicinal": "defended, preset vicinal",
    "popularity": "popularity ranking",
    "userknn": "userknn",
    "ease": "ease",
}


@app.command()
@expanded()
def demo(
    reading: ReadingFlags,
    dataset: options.DatasetOption = "ml-100k",
    seed: options.SeedOption = 0,
    release: options.ReleaseOption = "rows",
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder in which each demo makes one of its own.")
    ] = Path("runs"),
    track: options.TrackOption = None,
) -> None:
    """Poison real ratings, train on them, and let devices defend every user.

    Starts one server process and four device processes on loopback. When no source of the data
    set answers, it says so and runs on synthetic ratings. With --release book the devices answer
    from a book, without asking for a user. Results, logs and a picture are kept
    in a folder of their own.
    """
    import json
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.panel import Panel

    from common.files import write_output
    from common.vicinal.book import release_named
    from sims.figures.bars import before_and_after, demo_outcomes
    from sims.figures.style import save
    from sims.progress import shown
    from sims.recorded import recorded
    from sims.serving.demo import choose_experiment, configuration, run_demo
    from sims.tracking.places import tracked

    given = release_named(release)
    places = tracked(track)
    console = Console()
    experiment, substitute = choose_experiment(dataset, seed, reading.options())
    if substitute is not None:
        console.print(
            Panel(
                f"{substitute.reason}\n\nThe demo runs on SYNTHETIC ratings instead.",
                title=f"{dataset} cannot be had",
                border_style="bold red",
                width=80,
            )
        )
    folder = new_folder(runs, datetime.now(UTC))
    write_output(folder / "config.toml", configuration(experiment, given).encode())
    with shown() as report:
        results = run_demo(experiment, folder, report, given)
    told = {**results, "run": recorded()}
    write_output(folder / "results.json", (json.dumps(told, indent=2) + "\n").encode())
    title = (
        f"{results['dataset']} · {results['model']} · {results['attack']} · "
        f"{results['users']} users · seed {results['seed']}"
    )
    picture = before_and_after(demo_outcomes(results), None)
    save(picture, folder / "before-and-after.png")
    console.print(outcome_table(results, title, experiment.list_length))
    console.print(cost_table(results))
    console.print(
        f"{results['source']}; {results['split']} split; {results['seconds']:.0f} s; "
        f"results in {folder}"
    )
    places.write(told, kept=folder)


def new_folder(runs: Path, now: "datetime") -> Path:
    """A folder of this run alone, named after the second; others of that second get a number.

    Raises OSError.
    """
    name = now.strftime("%Y%m%d-%H%M%S-demo")
    for number in count(1):
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError  # count() has no end


def outcome_table(results: dict[str, Any], title: str, length: int) -> "Table":
    """Hit ratio and accuracy by condition."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in (f"HR@{length}", f"accuracy@{length}", "of liked items"):
        table.add_column(heading, justify="right")
    parts = ("hit_ratio", "accuracy", "accuracy_thresholded")
    for name, label in ROWS.items():
        style = "bold" if name == "defended_vicinal" else None
        if name == "defended_vicinal" and results["release"] == "book":
            label += ", from a book"
        table.add_row(label, *(f"{results[part][name]:.3f}" for part in parts), style=style)
    return table


def cost_table(results: dict[str, Any]) -> "Table":
    """Latency on either side and bytes shipped, by preset."""
    from rich.table import Table

    presets = list(results["latency_seconds"])
    table = Table(title="per user", title_justify="left")
    table.add_column("")
    for preset in presets:
        table.add_column(f"preset {preset}", justify="right")
    for key, label in (
        ("device", "device: request to ranking"),
        ("device_tune_and_rank", "device: fine-tune and rank"),
        ("server", "server-side answer"),
    ):
        cells = []
        for preset in presets:
            seconds = results["latency_seconds"][preset].get(key)
            told = "–"
            if seconds is not None:
                told = f"{1000 * seconds['p50']:.1f} / {1000 * seconds['p99']:.1f} ms"
            cells.append(told)
        table.add_row(f"{label}, p50 / p99", *cells)
    sizes = results["bytes"]
    table.add_row("bytes, cold (the model, once)", *[f"{sizes['cold']:,}"] * len(presets))
    table.add_row(
        "bytes per request, mean", *(f"{sizes[f'per_request_{name}']:,.0f}" for name in presets)
    )
    return table
