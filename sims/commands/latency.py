"""`vicinal latency`: server-side against device-side answers, measured."""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

app = typer.Typer(add_completion=False)


@app.command()
@expanded()
def latency(
    reading: ReadingFlags,
    preset: Annotated[
        str, typer.Option("--preset", help="What to measure: quick or full.", metavar="NAME")
    ] = "quick",
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="Synthetic ratings of this one's size: ml-100k ml-1m yelp; or synthetic:UxI, or "
            "a file. This and the next seven can be repeated; one of them replaces the preset's "
            "scenarios by a single block.",
            metavar="NAME",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="mf nsvd autorec cdae; default: the preset's.", metavar="NAME"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--settings",
            help="Settings of the vicinal defense: paper or vicinal; default: the preset's.",
            metavar="NAME",
        ),
    ] = None,
    release: Annotated[
        str,
        typer.Option(
            "--release",
            help="rows; or book: beside rows, in the same run, devices that answer from a book "
            "and ask nothing (docs/private-offload.md). It takes the settings vicinal.",
            metavar="NAME",
        ),
    ] = "rows",
    k: Annotated[
        list[int] | None, typer.Option("--k", help="Neighbors; default: the settings'.")
    ] = None,
    load: Annotated[
        list[float] | None,
        typer.Option(
            "--load",
            help="Load as a share of what the server can answer itself; default: the preset's.",
        ),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option("--rate", help="Load in requests a second, instead of --load."),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network", help="loopback wifi 4g 3g; default: the preset's.", metavar="NAME"
        ),
    ] = None,
    device_share: Annotated[
        list[float] | None,
        typer.Option(
            "--device-share",
            help="Share of a core that a device has, as 0.25; default: the preset's.",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="Seconds that a scenario takes; default: the preset's."),
    ] = None,
    interval: Annotated[
        float,
        typer.Option("--interval", help="Seconds between a device's questions, for fleets."),
    ] = 600.0,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="Folder that keeps results and models; default: runs/latency/DIGEST."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw pictures into this folder.", metavar="FOLDER"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", help="Write everything as Markdown to this file.", metavar="FILE"),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            help="Let the cores of this Ray cluster fit what was measured here, a setting each, as "
            "10.0.0.1:6379 (docs/how-to/ray.md).",
            metavar="ADDRESS",
        ),
    ] = None,
    json_file: options.JsonOption = None,
    track: options.TrackOption = None,
) -> None:
    """Measure server-side against device-side latency; print tables and the break-even line.

    A real server and real device processes, and a process that asks at random times whatever
    the answers do. What has a result in the folder is not measured again, so that an
    interrupted run goes on where it stopped.
    """
    import json
    import shlex
    import sys

    from rich.console import Console

    from common.files import write_output
    from common.vicinal.book import release_named
    from sims.latency.measure import run_plan
    from sims.latency.plan import plan_named, timed
    from sims.latency.report import as_json, setting_reports
    from sims.latency.table import sheets, summary
    from sims.processes.ray_session import require_ray
    from sims.processes.workers import workers
    from sims.progress import shown
    from sims.recorded import recorded
    from sims.tracking.places import tracked

    plan = plan_named(
        preset,
        book=release_named(release) == "book",
        datasets=dataset,
        models=model,
        presets=settings,
        ks=k,
        loads=load,
        rates=rate,
        networks=network,
        shares=device_share,
        reading=reading.options(),
    )
    plan = timed(plan, seconds=seconds, interval=interval)
    folder = folder or Path("runs/latency") / plan.digest
    places = tracked(track)
    if ray is not None:
        require_ray(ray)
    with shown() as report:
        results = run_plan(plan, folder, report)
    # Connected only now: measuring is not to be disturbed.
    with workers(None, ray, usual=1) as fitters:
        parts = setting_reports(plan, results, interval=interval, workers=fitters)
    console = Console()
    for part in parts:
        for sheet in sheets(part):
            sheet.show(console)
    summary(parts).show(console)
    files: list[Path] = []
    if output is not None:
        from sims.latency.figures import draw

        files = [file for part in parts for file in draw(part, output)]
        console.print(f"{len(files)} pictures in {output}", markup=False, highlight=False)
    if page is not None:
        from sims.latency.page import page_of

        apart = all(one.apart for one in results)
        command = shlex.join(["vicinal", *sys.argv[1:]])
        write_output(page, page_of(parts, files, page, command=command, apart=apart).encode())
    told = {**as_json(plan, parts), "run": recorded()}
    if json_file is not None:
        write_output(json_file, f"{json.dumps(told, indent=1)}\n".encode())
    places.write(told, kept=json_file)
