"""The serving folder, which the front writes and workers map.

    FOLDER/current                     name of the version that new requests get
    FOLDER/DIGEST/model.safetensors    a model version's bytes
    FOLDER/DIGEST/server.safetensors   user parameters and training ratings
    FOLDER/DIGEST/description          the protobuf message that devices get too
    FOLDER/DIGEST/eligible             JSON: per watched item, users who have not rated it
    FOLDER/DIGEST/survey               JSON: by preset, what a look at the version found; or absent
    FOLDER/DIGEST/edition              JSON: of the server's file with users who came later
    FOLDER/DIGEST/server-N.safetensors that file: N grows, and the last two are there
    FOLDER/DIGEST/devices.key          the secret of which users' devices have a key each
    FOLDER/forms/DIGEST                what devices fetch: forms of versions, transfers and books
    FOLDER/notes, FOLDER/retraining    what the front says, and how new versions are trained

The files are never changed in place, so that workers can map them: their pages are in memory
once, whatever the number of workers; and what is mapped stays whole when its folder is deleted.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from common.errors import InputError
from common.files import make_folder, read_number, remove_folder, require_ours, write_file
from common.ids import ids_digest
from common.versions.encodings import ENCODINGS, Form, encode_form, form_of
from common.versions.transfers import pack
from common.versions.version import ModelVersion, is_digest, version_digest
from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.description import (
    BookForm,
    Description,
    Transfer,
    description_from_wire,
    description_to_wire,
)
from server.versions.files import server_file

# The front reads descriptions alone: it does without compilers and indexes, which are large.
if TYPE_CHECKING:
    from server.recommending.recommender import Recommender

CURRENT_FILE: Final = "current"
PUBLICATION_FILE: Final = "publication"
DESCRIPTION_FILE: Final = "description"
ELIGIBLE_FILE: Final = "eligible"
FORMS_FOLDER: Final = "forms"
SURVEY_FILE: Final = "survey"
NOTES_FILE: Final = "notes"
EDITION_FILE: Final = "edition"


class Edition(NamedTuple):
    """A version as it is now: its model, and all real users who can be asked for.

    number    0 is as it was trained; each later one has more users, or others' ratings of those
    users     real users
    eligible  per watched item, those who have not rated it
    """

    number: int
    users: int
    eligible: tuple[int, ...]


def describe(
    recommender: "Recommender",
    *,
    presets: dict[str, VicinalSettings],
    watched: tuple[int, ...],
    list_length: int,
    experiment: str = "",
    publication: int = 0,
    book: BookForm | None = None,
) -> Description:
    """The description that a server sends of a recommender.

    presets     what a call may name
    watched     items whose hit ratio is measured; `list_length` is K
    experiment  what is not served as it is, in words
    publication  next_publication()
    book         of the version, where devices get no packages (server.versions.books)
    """
    fetched = list(_fetched(recommender.version))
    ratings, users = recommender.ratings, recommender.user_count
    # Fakes have ids, too, which are none of the users'.
    named = None if ratings.user_ids is None else ratings.user_ids[:users]
    return Description(
        recommender.version.digest,
        recommender.path.stat().st_size,
        recommender.version.manifest,
        recommender.user_count,
        list_length,
        watched,
        presets,
        tuple(form for form, *_ in fetched if form.encoding != "float32"),
        tuple(way for _, _, way, _ in fetched if way is not None),
        experiment,
        publication,
        ids_digest(ratings.item_ids, ratings.item_count),
        ids_digest(named, users),
        book,
    )


def next_publication(store: Path) -> int:
    """A number above all that a store's servers gave to versions before; kept in its folder.

    It is the second of publication, or one more than the last: a store that was lost, and a clock
    that was set back, give no smaller ones. Raises OSError.
    """
    path = store / PUBLICATION_FILE
    number = max(read_number(path) + 1, int(time.time()))
    write_file(path, f"{number}\n".encode())
    return number


def _fetched(version: ModelVersion) -> Iterator[tuple[Form, bytes, Transfer | None, bytes]]:
    """Forms and their bytes, packed forms and theirs; None where packing gains nothing."""
    for encoding in ENCODINGS:
        data = encode_form(version, encoding)
        packed = pack(data, encoding)
        form = form_of(data, encoding)
        way = Transfer(form.digest, None, version_digest(packed), len(packed))
        yield form, data, way if way.size < form.size else None, packed


def eligible_users(recommender: "Recommender", watched: tuple[int, ...]) -> tuple[int, ...]:
    """Per watched item, the real users who have not rated it."""
    real = recommender.ratings.rows(np.arange(recommender.user_count))
    raters = real.item_counts()
    return tuple(recommender.user_count - int(raters[item]) for item in watched)


@contextmanager
def written_serving(
    folder: Path, recommender: "Recommender", description: Description, secret: bytes
) -> Iterator[Path]:
    """The folder, with one version in it, while the block runs; then it is gone.

    Raises OSError.
    """
    try:
        write_serving(folder, recommender, description, secret)
        yield folder
    finally:
        remove_folder(folder)


def write_serving(
    folder: Path,
    recommender: "Recommender",
    description: Description,
    secret: bytes,
    *,
    book: bytes = b"",
) -> None:
    """Write a folder with one version, which is the current one.

    secret  of which users' devices have a key each; book: the bytes of the description's

    One that is there is deleted. Raises OSError; InputError for one that this program did not make.
    """
    require_ours(folder, "another --store")
    remove_folder(folder)
    write_version(folder, recommender, description, secret, book=book)
    make_current(folder, description.version)


def write_version(
    folder: Path,
    recommender: "Recommender",
    description: Description,
    secret: bytes,
    *,
    book: bytes = b"",
) -> None:
    """Add a version, whose description comes last. Raises OSError."""
    make_folder(folder)
    from server.versions.deployment import write_deployment  # noqa: PLC0415

    own = folder / description.version
    make_folder(own)
    write_deployment(own, recommender, secret)
    for form, data, way, packed in _fetched(recommender.version):
        write_file(folder / FORMS_FOLDER / form.digest, data)
        if way is not None:
            write_file(folder / FORMS_FOLDER / way.digest, packed)
    if description.book is not None:
        write_file(folder / FORMS_FOLDER / description.book.digest, book)
    eligible = eligible_users(recommender, description.watched)
    write_file(own / ELIGIBLE_FILE, json.dumps(eligible).encode())
    write_file(own / DESCRIPTION_FILE, description_to_wire(description).SerializeToString())


def read_survey(folder: Path, version: str) -> dict[str, dict[str, float]]:
    """By preset, numbers by name; empty where no look was taken. Raises InputError."""
    try:
        told = json.loads((folder / version / SURVEY_FILE).read_bytes())
        return {
            str(preset): {str(name): float(value) for name, value in numbers.items()}
            for preset, numbers in told.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: version {version[:12]} cannot be read ({error})") from error


def make_current(folder: Path, version: str) -> None:
    """Say which version new requests get. Raises OSError."""
    write_file(folder / CURRENT_FILE, version.encode())


def current_version(folder: Path) -> str:
    """Raises InputError when the folder names none."""
    try:
        version = (folder / CURRENT_FILE).read_text(errors="replace")
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    if not is_digest(version):
        raise InputError(f"{folder}: it names no version")
    return version


def read_description(folder: Path, version: str) -> tuple[Description, tuple[int, ...]]:
    """A version's description, and its eligible users. Raises InputError."""
    try:
        message = wire.Description.FromString((folder / version / DESCRIPTION_FILE).read_bytes())
        eligible = json.loads((folder / version / ELIGIBLE_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: version {version[:12]} cannot be read ({error})") from error
    return description_from_wire(message), tuple(eligible)


def read_edition(folder: Path, version: str) -> Edition:
    """Which edition of a version is the last. Raises InputError."""
    description, eligible = read_description(folder, version)
    try:
        number, users, now = json.loads((folder / version / EDITION_FILE).read_bytes())
        return Edition(int(number), int(users), tuple(map(int, now)))
    except FileNotFoundError:
        return Edition(0, description.user_count, eligible)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder}: version {version[:12]} cannot be read ({error})") from error


def edition_stamp(folder: Path, version: str) -> tuple[int, int] | None:
    """Changes whenever there is another edition; for whoever looks often."""
    try:
        found = (folder / version / EDITION_FILE).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def write_edition(
    folder: Path, version: str, recommender: "Recommender", watched: tuple[int, ...]
) -> Edition:
    """Add an edition of a version, which is its last one then. Raises InputError, OSError."""
    from server.versions.deployment import write_server  # noqa: PLC0415

    number = read_edition(folder, version).number + 1
    write_server(folder / version / server_file(number), recommender)
    edition = Edition(number, recommender.user_count, eligible_users(recommender, watched))
    write_file(folder / version / EDITION_FILE, json.dumps(edition).encode())
    # A worker that has just read the number of the one before still finds that.
    if number > 2:
        (folder / version / server_file(number - 2)).unlink(missing_ok=True)
    return edition


def read_serving(
    folder: Path, version: str, *, before: "Recommender | None" = None
) -> "tuple[Recommender, Description]":
    """A version in its last edition; `before` is one of an earlier edition.

    Raises InputError when the version is not there, not whole, or does not fit.
    """
    description, _ = read_description(folder, version)
    from server.versions.deployment import read_deployment  # noqa: PLC0415

    number = read_edition(folder, version).number
    return read_deployment(folder / version, number, before), description
