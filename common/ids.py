"""Users and items by the ids that people know: how they are written, found, digested and listed.

The wire and profiles files have indices. Which index is whose says a map, a csv of `kind`, `index`,
`id` and perhaps `title`; its digest goes with every model version (docs/decisions/0029-ids.md).
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

from common.errors import InputError
from common.names import near_ones
from common.text import one_line

PREFIX: Final = "id:"
FILE: Final = "@"
MOST: Final = 1 << 24
MAX_INDEX: Final = 1 << 32
MAX_FILE_BYTES: Final = 1 << 30
SUGGESTED_FROM: Final = 20_000
# Of an id in a message, and of a title beside it.
SHOWN_ID: Final = 60
SHOWN_TITLE: Final = 40
_WORD: Final = re.compile(
    r"""\s*(?:
        id:(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<id>[^,"]*))
        | (?P<first>[0-9]{1,20})(?:-(?P<last>[0-9]{1,20}))?
    )\s*(?:,|$)""",
    re.VERBOSE,
)

Named = int | str


def parse_named(option: str, text: str, *, what: str = "users") -> tuple[Named, ...]:
    """Indices and ranges as numbers, ids as `id:…`: of `0-99,120,id:ALICE`, or of a file.

    A comma inside an id asks for quotes, doubled inside: `id:"Smith, J."`. `@FILE` names a file of
    ids, one a line, as they are. Raises InputError.

    >>> parse_named("--users", '0-2,7,id:ALICE,id:"a,b"')
    (0, 1, 2, 7, 'id:ALICE', 'id:a,b')
    """
    named = _in_file(text.strip()) if text.strip().startswith(FILE) else _written(option, text)
    if not named:
        raise InputError(f"{option} {text!r:.80}: names no {what}")
    if len(set(named)) != len(named):
        raise InputError(f"{option} {text!r:.80}: each only once")
    return tuple(named)


def _written(option: str, text: str) -> list[Named]:
    found: list[Named] = []
    at = 0
    while at < len(text):
        word = _WORD.match(text, at)
        if word is None:
            raise InputError(
                f"{option} {text!r:.80}: give indices and ranges, as in 0-99,120, or ids, as in "
                'id:ALICE,id:"a, b", or @FILE with an id a line'
            )
        at = word.end()
        if word["first"] is None:
            quoted, plain = word["quoted"], word["id"]
            found.append(PREFIX + (plain.strip() if quoted is None else quoted.replace('""', '"')))
            continue
        low, high = int(word["first"]), int(word["last"] or word["first"])
        if not low <= high < MAX_INDEX:
            raise InputError(f"{option} {word[0][:80]!r}: the first must not be above the last")
        if high - low >= MOST:
            raise InputError(f"{option} {word[0][:80]!r}: more than {MOST} at once")
        found.extend(range(low, high + 1))
    return found


def _in_file(word: str) -> list[Named]:
    path = Path(word.removeprefix(FILE)).expanduser()
    # Other line ends than these may be letters of an id.
    lines = _text(path).replace("\r\n", "\n").split("\n")
    if len(lines) > MOST:
        raise InputError(f"{path}: more than {MOST} lines")
    return [PREFIX + line for line in lines if line.strip()]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no UTF-8 text") from None
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{path}: {reason}") from None


def indices_of(
    named: Iterable[Named],
    ids: Sequence[str] | None,
    count: int | None,
    *,
    kind: str,
    option: str,
) -> tuple[int, ...]:
    """The indices of users or items that are named by index, or as `id:…` where they have ids.

    count  of them; None leaves it to others to check indices

    Raises InputError for an id that is not there, with those that are near, for an index that is
    none, and for one that is named twice.
    """
    at: dict[str, int] | None = None
    found = []
    for word in named:
        if isinstance(word, int):
            if count is not None and not 0 <= word < count:
                raise InputError(f"{option}: {kind} {word} is none (0–{count - 1})")
            found.append(word)
            continue
        if ids is None:
            raise InputError(f"{option}: these {kind}s have no ids: name them by index")
        at = {name: index for index, name in enumerate(ids)} if at is None else at
        name = word.removeprefix(PREFIX)
        if name not in at:
            raise unknown_id(option, kind, name, ids)
        found.append(at[name])
    if len(set(found)) != len(found):
        twice = next(index for index in found if found.count(index) > 1)
        raise InputError(f"{option}: {kind} {twice} is named twice, by index and by id")
    return tuple(found)


def unknown_id(option: str, kind: str, name: str, ids: Sequence[str]) -> InputError:
    """The error for an id that is not among those known."""
    near = [one_line(each, SHOWN_ID) for each in near_ones(name, ids[:SUGGESTED_FROM])]
    hint = f"did you mean {' or '.join(near)}?" if near else ""
    if not near:
        hint = f"the first is {one_line(ids[0], SHOWN_ID)}" if ids else "there is none"
    return InputError(f"{option}: no {kind} has the id {one_line(name, SHOWN_ID)!r}: {hint}")


def ids_digest(ids: Sequence[str] | None, count: int) -> str:
    """SHA-256 of which index has which id; of indices alone where there are no ids."""
    hasher = hashlib.sha256(str(count).encode())
    for name in ids or ():
        # With its length, so that no two lists are written alike.
        data = name.encode()
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.hexdigest()


@dataclass(frozen=True)
class Names:
    """What users or items are called.

    ids     by index; None: the index is the name
    titles  by index, None for one that has none; None where no titles are known
    """

    ids: tuple[str, ...] | None = None
    titles: tuple[str | None, ...] | None = None

    def id_of(self, index: int) -> str:
        """The index itself where there are no ids."""
        return str(index) if self.ids is None else self.ids[index]

    def title_of(self, index: int) -> str | None:
        """None where none is known."""
        return None if self.titles is None else self.titles[index]

    def told(self, indices: Iterable[int]) -> list[dict[str, int | str | None]]:
        """For JSON: `index`, `id`, and `title`, which is null where none is known."""
        return [
            {"index": each, "id": self.id_of(each), "title": self.title_of(each)}
            for each in map(int, indices)
        ]

    def shown(self, index: int, most: int = SHOWN_TITLE) -> str:
        """One item in a line: its title and its id, or its id and its index.

        >>> Names(("b2",), ("Up",)).shown(0), Names(("b2",)).shown(0), Names().shown(0)
        ('Up (id b2)', 'id b2 (0)', '0')
        """
        title, name = self.title_of(index), one_line(self.id_of(index), SHOWN_ID)
        if title:
            return f"{one_line(title, most)} (id {name})"
        return str(index) if self.ids is None else f"id {name} ({index})"


UNNAMED: Final = Names()


@dataclass(frozen=True)
class IdMap:
    """What a file says of ids: those of items, perhaps with titles, and perhaps those of users."""

    path: Path
    items: Names
    users: tuple[str, ...] | None = None

    @cached_property
    def items_digest(self) -> str:
        ids = self.items.ids
        assert ids is not None
        # Of items without ids the map has the indices.
        plain = all(name == str(at) for at, name in enumerate(ids))
        return ids_digest(None if plain else ids, len(ids))

    def first(self, item_count: int) -> "IdMap":
        """The map of a version with fewer items: new ones come after known ones."""
        if item_count >= len(self.items.ids or ()):
            return self
        ids, titles = self.items.ids, self.items.titles
        return replace(
            self,
            items=Names(ids and ids[:item_count], titles and titles[:item_count]),
        )

    def require(self, digest: str) -> None:
        """Raises InputError unless it is the map of the items that a server describes."""
        if not digest:
            raise InputError(
                f"{self.path}: the server does not say which items its indices are, so no map "
                "can be held against them: leave out --ids"
            )
        if digest not in (self.items_digest, ids_digest(self.items.ids, len(self.items.ids or ()))):
            raise InputError(
                f"{self.path}: is a map of other items than the server's, or of fewer: its digest "
                f"is {self.items_digest[:12]}, the version's {digest[:12]}; get the one that "
                "`vicinal serve --device-ratings` wrote, or `vicinal data ids` for these ratings"
            )


def map_csv(items: Names, item_count: int, users: Names | None = None, user_count: int = 0) -> str:
    """A map as text: users, where they are wanted, then items."""
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    titled = items.titles is not None
    rows.writerow(["kind", "index", "id", *(["title"] if titled else [])])
    for index in range(user_count if users is not None else 0):
        assert users is not None
        rows.writerow(["user", index, users.id_of(index), *([""] if titled else [])])
    for index in range(item_count):
        title = [items.title_of(index) or ""] if titled else []
        rows.writerow(["item", index, items.id_of(index), *title])
    return written.getvalue()


def read_map(path: Path) -> IdMap:
    """What map_csv wrote. Raises InputError for anything else."""
    try:
        rows = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
        header = next(rows, [])
        if header not in (["kind", "index", "id"], ["kind", "index", "id", "title"]):
            raise InputError(f"{path}: is no map: `vicinal data ids` writes one")
        return _map_of(path, rows, titled=len(header) == 4)
    except csv.Error as error:
        raise InputError(f"{path}: is no map ({one_line(str(error), 80)})") from None


def _map_of(path: Path, rows: Iterator[list[str]], *, titled: bool) -> IdMap:
    names: dict[str, list[str]] = {"user": [], "item": []}
    titles: list[str | None] = []
    for number, row in enumerate(rows, start=2):
        if len(row) != 3 + titled or row[0] not in names or row[1] != str(len(names[row[0]])):
            raise InputError(
                f"{path} row {number}: not the next user or item, as `vicinal data ids` writes them"
            )
        names[row[0]].append(row[2])
        if row[0] == "item":
            titles.append(row[3] if titled and row[3] else None)
    if not names["item"]:
        raise InputError(f"{path}: names no items")
    for kind, listed in names.items():
        if len(set(listed)) != len(listed):
            raise InputError(f"{path}: two {kind}s have the same id")
    return IdMap(
        path,
        Names(tuple(names["item"]), tuple(titles) if titled else None),
        tuple(names["user"]) or None,
    )
