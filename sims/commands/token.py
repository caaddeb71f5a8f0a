"""`vicinal token`: a bearer token that binds a device to its users."""

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
    days: Annotated[
        float, typer.Option("--days", help="Days for which the token is valid, at most 3650.")
    ] = 30.0,
) -> None:
    """Print a token for one user, or for a range of them."""
    from common.errors import InputError
    from server.trust.tokens import add_token_key, read_token_keys, user_range
    from sims.terminal import notes_wanted

    if user is not None and users is not None:
        raise InputError("give --user or --users, not both")
    if user is None and users is None and not new_key:
        raise InputError("give --user, or --users for a range")
    if not 0 < days <= 3650:
        raise InputError(f"--days {days:g}: more than 0 and at most 3650")
    if new_key:
        name = add_token_key(secret)
        if notes_wanted():
            typer.echo(f"key {name} stands first in {secret}", err=True)
    if user is not None or users is not None:
        chosen = user_range(users if users is not None else str(user))
        typer.echo(read_token_keys(secret).token(chosen, days=days))
