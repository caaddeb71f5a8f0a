"""A report of a folder that `vicinal grid` filled."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, get_args

from common.errors import InputError
from sims.evaluation.asked import asked_users
from sims.figures.heat_map import heat_map
from sims.figures.outcomes import outcomes_of, users_of
from sims.figures.scatter import scatter
from sims.figures.style import as_svg
from sims.functions import label
from sims.grid.config import GridConfig, Metric
from sims.grid.overview import overview
from sims.grid.page import LEGEND
from sims.grid.results import CELLS, CellResult, GridRun, cell_path, read_results, runs_in
from sims.grid.summary import Claim, claims
from sims.grid.table import Page, failures, pages, value_of, warnings
from sims.markdown_tables import tables_of
from sims.progress import Report, counter
from sims.reporting.document import (
    Document,
    Entry,
    Number,
    Picture,
    ReportTable,
    Section,
    printable,
    table_of,
)

FIRST: Final[tuple[Metric, ...]] = ("hit_ratio", "accuracy")


def grid_document(folder: Path, config: GridConfig | None, report: Report) -> Document:
    """Of all cells in the folder; `config` gives title and order, else the cells do.

    Raises InputError for a folder without results.
    """
    results, runs = [*map(told_printably, read_results(folder))], runs_in(folder)
    asked = config or config_of(results)
    if config is not None:
        results = _asked(results, config)
    measured = [one for one in results if not one.error]
    found, failed, beside = claims(results), failures(results), _overviews(results)
    title = asked.title or f"{', '.join(asked.datasets)} under {', '.join(asked.attacks)}"
    return Document(
        title=title,
        summary=(
            *_summary(asked, results, measured, runs),
            *([] if config is None else _missing(folder, config)),
        ),
        sections=(
            Section(
                "What holds",
                points=tuple(_headlines(beside)),
                tables=(_holds(found), _missed(found)),
            ),
            Section("Over all attacks", tables=tuple(beside)),
            *_pictures(measured, report),
            Section(
                "Tables beside the paper's",
                text=(LEGEND.replace("\n", " ").replace("*", "").strip(),),
                tables=tuple(map(_table, pages(asked, results))),
            ),
            Section("Warnings", points=tuple(warnings(results))),
            Section("Failed", points=tuple(failed)),
        ),
        rows=tuple(one.flat() for one in results),
        files=tuple(sorted((folder / CELLS).glob("*.json"))),
        commands=tuple(dict.fromkeys(run.command for run in runs if run.command)),
        versions={name: text for run in runs for name, text in run.versions.items()},
        asked=asked.model_dump(exclude_defaults=True),
    )


def told_printably(result: CellResult) -> CellResult:
    """The same cell, what is not printable in its texts spelled out."""
    texts = {name: printable(value) for name, value in result if isinstance(value, str)}
    return result.model_copy(update=texts)


def config_of(results: Sequence[CellResult]) -> GridConfig:
    """The tables that hold these cells, where nobody names the configuration."""

    def told(name: str) -> list[str]:
        return list(dict.fromkeys(label(getattr(one, name)) for one in results))

    sizes = sorted({one.attack_size for one in results})
    return GridConfig(
        datasets=told("dataset"),
        models=told("model"),
        attacks=told("attack"),
        seeds=sorted({one.seed for one in results}),
        attack_sizes=sizes if len(sizes) > 1 else [],
        attack_size=sizes[0],
        metrics=[name for name in get_args(Metric) if _kept(results, name)],
    )


def _kept(results: Sequence[CellResult], metric: Metric) -> bool:
    done = [one for one in results if not one.error]
    return any(value_of(one, metric, "defended") is not None for one in done)


def _asked(results: list[CellResult], config: GridConfig) -> list[CellResult]:
    """The cells that a configuration speaks of. Raises InputError when there is none."""
    datasets, models = set(config.datasets), set(map(label, config.models))
    attacks = set(map(label, config.attacks))
    kept = [
        one
        for one in results
        if one.dataset in datasets and one.model in models and one.attack in attacks
    ]
    if not kept:
        raise InputError("the folder has no cell of this configuration")
    return kept


def _missing(folder: Path, config: GridConfig) -> Iterator[str]:
    cells = config.cells()
    count = sum(not cell_path(folder, cell).exists() for cell in cells)
    if count:
        yield (
            f"{count} of {len(cells)} cells of the configuration are not in the folder: means are "
            "over those that are. `vicinal grid` goes on with them."
        )


def _summary(
    asked: GridConfig,
    results: Sequence[CellResult],
    measured: Sequence[CellResult],
    runs: Sequence[GridRun],
) -> list[str]:
    failed = len(results) - len(measured)
    seconds = sum(run.seconds for run in runs)
    lines = [
        f"{len(results)} cells: {len(asked.datasets)} data set(s) ({', '.join(asked.datasets)}), "
        f"{len(asked.models)} model(s) ({', '.join(map(label, asked.models))}), "
        f"{len(asked.attacks)} attack(s), seeds {', '.join(map(str, asked.seeds))}. "
        f"{failed or 'None'} failed."
    ]
    if measured:
        sample = asked_users(asked.users)
        who = users_of(measured) + (", a sample" if isinstance(sample, int) else "")
        lines.append(f"Asked: {who}.")
    if runs:
        lines.append(f"It took {seconds / 60:.0f} minutes in {len(runs)} run(s).")
    return lines


def _holds(found: Sequence[Claim]) -> ReportTable:
    rows = [
        (
            one.sentence,
            Number(f"{one.cells - len(one.misses)}", missed=bool(one.misses)),
            str(one.cells),
        )
        for one in found
    ]
    return table_of(
        "In how many cells",
        ("", "holds in", "of"),
        rows,
        "A cell is a data set, model, attack and defense, its numbers means over seeds.",
    )


def _missed(found: Sequence[Claim]) -> ReportTable:
    """Cell by cell what rvd misses; of others the table has the number."""
    rows = [
        (one.sentence, Number(cell, missed=True))
        for one in found
        if one.sentence.startswith(("undefended", "rvd"))
        for cell in one.misses
    ]
    return table_of("Every cell that misses one of these", ("", "cell"), rows, folded=True)


def _headlines(overviews: Sequence[ReportTable]) -> list[str]:
    """From undefended to defended, a line a model."""
    lines = []
    for table in overviews:
        dataset = table.heading.partition(":")[0]
        rows = {str(row[0]): row for row in table.rows}
        for name, row in rows.items():
            model, _, defense = name.partition(", ")
            before = rows.get(f"{model}, none")
            if before is not None and defense.startswith("rvd"):
                lines.append(
                    f"{dataset}, {model}: mean hit ratio over all attacks {before[1]} → {row[1]}, "
                    f"accuracy {before[3]} → {row[3]}, with {defense}."
                )
    return lines


def _overviews(results: Sequence[CellResult]) -> list[ReportTable]:
    page = overview(results)
    headings = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("###")]
    return [
        table_of(heading, one.head, one.rows)
        for heading, one in zip(headings, tables_of(page), strict=True)
    ]


def _pictures(measured: Sequence[CellResult], report: Report) -> list[Section]:
    """Two for each data set and model."""
    pairs = list(dict.fromkeys((one.dataset, one.model) for one in measured))
    advance = counter(report, "drawing", len(pairs))
    found = []
    for pair in pairs:
        found.append(_drawn([one for one in measured if (one.dataset, one.model) == pair]))
        advance(1)
    return found


def _drawn(cells: Sequence[CellResult]) -> Section:
    """Of one data set and model."""
    dataset, model = cells[0].dataset, cells[0].model
    heading = f"Pictures: {dataset}, {model}"
    try:
        outcomes = outcomes_of(cells, dataset=dataset, model=model)
    except InputError as error:
        return Section(heading, text=(f"Not drawn: {error}.",))
    return Section(
        heading,
        pictures=(
            Picture(
                "Hit ratio against accuracy",
                as_svg(scatter(outcomes)),
                f"{dataset}, {model}: each defense under each attack as a point. The numbers are "
                "in the tables below.",
            ),
            Picture(
                "Every defense against every attack",
                as_svg(heat_map(outcomes)),
                f"{dataset}, {model}: hit ratio and accuracy as colors with their numbers, which "
                "are in the tables below, too.",
            ),
        ),
    )


def _table(page: Page) -> ReportTable:
    rows: list[tuple[Entry, ...]] = [
        (name, *(Number(one.text, better=one.better, missed=one.missed) for one in entries))
        for name, entries in page.rows
    ]
    return table_of(page.heading, ("", *page.columns), rows, folded=page.metric not in FIRST)
