"""`vicinal device`: users' devices, in one process or several, against a server.

Nothing heavy is imported here: it runs where only the packages of the extra `device` are.
"""

from pathlib import Path
from typing import Annotated

import typer

from sims.commands import options

app = typer.Typer(add_completion=False)


@app.command()
def device(
    users: Annotated[
        str,
        typer.Option(
            "--users",
            help="Whom to answer for: indices and ranges, as 0-99,120, ids, as id:ALICE, or @FILE "
            "with an id a line.",
            metavar="USERS",
        ),
    ],
    server: Annotated[
        str,
        typer.Option(
            "--server",
            help="Where `vicinal serve` listens; several that share a database with commas "
            "between, to be asked in turns.",
            metavar="HOST:PORT",
        ),
    ] = "127.0.0.1:50551",
    preset: options.PresetOption = "vicinal",
    release: Annotated[
        str | None,
        typer.Option(
            "--release",
            help="rows: ask for neighbors for every user; book: answer from the version's book, "
            "and never ask for a user (docs/private-offload.md); default: what the server gives.",
            metavar="NAME",
        ),
    ] = None,
    ratings: Annotated[
        Path,
        typer.Option(
            "--ratings",
            help="What the devices know: a file, or the folder, of `vicinal serve "
            "--device-ratings`.",
            metavar="PATH",
        ),
    ] = Path("runs/devices"),
    store: Annotated[
        Path,
        typer.Option(
            "--store", help="Folder of model versions, last packages and reports not yet delivered."
        ),
    ] = Path("runs/device"),
    store_bytes: Annotated[
        str | None,
        typer.Option(
            "--store-bytes",
            help="What the store may hold, as 500M; the least recently used versions leave.",
            metavar="SIZE",
        ),
    ] = None,
    encoding: Annotated[
        str,
        typer.Option(
            "--encoding",
            help="What to fetch versions as: float32, float16 (half of it) or int8 (a quarter).",
            metavar="NAME",
        ),
    ] = "float32",
    processes: Annotated[
        int, typer.Option("--processes", min=1, max=256, help="Processes that share the users.")
    ] = 1,
    when_unreachable: Annotated[
        str,
        typer.Option(
            "--when-unreachable",
            help="stale: answer from the user's last package, and say so; fail: end with an error.",
            metavar="stale|fail",
        ),
    ] = "stale",
    slower_than: Annotated[
        float | None,
        typer.Option(
            "--slower-than",
            min=0,
            help="Let the server answer while fine-tuning takes more milliseconds than this; "
            "default: never.",
            metavar="MS",
        ),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            help="The authority that signed the server's certificate; encrypts the connection.",
            metavar="FILE",
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            help="PEM, with --key: for a server that asks devices for certificates.",
            metavar="FILE",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", help="The private key of --certificate (PEM).", metavar="FILE"),
    ] = None,
    token: Annotated[
        Path | None,
        typer.Option("--token", help="A file with what `vicinal token` printed.", metavar="FILE"),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Talk to another machine without encryption too.")
    ] = False,
    slim: Annotated[
        bool,
        typer.Option(
            "--slim",
            help="Hold no model version: packages bring the rows that they need, nothing is kept.",
        ),
    ] = False,
    memory: Annotated[
        str,
        typer.Option(
            "--memory",
            help="What one answer may take of memory, as 500M; a server that asks for more is "
            "refused.",
            metavar="SIZE",
        ),
    ] = "1G",
    seconds: Annotated[
        float,
        typer.Option(
            "--seconds",
            min=0.001,
            help="What one answer may take of time, computed beforehand for the worst case.",
            metavar="SECONDS",
        ),
    ] = 10.0,
    least_users: Annotated[
        int,
        typer.Option(
            "--least-users",
            min=1,
            help="Users whom a report sums up at least; of fewer there is none, or it is "
            "randomized.",
            metavar="N",
        ),
    ] = 5,
    randomize: Annotated[
        float | None,
        typer.Option(
            "--randomize",
            help="Report fewer than --least-users in randomized responses of this ε: 0.1 says "
            "little, 10 nearly all; default: not at all.",
            metavar="EPSILON",
        ),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            help="What items are called: a map that `vicinal data ids` wrote; default: items.csv "
            "beside the device files.",
            metavar="FILE",
        ),
    ] = None,
    show: Annotated[
        int | None,
        typer.Option(
            "--show",
            min=0,
            help="Print so many items of each user's list, and write them to --json; default: 10 "
            "for a single user, else none.",
            metavar="N",
        ),
    ] = None,
    json_file: options.JsonOption = None,
) -> None:
    """Answer for users as their own devices would, and report counts to the server.

    The model version is fetched once and kept in the store. Then, per user: package, fine-tune,
    rank, count; the ranking itself stays here. While the server does not answer, a user's last
    package serves instead of a new one. Where the server gives a book, that is fetched with the
    version, and no user is asked for: the device answers for good, with or without the server.
    """
    import json
    import os

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")

    from rich.console import Console

    from client.budget import Budget
    from client.disclosure import Disclosure
    from client.link.channel import Access
    from client.run import DeviceRun, answer_users
    from client.stores.ratings import users_named
    from client.stores.versions import parse_size
    from common.errors import InputError
    from common.files import write_output
    from common.ids import indices_of, parse_named, read_map
    from common.versions.encodings import encoding_named
    from common.vicinal.book import release_named
    from sims.commands.device_report import device_json, device_table, list_tables
    from sims.progress import shown

    if when_unreachable not in ("stale", "fail"):
        raise InputError(f"--when-unreachable {when_unreachable[:40]!r}: choose stale or fail")
    named = parse_named("--users", users)
    fetched_as = encoding_named(encoding)
    wanted = None if release is None else release_named(release)
    budget = Budget(parse_size(memory), seconds)
    limit = None if store_bytes is None else parse_size(store_bytes)
    names = None if ids is None else read_map(ids)
    if names is None or names.users is None:
        chosen = users_named(ratings, named)
    else:
        count = len(names.users)
        chosen = indices_of(named, names.users, count, kind="user", option="users")
    show = (10 if len(chosen) == 1 else 0) if show is None else show
    with shown() as progress:
        outcome = answer_users(
            DeviceRun(
                server,
                ratings,
                store,
                preset,
                chosen,
                stale=when_unreachable == "stale",
                slower_than=None if slower_than is None else slower_than / 1000,
                access=Access(ca, certificate, key, token, insecure),
                slim=slim,
                encoding=fetched_as,
                store_bytes=limit,
                disclosure=Disclosure(least_users, randomize),
                budget=budget,
                names=names,
                release=wanted,
            ),
            processes=processes,
            progress=lambda done, total: progress("answer", done, total),
        )
    Console().print(device_table(outcome, preset))
    for table in list_tables(outcome, show):
        Console().print(table)
    if json_file is not None:
        text = json.dumps(device_json(outcome, preset, show), indent=2)
        write_output(json_file, f"{text}\n".encode())
