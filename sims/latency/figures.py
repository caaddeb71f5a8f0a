"""Pictures of the latency laboratory: latency by load, cost, break-even line, fleets.

What they show stands in the tables (sims.latency.table), from the same fields.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sims.figures.style import (
    BLUE,
    MUTED,
    SMALL,
    VERMILION,
    End,
    Look,
    canvas,
    drawing,
    headed,
    label_lines,
    look,
    plain,
    plain_ticks,
    save,
)
from sims.latency.extrapolate import FLEETS, UTILIZATION
from sims.latency.fit import SIDES, Cost, offered
from sims.latency.model import FULL
from sims.latency.plan import SideName
from sims.latency.report import SettingReport, disagreements
from sims.latency.table import beside

COLORS: Final[dict[SideName, str]] = {"server": VERMILION, "device": BLUE}
NAMES: Final[dict[SideName, str]] = {"server": "server-side", "device": "offloaded"}
SHARES: Final = np.geomspace(0.02, 1.0, 41)
SUFFIX: Final = "svg"
DOTTED: Final = (0, (1, 1.5))


def draw(part: SettingReport, folder: Path) -> list[Path]:
    """All pictures of one setting; their files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[SettingReport], Figure]] = {"cost": cost}
    if part.break_even:
        pictures |= {"latency": latency, "break-even": break_even, "fleets": fleets}
    files = []
    for name, picture in pictures.items():
        path = folder / f"{part.stem}-{name}.{SUFFIX}"
        save(picture(part), path)
        files.append(path)
    return files


def latency(part: SettingReport) -> Figure:
    """Measured p50 and p99 against the load, and the formulas' lines, a panel a network."""
    networks = list(dict.fromkeys(one.network for one in part.break_even))
    columns = min(2, len(networks))
    lines = math.ceil(len(networks) / columns)
    with drawing():
        size = (5.0 * columns + 0.6, 3.5 * lines + 1.3)
        figure, panels = canvas(lines, columns, size, sharey=True)
        for axes in panels[len(networks) :]:
            axes.set_visible(False)
        for place, (axes, network) in enumerate(zip(panels, networks, strict=False)):
            _latency_panel(axes, part, network)
            if place % columns == 0:
                axes.set_ylabel("latency, ms (log scale)")
        for axes, network in zip(panels, networks, strict=False):
            plain_ticks(axes.yaxis)
            axes.tick_params(labelleft=True)
            label_lines(axes, _latency_ends(axes, part, network))
        counts = sorted({len(row.measured.milliseconds) for row in part.rows})
        answers = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        headed(
            figure,
            f"{part.setting.label} · latency by load",
            "Marks: measured p50, with a bar up to p99 (to the largest of n < 100); "
            f"n = {answers} answers a mark, each measured once.\n"
            f"Lines: p50 by formula. Dotted, upright: the server's own capacity. {_of(part)}",
        )
    return figure


def _latency_panel(axes: Axes, part: SettingReport, network: str) -> None:
    for (side, share), style in _looks(part).items():
        rates, curve = _curve(part, side, network, share)
        axes.plot(rates, curve, color=style.color, linestyle=style.dash, linewidth=1.4)
        for row in part.rows:
            one = row.measured
            if (one.side, one.network, one.share) == (side, network, share) and one.milliseconds:
                rate = offered(one)
                high = 1000 * row.p99 if math.isfinite(row.p99) else max(one.milliseconds)
                axes.plot([rate, rate], [1000 * row.p50, high], color=style.color, lw=0.9)
                axes.plot(rate, 1000 * row.p50, color=style.color, marker=style.marker, ms=6)
    axes.axvline(part.fit.saturated["server"], color=MUTED, linewidth=1.2, linestyle=DOTTED)
    axes.set_yscale("log")
    axes.set_title(network, loc="left")
    axes.set_xlabel("load, requests a second")
    plain_ticks(axes.xaxis)


def _looks(part: SettingReport) -> dict[tuple[SideName, float], Look]:
    """The server's line and a device's for each share of a core: blue, a dash and a marker each."""
    shares = sorted({one.share for one in part.break_even}, reverse=True)
    looks: dict[tuple[SideName, float], Look] = {("server", 1.0): look(0)}
    looks |= {("device", share): look(place + 1) for place, share in enumerate(shares)}
    return {key: Look(COLORS[key[0]], style.marker, style.dash) for key, style in looks.items()}


def _curve(
    part: SettingReport, side: SideName, network: str, share: float
) -> tuple[list[float], list[float]]:
    """The formula's p50 in ms, up to a little more than was measured."""
    model = part.fit.side(side, network, share)
    most = max(1.15 * part.most, 0.5 * part.fit.saturated["server"])
    rates = np.linspace(0, min(most, FULL * model.queue.capacity), 60)
    return rates.tolist(), [1000 * model.quantile(rate, 0.5) for rate in rates]


def _latency_ends(axes: Axes, part: SettingReport, network: str) -> list[End]:
    low, high = axes.get_ylim()
    ends = []
    for (side, share), style in _looks(part).items():
        rates, curve = _curve(part, side, network, share)
        name = "server-side" if side == "server" else f"device, {share:g} of a core"
        ends.append(End(rates[-1], float(np.clip(curve[-1], low, high)), name, style.color))
    return ends


def cost(part: SettingReport) -> Figure:
    """Processor time and bytes, side by side: the rows of the table of costs."""
    return cost_figure(part.setting.label, part.fit.costs, _of(part))


def cost_figure(label: str, costs: Mapping[SideName, Cost], of: str) -> Figure:
    """Of a setting called `label`; `of` says of how many cores and users."""
    notes = disagreements(costs)
    ratio = costs["device"].spent / costs["server"].spent
    told = f"An offloaded answer takes {ratio:.2f} of the processor time of a server-side one. {of}"
    with drawing():
        figure, (time, size) = canvas(1, 2, (9.0, 2.9 + 0.17 * len(notes)))
        _times(time, costs)
        _sizes(size, costs)
        for axes in (time, size):
            axes.set_yticks(range(len(SIDES)), [NAMES[side] for side in SIDES])
            axes.set_ylim(len(SIDES) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
        headed(figure, f"{label} · cost of an answer", "\n".join([told, *notes]))
    return figure


def _times(axes: Axes, costs: Mapping[SideName, Cost]) -> None:
    spent = [1000 * costs[side].spent for side in SIDES]
    bars = axes.barh(range(len(SIDES)), spent, color=[COLORS[side] for side in SIDES], height=0.6)
    bars[0].set_hatch("///")
    bars[0].set_edgecolor("white")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set_title("processor time of the server", loc="left")
    axes.set_xlabel("seconds for 1000 answers")
    axes.set_xlim(0, 1.25 * max(spent))
    plain_ticks(axes.xaxis)


def _sizes(axes: Axes, costs: Mapping[SideName, Cost]) -> None:
    places = np.arange(len(SIDES))
    colors = [COLORS[side] for side in SIDES]
    sent, received = (
        [costs[side].sent for side in SIDES],
        [costs[side].received for side in SIDES],
    )
    for shift, what, values in ((-0.2, "request", sent), (0.2, "answer", received)):
        pale = 0.45 if what == "request" else 1.0
        bars = axes.barh(places + shift, values, height=0.36, color=colors, alpha=pale)
        labels = [f"{value:,.0f}, {what}" for value in values]
        axes.bar_label(bars, labels=labels, padding=3, fontsize=SMALL)
    axes.set_xscale("log")
    axes.set_title("bytes of a request and of its answer", loc="left")
    axes.set_xlabel("bytes (log scale)")
    most = 12 * max(sent + received)
    plain_ticks(axes.xaxis, at=[at for at in (10.0**power for power in range(1, 9)) if at <= most])
    axes.set_xlim(10, most)


def break_even(part: SettingReport) -> Figure:
    """The load from which on offloading wins, against the device's speed, a line a network."""
    networks = list(dict.fromkeys(one.network for one in part.break_even))
    capacity = part.fit.saturated["server"]
    slowest = min(one.share for one in part.break_even)
    ends: list[End] = []
    with drawing():
        figure, (axes,) = canvas(1, 1, (8.4, 5.2))
        top = 1.15 * max(capacity, part.most)
        axes.set_xscale("log")
        axes.set_xlim(SHARES[0], 1.15)
        axes.set_ylim(-0.02 * top, top)
        for place, network in enumerate(networks):
            style = look(place)
            rates = [part.fit.break_even(network, share, 0.5) for share in SHARES]
            line = np.array([np.nan if rate is None else rate for rate in rates])
            inside = (slowest <= SHARES) & (line <= part.most)
            # Lines that lie on each other are all seen.
            width = 1.4 + 1.2 * (len(networks) - 1 - place)
            axes.plot(SHARES, line, color=style.color, linewidth=width / 2, linestyle=DOTTED)
            axes.plot(SHARES, np.where(inside, line, np.nan), color=style.color, linewidth=width)
            if not np.isnan(line[-1]):
                ends.append(End(float(SHARES[-1]), float(line[-1]), network, style.color))
            for row in part.rows:
                one, server = row.measured, beside(part, row)
                if one.side == "device" and one.network == network and server is not None:
                    axes.plot(
                        [one.share * 1.05 ** (place - (len(networks) - 1) / 2)],
                        [offered(one)],
                        marker=style.marker,
                        color=style.color,
                        fillstyle="full" if row.p50 <= server.p50 else "none",
                        linestyle="",
                        markersize=6.5,
                    )
        axes.axhline(capacity, color=MUTED, linewidth=1.2, linestyle=(0, (5, 2)))
        name = f"server's own capacity, {plain(round(capacity))}"
        axes.text(SHARES[0] * 1.03, capacity, name, va="bottom", fontsize=SMALL)
        plain_ticks(axes.xaxis, at=[0.02, 0.05, 0.1, 0.25, 0.5, 1])
        plain_ticks(axes.yaxis)
        axes.set_xlabel("device's speed, share of a core of this machine (log scale)")
        axes.set_ylabel("load, requests a second")
        label_lines(axes, ends)
        headed(
            figure,
            f"{part.setting.label} · offloading is faster above the line",
            "Lines: by formula and p50, dotted where extrapolated. Marks: measured, full where the "
            f"device's p50 was lower.\n{_of(part)}",
        )
    return figure


def fleets(part: SettingReport) -> Figure:
    """Cores and bytes for a fleet, both sides: the rows of the table of fleets."""
    first = part.break_even[0]
    rows: dict[SideName, list[tuple[int, float]]] = {
        side: [
            (one.cores, one.bytes_a_second)
            for one in part.fleets
            if (one.side, one.network, one.share) == (side, first.network, first.share)
        ]
        for side in SIDES
    }
    interval = part.fleets[0].interval
    return fleets_figure(part.setting.label, rows, part.fit.costs, interval, _of(part))


def fleets_figure(
    label: str,
    rows: Mapping[SideName, Sequence[tuple[int, float]]],
    costs: Mapping[SideName, Cost],
    interval: float,
    of: str,
) -> Figure:
    """Cores and bytes a second by side, of each size in FLEETS."""
    notes = disagreements(costs)
    told = (
        f"Each device asks once in {interval:g} s. Cores: by processor time of an answer, "
        f"{UTILIZATION:.0%} busy, with nothing else on them. {of}"
    )
    with drawing():
        figure, panels = canvas(1, 2, (10.0, 4.3 + 0.17 * len(notes)))
        for axes, what in zip(panels, ("cores", "megabytes a second"), strict=True):
            ends: list[End] = []
            for place, side in enumerate(SIDES):
                cores = what == "cores"
                ys = [float(one[0]) if cores else one[1] / 1e6 for one in rows[side]]
                marker, color = look(place).marker, COLORS[side]
                axes.plot(FLEETS, ys, color=color, linestyle=DOTTED, marker=marker, ms=6)
                last = plain(ys[-1]) if cores else f"{ys[-1]:.2f}"
                ends.append(End(FLEETS[-1], ys[-1], f"{NAMES[side]}: {last}", color))
            axes.set_xscale("log")
            axes.set_yscale("log")
            low, high = axes.get_ylim()
            axes.set_ylim(low / 1.2, high * 1.2)
            plain_ticks(axes.xaxis, at=FLEETS)
            plain_ticks(axes.yaxis)
            axes.set_xlabel("devices (log scale)")
            axes.set_title(f"{what} of the server (log scale)", loc="left")
            label_lines(axes, ends)
        headed(figure, f"{label} · fleets, EXTRAPOLATED", "\n".join([told, *notes]))
    return figure


def _of(part: SettingReport) -> str:
    return described(part.fit.cores, part.fit.users, part.setting.list_length)


def described(cores: int, users: int, list_length: int) -> str:
    """What a picture was measured on."""
    plural = "s" * (cores != 1)
    return f"Server: {cores} core{plural}, n = {users:,} users, K = {list_length}."
