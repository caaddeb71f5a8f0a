"""How a file of ratings is to be read: what the command line, a grid and `vicinal.load` take.

Everything is None or False unless it is said; a known layout (server.data.layouts) says some of it
in one word. What is said wins over what the layout says, and both over what the file looks like.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from common.errors import InputError
from common.names import unknown
from common.ratings import RatingScale
from server.data.scales import WantedScale, wanted_scale

DUPLICATES: Final = ("latest", "first", "mean", "refuse")
SPLITS: Final = ("random", "latest", "given")
HEADERS: Final = ("yes", "no")
TIME_UNITS: Final = ("seconds", "milliseconds", "microseconds", "nanoseconds", "date",
                     "day-first", "month-first")  # fmt: skip
SEPARATORS: Final = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";"}
MAX_SEPARATOR: Final = 3
# In drop_ratings: what is no number, as nothing at all, NA or nan.
EMPTY: Final = "empty"
MAX_DROPPED: Final = 100
# Text in these needs no word of Python's: both sides of a pair of names are tried.
ENCODINGS: Final = ("utf-8", "utf-16", "latin-1", "cp1252")


@dataclass(frozen=True)
class ReadingOptions:
    """Of one data set.

    format        a known layout (server.data.layouts)
    columns       roles in the file's order, `role=name`, or numbers from 1 (server.data.columns)
    fields        the same for lines of JSON
    separator     between fields; None finds it
    skip_lines    so many before the table are left out
    header        yes or no; None finds out whether line 1 names columns
    encoding      None recognizes utf-8, utf-16 and latin-1
    scale         None takes the first usual one that holds every rating (server.data.scales)
    drop_ratings  that mean none: their rows are left out; EMPTY is every one that is no number
    words         what ratings in words mean, as up=1
    drop_ids      users or items that mean none: their rows are left out; EMPTY is nothing at all
    duplicates    which of a user's ratings of an item counts; None refuses several
    implicit      every row is an interaction; a rating, if there is one, counts them
    min_ratings   users and items with fewer are left out, until none has
    time_unit     None recognizes it (server.data.times)
    member        the file inside a zip archive; None takes the one that holds ratings
    test          a file of ratings that are held out
    split         which rating of a user is held out; None: `given`, if there is one, else random
    items         a file of the items' ids and titles (server.data.titles)
    item_columns  which of its columns are these, as id=asin,title=name

    Raises InputError for a value that no reading has.
    """

    format: str | None = None
    columns: tuple[str, ...] | None = None
    fields: tuple[str, ...] | None = None
    separator: str | None = None
    skip_lines: int | None = None
    header: str | None = None
    encoding: str | None = None
    scale: WantedScale | None = None
    drop_ratings: tuple[float | str, ...] | None = None
    words: tuple[str, ...] | None = None
    drop_ids: tuple[str, ...] | None = None
    duplicates: str | None = None
    implicit: bool = False
    min_ratings: int | None = None
    time_unit: str | None = None
    member: str | None = None
    test: str | None = None
    split: str | None = None
    items: str | None = None
    item_columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, known in (
            ("duplicates", DUPLICATES),
            ("split", SPLITS),
            ("header", HEADERS),
            ("time_unit", TIME_UNITS),
        ):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise unknown(name.replace("_", " "), str(value), known)
        if self.columns is not None and self.fields is not None:
            raise InputError("columns and fields say the same: give one of the two")
        if self.separator is not None and not 0 < len(self.separator) <= MAX_SEPARATOR:
            raise InputError(
                f"separator {self.separator[:20]!r}: give a character, ::, tab or space"
            )
        if self.encoding is not None:
            require_encoding(self.encoding)
        if self.min_ratings is not None and self.min_ratings < 1:
            raise InputError(f"min ratings {self.min_ratings}: give 1 or more")
        if self.skip_lines is not None and self.skip_lines < 0:
            raise InputError(f"skip lines {self.skip_lines}: give 0 or more")
        if self.implicit and self.scale is not None:
            raise InputError("implicit ratings have no scale: leave out one of the two")
        if self.item_columns is not None and self.items is None:
            raise InputError("item columns: are of a file of items: give --items FILE, too")
        if self.test is not None and self.split not in (None, "given"):
            raise InputError(f"split {self.split}: a test file is given; leave out one of the two")

        _ = self.meanings

    @property
    def meanings(self) -> dict[str, float]:
        """What each word means, in lower case. Raises InputError."""
        found = {}
        for word in self.words or ():
            text, equals, number = word.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                equals, value = "", math.nan
            if not equals or not text.strip() or not math.isfinite(value):
                raise InputError(f"words {word!r:.40}: write WORD=NUMBER, as up=1,down=0")
            found[text.strip().lower()] = value
        return found

    @classmethod
    def of(cls, **said: Any) -> "ReadingOptions":
        """From words, as one writes them: `columns="item,user"`, `drop_ratings="0,-1"`.

        Lists and numbers will do as well. Raises InputError, also for an unknown name.
        """
        names = {each.name for each in fields(cls)}
        given: dict[str, Any] = {}
        for name, value in said.items():
            if name not in names:
                raise unknown("reading option", name, sorted(names))
            if value is not None:
                given[name] = _PARSERS.get(name, _text)(name.replace("_", " "), value)
        return cls(**given)

    def __bool__(self) -> bool:
        """Whether anything is said."""
        return self != ReadingOptions()

    def told(self) -> dict[str, Any]:
        """What is said, in words and numbers that `of` takes: for JSON, and for a cache key."""
        found: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if value == each.default:
                continue
            if isinstance(value, tuple):
                value = list(value)
            found[each.name] = str(value) if isinstance(value, WantedScale) else value
        return found

    def as_flags(self) -> list[str]:
        """What is said, for the command line of another process.

        >>> ReadingOptions.of(implicit=True, drop_ratings="0,-1").as_flags()
        ['--drop-ratings', '0.0,-1.0', '--implicit']
        """
        flags: list[str] = []
        for name, value in self.told().items():
            flags.append(f"--{name.replace('_', '-')}")
            if value is not True:
                flags.append(",".join(map(str, value)) if isinstance(value, list) else str(value))
        return flags

    def over(self, base: "ReadingOptions") -> "ReadingOptions":
        """What is said here, and of the rest what `base` says."""
        said = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if getattr(self, each.name) != each.default
        }
        if {"columns", "fields"} & set(said):
            base = replace(base, columns=None, fields=None)
        if "scale" in said:
            base = replace(base, implicit=False)
        if "implicit" in said:
            base = replace(base, scale=None)
        return replace(base, **said)

    def to_json(self) -> str:
        """For another process."""
        return json.dumps(self.told())

    @classmethod
    def from_json(cls, text: str) -> "ReadingOptions":
        """What `to_json` wrote."""
        return cls.of(**json.loads(text))


def placed(name: str, folder: Path) -> Path:
    """A file as a person names it: with ~, in quotes, or relative to `folder` where it is there."""
    path = plain_path(name)
    beside = folder / path
    return beside if not path.is_absolute() and beside.is_file() else path


def plain_path(name: str) -> Path:
    """Without quotes around it, and with the home folder for ~.

    >>> plain_path("'a b.csv'").name
    'a b.csv'
    """
    text = name.strip() if name.strip() else name
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and not Path(name).exists():
        name = text[1:-1]
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def require_encoding(name: str) -> None:
    """Raises InputError for one that Python does not know, or that is none of text."""
    try:
        b"1".decode(name)
    except (LookupError, ValueError):
        # UTF-16 cannot decode a single byte, and is one of text.
        if name.lower().replace("_", "-").startswith(("utf-16", "utf-32", "utf16", "utf32")):
            return
        raise unknown("encoding", name, ENCODINGS) from None


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | Path):
        raise InputError(f"{name} {value!r:.40}: give text")
    return str(value)


def _words(name: str, value: Any) -> tuple[str, ...]:
    """`user,item` or a list of words; a table is {user = …, item = …}."""
    if isinstance(value, Mapping):
        return tuple(f"{role}={where}" for role, where in value.items())
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not all(isinstance(word, str | int) for word in words):
        raise InputError(f"{name} {value!r:.40}: write user,item,rating,time")
    return tuple(str(word).strip() for word in words)


def _numbers(name: str, value: Any) -> tuple[float | str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    parts = [parts] if isinstance(parts, int | float) else parts
    try:
        numbers = tuple(
            EMPTY if isinstance(part, str) and part.strip() == EMPTY else float(part)
            for part in parts
        )
    except (TypeError, ValueError):
        raise InputError(f"{name} {value!r:.40}: give numbers, as in 0,-1,99, or empty") from None
    if any(isinstance(each, float) and not math.isfinite(each) for each in numbers):
        raise InputError(f"{name}: what is no number is called {EMPTY}")
    if not 0 < len(numbers) <= MAX_DROPPED:
        raise InputError(f"{name}: give 1 to {MAX_DROPPED} numbers, as in 0,-1,99")
    return numbers


def _separator(name: str, value: Any) -> str:
    text = _text(name, value)
    return SEPARATORS.get(text.lower(), text)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{name} {value!r:.40}: is on or off")
    return value


def _header(name: str, value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else _text(name, value)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} {value!r:.40}: give a whole number")
    return value


def _scale(name: str, value: Any) -> WantedScale:
    if isinstance(value, WantedScale):
        return value
    if isinstance(value, RatingScale):
        return WantedScale(value.minimum, value.maximum, value.step)
    if not isinstance(value, str):
        raise InputError(f"{name} {value!r:.40}: write it as 1:5:0.5")
    return wanted_scale(value)


_PARSERS: Final = {
    "columns": _words,
    "fields": _words,
    "item_columns": _words,
    "drop_ratings": _numbers,
    "words": _words,
    "drop_ids": _words,
    "separator": _separator,
    "implicit": _flag,
    "header": _header,
    "min_ratings": _whole,
    "skip_lines": _whole,
    "scale": _scale,
}
