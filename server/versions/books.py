"""The books of a store's versions, and what all of them together say of an account.

    STORE/book.key     the secret that noise comes from
    STORE/books.json   μ of each book that was made, by a digest of what was counted

Both are for the owner alone. The same ratings give the same book, over trainings and restarts, and
it is in the history once. Each other book has noise of its own, so that squares of μ add up
(server.recommending.book).

Noise of another σ comes from another key: the same counts with two scales of one noise would give
the counts away.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from common.errors import InputError
from common.files import read_file, stored_secret, write_file
from common.ratings import RatingMatrix
from common.versions.version import version_digest
from common.vicinal.book import ItemBook
from common.vicinal.settings import VicinalSettings
from common.wire.book import encode_book
from common.wire.description import BookForm
from server.recommending.book import BookSettings, item_book, weighed_counts

KEY_FILE: Final = "book.key"
HISTORY_FILE: Final = "books.json"
_MAX_BYTES: Final = 64 << 20
_HISTORY: Final = TypeAdapter(
    dict[
        Annotated[str, Field(pattern="^[0-9a-f]{64}$")],
        Annotated[float, Field(gt=0, allow_inf_nan=False)],
    ]
)


class PublishedBook(NamedTuple):
    """A book as devices get it."""

    book: ItemBook
    form: BookForm
    data: bytes


def published_book(
    store: Path, ratings: RatingMatrix, settings: VicinalSettings, version: str
) -> PublishedBook:
    """The book of a version's ratings, the same whenever it is asked for.

    It is in the history of the store from now on. Raises InputError for a key or a history that is
    damaged or that others can read, OSError.
    """
    how = BookSettings.of(settings.tolerated_fakes(ratings.user_count))
    key = noise_key(stored_secret(store / KEY_FILE), how)
    book = item_book(ratings, settings, key, how=how)
    counts = weighed_counts(ratings, how.cap).round(9).astype("<f8")
    history = _read(store / HISTORY_FILE)
    history[hashlib.blake2b(counts.tobytes(), key=key, digest_size=32).hexdigest()] = book.mu
    write_file(store / HISTORY_FILE, _HISTORY.dump_json(history))
    data = encode_book(book, version)
    # Not below μ itself by rounding.
    life = max(book.mu, sum(mu**2 for mu in history.values()) ** 0.5)
    return PublishedBook(book, BookForm(version_digest(data), len(data), book.mu, life), data)


def noise_key(secret: bytes, how: BookSettings) -> bytes:
    """Of a store's noise of one deviation."""
    return hashlib.blake2b(f"{how.cap} {how.sigma!r}".encode(), key=secret).digest()


def _read(path: Path) -> dict[str, float]:
    """Empty where there was no book yet. Raises InputError."""
    if not path.exists():
        return {}
    try:
        return _HISTORY.validate_json(read_file(path, most=_MAX_BYTES))
    except (OSError, ValidationError) as error:
        raise InputError(f"{path}: is damaged: choose another --store") from error
