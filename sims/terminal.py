"""How the command line writes: in any encoding, and how much of it."""

import codecs
import os
import sys
from io import TextIOWrapper
from typing import Final

# Set while only results and errors are wanted; processes that are started inherit it.
QUIET: Final = "VICINAL_QUIET"

_ASCII: Final = {
    "…": "...",
    "–": "-",
    "—": "-",
    "·": "-",
    "×": "x",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "α": "alpha",
    "µ": "u",
}


def set_quiet(quiet: bool) -> None:
    """Show no progress and no notes from now on, or show them."""
    if quiet:
        os.environ[QUIET] = "1"
    else:
        os.environ.pop(QUIET, None)


def notes_wanted() -> bool:
    """Whether to show what is neither a result nor an error."""
    return QUIET not in os.environ


def write_anything() -> None:
    """Let stdout and stderr take every character; one that they cannot encode is spelled out."""
    codecs.register_error("vicinal", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="vicinal")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """In ASCII: by the table, bytes of a file name that is no text in hex, the rest as `?`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(map(_one, characters)), error.end


def _one(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _ASCII.get(character, "?")
