"""Pictures and pages of results, as files for a tracker."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from common.errors import InputError
from sims.figures.bars import before_and_after, demo_outcomes
from sims.figures.history import history_figure
from sims.figures.outcomes import outcomes_of
from sims.figures.scatter import scatter
from sims.figures.style import as_png
from sims.fleet.history import History
from sims.grid.config import GridConfig
from sims.grid.results import CellResult
from sims.progress import Report
from sims.reporting.document import printable
from sims.reporting.of_grid import grid_document, told_printably
from sims.reporting.of_run import outcomes_of_run, run_document
from sims.reporting.writing import as_html

# In a grid's folder, of all its cells.
OF_GRIDS: Final = ("results.parquet", "tables.md")


def drawn_evaluation(told: Mapping[str, Any]) -> dict[str, bytes]:
    """A report, and bars."""
    return {
        "report.html": _report(told),
        "before-and-after.png": as_png(before_and_after(outcomes_of_run(printable(told)), None)),
    }


def drawn_demo(told: Mapping[str, Any]) -> dict[str, bytes]:
    """The same of a demo."""
    return {
        "report.html": _report(told),
        "before-and-after.png": as_png(before_and_after(demo_outcomes(printable(told)), None)),
    }


def drawn_history(told: Mapping[str, Any]) -> dict[str, bytes]:
    """Rounds as curves."""
    return {"history.png": as_png(history_figure(History.model_validate(printable(told))))}


def drawn_grid(
    folder: Path, config: GridConfig | None, results: Sequence[CellResult], report: Report
) -> dict[str, bytes]:
    """A report, tables, and hit ratio against accuracy of each data set and model."""
    files = {"report.html": as_html(grid_document(folder, config, report))}
    files |= {name: (folder / name).read_bytes() for name in OF_GRIDS if (folder / name).is_file()}
    done = [told_printably(one) for one in results if not one.error]
    pairs = dict.fromkeys((one.dataset, one.model) for one in done)
    for at, (dataset, model) in enumerate(pairs, 1):
        here = [one for one in done if (one.dataset, one.model) == (dataset, model)]
        try:
            outcomes = outcomes_of(here, dataset=dataset, model=model)
        except InputError:
            continue  # the report says why there is no picture
        files[f"scatter-{at}.png"] = as_png(scatter(outcomes))
    return files


def _report(told: Mapping[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        path.write_text(json.dumps(dict(told)))
        return as_html(run_document(path))
