"""Where ratings are, as people name it: a file, a folder, and what is neither."""

from pathlib import Path
from typing import Final

from common.errors import InputError
from common.names import nearest
from server.data.formats import FOLDERS, folder_files
from server.data.reading_options import ReadingOptions

# How many names beside a file that is not there are compared with its name.
MOST_SIBLINGS: Final = 10_000


def require_place(spec: str, path: Path, reading: ReadingOptions | None = None) -> bool:
    """Whether it is there; False for a word that may be meant for the name of a data set.

    reading  None: of what may be no folder

    Raises InputError for what cannot be read, with the way on.
    """
    _refuse_address(spec)
    try:
        if spec and path.is_dir():
            if reading is not None and folder_files(path, reading):
                return True
            raise InputError(
                f"{path}: is a folder, not a rating file: name the file in it"
                + (f", or give {FOLDERS}" if reading is not None else "")
            )
        if path.is_file():
            return True
        if spec and path.exists():
            raise InputError(f"{path}: is no regular file: write what comes from it into one")
        siblings = [each.name for each in sorted(path.parent.iterdir())[:MOST_SIBLINGS]]
    except PermissionError:
        raise InputError(f"{path}: may not be read: permission denied") from None
    except (OSError, ValueError):
        # A name that is too long, a loop of links, a folder that is none.
        siblings = []
    if _is_link(path):
        raise InputError(f"{path}: is a link to nothing")
    near = nearest(path.name, siblings) if path.name else None
    hint = f": did you mean {path.parent / near}?" if near else ""
    if reading is None or path.suffix or len(path.parts) > 1 or near:
        raise InputError(f"{path}: no such file{hint}")
    return False


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


def _refuse_address(spec: str) -> None:
    """Raises InputError for what is an address, and of no database that is read."""
    scheme, slashes, rest = spec.partition("://")
    if not slashes or not scheme.replace("+", "").isalnum():
        return
    if scheme.lower() == "file":
        raise InputError(f"{spec}: give the path alone: {'/' + rest.lstrip('/')}")
    if scheme.lower() in ("mysql", "mariadb", "mssql", "oracle", "mongodb", "redis", "clickhouse",
                          "snowflake", "bigquery"):  # fmt: skip
        raise InputError(
            f"{scheme}: databases are postgresql://, sqlite:/// and duckdb:///: write the ratings "
            "into a csv or parquet file"
        )
    raise InputError(f"{spec}: nothing is fetched from addresses: download the file, and name it")
