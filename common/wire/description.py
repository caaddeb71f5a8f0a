"""A server's description: the version it serves and how devices are to use it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.errors import InputError
from common.models import model_named
from common.names import unknown
from common.versions.encodings import (
    ENCODINGS,
    MAX_HEADER_BYTES,
    Encoding,
    Form,
    encoding_named,
    tensor_bytes,
)
from common.versions.version import MAX_BYTES, Manifest, is_digest
from common.vicinal.book import check_book
from common.vicinal.settings import VicinalSettings
from common.vicinal.tuning import check_rule
from common.wire import offload_pb2 as wire
from common.wire.book import most_bytes
from common.wire.messages import MAX_NEIGHBORS, preset_from_wire, preset_to_wire

# A device does as many steps as it is told, so somebody has to say where that ends.
MAX_STEPS: Final = 10_000
# Forms that a device may say it holds; more say nothing new.
MAX_HELD: Final = 16
# Of the line that says what an experiment is.
MAX_EXPERIMENT: Final = 500
MAX_PRESETS: Final = 64
MAX_WATCHED: Final = 65_536
MAX_TRANSFERS: Final = 64
MAX_LIST: Final = 10_000
_PRESET: Final = re.compile(r"[A-Za-z0-9_]{1,40}")


@dataclass(frozen=True)
class Transfer:
    """Packed bytes (common.versions.transfers) that give a form.

    form    digest of what it gives
    base    digest of a form that is needed for it, or None
    digest  SHA-256 of the packed bytes
    size    their number
    """

    form: str
    base: str | None
    digest: str
    size: int


@dataclass(frozen=True)
class BookForm:
    """A version's book (common.wire.book), which takes the place of packages.

    digest   SHA-256 of its bytes; size: their number
    mu       μ of Gaussian differential privacy, of this one book
    mu_life  the same of all books of the server's store, while an account's ratings stay the same
    """

    digest: str
    size: int
    mu: float
    mu_life: float


@dataclass(frozen=True)
class Description:
    """The current model version, whom it can be asked for, and what is measured.

    version         name of the model version: the SHA-256 of its bytes
    version_bytes   their number
    user_count      real users: 0 … user_count − 1 can be asked for
    list_length     K, the items in a recommendation
    watched         items whose hit ratio is measured
    presets         ways to fine-tune that can be asked for, by name
    forms           in which the version can be fetched, beside its own bytes
    transfers       smaller ways to one of the forms
    experiment      what is not served as it is, in words; empty for a server that is none
    publication     larger than that of every version that the server published before
    item_ids        digest of which index is which item (common.ids); empty where it is not said
    user_ids        the same of the real users
    book            devices answer from it, and get no packages; None: they get packages
    """

    version: str
    version_bytes: int
    manifest: Manifest
    user_count: int
    list_length: int
    watched: tuple[int, ...]
    presets: Mapping[str, VicinalSettings]
    forms: tuple[Form, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    experiment: str = ""
    publication: int = 0
    item_ids: str = ""
    user_ids: str = ""
    book: BookForm | None = None

    def __post_init__(self) -> None:
        def require(holds: bool, what: str) -> None:
            if not holds:
                raise InputError(f"server description: {what}")

        manifest = self.manifest
        require(is_digest(self.version), "the version's name is not a SHA-256")
        forms = self.all_forms
        require(len({form.encoding for form in forms}) == len(forms), "two forms of one encoding")
        for form in forms:
            tensors = tensor_bytes(manifest, form.encoding)
            require(is_digest(form.digest), "a form's digest is not a SHA-256")
            require(
                0 < form.size - tensors <= MAX_HEADER_BYTES and form.size <= MAX_BYTES,
                f"{form.size} bytes do not fit a model of {tensors}",
            )
        sizes = {form.digest: form.size for form in forms}
        for transfer in self.transfers:
            require(
                is_digest(transfer.digest) and (transfer.base is None or is_digest(transfer.base)),
                "a transfer's digest is not a SHA-256",
            )
            require(
                0 < transfer.size < sizes.get(transfer.form, 0),
                "a transfer is not smaller than its form",
            )
        require(
            1 <= self.user_count <= manifest.users,
            f"{self.user_count} users, but the model has {manifest.users}",
        )
        require(self.list_length >= 1, "the list length is 0")
        require(
            all(0 <= item < manifest.items for item in self.watched),
            f"a watched item is outside 0–{manifest.items - 1}",
        )
        require(
            len(self.experiment) <= MAX_EXPERIMENT and self.experiment.isprintable(),
            f"what it says of its experiment is no line of {MAX_EXPERIMENT} characters",
        )
        require(
            all(not each or is_digest(each) for each in (self.item_ids, self.user_ids)),
            "the digest of its ids is not a SHA-256",
        )
        for name, settings in self.presets.items():
            check_rule(model_named(manifest.model), settings)
            require(
                settings.neighbors <= MAX_NEIGHBORS and settings.steps <= MAX_STEPS,
                f"preset {name[:40]!r} asks for more than {MAX_NEIGHBORS} neighbors "
                f"or {MAX_STEPS} steps",
            )
        if self.book is not None:
            require(is_digest(self.book.digest), "the book's digest is not a SHA-256")
            require(
                0 < self.book.size <= most_bytes(manifest.items),
                f"a book of {self.book.size} bytes does not fit {manifest.items} items",
            )
            require(
                0 < self.book.mu <= self.book.mu_life,
                f"a book of μ = {self.book.mu:g} in {self.book.mu_life:g} is none",
            )
            require(len(self.presets) == 1, "a book goes with one preset")
            for settings in self.presets.values():
                check_book(model_named(manifest.model), settings)

    def preset(self, name: str) -> VicinalSettings:
        """Raises InputError for a preset that the server does not offer."""
        if name not in self.presets:
            raise unknown("preset", name, self.presets, offer="the server offers")
        return self.presets[name]

    @property
    def all_forms(self) -> tuple[Form, ...]:
        """In which the version can be fetched, its own bytes first."""
        return Form("float32", self.version, self.version_bytes), *self.forms

    def form(self, encoding: Encoding) -> Form:
        """Raises InputError for an encoding that the server does not offer."""
        for form in self.all_forms:
            if form.encoding == encoding:
                return form
        offered = ", ".join(form.encoding for form in self.all_forms)
        raise InputError(f"the server has no {encoding} form of its version: it offers {offered}")


def description_to_wire(description: Description) -> wire.Description:
    book = description.book
    return wire.Description(
        version=description.version,
        version_bytes=description.version_bytes,
        manifest=description.manifest.to_json(),
        user_count=description.user_count,
        list_length=description.list_length,
        watched_items=description.watched,
        presets=[preset_to_wire(name, how) for name, how in description.presets.items()],
        forms=[
            wire.Form(encoding=form.encoding, digest=form.digest, bytes=form.size)
            for form in description.forms
        ],
        transfers=[transfer_to_wire(transfer) for transfer in description.transfers],
        experiment=description.experiment,
        publication=description.publication,
        item_ids_digest=description.item_ids,
        user_ids_digest=description.user_ids,
        book=None if book is None else _book_to_wire(book),
    )


def _book_to_wire(book: BookForm) -> wire.BookForm:
    return wire.BookForm(digest=book.digest, bytes=book.size, mu=book.mu, mu_life=book.mu_life)


def transfer_to_wire(transfer: Transfer) -> wire.Transfer:
    return wire.Transfer(
        form=transfer.form, base=transfer.base or "", digest=transfer.digest, bytes=transfer.size
    )


def description_from_wire(message: wire.Description) -> Description:
    """Raises InputError for anything that no server would say."""
    # Counted before anything is made of them: a message may hold millions.
    for what, count, most in (
        ("presets", len(message.presets), MAX_PRESETS),
        ("watched items", len(message.watched_items), MAX_WATCHED),
        ("forms", len(message.forms), len(ENCODINGS)),
        ("transfers", len(message.transfers), MAX_TRANSFERS),
        ("items in a list", message.list_length, MAX_LIST),
    ):
        if count > most:
            raise InputError(f"server description: {count} {what}, more than {most}")
    for preset in message.presets:
        if not _PRESET.fullmatch(preset.name):
            raise InputError(f"server description: {preset.name[:40]!r} cannot name a preset")
    presets = {preset.name: preset_from_wire(preset) for preset in message.presets}
    if len(presets) != len(message.presets):
        raise InputError("server description: two presets of one name")
    return Description(
        message.version,
        message.version_bytes,
        Manifest.from_json(message.manifest),
        message.user_count,
        message.list_length,
        tuple(message.watched_items),
        presets,
        tuple(
            Form(encoding_named(form.encoding), form.digest, form.bytes) for form in message.forms
        ),
        tuple(
            Transfer(one.form, one.base or None, one.digest, one.bytes) for one in message.transfers
        ),
        message.experiment,
        message.publication,
        message.item_ids_digest,
        message.user_ids_digest,
        _book_from_wire(message.book) if message.HasField("book") else None,
    )


def _book_from_wire(book: wire.BookForm) -> BookForm:
    return BookForm(book.digest, book.bytes, book.mu, book.mu_life)
