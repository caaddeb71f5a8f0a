"""Pictures of the latency laboratory: latency by load, cost, break-even line, fleets."""

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from sims.figures.bars import save
from sims.latency.extrapolate import FLEETS
from sims.latency.fit import SIDES, offered
from sims.latency.model import FULL
from sims.latency.plan import SideName
from sims.latency.report import SettingReport
from sims.latency.table import beside

COLORS: Final[dict[SideName, str]] = {"server": "#b2182b", "device": "#1b7837"}
# Told apart in print as well: a marker and a dash of its own for each network.
MARKERS: Final = "osD^vP*X"
DASHES: Final = ("-", "--", "-.", ":")
SHARES: Final = np.geomspace(0.02, 1.0, 41)
SUFFIX: Final = "svg"


def draw(part: SettingReport, folder: Path) -> list[Path]:
    """All pictures of one setting; their files. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"cost": _cost}
    if part.break_even:
        pictures |= {"latency": _latency, "break-even": _break_even, "fleets": _fleets}
    files = []
    for name, picture in pictures.items():
        path = folder / f"{part.stem}-{name}.{SUFFIX}"
        picture(part, path)
        files.append(path)
    return files


def _latency(part: SettingReport, path: Path) -> None:
    """Measured p50 and p99 against the load, and the formulas' lines, a panel a network."""
    networks = list(dict.fromkeys(one.network for one in part.break_even))
    shares = sorted({one.share for one in part.break_even}, reverse=True)
    size = (3 + 3.2 * len(networks), 4.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(networks), sharey=True, squeeze=False)
    capacity = part.fit.saturated["server"]
    for axis, network in zip(axes[0], networks, strict=True):
        for side in SIDES:
            for place, share in enumerate(shares if side == "device" else (1.0,)):
                model = part.fit.side(side, network, share)
                top = min(max(1.15 * part.most, 0.5 * capacity), FULL * model.queue.capacity)
                rates = np.linspace(0, top, 60)
                curve = [1000 * model.quantile(rate, 0.5) for rate in rates]
                axis.plot(rates, curve, color=COLORS[side], linestyle=DASHES[place % 4], lw=1.3)
                _points(axis, part, side, network, share, MARKERS[place])
        axis.axvline(capacity, color="#9a9a9a", lw=1, linestyle=":")
        axis.set_yscale("log")
        for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            ticks(FuncFormatter(_plain))
        axis.set_title(network, fontsize=10)
        axis.set_xlabel("requests a second")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("latency, ms")
    keys = [Line2D([], [], color=COLORS["server"], marker="o", label="server-side")]
    keys += [
        Line2D(
            [],
            [],
            color=COLORS["device"],
            marker=MARKERS[place],
            linestyle=DASHES[place % 4],
            label=f"device, {share:g} of a core",
        )
        for place, share in enumerate(shares)
    ]
    keys.append(Line2D([], [], color="#9a9a9a", linestyle=":", label="server's capacity"))
    figure.legend(handles=keys, loc="outside right upper", fontsize=8, frameon=False)
    figure.suptitle(
        f"{part.setting.label}\nmarks: measured p50, bar to p99; lines: p50 by model",
        fontsize=9,
    )
    save(figure, path)


def _plain(value: float, _place: int | None) -> str:
    """A tick's label on a logarithmic axis; those that would crowd have none."""
    return f"{value:g}" if f"{value:e}"[0] in "125" else ""


def _points(
    axis: Axes, part: SettingReport, side: SideName, network: str, share: float, marker: str
) -> None:
    for row in part.rows:
        one = row.measured
        if (one.side, one.network) != (side, network) or (side == "device" and one.share != share):
            continue
        if not one.milliseconds:
            continue
        high = float(np.quantile(one.milliseconds, 0.99))
        rate = offered(one)
        axis.plot([rate, rate], [1000 * row.p50, high], color=COLORS[side], lw=0.8, alpha=0.6)
        axis.plot([rate], [1000 * row.p50], color=COLORS[side], marker=marker, markersize=5)


def _cost(part: SettingReport, path: Path) -> None:
    """Processor time and bytes, side by side."""
    fit = part.fit
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    names = ["server-side", "offloaded"]
    spent = [1000 * fit.service[side] for side in SIDES]
    bars = axes[0].bar(names, spent, color=[COLORS[side] for side in SIDES], width=0.6)
    axes[0].bar_label(bars, fmt="%.2f", padding=2, fontsize=9)
    axes[0].set_title(
        f"server CPU, s per 1000 requests ({fit.processor_ratio:.2f} of server-side)", fontsize=9
    )
    for place, (what, sizes) in enumerate((("up", fit.sent), ("down", fit.received))):
        at = np.arange(2) + 0.36 * place - 0.18
        bars = axes[1].bar(
            at,
            [sizes[side] for side in SIDES],
            width=0.34,
            color=[COLORS[side] for side in SIDES],
            alpha=0.45 if what == "up" else 1.0,
        )
        axes[1].bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8)
    axes[1].set_xticks(range(2), names)
    axes[1].set_yscale("log")
    axes[1].set_title("bytes of a request (pale) and of its answer", fontsize=9)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(y=0.15)
    figure.suptitle(part.setting.label, fontsize=10)
    save(figure, path)


def _break_even(part: SettingReport, path: Path) -> None:
    """The load from which on offloading wins, against the device's speed, a line a network."""
    figure = Figure(figsize=(7.4, 4.8), layout="constrained")
    axis = figure.subplots()
    networks = list(dict.fromkeys(one.network for one in part.break_even))
    capacity = part.fit.saturated["server"]
    slowest = min(one.share for one in part.break_even)
    for place, network in enumerate(networks):
        color = f"C{place}"
        rates = [part.fit.break_even(network, share, 0.5) for share in SHARES]
        line = np.array([np.nan if rate is None else rate for rate in rates])
        inside = (slowest <= SHARES) & (line <= part.most)
        # Lines that lie on each other are all seen.
        width = 1.5 + 1.8 * (len(networks) - 1 - place)
        axis.plot(SHARES, line, color=color, lw=width / 2, linestyle=":")
        axis.plot(SHARES, np.where(inside, line, np.nan), color=color, lw=width, label=network)
        for row in part.rows:
            one, server = row.measured, beside(part, row)
            if one.side == "device" and one.network == network and server is not None:
                won = row.p50 <= server.p50
                axis.plot(
                    [one.share * 1.04 ** (place - (len(networks) - 1) / 2)],
                    [offered(one)],
                    marker=MARKERS[place],
                    color=color,
                    fillstyle="full" if won else "none",
                    linestyle="",
                )
    axis.axhline(capacity, color="#9a9a9a", lw=1, linestyle="--")
    axis.text(SHARES[0], capacity, "server's own capacity", va="bottom", fontsize=8)
    axis.set_xscale("log")
    top = 1.15 * max(capacity, part.most)
    axis.set_ylim(-0.02 * top, top)
    axis.set_xticks([0.02, 0.05, 0.1, 0.25, 0.5, 1], ["0.02", "0.05", "0.1", "0.25", "0.5", "1"])
    axis.minorticks_off()
    axis.set_xlabel("device's speed, share of a core of this machine")
    axis.set_ylabel("load, requests a second")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(title="offloading wins above", fontsize=8, title_fontsize=8, frameon=False)
    axis.set_title(
        f"{part.setting.label}: break-even by p50, {part.fit.cores} core(s) of server\n"
        "lines: model (dotted: extrapolated); marks: measured, full where the device won",
        fontsize=9,
    )
    save(figure, path)


def _fleets(part: SettingReport, path: Path) -> None:
    """Cores and bytes for a fleet, both sides: all of it extrapolated."""
    first = part.break_even[0]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for side in SIDES:
        mine = [
            one
            for one in part.fleets
            if one.side == side and (one.network, one.share) == (first.network, first.share)
        ]
        label = "server-side" if side == "server" else "offloaded"
        for axis, values in (
            (axes[0], [one.cores for one in mine]),
            (axes[1], [one.bytes_a_second / 1e6 for one in mine]),
        ):
            axis.plot(FLEETS, values, color=COLORS[side], linestyle=":", marker="o", label=label)
    for axis, title in zip(axes, ("server's cores, 70 % busy", "MB a second"), strict=True):
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("devices")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(fontsize=8, frameon=False)
    interval = part.fleets[0].interval
    figure.suptitle(
        f"{part.setting.label}: EXTRAPOLATED, each device asks once in {interval:g} s", fontsize=10
    )
    save(figure, path)
