"""`vicinal token`: a bearer token that binds a device to its users, or an operator's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sims.commands import options
from sims.commands.expanding import expanded
from sims.commands.reading import ReadingFlags

if TYPE_CHECKING:  # heavy, and of no use until a command runs
    from server.data.reading_options import ReadingOptions
    from server.trust.tokens import TokenKeys

app = typer.Typer(add_completion=False)


@app.command()
@expanded()
def token(
    reading: ReadingFlags,
    secret: Annotated[
        Path | None,
        typer.Option(
            "--secret",
            help="The keys file that `vicinal serve --token-secret` reads.",
            metavar="FILE",
        ),
    ] = None,
    database: options.DatabaseOption = None,
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="First put a new random key into the secret file, which is made when it is not "
            "there, or into the database. Older keys stay valid until they are deleted.",
        ),
    ] = False,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            help="The user's index; or id, as id:ALICE, with --dataset and --store as the server "
            "has them, which keeps ids in the order in which they came.",
            metavar="USER",
        ),
    ] = None,
    users: Annotated[
        str | None,
        typer.Option(
            "--users", help="A range of users, as 0-99, instead of --user.", metavar="A-B"
        ),
    ] = None,
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="A token for whoever runs the server, instead: it opens the tally and no package.",
        ),
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="What the server serves: the file, folder or table, for --user id:NAME.",
            metavar="NAME",
        ),
    ] = None,
    store: Annotated[
        Path, typer.Option("--store", help="The server's store, for --user id:NAME.")
    ] = Path("runs/store"),
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write the token into this file, which its owner alone may read.",
            metavar="FILE",
        ),
    ] = None,
    days: Annotated[
        float, typer.Option("--days", help="Days for which the token is valid, at most 3650.")
    ] = 30.0,
) -> None:
    """Print a token for one user, for a range of them, or for the operator.

    The keys are in a file, or with --database where several servers share them.
    """
    from common.errors import InputError
    from common.files import write_file
    from server.trust.tokens import user_range
    from sims.terminal import notes_wanted

    if user is not None and users is not None:
        raise InputError("give --user or --users, not both")
    if operator and (user is not None or users is not None):
        raise InputError("--operator is for no user: give it without --user and --users")
    if user is None and users is None and not (new_key or operator):
        raise InputError("give --user, --users for a range, or --operator")
    if not 0 < days <= 3650:
        raise InputError(f"--days {days:g}: more than 0 and at most 3650")
    made = []
    with _keys(secret, database) as (place, add, read):
        if new_key:
            name = add()
            if notes_wanted():
                typer.echo(f"key {name} stands first in {place}", err=True)
        if operator:
            made.append(read().operator_token(days=days))
        if user is not None or users is not None:
            one = partial(one_user, dataset=dataset, store=store, reading=reading.options())
            chosen = user_range(users or "") if user is None else one(user)
            made.append(read().token(chosen, days=days))
    for each in made:
        if output is None:
            typer.echo(each)
        else:
            write_file(output, f"{each}\n".encode())


def one_user(text: str, *, dataset: str | None, store: Path, reading: "ReadingOptions") -> range:
    """`7`, or `id:ALICE` by a server's store. Raises InputError."""
    from common.errors import InputError
    from common.ids import PREFIX
    from server.data.growth import index_of
    from server.trust.tokens import user_range

    if text.startswith(PREFIX):
        index = index_of(text, dataset, store, reading)
        return range(index, index + 1)
    found = user_range(text)
    if len(found) > 1:
        raise InputError(f"--user {text[:80]}: is a range: give --users")
    return found


@contextmanager
def _keys(
    secret: Path | None, database: str | None
) -> "Iterator[tuple[str, Callable[[], str], Callable[[], TokenKeys]]]":
    """Where keys are, what adds one, and what reads them. Raises InputError."""
    from common.errors import InputError
    from server.sql.postgresql import Database
    from server.trust.token_tables import add_shared_key, read_shared_keys
    from server.trust.tokens import add_token_key, read_token_keys

    if (secret is None) == (database is None):
        raise InputError("give --secret FILE, or --database ADDRESS of servers that share keys")
    if secret is not None:
        yield str(secret), partial(add_token_key, secret), partial(read_token_keys, secret)
        return
    assert database is not None
    with Database(database) as opened:
        yield opened.shown, partial(add_shared_key, opened), partial(read_shared_keys, opened)
