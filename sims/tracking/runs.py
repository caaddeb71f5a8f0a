"""What a tracker is told of a run: names that every tracker takes, and numbers by step."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from common.text import one_line

Plain = str | int | float | bool

# Of a name and of a value; MLflow takes 250 and 6000 letters.
MOST_NAME: Final = 200
MOST_VALUE: Final = 6000
MOST_RUN_NAME: Final = 240
# Of a step, with its sign.
STEP_BITS: Final = 64
# Longer lists of numbers are in the JSON alone.
MOST_NUMBERS: Final = 50
# What MLflow takes for a name, but the slash, which makes groups.
_OTHER: Final = re.compile(r"[^\w\-. :]")
ENDS: Final = ("low", "high")


@dataclass(frozen=True)
class Metric:
    """A number; `step` is a round, or whatever a curve runs over."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class TrackedRun:
    """One run, or one cell of a grid.

    key         what tells it from all others, in hexadecimal: a key is written once
    parameters  what was asked, and what it was measured on
    tags        how it was made: command, versions, commit
    made        when, seconds since 1970
    files       by name
    error       why it failed; empty where it did not
    """

    name: str
    key: str
    parameters: Mapping[str, Plain]
    metrics: tuple[Metric, ...]
    tags: Mapping[str, str]
    made: float
    files: Mapping[str, bytes] = field(default_factory=dict)
    error: str = ""

    @property
    def digest(self) -> str:
        """Of what is said of it: another one where a run of the same key has more to say."""
        told = [
            dict(self.parameters),
            [(one.name, one.value, one.step) for one in self.metrics],
            self.error,
        ]
        return key_of(told)


def key_of(told: Any) -> str:
    """Of anything that is JSON."""
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def name_of(*words: object) -> str:
    """Of a run: for people."""
    return one_line(" ".join(str(word) for word in words if word not in ("", None)), MOST_RUN_NAME)


def safe(name: str) -> str:
    """As a name of a parameter or a metric.

    >>> safe("baselines.<b>.x%"), safe(".."), safe("..a")
    ('baselines._b_.x_', '_', 'a')
    """
    return _OTHER.sub("_", one_line(name, MOST_NAME)).lstrip(".") or "_"


def unused(name: str, used: dict[str, int]) -> str:
    """The name, or where it is used already the name with a number; it is used from then on.

    used  names, each with the last number that it was given
    """
    free = name
    while free in used:
        used[name] += 1
        free = f"{name}_{used[name]}"
    used[free] = 1
    return free


def distinct(pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The same with safe names; of several that would be one, later ones get a number."""
    used: dict[str, int] = {}
    for name, value in pairs:
        yield unused(safe(name), used), value


def leaves(told: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values of a JSON document by the path to them; lists are values."""
    if isinstance(told, Mapping):
        for name, part in told.items():
            yield from leaves(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, told


def parameters_of(told: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Plain]:
    """Those of the keys that are there; where one is an object, its parts."""
    wanted = {name: told[name] for name in settings if name in told}
    return {
        name: value
        for name, value in distinct((path, _plain(value)) for path, value in leaves(wanted))
        if value != ""
    }


def _plain(value: Any) -> Plain:
    if isinstance(value, bool | int | float):
        return value if number_of(value) is not None else str(value)[:MOST_VALUE]
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        value = " ".join(map(str, value))
    return one_line(value if isinstance(value, str) else json.dumps(value), MOST_VALUE)


def metrics_of(told: Mapping[str, Any], settings: Iterable[str]) -> tuple[Metric, ...]:
    """Every number that is no setting, by its key; nulls and lists of objects are left out."""
    others = {name: part for name, part in told.items() if name not in {*settings, "run"}}
    pairs = (pair for path, value in leaves(others) for pair in _numbers(path, value))
    return tuple(Metric(name, value) for name, value in distinct(pairs))


def _numbers(path: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, list) and len(value) <= MOST_NUMBERS:
        pair = len(value) == 2 and ".".join(path.split(".")[:-2]).endswith("intervals")
        for at, one in enumerate(value):
            if (number := number_of(one)) is not None:
                yield f"{path}.{ENDS[at] if pair else at}", number
    elif (number := number_of(value)) is not None:
        yield path, number


def number_of(value: Any) -> float | None:
    """None for what is no number, or larger than any float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def curves(
    rows: Any,
    *,
    name: Callable[[Mapping[str, Any]], str],
    step: str | None,
    skip: Sequence[str] = (),
) -> Iterator[Metric]:
    """Rows of a table as a curve for each of their numbers.

    name  what a row's numbers belong to, behind their own names
    step  key of the number, an integer, that the curves run over; None: rows in their order

    Raises KeyError, TypeError, ValueError and OverflowError for rows that are damaged.
    """
    counted: dict[str, int] = {}
    for row in rows:
        of = name(row)
        counted[of] = counted.get(of, -1) + 1
        at = counted[of] if step is None else int(row[step])
        if at.bit_length() >= STEP_BITS:
            raise OverflowError(f"{step} {at}")
        left = {key: part for key, part in row.items() if key not in {*skip, step}}
        for path, value in leaves(left):
            if (number := number_of(value)) is not None:
                yield Metric(
                    "/".join(filter(None, [safe(path), safe(of) if of else ""])), number, at
                )


def tags_of(run: Any) -> dict[str, str]:
    """Of what `recorded()` says, as far as it does."""
    if not isinstance(run, Mapping):
        return {}
    versions = run.get("versions")
    found = {"command": run.get("command"), "git": run.get("git"), "made": run.get("made")}
    if isinstance(versions, Mapping):
        found |= {f"version.{name}": text for name, text in versions.items()}
    return {
        name: one_line(text, MOST_VALUE)
        for name, text in distinct(found.items())
        if isinstance(text, str) and text
    }


def made_at(run: Any, otherwise: float) -> float:
    """When, by what `recorded()` says."""
    try:
        made = datetime.fromisoformat(run["made"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return otherwise
    return made if math.isfinite(made) and made > 0 else otherwise
