"""Runs for trackers, of the JSON that commands write: each kind is told by its keys."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from common.errors import InputError
from common.files import read_file
from sims.evaluation import keys
from sims.tracking.drawn import drawn_demo, drawn_evaluation, drawn_history
from sims.tracking.runs import (
    Metric,
    Plain,
    TrackedRun,
    curves,
    key_of,
    made_at,
    metrics_of,
    name_of,
    parameters_of,
    tags_of,
    unused,
)

MOST_BYTES: Final = 64 << 20
# What a folder of a demo or of rounds has its results in.
IN_FOLDERS: Final = ("results.json", "history.json")
_MEASURED_ON: Final = (
    *("source", "split", "users", "fakes", "targets", "target_ids", "goal", "audience"),
    *("data_digest", "reading", "warnings", "notes"),
)


@dataclass(frozen=True)
class Kind:
    """What one command writes.

    has       keys that tell it from the others
    settings  keys of what was asked, and of what it was measured on; other numbers are metrics
    name      keys that name a run, behind the command's own name
    curves    numbers by step
    within    key of a list, each part of which is a run of its own within this one
    drawn     files beside the JSON
    """

    has: tuple[str, ...]
    settings: tuple[str, ...]
    name: tuple[str, ...]
    curves: Callable[[Mapping[str, Any]], Iterator[Metric]] | None = None
    within: str = ""
    drawn: Callable[[Mapping[str, Any]], dict[str, bytes]] | None = None


def _by_condition(told: Mapping[str, Any]) -> Iterator[Metric]:
    """Rounds: a curve for each metric and condition."""
    skip = ("condition", "warm", "version")
    yield from curves(
        told["rounds"], name=lambda row: str(row["condition"]), step="round", skip=skip
    )


def _by_fakes(told: Mapping[str, Any]) -> Iterator[Metric]:
    """Certificates: a curve over fakes for each share that is assumed, and what it costs."""

    def share(row: Mapping[str, Any]) -> str:
        return f"assumed {float(row['assumed_fakes']):g}"

    yield from curves(
        told["rows"],
        name=lambda row: f"{row['form']}, {share(row)}".replace(",", ""),
        step="fakes",
        skip=("assumed_fakes", "form"),
    )
    cost = [{f"cost.{key}": part for key, part in row.items()} for row in told["assumed"]]
    yield from curves(
        cost,
        name=lambda row: f"assumed {float(row['cost.assumed_fakes']):g}",
        step=None,
        skip=("cost.assumed_fakes",),
    )


def _by_load(told: Mapping[str, Any]) -> Iterator[Metric]:
    """Of one setting: a curve over the load, in its order, for each side, network and device."""
    sides = {"measured": "side", "cold": "network", "books": "share", "break_even": "network"}
    for part, first in sides.items():
        rows = sorted(told[part], key=lambda row: row["rate"]) if part == "measured" else told[part]
        named = [{f"{part}.{key}": value for key, value in row.items()} for row in rows]

        def of(row: Mapping[str, Any], part: str = part, first: str = first) -> str:
            words = dict.fromkeys((first, "network", "share"))
            found = (row.get(f"{part}.{word}") for word in words)
            return " ".join(str(word) for word in found if word is not None)

        left_out = [f"{part}.{key}" for key in ("side", "network", "share", "fitted")]
        yield from curves(named, name=of, step=None, skip=left_out)


KINDS: Final[dict[str, Kind]] = {
    "demo": Kind(
        ("hit_ratio", "accuracy", "latency_seconds", "bytes"),
        ("dataset", "source", "split", "model", "attack", "seed", "release", "list_length")
        + ("users", "targets", "version"),
        ("dataset", "model", "attack", "seed"),
        drawn=drawn_demo,
    ),
    "evaluate": Kind(
        ("hit_ratio", "accuracy", "intervals", "baselines"),
        (*keys.ASKED, *keys.TRAINED, *_MEASURED_ON),
        ("dataset", "model", "attack", "defense", "preset", "seed"),
        drawn=drawn_evaluation,
    ),
    "simulate": Kind(
        ("hit_ratio", "accuracy", "counts", "partitions", "clients"),
        (*keys.ASKED, *_MEASURED_ON, "clients", "version", "broken_off"),
        ("dataset", "model", "attack", "defense", "preset", "seed"),
    ),
    "rounds": Kind(
        ("rounds", "scenario", "fraction"),
        ("dataset", "model", "attack", "attack_size", "defense", "preset", "k", "seed")
        + ("list_length", "targets", "clients", "fraction", "scenario"),
        ("dataset", "model", "attack", "defense", "preset", "seed"),
        curves=_by_condition,
        drawn=drawn_history,
    ),
    "audit": Kind(
        ("figures", "goals", "missed"),
        ("dataset", "source", "users", "model", "release", "preset", "changed", "k")
        + ("min_support", "neighbors_by", "assumed_fakes", "attack", "known", "knowledge")
        + ("noise", "splits", "accounts", "queries", "seed", "goals", "missed"),
        ("dataset", "model", "release", "preset"),
    ),
    "certify": Kind(
        ("rows", "assumed", "unpopular"),
        ("dataset", "accounts", "items", "users", "unpopular", "preset", "neighbors_by")
        + ("exploration",),
        ("dataset", "preset"),
        curves=_by_fakes,
    ),
    "latency": Kind(
        ("settings", "machine", "plan"), ("plan", "machine"), ("plan",), within="settings"
    ),
    # What a latency's JSON has in its list.
    "latency of": Kind(
        ("measured", "break_even", "fleets"),
        ("dataset", "model", "preset", "k", "reading", "neighbors", "server_cores")
        + ("disagreements",),
        ("dataset", "model", "preset", "k"),
        curves=_by_load,
    ),
}


def runs_of(
    told: Mapping[str, Any], *, made: float, where: str = "these results"
) -> list[TrackedRun]:
    """The run, and after it those within it.

    made  when, in seconds, where the results do not say it

    Raises InputError for what no command wrote.
    """
    try:
        kind = next(name for name, one in KINDS.items() if told.keys() >= {*one.has})
        first = _run(kind, told, told.get("run"), made)
        within = told[KINDS[kind].within] if KINDS[kind].within else []
        others = [_run(f"{kind} of", one, told.get("run"), made) for one in within]
    except StopIteration:
        raise InputError(
            f"{where}: no results that this version knows; name a file of --json, or the folder of "
            "`vicinal grid`, of a demo or of rounds"
        ) from None
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise InputError(f"{where}: damaged, or of another version of vicinal") from None
    return [first, *others]


def _run(kind: str, told: Mapping[str, Any], run: Any, made: float) -> TrackedRun:
    one = KINDS[kind]
    parameters: dict[str, Plain] = {"what": kind, **parameters_of(told, one.settings)}
    settings = {*one.settings, "rows", "assumed", "rounds", "measured", "fleets"}
    more = one.curves(told) if one.curves is not None else ()
    return TrackedRun(
        name=name_of(
            kind, *(told.get(key) for key in one.name if key != "seed"), *_seed(told, one)
        ),
        key=key_of([told, run]),
        parameters=parameters,
        metrics=_named(chain(metrics_of(told, settings), more)),
        tags=tags_of(run),
        made=made_at(run, made),
        files={
            "results.json": (json.dumps(told, indent=2) + "\n").encode(),
            **(one.drawn(told) if one.drawn is not None else {}),
        },
    )


def _seed(told: Mapping[str, Any], kind: Kind) -> Iterator[str]:
    if "seed" in kind.name:
        yield f"seed {told['seed']}"


def _named(metrics: Iterator[Metric] | chain[Metric]) -> tuple[Metric, ...]:
    """No two of a name and a step: a later one gets a number."""
    used: dict[int, dict[str, int]] = {}
    return tuple(
        replace(one, name=unused(one.name, used.setdefault(one.step, {}))) for one in metrics
    )


def runs_in(path: Path) -> list[TrackedRun]:
    """Of a file, or of a folder that has one. Raises InputError."""
    file = path
    if path.is_dir():
        there = [path / name for name in IN_FOLDERS if (path / name).is_file()]
        if not there:
            raise InputError(
                f"{path}: name the folder of `vicinal grid`, of a demo or of rounds, or a file of "
                "--json"
            )
        file = there[0]
    try:
        told: Any = json.loads(read_file(file.resolve(), most=MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(told, dict):
        raise InputError(f"{file}: no results of a command")
    return runs_of(told, made=file.stat().st_mtime, where=str(file))
