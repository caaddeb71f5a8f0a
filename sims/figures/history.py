"""Hit ratio and accuracy over the rounds of a fleet."""

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.errors import InputError
from server.fleet.plan import Condition
from sims.figures.ablation import HEADINGS
from sims.figures.outcomes import METRICS, Metric
from sims.figures.style import (
    BLUE,
    GREY,
    MUTED,
    VERMILION,
    End,
    canvas,
    drawing,
    headed,
    label_lines,
)
from sims.fleet.history import History

# Color, marker and dash of each.
_LOOKS: Final[dict[Condition, tuple[str, str, str]]] = {
    "undefended": (VERMILION, "s", "--"),
    "defended": (BLUE, "o", "-"),
}


def history_figure(history: History) -> Figure:
    """Both metrics, undefended and defended, a point a round. Raises InputError for one round."""
    rounds = [point.round for point in history.of("defended")]
    if len(rounds) < 2:
        raise InputError("the history holds one round: nothing to draw")
    scenario, last = history.scenario, history.of("defended")[-1]
    with drawing():
        figure, panels = canvas(1, 2, (10.5, 4.6))
        for axes, metric in zip(panels, METRICS, strict=True):
            _panel(axes, history, metric)
            axes.set_title(HEADINGS[metric].format(history.list_length), loc="left")
        headed(
            figure,
            f"{history.dataset} · {history.model} · {history.attack} from round "
            f"{scenario.attack_from} · {history.defense} ({history.preset})",
            f"{history.clients} clients, {history.fraction:.0%} of those there asked in a round; "
            f"{scenario.absent:.0%} absent at first, then {scenario.leave:.0%} leave and "
            f"{scenario.appear:.0%} of the absent appear; {scenario.held_back:.0%} of the ratings "
            f"arrive after round 1 ({scenario.arrive}); trained {scenario.retrain}; {last.fakes} "
            f"fakes; seed {history.seed}. "
            "Bands: 95 % intervals over clients.",
        )
    return figure


def _panel(axes: Axes, history: History, metric: Metric) -> None:
    ends = []
    for condition, (color, marker, dash) in _LOOKS.items():
        points = history.of(condition)
        rounds = [point.round for point in points]
        values = [getattr(point, metric) for point in points]
        low, high = (
            [getattr(point, f"{metric}_{end}") for point in points] for end in ("low", "high")
        )
        if None not in (*low, *high):
            axes.fill_between(rounds, low, high, color=color, alpha=0.18, linewidth=0)
        axes.plot(rounds, values, color=color, marker=marker, linestyle=dash, markersize=5)
        ends.append(End(rounds[-1], values[-1], condition, color))
    begins = history.scenario.attack_from
    if history.of("defended")[-1].fakes and begins > 1:
        axes.axvline(begins - 0.5, color=GREY, linewidth=1, zorder=0)
        axes.annotate(
            "attack begins",
            xy=(begins - 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-4, -2),
            textcoords="offset points",
            ha="right",
            va="top",
            color=MUTED,
            fontsize=9,
        )
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    # What is nearly nothing is to look so.
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.05))
    label_lines(axes, ends)
