"""Profiles in JSON, as others publish them: what sims.attacks.foreign says of that form.

Objects and lists of any depth and size may come; none is trusted to be what it should be.
"""

import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from common.errors import InputError
from common.ratings import RatingScale
from sims.attacks.entries import (
    MAX_NAME,
    NUMBER,
    TRIPLE,
    Entries,
    Read,
    column_places,
    misplaced,
)

# Decoded, lists take up to twenty times their text.
MAX_JSON_BYTES: Final = 32 << 20
PROFILE_KEYS: Final = ("profiles", "ratings", "fakes", "fake_profiles", "data")
_SAID: Final = ("targets", "goal", "audience")


def read_json(data: bytes, item_count: int, scale: RatingScale) -> Read:
    """Lists or objects of profiles. Raises InputError."""
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"larger than {MAX_JSON_BYTES >> 20} MiB; split it, or write a .npy table")
    try:
        found = json.loads(data, parse_constant=_no_number, object_pairs_hook=_unique)
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"not JSON that can be read: {str(error)[:80]}") from error
    said: dict[str, str] = {}
    if isinstance(found, dict):
        key = next((key for key in PROFILE_KEYS if key in found), None)
        if key is not None:
            said = {name: _words(found[name]) for name in _SAID if name in found}
            found = found[key]
    entries = _of_json(found, item_count)
    ratings, how = entries.settled(item_count, scale)
    return Read(ratings, said, how)


def _of_json(found: object, item_count: int) -> Entries:
    if not isinstance(found, list | dict):
        raise InputError("expected a list or an object of profiles")
    named = isinstance(found, dict)
    # Lists and objects alike, which the kind says; Any, since their members can be anything.
    each = found.items() if isinstance(found, dict) else enumerate(found)
    profiles: list[tuple[object, Any]] = list(each)
    kinds = {_kind(profile) for _, profile in profiles}
    widths = {len(profile) for _, profile in profiles} if "" not in kinds else set()
    entries = Entries("a list of profiles", "profile")
    if kinds == {"record"} and not named:
        return _of_records([record for _, record in profiles])
    if kinds == {"numbers"} and widths == {item_count}:
        entries.form = "a table in a list"
        for place, (user, row) in enumerate(profiles):
            entries.add_row(user, row, place)
        return entries
    if kinds == {"numbers"} and widths == {TRIPLE} and not named:
        entries.form, entries.unit = "a list of user, item, rating", "row"
        for place, (_, (user, item, value)) in enumerate(profiles):
            entries.add(user, item, value, place)
        return entries
    if kinds == {"numbers"}:
        entries.form, entries.values = "lists of items", None
    elif kinds not in (set(), {"pairs"}, {"ratings"}):
        raise InputError(
            "expected profiles of one kind: lists of items, lists of [item, rating], objects of "
            "ratings by item, or rows of user, item, rating"
        )
    for place, (user, row) in enumerate(profiles):
        for item, value in _rated(row):
            entries.add(user, item, value, place)
    return entries


def _rated(profile: Any) -> Iterable[tuple[object, object]]:
    """Items and ratings; without ratings, nothing stands for each."""
    if isinstance(profile, dict):
        return profile.items()
    return [(each[0], each[1]) if isinstance(each, list) else (each, None) for each in profile]


def _of_records(found: list[Any]) -> Entries:
    entries = Entries("a list of objects", "row")
    positions = None
    for place, record in enumerate(found):
        if positions is None:
            keys = list(record)
            positions = {name: keys[at] for name, at in column_places(keys, place).items()}
            if "rating" not in positions:
                entries.values = None
        missing = [key for key in positions.values() if key not in record]
        if missing:
            raise misplaced("row", place, f"has no {missing[0]}")
        user = record[positions["user"]]
        if not isinstance(user, str | int) or len(str(user)) > MAX_NAME:
            raise misplaced("row", place, "its user is no name and no number")
        value = record[positions["rating"]] if "rating" in positions else None
        entries.add(user, record[positions["item"]], value, place)
    return entries


def _kind(profile: object) -> str:
    """What a profile is a list or an object of; nothing that is read: the empty word."""
    if isinstance(profile, dict):
        return "ratings" if all(NUMBER.fullmatch(key) for key in profile) else "record"
    if not isinstance(profile, list):
        return ""
    if all(isinstance(each, int | float) for each in profile):
        return "numbers"
    pairs = all(isinstance(each, list) and len(each) == 2 for each in profile)
    return "pairs" if pairs else ""


def _words(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a key that occurs twice, of which one would be lost."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found
