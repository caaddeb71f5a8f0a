"""Print docs/reference.md: `python -m sims.reference > docs/reference.md`.

Everything comes from the code: options from the commands, keys of a configuration from its class,
keys of results from the tables beside what writes them.
"""

import inspect
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer.models import OptionInfo

from common.errors import InputError, VicinalError
from server.data.doubts import CODES
from server.data.layouts import LAYOUTS
from server.fleet.run_config import RunConfig
from sims import recorded
from sims.audit import report as audit
from sims.cli import COMMANDS, INTERRUPTED, app
from sims.commands import certify, data, device_report, model, tally_report
from sims.commands.demo import ROWS
from sims.commands.help import Declared, declared, flowing
from sims.evaluation import keys
from sims.fleet.app import Preparation
from sims.fleet.history import History, Point
from sims.grid.config import GridConfig
from sims.grid.results import GridRun
from sims.latency import report as latency
from sims.serving import demo

ROOT: Final = Path(__file__).resolve().parents[1]

INTRODUCTION: Final = """\
# Reference

For whoever writes a command line, a configuration or a program that reads results: every option,
key, column and code. This page is printed from the code, by
`python -m sims.reference > docs/reference.md`, and a test fails when it differs. What the words
mean: [glossary.md](glossary.md). How to use them: [the index](README.md).
"""

# What the environment decides.
ENVIRONMENT: Final = {
    "VICINAL_DATA": "folder with data sets that are already there: `ml-100k/u.data`, "
    "`ml-1m/ratings.csv.gz`, …; looked into before anything is fetched",
    "VICINAL_CACHE": "folder where fetched data sets are kept; default: the platform's own",
    "VICINAL_QUIET": "as `vicinal --quiet`: no progress and no notes",
    "MLFLOW_TRACKING_URI": "address of the server of `--track mlflow`; other variables of MLflow's "
    "client go to it, as MLFLOW_TRACKING_TOKEN",
    "MLFLOW_EXPERIMENT_NAME": "experiment that `--track mlflow` writes to; default: vicinal",
}
# How `vicinal` ends.
EXIT_CODES: Final = {
    0: "done",
    VicinalError.exit_code: "something failed; one line on stderr says what",
    InputError.exit_code: "what was given cannot be used; the line says what to do",
    INTERRUPTED: "interrupted",
}
# gRPC statuses that a server answers with or a device meets, and how a device ends or goes on.
STATUSES: Final = {
    "OK": ("the call was answered", "goes on"),
    "UNAUTHENTICATED": ("no token, or one that is not valid", "exit code 2"),
    "PERMISSION_DENIED": ("the token is for other users", "exit code 2"),
    "NOT_FOUND": ("unknown user; version or digest that is not served", "exit code 2, or anew"),
    "FAILED_PRECONDITION": ("the version is no longer served", "describes again"),
    "INVALID_ARGUMENT": ("preset, slim or report that cannot be", "exit code 2"),
    "OUT_OF_RANGE": ("an offset beyond the end", "exit code 2"),
    "RESOURCE_EXHAUSTED": ("too many requests, calls or neighbors", "repeats, or exit code 1"),
    "UNAVAILABLE": ("no server, or the process that worked on it ended", "repeats"),
    "CANCELLED": ("the caller left, or the server stopped", "repeats"),
    "DEADLINE_EXCEEDED": ("no answer in time", "exit code 1"),
    "INTERNAL": ("a fault of the server, whose log has the details", "exit code 1"),
}

Row = Sequence[str]


def page() -> str:
    """The whole page."""
    return "\n".join(
        [INTRODUCTION, *_commands(), *_layouts(), *_configurations(), *_results(), *_codes()]
    )


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    yield (
        "`vicinal COMMAND --help` (`-h`) shows the same. *several*: the option may be repeated. "
        "Options of `vicinal` itself stand before the command.\n"
    )
    yield "### vicinal\n"
    assert app.registered_callback is not None and app.registered_callback.callback is not None
    yield _options(app.registered_callback.callback)
    for name, entry in COMMANDS.items():
        commands = import_module(entry.module).app.registered_commands
        for command in commands:
            path = f"vicinal {name}"
            if len(commands) > 1:
                path += f" {command.name or command.callback.__name__}"
            yield f"### {path}\n"
            yield flowing(command.callback.__doc__ or "") + "\n"
            yield _options(command.callback)


def _options(command: Callable[..., Any]) -> str:
    rows = [
        (
            ", ".join(f"`{name}`" for name in option.spellings),
            _kind(option),
            _default(option),
            option.info.help or "",
        )
        for option in declared(command)
    ]
    return _table(("option", "type", "default", "what it is"), rows)


def _kind(option: Declared) -> str:
    base = {int: "integer", float: "number", str: "text", Path: "path", bool: "flag"}
    words = base[option.value_type]
    named = isinstance(option.info, OptionInfo) and option.value_type is not bool
    if named and not words.startswith(option.metavar.lower()):
        words += f" `{option.metavar}`"
    low, high = option.info.min, option.info.max
    if low is not None and high is not None:
        words += f", {low:,}–{high:,}"
    elif low is not None:
        words += f", at least {low:g}"
    return words + (", several" if "list" in str(option.annotation) else "")


def _default(option: Declared) -> str:
    if option.default is inspect.Parameter.empty:
        return "required"
    if option.default is None or option.value_type is bool:
        return "–"
    return f"`{option.default}`"


def _configurations() -> Iterator[str]:
    yield "## Configuration of a grid\n"
    yield (
        "The TOML file of `vicinal grid CONFIG` ([how-to/grid.md](how-to/grid.md)). An unknown "
        "key is refused.\n"
    )
    rows = [
        (f"`{name}`", _type(field.annotation), _given(field.default), field.description or "")
        for name, field in GridConfig.model_fields.items()
    ]
    yield _table(("key", "type", "default", "what it is"), rows)
    yield "## Run configuration of the Flower app\n"
    yield (
        "`[tool.flwr.app.config]` in pyproject.toml, and `flwr run --run-config` "
        "([how-to/flower.md](how-to/flower.md)).\n"
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    defaults = project["tool"]["flwr"]["app"]["config"]
    rows = [
        (
            f"`{key}`",
            _type(field.annotation),
            _given(defaults[key]),
            field.description or "",
        )
        for kind in (RunConfig, Preparation)
        for name, field in kind.model_fields.items()
        for key in [field.alias or name]
    ]
    yield _table(("key", "type", "default", "what it is"), rows)


def _type(annotation: Any) -> str:
    """A type in words: `dict[str, list[int]]` is a table by name of a list of integers."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is list:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"table of {_type(parts[1])}"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts if part is not type(None))
    return {int: "integer", float: "number", str: "text", bool: "true or false"}[annotation]


def _given(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default in (None, "", [], {}):
        return "–"
    return f"`{default}`".replace("'", '"')


def _layouts() -> Iterator[str]:
    yield "## Layouts of public data sets\n"
    yield (
        "What a name of `--format` says; options that are given beside it win "
        "([how-to/own-data.md](how-to/own-data.md)).\n"
    )
    rows = [
        (f"`{name}`", layout.what, _said(layout.options.told())) for name, layout in LAYOUTS.items()
    ]
    yield _table(("name", "what has it", "what it says"), rows)


def _said(options: Mapping[str, Any]) -> str:
    """Options as one writes them on the command line."""
    words = []
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, list):
            value = ",".join(f"{each:g}" if isinstance(each, float) else each for each in value)
        words.append(f"`{flag}`" if value is True else f"`{flag} {value}`")
    return " ".join(words)


def _results() -> Iterator[str]:
    yield "## Results\n"
    yield (
        "A dot leads into an object, `[]` stands for every part of a list; words in capitals stand "
        "for several keys. Shares lie in 0–1, times are in seconds unless a key says `ms`.\n"
    )
    yield _keys("vicinal evaluate --json", keys.EVALUATION)
    yield _keys(
        "run",
        recorded.KEYS,
        "In every file of `--json` of a command that has --track, and in a demo's results.json.",
    )
    yield _keys("CONDITION", keys.CONDITIONS)
    yield _keys("METRIC", keys.METRICS)
    yield _keys(
        "vicinal evaluate --per-user",
        keys.PER_USER,
        "A Parquet file with a row for each user under each condition and of each baseline.",
    )
    yield _keys("vicinal compare --json", keys.COMPARED)
    yield _keys("vicinal certify --json", certify.KEYS)
    yield _keys("vicinal audit --json", audit.KEYS)
    figures = {name: f"{who}: {what}" for name, (who, _, what) in audit.FIGURES.items()}
    yield _keys("FIGURE", figures)
    yield _keys("vicinal simulate --json", keys.FLEET)
    yield _keys(
        "vicinal simulate --rounds: history.json",
        _described(History),
        "With `--json`, too. `scenario` has the keys of the run config.",
    )
    yield _keys("vicinal simulate --rounds: history.parquet, `rounds[]`", _described(Point))
    yield _keys(
        "vicinal grid: cells/DIGEST.json, results.parquet",
        keys.GRID,
        "One file a cell; a column of results.parquet has `_` for a dot, as "
        "`hit_ratio_defended`. A cell that failed has `error`, and nothing measured.",
    )
    yield _keys(
        "vicinal grid: runs.jsonl", _described(GridRun), "A line for each run of the command."
    )
    yield _keys("vicinal device --json", device_report.KEYS)
    yield _keys(
        "vicinal tally export, show --json",
        tally_report.KEYS,
        "CSV has a line for each number: `version`, `preset`, `what`, `item`, `epsilon`, `value`, "
        "`error`, `of`.",
    )
    yield _keys("COUNT", keys.COUNTS)
    yield _keys(
        "vicinal latency --json",
        latency.KEYS,
        "SIDE is `server` or `device`: who fine-tunes and ranks.",
    )
    yield _keys(
        "vicinal demo: results.json",
        demo.KEYS,
        f"ROW is {', '.join(f'`{row}`' for row in ROWS)}; PRESET is `vicinal`.",
    )
    yield _keys("vicinal data describe --json", data.KEYS)
    yield _keys("Warnings", CODES, "What `warnings` of `evaluate` and `data describe` may have.")
    yield _keys("vicinal model import --json", model.KEYS)


def _described(model: type[BaseModel]) -> dict[str, str]:
    return {name: field.description or "" for name, field in model.model_fields.items()}


def _keys(title: str, meanings: Mapping[str, str], note: str = "") -> str:
    rows = [(f"`{key}`", meaning or "〃") for key, meaning in meanings.items()]
    parts = [f"### {title}", note, _table(("key", "what it is"), rows)]
    return "\n\n".join(filter(None, parts))


def _codes() -> Iterator[str]:
    yield "## Environment\n"
    yield _table(("variable", "what it decides"), [(f"`{n}`", t) for n, t in ENVIRONMENT.items()])
    yield "## Exit codes\n"
    yield _table(("code", "when"), [(str(code), when) for code, when in EXIT_CODES.items()])
    yield "## gRPC statuses\n"
    yield (
        "Of the calls in [protocol.md](protocol.md#statuses), which has every case. A device "
        "without an answer takes the user's last package where it has one.\n"
    )
    rows = [(f"`{name}`", *texts) for name, texts in STATUSES.items()]
    yield _table(("status", "when", "a device"), rows)


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(page())
