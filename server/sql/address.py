"""Addresses of PostgreSQL as people give them: without passwords, and as libpq wants them.

An address stands in process lists, results and logs, so that it may hold no password: libpq finds
it in PGPASSWORD, ~/.pgpass, the file that passfile=… names, or a service file.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote

from common.errors import InputError
from common.text import one_line

# Words of a connection that are secrets themselves, and not names of files.
SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key",
                  "scram_server_key")  # fmt: skip
CONNECT_SECONDS: Final = 10


def hidden_secrets(address: str) -> str:
    """What may be shown of an address, whatever is in it.

    >>> hidden_secrets("postgresql://ann:pw@host/db?password=x")
    'postgresql://ann:***@host/db?password=***'
    """
    scheme, rest = address.split("://", maxsplit=1)
    rest, _, query = rest.partition("?")
    place, at, host = rest.rpartition("@")
    if at and ":" in place:
        place = f"{place.split(':', maxsplit=1)[0]}:***"
    words = [
        f"{word.partition('=')[0]}=***"
        if unquote(word.partition("=")[0]).strip().lower() in SECRETS
        else word
        for word in query.split("&")
    ]
    return f"{scheme}://{place}{at}{host}" + (f"?{'&'.join(words)}" if query else "")


def require_no_secret(address: str) -> None:
    """Raises InputError for an address that has a password in it."""
    shown = hidden_secrets(address)
    if shown != address:
        raise InputError(
            f"{shown}: a password here would stand in process lists and results: leave it out, and "
            "give it in PGPASSWORD, in ~/.pgpass, or in a file that passfile=… names"
        )


def library(name: str, shown: str) -> ModuleType:
    """A module of the extra `database`. Raises InputError where that is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"{shown}: {name} is not installed: pip install 'vicinal[database]'"
        ) from None


def conninfo(connection: str, shown: str, usual: Mapping[str, Any]) -> str:
    """An address with what it does not say itself. Raises InputError for unknown words."""
    psycopg = library("psycopg", shown)
    try:
        words = psycopg.conninfo.conninfo_to_dict(connection)
    except psycopg.Error as error:
        raise InputError(f"{shown}: {said(error)}") from None
    every = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 60_000,
        "application_name": "vicinal",
        **usual,
    }
    return str(psycopg.conninfo.make_conninfo(**{**every, **words}))


def said(error: BaseException) -> str:
    """What libpq or the server says, on one line; neither repeats a password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[0]) if lines else type(error).__name__
