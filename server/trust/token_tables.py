"""Keys of bearer tokens in a database that servers share; the newest signs, all verify."""

import secrets
from typing import Final

from common.errors import InputError
from server.sql.postgresql import Database
from server.sql.statements import SqlError
from server.trust.tokens import LEAST_SECRET_LENGTH, TokenKeys, is_key

MAX_KEYS: Final = 1000


def shared_keys(database: Database) -> dict[str, str]:
    """By name, the newest first. Raises InputError for what are none, SqlError."""
    with database.transaction() as sql:
        asked = (
            "SELECT left(name, 100), left(secret, 1000) FROM token_keys ORDER BY added DESC "
            f"LIMIT {MAX_KEYS}"
        )
        rows = sql.execute(asked).fetchall()
    if not all(is_key(name, secret) for name, secret in rows):
        raise InputError(f"{database.shown}: holds token keys that are none")
    return dict(rows)


def read_shared_keys(database: Database) -> TokenKeys:
    """Raises InputError where there are none, or the database does not answer."""
    try:
        keys = shared_keys(database)
    except SqlError as error:
        raise InputError(f"{database.shown}: {error}") from None
    if not keys:
        raise InputError(
            f"{database.shown}: holds no token keys; "
            "`vicinal token --new-key --database ADDRESS` makes one"
        )
    return TokenKeys(keys)


def add_shared_key(database: Database) -> str:
    """Make a new random key, with which tokens are signed from now on; its name.

    Raises InputError where the database does not answer.
    """
    name, secret = secrets.token_hex(4), secrets.token_urlsafe(LEAST_SECRET_LENGTH)
    try:
        with database.transaction() as sql:
            sql.execute("INSERT INTO token_keys (name, secret) VALUES (?, ?)", (name, secret))
    except (SqlError, ValueError) as error:
        raise InputError(f"{database.shown}: {error}") from None
    return name
