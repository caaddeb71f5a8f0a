"""Options of attacks: the keyword parameters of an attack's function, given by name.

An attack declares an option by having it: a keyword-only parameter with a default, annotated
int, float or str, and described in the function's docstring. KNOWLEDGE and TARGETS are everybody's.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from common.errors import InputError
from common.names import unknown
from sims.attacks.budget import Choice

Value = int | float | str
# Share of the real users whose ratings the attacker knows; 1 is the worst case.
KNOWLEDGE: Final = "knowledge"
# How well known the items are that targets are drawn from; by default what suits the goal.
TARGETS: Final = "targets"
_TYPES: Final[dict[object, str]] = {int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Shared:
    """The options that every attack has; `targets` is None where they were not chosen."""

    knowledge: float = 1.0
    targets: str | None = None


def declared(attack: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The options that an attack's function has, by name.

    Raises InputError for one without a default.
    """
    parameters = inspect.signature(attack).parameters
    found = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name != "rng"
    }
    for name, parameter in found.items():
        if parameter.default is parameter.empty:
            raise InputError(f"attack option {name}: give it a default")
    return found


def resolve(
    name: str, attack: Callable[..., Any], given: Mapping[str, Value]
) -> tuple[dict[str, Value], Shared]:
    """All options of the attack `name`, as given or by default, and those that all attacks have.

    Raises InputError for a name that the attack does not have, with the nearest that it has,
    and for a value of the wrong type.
    """
    known = declared(attack)
    for option in given:
        if option not in known and option not in (KNOWLEDGE, TARGETS):
            raise unknown("option", option, [*known, KNOWLEDGE, TARGETS], where=f"attack {name}")
    values = {
        option: convert(option, given[option], parameter) if option in given else parameter.default
        for option, parameter in known.items()
    }
    knowledge = float(_converted(KNOWLEDGE, given.get(KNOWLEDGE, 1.0), float))
    if not 0 < knowledge <= 1:
        raise InputError(f"attack option {KNOWLEDGE}={knowledge:g}: choose a share in (0, 1]")
    targets = None
    if TARGETS in given:
        targets = str(given[TARGETS])
        choose(TARGETS, targets, get_args(Choice))
    return values, Shared(knowledge, targets)


def check(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Raises InputError for an option outside [least, most]."""
    if not least <= value <= most:
        bound = f"at least {least:g}" if most == math.inf else f"in {least:g}–{most:g}"
        raise InputError(f"attack option {name}={value:g}: must be {bound}")


def choose(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises InputError for an option that is none of the choices."""
    if value not in choices:
        raise unknown("value", value, choices, where=f"attack option {name}")


def parse_options(words: list[str], *, name: str = "--attack-option") -> dict[str, str]:
    """`name=value` words of the command line. Raises InputError."""
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = (part.strip() for part in word.partition("="))
        if not (key and equals and value):
            raise InputError(f"{name} {word!r}: write name=value, as in hubs=4")
        if key in options:
            raise InputError(f"{name} {key} is given twice")
        options[key] = value
    return options


def convert(name: str, value: Value, parameter: inspect.Parameter) -> Value:
    """A value of the type that an option's parameter has. Raises InputError."""
    return _converted(name, value, _kind(parameter))


def _kind(parameter: inspect.Parameter) -> type:
    """As annotated, perhaps in quotes; else of the default's type. Raises InputError for others."""
    wanted: object = parameter.annotation
    if wanted is parameter.empty:
        wanted = type(parameter.default)
    for kind in (int, float, str):
        if wanted in (kind, kind.__name__):
            return kind
    raise InputError(f"attack option {parameter.name}: annotate it int, float or str")


def _converted(name: str, value: Value, kind: type) -> Value:
    try:
        converted: Value = kind(str(value))
    except ValueError:
        raise InputError(f"attack option {name}={value}: give {_TYPES[kind]}") from None
    if kind is float and not math.isfinite(float(converted)):
        raise InputError(f"attack option {name}={value}: give {_TYPES[kind]}")
    return converted
