"""An evaluation as a table: what a reader asks first, at most 80 columns wide."""

from collections.abc import Iterable, Iterator
from typing import Final

from rich import box
from rich.table import Table
from rich.text import Text

from sims.evaluation.baselines import POPULARITY
from sims.evaluation.scores import Scores

# Rows, by condition; baselines follow under their names.
TITLES: Final[dict[str, str]] = {
    "clean": "clean model",
    "clean_defended": "clean model, defended",
    "undefended": "undefended",
    "defended": "defended",
    POPULARITY: "popularity ranking",
}
# Columns after the two that have an interval: heading and metric.
OTHERS: Final = {"recall\n@10": "recall_10", "nDCG\n@10": "ndcg_10", "tail": "accuracy_tail"}


def evaluation_table(
    scores: Scores,
    baselines: Iterable[str],
    *,
    title: str,
    list_length: int,
    notes: Iterable[str],
) -> Table:
    """Hit ratio, that of the worst group, accuracy, and three metrics more, by condition."""
    # As text: a name or a note may hold what rich takes for markup.
    table = Table(
        title=Text(title, style="table.title"),
        title_justify="left",
        caption=Text("\n".join([*_caption(scores), *notes]), style="table.caption"),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("")
    for heading in (f"HR@{list_length}", "worst\ngroup", f"accuracy@{list_length}", *OTHERS):
        table.add_column(heading, justify="right")
    names = {**TITLES, **{name: name for name in baselines if name != POPULARITY}}
    for name, row_title in names.items():
        table.add_row(
            row_title,
            _with_interval(scores, "hit_ratio", name),
            shown(scores.value("hit_ratio_worst_group", name)),
            _with_interval(scores, "accuracy", name),
            *(shown(scores.value(metric, name)) for metric in OTHERS.values()),
            style="bold" if name == "defended" else None,
        )
    return table


def shown(ratio: float | None) -> str:
    """Three digits, or a dash where there is no number."""
    return "–" if ratio is None else f"{ratio:.3f}"


def _with_interval(scores: Scores, metric: str, name: str) -> str:
    found = scores.interval(metric, name)
    spread = "" if found is None else f" ±{(found[1] - found[0]) / 2:.3f}"
    return shown(scores.value(metric, name)) + spread


def _caption(scores: Scores) -> Iterator[str]:
    """What the columns mean, and what the attack did."""
    population = scores.population
    yield "±: half the 95 % interval over users. tail: accuracy on items of < 50 ratings."
    if (over_clean := scores.harm("clean", "defended")) is not None:
        way = "rise" if population.goal == "promote" else "fall"
        over_defended = scores.harm("clean_defended", "defended")
        yield (
            f"defended, {way} of HR: {_signed(over_clean)} from clean, "
            f"{_signed(over_defended)} from clean, defended."
        )
    worst = scores.worst_group("defended")
    if worst is not None and scores.group_count > 1:
        yield (
            f"defended, worst of {scores.group_count} groups of like taste: {worst.size} of "
            f"{len(population.groups)} users."
        )
    if population.inside is not None:
        inside, outside = (
            shown(scores.value(f"hit_ratio_{side}", "defended")) for side in ("inside", "outside")
        )
        size = int(population.inside.sum())
        yield f"defended, HR inside the audience of {size} users {inside}, outside {outside}."
    if (share := scores.value("unsupported_share", "defended")) is not None:
        yield f"defended, share of a list without support: {share:.3f}."


def _signed(number: float | None) -> str:
    return "–" if number is None else f"{number:+.3f}"
