"""What a file is by its first bytes, whatever it is called: packed, text, or no ratings at all."""

from pathlib import Path
from typing import Final

from common.errors import InputError

PROBE: Final = 512
ZIP: Final = ".zip"
PACKED: Final = (
    (b"\x1f\x8b", ".gz"),
    (b"\xfd7zXZ\x00", ".xz"),
    (b"(\xb5/\xfd", ".zst"),
    (b"PK\x03\x04", ZIP),
)
_CSV: Final = "save it as csv"
_SQLITE: Final = "give its address: sqlite:///PATH?table=NAME"
_UNPACK: Final = "unpack it first"
_PYTHON: Final = "load it in Python, and hand it to vicinal.load, or write a csv or parquet file"
# Of what is no table of ratings, what it is and what to do.
FOREIGN: Final = (
    (b"SQLite format 3\x00", "a file of SQLite", _SQLITE),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet", _CSV),
    (b"%PDF", "a PDF", "find its data"),
    (b"\x89HDF", "a file of HDF5", _PYTHON),
    (b"\x93NUMPY", "an array of numpy", _PYTHON),
    (b"\x80\x04\x95", "a pickle, which is never opened", _PYTHON),
    (b"Rar!", "an archive", _UNPACK),
    (b"7z\xbc\xaf", "an archive", _UNPACK),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file", "get it: git lfs pull"),
)
# By the end of a name, where the file says nothing.
FOREIGN_ENDS: Final = {
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _CSV),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), _SQLITE),
    ".duckdb": "give its address: duckdb:///PATH?table=NAME",
    **dict.fromkeys((".tar", ".tgz", ".rar", ".7z"), _UNPACK),
    **dict.fromkeys((".pkl", ".pickle", ".npy", ".npz", ".h5", ".hdf5", ".mat"), _PYTHON),
    **dict.fromkeys((".rds", ".rdata"), "write it as csv, as R's write.csv does"),
    **dict.fromkeys(
        (".doc", ".docx", ".pdf", ".html", ".xml", ".toml", ".py", ".ipynb"), "name the ratings"
    ),
}


def packing_of(first: bytes, suffix: str) -> str:
    """How a file is packed: what its first bytes say, else the end of its name.

    A name says so in vain where the bytes are text, as browsers leave it after unpacking.

    >>> packing_of(b"user,item", ".gz"), packing_of(bytes([31, 139, 8]), ".csv")
    ('', '.gz')
    """
    for begins, packing in PACKED:
        if first.startswith(begins):
            return packing
    if first.startswith(b"BZh") and first[4:10] == b"1AY&SY":
        return ".bz2"
    return "" if first and _is_text(first) else suffix


def refuse_foreign(first: bytes, name: str) -> None:
    """Raises InputError for what begins as no table of ratings does."""
    for begins, what, way in FOREIGN:
        if first.startswith(begins):
            raise InputError(f"{name}: is {what}: {way}")
    if first[257:262] == b"ustar":
        raise InputError(f"{name}: is a tar archive: {_UNPACK}, as tar xf does")
    start = first.lstrip()[:20].lower()
    if start.startswith((b"<!doctype", b"<html")):
        raise InputError(
            f"{name}: is a web page, not ratings: did its download ask to sign in, or to agree?"
        )
    if start.startswith(b"<?xml"):
        raise InputError(f"{name}: is XML: {_CSV}")


def refuse_end(suffix: str, name: str, kinds: str) -> None:
    """Raises InputError for a name that ends as that of no ratings does."""
    if suffix in FOREIGN_ENDS:
        raise InputError(
            f"{name}: unknown kind of file {suffix!r}: {FOREIGN_ENDS[suffix]}; read are {kinds}"
        )


def first_bytes(path: Path) -> bytes:
    """Raises OSError."""
    with path.open("rb") as raw:
        return raw.read(PROBE)


def _is_text(first: bytes) -> bool:
    return b"\x00" not in first and all(each >= 32 or each in b"\t\r\n\f" for each in first)
