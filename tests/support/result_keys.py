"""Keys of a result against the table that explains them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def paths(value: Any, start: str = "") -> Iterator[str]:
    """`hit_ratio.clean`, `settings[].k`: where the values of a JSON document are."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from paths(part, f"{start}.{key}" if start else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for part in value:
            yield from paths(part, f"{start}[]")
    else:
        yield start


def differences(result: Any, table: Iterable[str], **names: Iterable[str]) -> set[str]:
    """What only one of them has; `names` are those that a word in capitals stands for."""
    found = set(paths(result))
    explained = set(_spelled(table, names))
    return found ^ explained


def _spelled(table: Iterable[str], names: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for key in table:
        match = re.search("[A-Z]+", key)
        if match is None:
            yield key
            continue
        for name in names[match[0]]:
            yield from _spelled([key.replace(match[0], name, 1)], names)
