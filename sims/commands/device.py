"""`vicinal device`: users' devices, in one process or several, against a server.

Nothing heavy is imported here unless ratings are rebuilt from a data set: with --ratings this
runs where only numpy, grpcio, protobuf, safetensors, threadpoolctl, typer and rich are.
"""

from pathlib import Path
from typing import Annotated

import typer

from sims import options

app = typer.Typer()


@app.command()
def device(
    users: Annotated[
        str, typer.Option("--users", help="Indices and ranges: 0-99,120.", metavar="USERS")
    ],
    server: Annotated[
        str, typer.Option("--server", help="Where `vicinal serve` listens.", metavar="HOST:PORT")
    ] = "127.0.0.1:50551",
    preset: options.PresetOption = "vicinal",
    ratings: Annotated[
        Path | None,
        typer.Option(
            "--ratings",
            help="What the devices know: a file of `vicinal serve --device-ratings`.",
            metavar="FILE",
        ),
    ] = None,
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="Without --ratings: the server's data set, split again here.",
            metavar="NAME",
        ),
    ] = "ml-100k",
    seed: Annotated[int, typer.Option("--seed", min=0, help="With --dataset: the server's.")] = 0,
    store: Annotated[
        Path, typer.Option("--store", help="Folder of model versions, kept between runs.")
    ] = Path("runs/device"),
    processes: Annotated[
        int, typer.Option("--processes", min=1, max=256, help="Processes that share the users.")
    ] = 1,
    json_file: options.JsonOption = None,
) -> None:
    """Answer for users as their own devices would, and report counts to the server.

    The model version is fetched once and kept in the store. Then, per user: package, fine-tune,
    rank, count; the ranking itself stays here.
    """
    import json
    import os
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from rich.console import Console

    from client.run import DeviceRun, answer_users, parse_users
    from common.files import write_file
    from sims.device_report import device_json, device_table
    from sims.progress import shown

    chosen = parse_users(users)
    with ExitStack() as stack:
        if ratings is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="vicinal-device-"))
            ratings = Path(folder) / "ratings.safetensors"
            _rebuild(dataset, seed, ratings)
        progress = stack.enter_context(shown())
        outcome = answer_users(
            DeviceRun(server, ratings, store, preset, chosen),
            processes=processes,
            progress=lambda done, total: progress("answer", done, total),
        )
    Console().print(device_table(outcome, preset))
    if json_file is not None:
        text = json.dumps(device_json(outcome, preset), indent=2)
        write_file(json_file, f"{text}\n".encode())


def _rebuild(dataset: str, seed: int, path: Path) -> None:
    """Write the device file that the server would write; needs what a server needs."""
    from client.local_ratings import write_local_ratings
    from server.datasets import load_dataset
    from server.splits import leave_one_out
    from sims.experiment import local_ratings

    split = leave_one_out(load_dataset(dataset, seed=seed), seed=seed)
    write_local_ratings(path, local_ratings(split))
