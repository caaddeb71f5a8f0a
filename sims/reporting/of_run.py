"""A report of one run: what `vicinal evaluate --json` wrote, or a folder of `vicinal demo`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from common.errors import InputError
from common.files import read_file
from sims import recorded
from sims.evaluation import keys
from sims.evaluation.report_table import TITLES, shown
from sims.figures.bars import DEMO_ROWS, before_and_after, demo_outcomes
from sims.figures.outcomes import METRICS, Outcomes, Spread
from sims.figures.style import as_svg
from sims.reporting.document import (
    Document,
    Entry,
    Number,
    Picture,
    Section,
    printable,
    table_of,
)

MOST_BYTES: Final = 4 << 20
DEMO_FILE: Final = "results.json"
COLUMNS: Final = {
    "hit_ratio": "hit ratio",
    "hit_ratio_worst_group": "worst group",
    "accuracy": "accuracy",
    "recall_10": "recall@10",
    "ndcg_10": "nDCG@10",
    "accuracy_tail": "tail",
    "coverage": "coverage",
}
# A defended hit ratio may be so much above the clean model's (docs/metrics.md).
OVER_CLEAN: Final = 0.05
_WHAT: Final = "name a grid's folder, a file of `vicinal evaluate --json`, or the folder of a demo"


def run_document(path: Path) -> Document:
    """Of a file or a demo's folder. Raises InputError for what is neither."""
    file = path / DEMO_FILE if path.is_dir() else path
    told = _read(file)
    try:
        if "latency_seconds" in told:
            return _demo(file, told)
        return _evaluation(file, told)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, IndexError):
        raise InputError(
            f"{file}: no result of `vicinal evaluate --json` or `vicinal demo` that this version "
            "can read"
        ) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        text = read_file(path.resolve(), most=MOST_BYTES)
        told: Any = json.loads(text, parse_constant=_no_number)
    except FileNotFoundError:
        raise InputError(f"{path.parent}: {_WHAT}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(told, dict) or "hit_ratio" not in told or "accuracy" not in told:
        raise InputError(f"{path}: {_WHAT}")
    return dict(printable(told))


def _no_number(name: str) -> Any:
    # Commands write null, and what is made of the file has to be JSON, too.
    raise ValueError(f"{name} is no number")


def _evaluation(file: Path, told: Mapping[str, Any]) -> Document:
    command, versions = recorded.told(told.get("run"))
    title = f"{told['dataset']}, {told['model']}: {told['attack']} against {told['defense']}"
    rows = list(_rows(told))
    return Document(
        title=title,
        summary=tuple(_summary(told)),
        sections=(
            Section("What holds", points=tuple(_holds(told))),
            Section(
                "Pictures",
                pictures=(
                    Picture(
                        "Before and after",
                        as_svg(before_and_after(outcomes_of_run(told), None)),
                        "Bars of hit ratio and accuracy by condition, with 95 % intervals; the "
                        "numbers are in the table below.",
                    ),
                ),
            ),
            Section(
                "Numbers",
                tables=(
                    table_of(
                        f"K = {told['list_length']}",
                        ("", *COLUMNS.values()),
                        rows,
                        "± is half of the 95 % interval over users. Baselines are trained on the "
                        "attacked ratings and nobody defends them.",
                    ),
                ),
            ),
            Section("Targets", points=tuple(_targets(told))),
            Section("Settings", tables=(_settings(told),)),
            Section(
                "Notes and warnings",
                points=(*told["notes"], *(doubt["text"] for doubt in told["warnings"])),
            ),
        ),
        rows=tuple(_csv(told)),
        files=(file,),
        commands=tuple(filter(None, [command])),
        versions=versions,
        asked={name: told[name] for name in keys.ASKED},
    )


def _summary(told: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{told['users']:,} users, {told['fakes']:,} fakes, {len(told['targets'])} target items; "
        f"{told['split']} split, seed {told['seed']}, lists of {told['list_length']} items."
    )
    yield f"Ratings: {told['source']}; data digest {told['data_digest'][:16]}."
    if told["preset"]:
        yield f"Defense: {told['defense']}, preset {told['preset']}, release {told['release']}."


def _holds(told: Mapping[str, Any]) -> Iterator[str]:
    hit_ratio, accuracy = told["hit_ratio"], told["accuracy"]
    if hit_ratio["defended"] is not None and told["goal"] == "promote":
        low = hit_ratio["defended"] <= hit_ratio["clean"] + OVER_CLEAN
        yield (
            f"{'Holds' if low else 'Missed'}: hit ratio at most the clean model's + {OVER_CLEAN} "
            f"({hit_ratio['defended']:.3f}; clean {hit_ratio['clean']:.3f}, undefended "
            f"{hit_ratio['undefended']:.3f})."
        )
    high = accuracy["defended"] >= accuracy["undefended"]
    yield (
        f"{'Holds' if high else 'Missed'}: accuracy at least the undefended model's "
        f"({accuracy['defended']:.3f}; {accuracy['undefended']:.3f})."
    )
    beside = {
        name: of["accuracy"] for name, of in told["baselines"].items() if of["accuracy"] is not None
    }
    if beside:
        best = max(beside, key=beside.__getitem__)
        won = accuracy["defended"] >= beside[best]
        yield (
            f"{'Holds' if won else 'Missed'}: accuracy at least the best baseline's "
            f"({accuracy['defended']:.3f}; {best} {beside[best]:.3f})."
        )


def _rows(told: Mapping[str, Any]) -> Iterator[tuple[Entry, ...]]:
    for condition in keys.CONDITIONS:
        cells = []
        for metric in COLUMNS:
            bounds = told["intervals"].get(metric, {}).get(condition)
            cells.append(_number(told[metric].get(condition), bounds))
        yield (TITLES.get(condition, condition), *cells)
    for name, of in told["baselines"].items():
        if name not in keys.CONDITIONS:
            yield (
                name,
                *(_number(of.get(metric), of["intervals"].get(metric)) for metric in COLUMNS),
            )


def _number(value: float | None, bounds: list[float] | None) -> Number:
    spread = "" if bounds is None else f" ± {(bounds[1] - bounds[0]) / 2:.3f}"
    return Number(shown(value) + spread)


def outcomes_of_run(told: Mapping[str, Any]) -> Outcomes:
    """For a picture: bars are half intervals, as the caption says."""
    values: dict[Any, Spread] = {}
    for metric in METRICS:
        for condition, title in TITLES.items():
            _add(values, told, metric, title, told[metric].get(condition),
                 told["intervals"][metric].get(condition))  # fmt: skip
        for name, of in told["baselines"].items():
            if name not in TITLES:
                _add(values, told, metric, name, of.get(metric), of["intervals"].get(metric))
    return Outcomes(
        str(told["dataset"]),
        str(told["model"]),
        int(told["list_length"]),
        f"{told['users']:,} users",
        (told["seed"],),
        values,
        ("± is half of the 95 % interval over users.",),
    )


def _add(
    values: dict[Any, Spread],
    told: Mapping[str, Any],
    metric: str,
    row: str,
    value: float | None,
    bounds: list[float] | None,
) -> None:
    if value is not None:
        half = float("nan") if bounds is None else (bounds[1] - bounds[0]) / 2
        values[metric, row, str(told["attack"])] = Spread(value, half)


def _targets(told: Mapping[str, Any]) -> Iterator[str]:
    for item, ratio in zip(told["target_items"], told["hit_ratio_per_target"], strict=True):
        title = f" ({item['title']})" if item["title"] else ""
        yield f"{item['id']}{title}: defended hit ratio {shown(ratio)}"


def _settings(told: Mapping[str, Any]) -> Any:
    asked = {**keys.ASKED, **keys.TRAINED}
    rows = [(name, str(told[name]), text) for name, text in asked.items() if name in told]
    return table_of("What was asked", ("key", "value", "what it is"), rows, folded=True)


def _csv(told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for condition in keys.CONDITIONS:
        yield {
            "condition": condition,
            **{metric: told[metric].get(condition) for metric in keys.METRICS | keys.WHOLE},
        }
    for name, of in told["baselines"].items():
        if name not in keys.CONDITIONS:
            yield {
                "condition": name,
                **{metric: of.get(metric) for metric in keys.METRICS | keys.WHOLE},
            }


def _demo(file: Path, told: Mapping[str, Any]) -> Document:
    command, versions = recorded.told(told.get("run"))
    names = list(told["hit_ratio"])
    parts = {
        "hit_ratio": f"HR@{told['list_length']}",
        "accuracy": "accuracy",
        "accuracy_thresholded": "of liked items",
    }
    rows = [
        (DEMO_ROWS.get(name, name), *(shown(told[part].get(name)) for part in parts))
        for name in names
    ]
    times = [
        (preset, where, f"{1000 * of['p50']:.1f} ms", f"{1000 * of['p99']:.1f} ms")
        for preset, sides in told["latency_seconds"].items()
        for where, of in sides.items()
    ]
    return Document(
        title=f"Demo: {told['dataset']}, {told['model']}, {told['attack']}",
        summary=(
            f"{told['users']:,} users, {len(told['targets'])} target items, seed {told['seed']}; "
            f"{told['source']}, {told['split']} split. It took {told['seconds']:.0f} seconds.",
        ),
        sections=(
            Section(
                "Pictures",
                pictures=(
                    Picture(
                        "Before and after",
                        as_svg(before_and_after(demo_outcomes(dict(told)), None)),
                        "Bars of hit ratio and accuracy by condition; the numbers are in the table "
                        "below.",
                    ),
                ),
            ),
            Section(
                "Numbers",
                tables=(
                    table_of("By condition", ("", *parts.values()), rows),
                    table_of("Time for a user", ("preset", "where", "median", "p99"), times),
                ),
            ),
        ),
        rows=tuple(
            {"condition": name, **{part: told[part].get(name) for part in parts}} for name in names
        ),
        files=(file,),
        commands=tuple(filter(None, [command])),
        versions=versions,
        asked={name: told[name] for name in ("dataset", "model", "attack", "seed", "list_length")},
    )
