"""Which column is the user, the item, the rating and the time: by name, by order, or as it is said.

Nothing is guessed between two columns that may both be the user, the item or the rating. Columns
that are none of these are left out, and a note says so.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from common.errors import InputError
from common.names import nearest
from server.data.reading_options import ReadingOptions

ROLES: Final = ("user", "item", "rating", "timestamp")
# What a column may be called; case, spaces, hyphens, underscores and a ":type" are ignored.
COLUMN_NAMES: Final = {
    "user": ("user", "userid", "uid", "reviewerid", "customerid", "memberid", "visitorid",
             "username", "reviewername", "customer", "custid", "clientid", "accountid", "buyerid",
             "useruuid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "business", "businessid", "product",
             "productid", "book", "bookid", "isbn", "asin", "parentasin", "recipeid", "recipe",
             "artistid", "trackid", "songid", "gameid", "appid", "animeid", "jokeid", "beerid",
             "gmapid", "placeid", "venueid", "sku", "articleid", "newsid", "videoid", "courseid",
             "restaurantid", "hotelid", "filmid", "showid", "itemuuid"),
    "rating": ("rating", "ratings", "stars", "score", "overall", "bookrating", "userrating"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "datetime", "date", "dateupdated",
                  "dateadded", "unixtime", "reviewtime", "createdat", "ratedat", "updatedat",
                  "reviewdate", "ratingdate", "eventtime"),
}  # fmt: skip
# How often somebody met an item: a rating only where ratings are implicit.
COUNT_NAMES: Final = ("count", "counts", "plays", "playcount", "listens", "weight", "hours",
                      "clicks", "views", "quantity", "frequency")  # fmt: skip
# A column that is finer than another: the first is none where the second is there. Neither is
# `movie`, or `user_name`, beside `movie_id` or `user_id`.
SUPERSEDED: Final = {"asin": "parentasin"}
# What one writes for a role; a hyphen is a column that is left out.
WORDS: Final = {**{role: role for role in ROLES}, "time": "timestamp"}
SKIPPED: Final = ("-", "_", "")
MOST_SHOWN: Final = 6
# So many fields without names are a matrix more often than a table.
MATRIX: Final = 10


@dataclass(frozen=True)
class Columns:
    """Where the column of each role stands, and what has to be known of the choice."""

    positions: Mapping[str, int]
    notes: tuple[str, ...] = ()


def role_of(name: str) -> str | None:
    """user, item, rating or timestamp, for a column of that or a like name."""
    plain = plain_name(name)
    return next((role for role, names in COLUMN_NAMES.items() if plain in names), None)


def plain_name(name: str) -> str:
    """Without what is ignored.

    >>> plain_name("User-ID:token"), plain_name(" parent_asin")
    ('userid', 'parentasin')
    """
    return re.sub(r"[ \-_]", "", name.split(":", maxsplit=1)[0].lower())


def by_names(names: Sequence[str], where: str, options: ReadingOptions) -> Columns:
    """Of a table whose columns have names: in a header, a parquet file, lines of JSON.

    Raises InputError for a role that nobody plays, or that two columns may play.
    """
    words = options.columns or options.fields
    positions = _automatic(names, where, options) if words is None else None
    if words is not None:
        positions = _said(names, words, where, options)
    assert positions is not None
    require_roles(positions, names, where, options)
    left = [name for at, name in enumerate(names) if at not in positions.values()]
    notes = []
    if left and words is None:
        notes.append(f"left out: {'column' if len(left) == 1 else 'columns'} {_shown(left)}")
    for role, at in positions.items():
        other = [name for name in left if _supersedes(names[at], name)]
        if other:
            notes.append(f"the {role} is {names[at]!r:.40}, not {other[0]!r:.40}")
    return Columns(positions, tuple(notes))


def by_order(width: int, where: str, options: ReadingOptions) -> Columns:
    """Of lines without names of columns. Raises InputError."""
    words = options.columns
    if options.fields is not None:
        raise InputError(f"{where}: fields are of JSON lines: give --columns")
    if words is None:
        return _usual_order(width, where, options)
    if all(_is_number(word) for word in words):
        words = tuple(f"{role}={word}" for role, word in zip(ROLES, words, strict=False))
    positions: dict[str, int] = {}
    if any("=" in word for word in words):
        for role, place in _pairs(words, where):
            positions[role] = _position(place, width, where)
    else:
        while len(words) > width and WORDS.get(words[-1].lower()) == "timestamp":
            # Not every file has times.
            words = words[:-1]
        if len(words) > width:
            raise InputError(f"{where}: --columns names {len(words)} columns; there are {width}")
        for at, word in enumerate(words):
            if word in SKIPPED:
                continue
            if word.lower() not in WORDS:
                raise InputError(
                    f"{where}: holds no names, so none is {word!r:.40}: write "
                    "--columns user,item,rating,time in the order they have, - for others"
                )
            _put(positions, WORDS[word.lower()], at, where)
    require_roles(positions, (), where, options)
    return Columns(positions)


def _usual_order(width: int, where: str, options: ReadingOptions) -> Columns:
    """User, item, rating, time. Raises InputError where there are too few fields, or too many."""
    if width == 2 and options.implicit:
        return Columns({"user": 0, "item": 1})
    if width == 2:
        raise InputError(
            f"{where}: two fields, so there are no ratings: give --implicit, or --separator"
        )
    if not 3 <= width <= len(ROLES):
        what = "one field" if width == 1 else f"{width} fields without names"
        last = "--columns, as user,item,-,rating"
        if width == 1:
            last = "--separator, or --skip-lines where the table begins further below"
        if width > MATRIX:
            last += ", or --format matrix, or jester, for users by items"
        raise InputError(f"{where}: neither a rating nor names of columns: {what}: give {last}")
    return Columns(dict(zip(ROLES, range(width), strict=False)))


def require_roles(
    positions: Mapping[str, int], names: Sequence[str], where: str, options: ReadingOptions
) -> None:
    """Raises InputError for a role without a column."""
    needed = ROLES[:2] if options.implicit else ROLES[:3]
    missing = [role for role in needed if role not in positions]
    if not missing:
        return
    way = "--fields" if options.fields is not None else "--columns"
    shown = f" in {_shown(names)}" if names else ""
    counts = [name for name in names if plain_name(name) in COUNT_NAMES]
    near = next(
        (
            n
            for n in names
            if role_of(n) is None and nearest(plain_name(n), COLUMN_NAMES[missing[0]])
        ),
        None,
    )
    if missing == ["rating"]:
        implicit = (
            f", or --implicit{f' to count {counts[0]!r:.30}' if counts else ' if there is none'}"
        )
        near = None if counts else near
    else:
        wide = len(names) > MATRIX and "item" in missing
        implicit = ", or --format matrix, or jester, for users by items" if wide else ""
    hint = f"is it {near!r:.40}? " if near else ""
    raise InputError(
        f"{where}: no column for {' and '.join(missing)}{shown}: {hint}give {way} "
        f"user=…,item=…,rating=…{implicit}"
    )


def _automatic(names: Sequence[str], where: str, options: ReadingOptions) -> dict[str, int]:
    found: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        role = role_of(name)
        if role is None and options.implicit and plain_name(name) in COUNT_NAMES:
            role = "rating"
        if role is not None and not any(_supersedes(other, name) for other in names):
            found.setdefault(role, []).append(at)
    for role, places in found.items():
        if role == "timestamp":
            # Times decide nothing but an order: the name that stands first in the table is taken.
            order = COLUMN_NAMES[role].index
            places.sort(key=lambda at: order(plain_name(names[at])))
        elif len(places) > 1:
            both = " and ".join(repr(names[at][:40]) for at in places[:2])
            same = names[places[0]] == names[places[1]]
            which = str(places[0] + 1) if same else names[places[0]][:40]
            raise InputError(
                f"{where}: {both} may both be the {role}: say which with --columns {role}={which},…"
            )
    if not found:
        raise InputError(
            f"{where}: neither a rating nor names of columns (user, item, rating and perhaps "
            f"timestamp): {_shown(names):.60}: give --columns"
            + (", or --format matrix, or jester, for users by items" if len(names) > MATRIX else "")
        )
    return {role: found[role][0] for role in ROLES if role in found}


def _said(
    names: Sequence[str], words: Sequence[str], where: str, options: ReadingOptions
) -> dict[str, int]:
    positions: dict[str, int] = {}
    if all(_is_number(word) for word in words):
        words = [f"{role}={word}" for role, word in zip(ROLES, words, strict=False)]
    if any("=" in word for word in words):
        for role, name in _pairs(words, where):
            at = _named(names, name)
            positions[role] = _position(name, len(names), where, names) if at is None else at
        return positions
    if all(word in SKIPPED or word.lower() in WORDS for word in words):
        roles = [WORDS[word.lower()] for word in words if word not in SKIPPED]
        if len(set(roles)) != len(roles):
            raise InputError(f"{where}: --columns {','.join(words)}: name each once")
        automatic = {
            role: at
            for role, at in _automatic_or_none(names, where, options).items()
            if role in roles
        }
        exact = {
            role: at
            for role in roles
            for at in [_named(names, "time" if role == "timestamp" else role)]
            if at is not None
        }
        by_name = automatic | exact
        needed = set(roles) - {"timestamp"}
        if needed <= set(by_name):
            return {role: by_name[role] for role in roles if role in by_name}
        if len(words) > len(names):
            raise InputError(
                f"{where}: --columns names {len(words)} columns; there are {len(names)}"
            )
        # The header has other names: the words say what the columns are, in their order.
        return {WORDS[w.lower()]: at for at, w in enumerate(words) if w not in SKIPPED}
    for role, word in zip(ROLES, words, strict=False):
        at = _named(names, word)
        if at is None:
            raise _unknown(names, word, where)
        _put(positions, role, at, where)
    return positions


def _automatic_or_none(names: Sequence[str], where: str, options: ReadingOptions) -> dict[str, int]:
    try:
        return _automatic(names, where, options)
    except InputError:
        return {}


def _pairs(words: Sequence[str], where: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for word in words:
        role, equals, name = (part.strip() for part in word.partition("="))
        if not equals or role.lower() not in WORDS or not name:
            raise InputError(
                f"{where}: --columns {word!r:.40}: write user=NAME,item=NAME,rating=NAME,time=NAME"
            )
        pairs.append((WORDS[role.lower()], name))
    if len({role for role, _ in pairs}) != len(pairs):
        raise InputError(f"{where}: --columns {','.join(words):.80}: name each role once")
    return pairs


def _named(names: Sequence[str], wanted: str) -> int | None:
    """Where the column of that very name stands, else of one alike; None when it is not one."""
    for form in (str, plain_name):
        places = [at for at, name in enumerate(names) if form(name) == form(wanted)]
        if len(places) == 1:
            return places[0]
    return None


def _position(place: str, width: int, where: str, names: Sequence[str] = ()) -> int:
    if not _is_number(place):
        raise _unknown(names, place, where)
    if not 1 <= int(place) <= width:
        raise InputError(f"{where}: column {place[:20]}: there are {width}, counted from 1")
    return int(place) - 1


def _unknown(names: Sequence[str], wanted: str, where: str) -> InputError:
    if not names:
        return InputError(
            f"{where}: holds no names of columns: give numbers from 1, as user=2, not "
            f"{wanted!r:.40}"
        )
    near = nearest(wanted, names)
    hint = f"did you mean {near[:40]}? " if near else ""
    return InputError(f"{where}: no column {wanted!r:.40}: {hint}there are {_shown(names)}")


def _put(positions: dict[str, int], role: str, at: int, where: str) -> None:
    if role in positions or at in positions.values():
        raise InputError(f"{where}: --columns: name each column and each role once")
    positions[role] = at


def _supersedes(name: str, other: str) -> bool:
    better, worse = plain_name(name), plain_name(other)
    if better.endswith("id") and better.removesuffix("id") == worse.removesuffix("name"):
        return better != worse
    return SUPERSEDED.get(worse) == better


def _is_number(word: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}", word, re.ASCII) is not None


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:MOST_SHOWN])
    return shown if len(names) <= MOST_SHOWN else f"{shown}, … ({len(names)} in all)"
