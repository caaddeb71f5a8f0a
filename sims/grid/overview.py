"""One table a data set: every defense and baseline over all attacks of a grid.

A cell here is a data set, model, attack and defense, its numbers the means over seeds. Baselines
were trained on the attacked ratings of the same cells. Kept out is counted for each seed alone.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from server.baselines import BASELINES
from sims.grid.results import OVER_CLEAN, CellResult

COLUMNS: Final = {
    "accuracy": "accuracy",
    "recall_10": "recall@10",
    "ndcg_10": "nDCG@10",
    "accuracy_tail": "tail",
}
KEPT_OUT: Final = f"≤ clean + {OVER_CLEAN:g}"
HEAD: Final = f"| | HR | worst HR | {KEPT_OUT} | {' | '.join(COLUMNS.values())} |"
NO_ATTACK: Final = "none"
_METRICS: Final = ("hit_ratio", *COLUMNS)

# Of one cell: by metric, the values of its seeds.
Values = dict[str, list[float]]


def overview(results: Sequence[CellResult]) -> str:
    """Markdown; empty where no attack was measured."""
    measured = [one for one in results if not one.error and one.attack != NO_ATTACK]
    parts = []
    for dataset in dict.fromkeys(one.dataset for one in measured):
        rows = list(_rows([one for one in measured if one.dataset == dataset]))
        parts += [f"### {dataset}: over all attacks", "", HEAD, "|---|" + "---:|" * 7, *rows, ""]
    return "\n".join(parts)


def _rows(results: Sequence[CellResult]) -> Iterator[str]:
    names = {name for one in results for name in one.baselines}
    for name in (each for each in BASELINES if each in names):
        cells: dict[str, Values] = {}
        # Once an attack and seed: they are the same beside every model.
        seen = {(one.sized_attack, one.seed): one for one in results if name in one.baselines}
        for (attack, _), one in seen.items():
            _add(cells, attack, {metric: one.baselines[name].get(metric) for metric in _METRICS})
        yield _row(name, cells.values(), [])
    for model, label in dict.fromkeys((one.model, one.label) for one in results):
        cells, kept_out = {}, []
        for one in results:
            if (one.model, one.label) == (model, label):
                told = {metric: getattr(one, metric).get("defended") for metric in _METRICS}
                _add(cells, one.sized_attack, told)
                kept_out.append(one.kept_out)
        yield _row(f"{model}, {label}", cells.values(), kept_out)


def _add(cells: dict[str, Values], attack: str, told: dict[str, object]) -> None:
    for metric, value in told.items():
        if isinstance(value, int | float):
            cells.setdefault(attack, {}).setdefault(metric, []).append(float(value))


def _row(name: str, cells: Iterable[Values], kept_out: Sequence[bool | None]) -> str:
    found = list(cells)
    ratios = [statistics.fmean(cell["hit_ratio"]) for cell in found if "hit_ratio" in cell]
    shown = [f"{statistics.fmean(ratios):.3f}", f"{max(ratios):.3f}"] if ratios else ["–", "–"]
    told = [each for each in kept_out if each is not None]
    shown.append(f"{statistics.fmean(told):.0%} of {len(told)}" if told else "–")
    for metric in COLUMNS:
        means = [statistics.fmean(cell[metric]) for cell in found if metric in cell]
        shown.append(f"{statistics.fmean(means):.3f}" if means else "–")
    return f"| {name} | {' | '.join(shown)} |"
