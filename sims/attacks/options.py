"""Options of attacks: the keyword parameters of an attack's function, given by name.

An attack declares an option by having it: a keyword-only parameter with a default, annotated
int, float or str, and described in the function's docstring. KNOWLEDGE is everybody's.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from common.errors import InputError
from common.names import unknown

Value = int | float | str
# Share of the real users whose ratings the attacker knows; 1 is the worst case.
KNOWLEDGE: Final = "knowledge"
_TYPES: Final[dict[object, str]] = {int: "a whole number", float: "a number", str: "a word"}


def declared(attack: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options that an attack's function has, by name."""
    parameters = inspect.signature(attack).parameters
    return {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "rng"
    }


def resolve(
    name: str, attack: Callable[..., Any], given: Mapping[str, Value]
) -> tuple[dict[str, Value], float]:
    """All options of the attack `name`, as given or by default, and the knowledge.

    Raises InputError for a name that the attack does not have, with the nearest that it has,
    and for a value of the wrong type.
    """
    known = declared(attack)
    for option in given:
        if option not in known and option != KNOWLEDGE:
            raise unknown("option", option, [*known, KNOWLEDGE], where=f"attack {name}")
    values = {
        option: _converted(option, given[option], parameter.annotation)
        if option in given
        else parameter.default
        for option, parameter in known.items()
    }
    knowledge = float(_converted(KNOWLEDGE, given.get(KNOWLEDGE, 1.0), float))
    if not 0 < knowledge <= 1:
        raise InputError(f"attack option {KNOWLEDGE}={knowledge:g}: choose a share in (0, 1]")
    return values, knowledge


def check(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Raises InputError for an option outside [least, most]."""
    if not least <= value <= most:
        bound = f"at least {least:g}" if most == math.inf else f"in {least:g}–{most:g}"
        raise InputError(f"attack option {name}={value:g}: must be {bound}")


def choose(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises InputError for an option that is none of the choices."""
    if value not in choices:
        raise unknown("value", value, choices, where=f"attack option {name}")


def parse_options(words: list[str]) -> dict[str, str]:
    """`name=value` words of the command line. Raises InputError."""
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not (name and equals and value):
            raise InputError(f"--attack-option {word!r}: write name=value, as in hubs=4")
        if name in options:
            raise InputError(f"--attack-option {name} is given twice")
        options[name] = value
    return options


def _converted(name: str, value: Value, kind: type) -> Value:
    try:
        converted: Value = kind(str(value))
    except ValueError:
        raise InputError(f"attack option {name}={value}: give {_TYPES[kind]}") from None
    if kind is float and not math.isfinite(float(converted)):
        raise InputError(f"attack option {name}={value}: give {_TYPES[kind]}")
    return converted
