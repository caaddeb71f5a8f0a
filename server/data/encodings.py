"""Text of any encoding as UTF-8: recognized where that is certain, else as it is said."""

import codecs
import re
from typing import Final

from common.errors import InputError

CHUNK: Final = 16 << 20
# Of a file without a mark of its byte order, UTF-16 shows in these first bytes.
PROBE: Final = 2000
MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# In Latin-1 these are controls, which no text has; in Windows' encodings they are letters.
CONTROLS: Final = re.compile(rb"[\x80-\x9f]")


def as_utf8(data: bytes, name: str, encoding: str | None) -> tuple[bytes, list[str]]:
    """The same text in UTF-8 without a mark, and what has to be known of it.

    Raises InputError naming the line that cannot be read.
    """
    data, notes = _as_utf8(data, name, encoding)
    if (at := data.find(b"\x00")) >= 0:
        line = data.count(b"\n", 0, at) + 1
        raise InputError(
            f"{name} line {line}: holds NUL bytes: no text, or damaged, or of another --encoding"
        )
    return data, notes


def _as_utf8(data: bytes, name: str, encoding: str | None) -> tuple[bytes, list[str]]:
    said = encoding
    if encoding is None:
        encoding = next((each for mark, each in MARKS if data.startswith(mark)), None)
    if encoding is None:
        encoding = _utf16(data)
    if encoding is not None and not _is_utf8(encoding):
        return _recoded(data, name, encoding), []
    # Programs that put files together leave several.
    start = 0
    while data.startswith(codecs.BOM_UTF8, start):
        start += len(codecs.BOM_UTF8)
    data = data[start:]
    bad = _first_invalid(data)
    if bad is None:
        return data, []
    line = data.count(b"\n", 0, bad) + 1
    if said is not None:
        raise InputError(f"{name} line {line}: not {said[:20]} text; give another --encoding")
    if any(ord(each) > 127 for each in set(data.decode("utf-8", errors="ignore"))):
        raise InputError(
            f"{name} line {line}: not UTF-8 text, though other lines are: damaged, or give "
            "--encoding latin-1"
        )
    if CONTROLS.search(data):
        raise InputError(
            f"{name} line {line}: not UTF-8 text: name its encoding, as --encoding cp1252"
        )
    return data.decode("latin-1").encode(), [
        "the text is taken for latin-1, since it is not UTF-8 (--encoding)"
    ]


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")


def _utf16(data: bytes) -> str | None:
    """Of mostly plain letters every second byte is 0."""
    probe = data[:PROBE]
    if len(probe) < 4:
        return None
    even, odd = probe[::2], probe[1::2]
    if odd.count(0) > 0.8 * len(odd) and even.count(0) < 0.2 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.8 * len(even) and odd.count(0) < 0.2 * len(odd):
        return "utf-16-be"
    return None


def _recoded(data: bytes, name: str, encoding: str) -> bytes:
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except (UnicodeError, LookupError, ValueError, TypeError, AttributeError):
        raise InputError(f"{name}: not {encoding[:20]} text; give another --encoding") from None


def _first_invalid(data: bytes) -> int | None:
    """Where the first byte is that UTF-8 cannot have; None where there is none."""
    if data.isascii():
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), CHUNK):
        chunk = data[start : start + CHUNK]
        kept = len(decoder.getstate()[0])
        try:
            decoder.decode(chunk, final=start + CHUNK >= len(data))
        except UnicodeDecodeError as error:
            return start - kept + error.start
    return None
