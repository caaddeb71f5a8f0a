"""`vicinal token`: a bearer token that binds a device to its users, or an operator's."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def token(
    secret: Annotated[
        Path,
        typer.Option(
            "--secret",
            help="The keys file that `vicinal serve --token-secret` reads.",
            metavar="FILE",
        ),
    ],
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="First put a new random key into the secret file, which is made when it is not "
            "there. Older keys stay valid until their lines are deleted.",
        ),
    ] = False,
    user: Annotated[
        int | None, typer.Option("--user", min=0, help="The index of the user.")
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
    """Print a token for one user, for a range of them, or for the operator."""
    from common.errors import InputError
    from common.files import write_file
    from server.trust.tokens import add_token_key, read_token_keys, user_range
    from sims.terminal import notes_wanted

    if user is not None and users is not None:
        raise InputError("give --user or --users, not both")
    if operator and (user is not None or users is not None):
        raise InputError("--operator is for no user: give it without --user and --users")
    if user is None and users is None and not (new_key or operator):
        raise InputError("give --user, --users for a range, or --operator")
    if not 0 < days <= 3650:
        raise InputError(f"--days {days:g}: more than 0 and at most 3650")
    if new_key:
        name = add_token_key(secret)
        if notes_wanted():
            typer.echo(f"key {name} stands first in {secret}", err=True)
    made = []
    if operator:
        made.append(read_token_keys(secret).operator_token(days=days))
    if user is not None or users is not None:
        chosen = user_range(users if users is not None else str(user))
        made.append(read_token_keys(secret).token(chosen, days=days))
    for each in made:
        if output is None:
            typer.echo(each)
        else:
            write_file(output, f"{each}\n".encode())
