"""A grid's results as tables, with the paper's number beside each cell.

A row is a model and a defense, a column an attack; a number is the mean over seeds, ± their
standard deviation, the paper's in brackets, and bold where ours is better.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from server.baselines import BASELINES
from sims.functions import label
from sims.grid import paper_tables
from sims.grid.config import GridConfig, Metric
from sims.grid.results import CellResult, sized
from sims.grid.summary import means_of

TITLES: Final[dict[Metric, str]] = {
    "hit_ratio": "Hit ratio of target items (lower is better)",
    "hit_ratio_inside": "Hit ratio among the users whom an attack aims at (lower is better)",
    "hit_ratio_worst_group": "Hit ratio in the worst group of like taste (lower is better)",
    "accuracy": "Accuracy (higher is better)",
    "accuracy_tail": "Accuracy on items with fewer than 50 ratings (higher is better)",
    "recall_10": "Recall in lists of 10 (higher is better)",
    "ndcg_10": "nDCG of lists of 10 (higher is better)",
    "mrr": "Mean reciprocal rank (higher is better)",
    "coverage": "Coverage: items that somebody sees (higher is better)",
    "unsupported_share": "Share of a list that is in random order (lower is better)",
    "seconds": "Seconds for one user's recommendation, median (lower is better)",
}
# What a baseline's row is called, where not by its name.
TITLES_BESIDE: Final = {"popularity": "popularity ranking"}
# Wider than any table.
MOST_COLUMNS: Final = 10_000
# What stands beside the defenses: condition, and the row's name.
NOT_ATTACKED: Final = ("clean", "not attacked")
# Those whose lists have a length of their own, or none.
OWN_LENGTH: Final = ("recall_10", "ndcg_10", "seconds")


@dataclass(frozen=True)
class Entry:
    """One number in a table."""

    values: tuple[float, ...]
    failed: int = 0
    paper: float | None = None
    better: bool = False
    missed: bool = False

    @property
    def text(self) -> str:
        """`0.012 ± 0.003 (0.042)`; what failed is said and not averaged over in silence."""
        if not self.values:
            return "failed" if self.failed else "–"
        shown = f"{statistics.fmean(self.values):.3f}"
        if len(self.values) > 1:
            shown += f" ± {statistics.stdev(self.values):.3f}"
        if self.paper is not None:
            shown += f" ({self.paper:.3f})"
        shown += " †" if self.missed else ""
        return shown + (f", {self.failed} failed" if self.failed else "")

    @property
    def short(self) -> str:
        """`0.012 †`: the mean alone."""
        if not self.values:
            return "failed" if self.failed else "–"
        return f"{statistics.fmean(self.values):.3f}{'†' if self.missed else ''}"


@dataclass(frozen=True)
class Page:
    """One table: heading, columns and rows of (name, entries)."""

    metric: Metric
    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Entry, ...]], ...]

    def markdown(self) -> str:
        """As GitHub renders it."""
        lines = [f"### {self.heading}", ""]
        lines += ["| |" + "|".join(self.columns) + "|", "|---|" + "---|" * len(self.columns)]
        for name, entries in self.rows:
            cells = [f"**{one.text}**" if one.better else one.text for one in entries]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    def table(self, width: int) -> Table:
        """For a terminal of so many columns; where they do not fit, of means alone."""
        whole = self._table(short=False)
        needed = Console(width=MOST_COLUMNS).measure(whole).maximum
        return whole if needed <= width else self._table(short=True)

    def _table(self, *, short: bool) -> Table:
        table = Table(
            title=Text(self.heading, style="table.title"),
            title_justify="left",
            box=box.SIMPLE_HEAD if short else box.HEAVY_HEAD,
            padding=(0, 1, 0, 0) if short else (0, 1),
            pad_edge=not short,
        )
        for column in ("", *self.columns):
            table.add_column(column, justify="right" if column else "left")
        for name, entries in self.rows:
            texts = ((one.short if short else one.text, one.better) for one in entries)
            table.add_row(Text(name), *(Text(t, style="bold" if b else "") for t, b in texts))
        return table


def pages(config: GridConfig, results: Sequence[CellResult]) -> list[Page]:
    """A table for each metric and data set."""
    return [
        Page(
            metric,
            f"{dataset}: {TITLES[metric]}{'' if metric in OWN_LENGTH else _at(results, dataset)}",
            tuple(_columns(config)),
            tuple(_rows(config, results, metric, dataset)),
        )
        for metric in config.metrics
        for dataset in config.datasets
    ]


def failures(results: Sequence[CellResult]) -> list[str]:
    """A line for each cell that failed."""
    return [
        f"{one.dataset} · {one.model} · {one.attack} · {one.label} · seed {one.seed}: {one.error}"
        for one in results
        if one.error
    ]


def warnings(results: Sequence[CellResult]) -> list[str]:
    """What looks wrong in the ratings of each data set, each said once."""
    found = (f"{one.dataset}: {doubt['text']}" for one in results for doubt in one.warnings)
    return list(dict.fromkeys(found))


def _at(results: Sequence[CellResult], dataset: str) -> str:
    lengths = {one.list_length for one in results if one.dataset == dataset}
    return f", K = {', '.join(map(str, sorted(lengths)))}" if lengths else ""


def _rows(
    config: GridConfig, results: Sequence[CellResult], metric: Metric, dataset: str
) -> Iterator[tuple[str, tuple[Entry, ...]]]:
    attacks = _columns(config)
    for model in map(label, config.models):
        here = [one for one in results if (one.dataset, one.model) == (dataset, model)]
        for condition, name in _references(metric):
            yield (
                f"{model}, {name}",
                tuple(Entry(_reference(here, metric, condition, attack)) for attack in attacks),
            )
        for name in _beside(here, metric):
            yield (
                f"{model}, {TITLES_BESIDE.get(name, name)}",
                tuple(Entry(_baseline(here, metric, name, attack)) for attack in attacks),
            )
        for row in dict.fromkeys(one.label for one in here):
            part = [one for one in here if one.label == row]
            yield f"{model}, {row}", tuple(_entry(part, metric, name) for name in attacks)


def _references(metric: Metric) -> tuple[tuple[str, str], ...]:
    if metric == "seconds":
        return ()
    popular = (("popularity", "popularity ranking"),) if metric == "accuracy" else ()
    return (NOT_ATTACKED, *popular)


def _beside(results: Sequence[CellResult], metric: Metric) -> list[str]:
    """Names of the baselines that were measured with some cell, in the registry's order."""
    if metric == "seconds":
        return []
    # Of format 3; accuracy has had popularity as a reference from the first format on.
    measured = {name for one in results for name in one.baselines}
    known = {condition for condition, _ in _references(metric)}
    return [name for name in BASELINES if name in measured and name not in known]


def _baseline(
    results: Sequence[CellResult], metric: Metric, name: str, attack: str
) -> tuple[float, ...]:
    """One value a seed, of the attacked ratings; none where no item is watched."""
    found: dict[int, float] = {}
    for one in results:
        if one.sized_attack == attack and name in one.baselines:
            value = one.baselines[name].get(metric)
            if isinstance(value, float):
                found[one.seed] = value
    return tuple(found.values())


def _columns(config: GridConfig) -> list[str]:
    """An attack each, and each share of fakes."""
    sizes = [*config.attack_sizes] or [config.attack_size]
    return [sized(label(name), size) for name in config.attacks for size in sizes]


def _reference(
    results: Sequence[CellResult], metric: Metric, condition: str, attack: str
) -> tuple[float, ...]:
    """One value a seed, of the plainly trained model."""
    plain = {
        one.seed: value_of(one, metric, condition)
        for one in results
        if one.sized_attack == attack and not one.error and one.defense in ("none", "rvd")
    }
    return tuple(value for value in plain.values() if value is not None)


def _entry(results: Sequence[CellResult], metric: Metric, attack: str) -> Entry:
    here = [one for one in results if one.sized_attack == attack]
    measured = (value_of(one, metric, "defended") for one in here if not one.error)
    values = tuple(value for value in measured if value is not None)
    if not here:
        return Entry(())
    paper = _paper(here[0], metric)
    better = False
    # An undefended hit ratio is not better for being lower: the attack was weaker.
    if values and paper is not None and here[0].defense != "none":
        ours = statistics.fmean(values)
        # As the paper's three digits would show it.
        equal = math.isclose(round(ours, 3), paper, abs_tol=1e-9)
        better = not equal and ((ours > paper) is (metric == "accuracy"))
    return Entry(values, sum(bool(one.error) for one in here), paper, better, _missed(here, metric))


def _missed(results: Sequence[CellResult], metric: Metric) -> bool:
    """Whether the mean over seeds misses what a defense is asked for."""
    means = means_of(results)
    if metric not in ("hit_ratio", "accuracy") or not means or means[0].defense == "none":
        return False
    return not (means[0].robust if metric == "hit_ratio" else means[0].accurate)


def value_of(result: CellResult, metric: Metric, condition: str) -> float | None:
    """A number of a cell that was measured; None where it is not defined, or was not kept."""
    if metric == "seconds":
        return result.seconds["per_user_p50"]
    of: Mapping[str, float | None] = getattr(result, metric)
    return of.get(condition)


def _paper(result: CellResult, metric: Metric) -> float | None:
    if metric == "seconds":
        return paper_tables.seconds(result.model, result.defense)
    if metric not in ("hit_ratio", "accuracy"):
        return None
    lookup = paper_tables.hit_ratio if metric == "hit_ratio" else paper_tables.accuracy
    return lookup(result.dataset, result.model, result.attack, result.defense)
