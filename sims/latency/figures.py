"""Pictures of the latency laboratory: latency by load, cost, break-even line, fleets.

What they show stands in the tables (sims.latency.table), from the same fields.
"""

import math
from collections.abc import Callable
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
from sims.latency.fit import SIDES, offered
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
    fit = part.fit
    spent = [1000 * fit.spent[side] for side in SIDES]
    with drawing():
        notes = disagreements(fit)
        figure, (time, size) = canvas(1, 2, (9.0, 2.9 + 0.17 * len(notes)))
        places = np.arange(len(SIDES))
        bars = time.barh(places, spent, color=[COLORS[side] for side in SIDES], height=0.6)
        bars[0].set_hatch("///")
        bars[0].set_edgecolor("white")
        time.bar_label(bars, fmt="%.2f", padding=3)
        time.set_title("processor time of the server", loc="left")
        time.set_xlabel("seconds for 1000 answers")
        for shift, (what, sizes) in (
            (-0.2, ("request", fit.sent)),
            (0.2, ("answer", fit.received)),
        ):
            values = [sizes[side] for side in SIDES]
            bars = size.barh(
                places + shift,
                values,
                height=0.36,
                color=[COLORS[side] for side in SIDES],
                alpha=0.45 if what == "request" else 1.0,
            )
            labels = [f"{value:,.0f}, {what}" for value in values]
            size.bar_label(bars, labels=labels, padding=3, fontsize=SMALL)
        size.set_xscale("log")
        size.set_xlim(10, 12 * max(fit.sent[side] + fit.received[side] for side in SIDES))
        size.set_title("bytes of a request and of its answer", loc="left")
        size.set_xlabel("bytes (log scale)")
        for axes in (time, size):
            axes.set_yticks(places, [NAMES[side] for side in SIDES])
            axes.set_ylim(len(SIDES) - 0.5, -0.5)
            axes.tick_params(axis="y", length=0)
        time.set_xlim(0, 1.25 * max(spent))
        plain_ticks(time.xaxis)
        plain_ticks(size.xaxis, at=[10.0**power for power in range(1, 7)])
        # Ticks beyond the bars would widen the panel again.
        size.set_xlim(10, 12 * max(fit.sent[side] + fit.received[side] for side in SIDES))
        headed(
            figure,
            f"{part.setting.label} · cost of an answer",
            "\n".join(
                [
                    f"An offloaded answer takes {fit.processor_ratio:.2f} of the processor time of "
                    f"a server-side one. {_of(part)}",
                    *notes,
                ]
            ),
        )
    return figure


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
    interval = part.fleets[0].interval
    notes = disagreements(part.fit)
    with drawing():
        figure, panels = canvas(1, 2, (10.0, 4.3 + 0.17 * len(notes)))
        for axes, what in zip(panels, ("cores", "megabytes a second"), strict=True):
            ends: list[End] = []
            values: list[float] = []
            for place, side in enumerate(SIDES):
                mine = [
                    one
                    for one in part.fleets
                    if one.side == side and (one.network, one.share) == (first.network, first.share)
                ]
                ys = [float(one.cores) for one in mine]
                if what != "cores":
                    ys = [one.bytes_a_second / 1e6 for one in mine]
                style = look(place)
                axes.plot(
                    FLEETS, ys, color=COLORS[side], linestyle=DOTTED, marker=style.marker, ms=6
                )
                last = plain(ys[-1]) if what == "cores" else f"{ys[-1]:.2f}"
                ends.append(End(FLEETS[-1], ys[-1], f"{NAMES[side]}: {last}", COLORS[side]))
                values += ys
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_ylim(0.7 * min(values), 1.6 * max(values))
            plain_ticks(axes.xaxis, at=FLEETS)
            plain_ticks(axes.yaxis)
            axes.set_xlabel("devices (log scale)")
            axes.set_title(f"{what} of the server (log scale)", loc="left")
            label_lines(axes, ends)
        headed(
            figure,
            f"{part.setting.label} · fleets, EXTRAPOLATED",
            "\n".join(
                [
                    f"Each device asks once in {interval:g} s. Cores: by processor time of an "
                    f"answer, {UTILIZATION:.0%} busy, with nothing else on them. {_of(part)}",
                    *notes,
                ]
            ),
        )
    return figure


def _of(part: SettingReport) -> str:
    """How many cores and users the server had."""
    fit = part.fit
    cores = f"{fit.cores} core{'s' * (fit.cores != 1)}"
    return f"Server: {cores}, n = {fit.users:,} users, K = {part.setting.list_length}."
