"""The book of a server's version, and what the server said of it: all that a device needs offline.

    FOLDER/SERVER.book    header, description of the server, book

SERVER is a digest of its address. The header holds a SHA-256 over the server's address and all
that follows: a file that was damaged, cut off or renamed is deleted and never read further. What it
holds is checked as if it came from the server. It does not grow old: a book says nothing of the
device's user, and so is as right as the version that it goes with.
"""

import hashlib
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, final

from google.protobuf.message import DecodeError

from common.errors import InputError
from common.files import read_file, write_file
from common.versions.version import version_digest
from common.vicinal.book import ItemBook
from common.wire import offload_pb2 as wire
from common.wire.book import decode_book
from common.wire.description import Description, description_from_wire, description_to_wire

_SUFFIX: Final = ".book"
_MARK: Final = b"vicinal book 1"
# SHA-256; bytes of the description.
_HEADER: Final = struct.Struct("<32sI")
# Of the largest description and the book of the most items that a version may have, and more.
_MOST_BYTES: Final = 64 << 20


class KeptBook(NamedTuple):
    """A book, and the server's description when it came."""

    description: Description
    book: ItemBook


@final
class BookStore:
    """A folder of books, one a server; it is made when the first one is kept.

    server  HOST:PORT whose book is kept and given
    """

    def __init__(self, folder: Path, server: str) -> None:
        name = hashlib.sha256(server.encode()).hexdigest()[:16]
        self.path = folder / f"{name}{_SUFFIX}"
        self._server = server

    def keep(self, description: Description, data: bytes) -> None:
        """Keep a checked book in the place of the last one.

        A disk that is full or not to be written on is no reason to fail an answer: nothing is
        kept then.
        """
        described = description_to_wire(description).SerializeToString()
        body = described + data
        header = _HEADER.pack(self._digest(len(described), body), len(described))
        with suppress(OSError):
            write_file(self.path, header + body)

    def load(self) -> KeptBook | None:
        """The last book; None when there is none, or it was damaged and is now deleted."""
        try:
            return self._read(read_file(self.path, most=_MOST_BYTES))
        except OSError:
            return None
        except InputError:
            with suppress(OSError):
                self.path.unlink(missing_ok=True)
            return None

    def data(self, digest: str) -> bytes | None:
        """The bytes of a book, if that is the last one."""
        kept = self._bytes()
        return kept if kept is not None and version_digest(kept) == digest else None

    def _bytes(self) -> bytes | None:
        try:
            return self._parts(read_file(self.path, most=_MOST_BYTES))[1]
        except (OSError, InputError):
            return None

    def _parts(self, data: bytes) -> tuple[bytes, bytes]:
        """Description and book. Raises InputError."""
        if len(data) < _HEADER.size:
            raise InputError("book: cut off")
        digest, length = _HEADER.unpack_from(data)
        body = data[_HEADER.size :]
        if digest != self._digest(length, body):
            raise InputError("book: damaged, or of another server")
        return body[:length], body[length:]

    def _read(self, data: bytes) -> KeptBook:
        described, book = self._parts(data)
        try:
            message = wire.Description.FromString(described)
        except DecodeError as error:
            raise InputError("book: not a message") from error
        description = description_from_wire(message)
        return KeptBook(description, checked_book(description, book))

    def _digest(self, length: int, body: bytes) -> bytes:
        parts = (_MARK, self._server.encode(), struct.pack("<I", length), body)
        return hashlib.sha256(b"\0".join(parts)).digest()


def checked_book(description: Description, data: bytes) -> ItemBook:
    """A described version's book. Raises InputError for bytes that are another, or none."""
    form = description.book
    if form is None or version_digest(data) != form.digest:
        raise InputError("book: it is not the one described")
    book = decode_book(data, description.manifest, description.version)
    if book.mu != form.mu:
        raise InputError(f"book: its μ is {book.mu:g}, and not {form.mu:g}, as described")
    return book
