"""The laboratory's results as tables of at most 80 columns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from sims.latency.extrapolate import Extrapolated
from sims.latency.fit import SIDES, Comparison, nearest, offered, quantile
from sims.latency.report import (
    GOAL_BOOK_MS,
    GOAL_RATIO,
    SettingReport,
    beyond,
    disagreements,
    rows_seconds,
)


@dataclass(frozen=True)
class Sheet:
    """heads and rows; the first `texts` columns are words, the others numbers.

    notes  lines below it
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1
    notes: tuple[str, ...] = ()

    def show(self, console: Console) -> None:
        """For a terminal of 80 columns."""
        made = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for place, head in enumerate(self.heads):
            made.add_column(head, justify="left" if place < self.texts else "right")
        for row in self.rows:
            made.add_row(*row)
        console.print(self.title, style="bold", markup=False, highlight=False)
        console.print(made)
        for note in self.notes:
            console.print(note, markup=False, highlight=False)
        console.print()

    def markdown(self) -> str:
        """With its title as a paragraph, and its notes as another."""
        rule = ["---"] * self.texts + ["---:"] * (len(self.heads) - self.texts)
        lines = [f"| {' | '.join(cells)} |" for cells in (self.heads, *self.rows)]
        lines.insert(1, f"|{'|'.join(rule)}|")
        parts = [f"**{self.title}**", "\n".join(lines), " ".join(self.notes)]
        return "\n\n".join(part for part in parts if part)


def sheets(part: SettingReport) -> list[Sheet]:
    """All tables of one setting."""
    made = [latencies(part), costs(part)]
    if part.cold:
        made.append(cold(part))
    if part.books:
        made.append(books(part))
    if part.break_even:
        made += [break_evens(part), fleets(part)]
    return made


def summary(parts: Sequence[SettingReport]) -> Sheet:
    """A line for each setting."""
    rows = tuple(
        (
            part.setting.label,
            f"{1000 * part.fit.spent['server']:.2f}",
            f"{part.fit.processor_ratio:.2f}",
            milli(quantile(part.fit.calm["server"], 0.5)),
            milli(_device_median(part)),
            milli(_book_median(part)),
            f"{part.fit.received['device'] / 1000:.1f}",
        )
        for part in parts
    )
    return Sheet(
        "All settings",
        ("setting", "CPU s", "ratio", "server", "device", "book", "kB"),
        rows,
        1,
        (
            "CPU s: the server's processor time for 1000 server-side answers.",
            f"ratio: that for 1000 offloaded answers, divided by it (goal {GOAL_RATIO:g}).",
            "server, device: p50 in ms without other load, and with almost none; no",
            "network, a whole core. A device asks for a package; with a book it asks",
            "nothing, and answers alone.",
            "kB: a package's size.",
        ),
    )


def _device_median(part: SettingReport) -> float:
    """Of the calmest scenario of a device with a whole core."""
    return next((row.p50 for row in part.rows if row.fitted), math.nan)


def _book_median(part: SettingReport) -> float:
    """The same of answers from a book; nothing where there are none."""
    whole = (one for one in part.books if one.share == 1)
    return next((quantile(one.seconds, 0.5) for one in whole), math.nan)


def latencies(part: SettingReport) -> Sheet:
    rows = []
    for row in part.rows:
        one, asked = row.measured, row.measured.load_asked
        p99, fitted = milli(row.p99), "=" if row.fitted else ""
        if not math.isfinite(row.p99):
            p99 = f"<{milli(max(one.milliseconds, default=math.nan) / 1000)}"
        refused = asked.refused + asked.other + one.failed
        all_ = asked.answered + refused
        rows.append(
            (
                one.side,
                one.network,
                "" if one.side == "server" else f"{one.share:g}",
                f"{offered(one):.1f}",
                f"{row.utilization:.0%}",
                str(len(one.milliseconds)),
                milli(row.p50),
                p99,
                f"{milli(row.predicted_p50)} / {milli(row.predicted_p99)}{fitted}",
                f"{refused / max(1, all_):.0%}",
            )
        )
    errors = ", ".join(f"{name} {percent(part.error(name))}" for name in ("p50", "p99"))
    return Sheet(
        f"{part.setting.label}: latency, ms",
        ("side", "network", "core", "req/s", "busy", "n", "p50", "p99", "model", "ref."),
        tuple(rows),
        2,
        (
            f"model: p50 / p99 by formula; its median error where busy < 90 %: {errors}.",
            "core: the device's share of a core. busy: the load's share of the capacity.",
            "<: the largest of n < 100. =: the device's own time is fitted to this row.",
            "ref.: refused requests.",
        ),
    )


def costs(part: SettingReport) -> Sheet:
    fit = part.fit
    rows = tuple(
        (
            side,
            f"{1000 * fit.spent[side]:.2f}",
            f"{fit.saturated[side]:.0f}",
            f"{fit.costs[side].allowed:.0f}",
            f"{fit.sent[side]:,.0f}",
            f"{fit.received[side]:,.0f}",
        )
        for side in SIDES
    )
    saved = 1000 * (fit.spent["server"] - fit.spent["device"])
    met = "met" if fit.processor_ratio <= GOAL_RATIO else "missed"
    notes = [
        f"Offloading saves the server {saved:.2f} s of processor time per 1000 requests:",
        f"an offloaded one takes {fit.processor_ratio:.2f} of a server-side one "
        f"(goal {GOAL_RATIO:g}: {met}).",
    ]
    if len(fit.own):
        notes.append(f"A device's processor time: {milli(fit.processor)} ms an answer.")
    notes += disagreements(fit.costs)
    return Sheet(
        f"{part.setting.label}: cost of an answer",
        ("side", "server CPU s/1000", "req/s reached", "by CPU", "bytes up", "bytes down"),
        rows,
        1,
        tuple(notes),
    )


def cold(part: SettingReport) -> Sheet:
    fitted = nearest(part.cold)
    rows = tuple(
        (
            one.network,
            f"{one.share:g}",
            str(len(one.milliseconds)),
            f"{one.model_bytes:,.0f}",
            milli(quantile(one.seconds, 0.5)),
            milli(part.fit.first_seconds(one.network, one.model_bytes))
            + ("=" if one is fitted else ""),
        )
        for one in part.cold
    )
    return Sheet(
        f"{part.setting.label}: first answer without the model",
        ("network", "core", "n", "bytes of the model", "median, ms", "by model, ms"),
        rows,
        1,
        ("=: the time of a first answer without a network is fitted to this row.",),
    )


def books(part: SettingReport) -> Sheet:
    rows, notes = [], []
    for one in part.books:
        p50, p99 = (quantile(one.seconds, share) for share in (0.5, 0.99))
        rows.append(
            (
                f"{one.share:g}",
                str(len(one.milliseconds)),
                f"{1000 * p50:.2f}",
                f"{1000 * p99:.2f}" if math.isfinite(p99) else f"<{max(one.milliseconds):.2f}",
                milli(rows_seconds(part, one.share)),
            )
        )
        if one.share == 1:
            met = "met" if 1000 * p50 <= GOAL_BOOK_MS else "missed"
            notes.append(f"goal of a whole core: p50 at most {GOAL_BOOK_MS:g} ms: {met}.")
    return Sheet(
        f"{part.setting.label}: answers from a book, ms",
        ("core", "n", "p50", "p99", "rows, p50"),
        tuple(rows),
        1,
        (
            "Nothing is asked: model and book are there. rows: of the same device with",
            "packages, in the same run, at the least load and without a network.",
            *notes,
        ),
    )


def break_evens(part: SettingReport) -> Sheet:
    rows = tuple(
        (
            one.network,
            f"{one.share:g}",
            _even(part, one.rate["p50"]),
            _even(part, one.rate["p99"]),
            _won(part, one.network, one.share),
        )
        for one in part.break_even
    )
    return Sheet(
        f"{part.setting.label}: break-even, by model",
        ("network", "core", "req/s, p50", "req/s, p99", "device's p50 measured lower at"),
        rows,
        1,
        (
            "req/s: the load above which a device is no slower than the server.",
            f"On {part.fit.cores} core(s) of server, which answer at most"
            f" {part.fit.saturated['server']:.0f} req/s themselves.",
            f"*: extrapolated, beyond the {part.most:.1f} req/s that were measured.",
        ),
    )


def fleets(part: SettingReport) -> Sheet:
    first, last = part.break_even[0], part.break_even[-1]
    shown = {(one.network, one.share) for one in (first, last)}
    if first.network == last.network:
        shown = {(first.network, first.share)}
    rows = tuple(
        (
            f"{one.devices:,}",
            one.side,
            one.network,
            "" if one.side == "server" else f"{one.share:g}",
            f"{one.rate:.0f}",
            f"{one.cores:,}",
            milli(one.p50),
            milli(one.p99),
            f"{one.bytes_a_second / 1e6:.2f}",
        )
        for one in part.fleets
        if (one.network, one.share) in shown and not _again(part, one)
    )
    interval = part.fleets[0].interval
    return Sheet(
        f"{part.setting.label}: fleets, EXTRAPOLATED",
        ("devices", "side", "network", "core", "req/s", "cores", "p50", "p99", "MB/s"),
        rows,
        1,
        (
            f"Each device asks once in {interval:g} s; the server has cores enough to be 70 %",
            "busy by processor time, and nothing else on them; latencies in ms. Nothing",
            "of this was measured: it follows from the formulas.",
        ),
    )


def _again(part: SettingReport, fleet: Extrapolated) -> bool:
    """Whether a server's line is there already: a device's share does not change it."""
    first = next(one for one in part.break_even if one.network == fleet.network)
    return fleet.side == "server" and fleet.share != first.share


def _won(part: SettingReport, network: str, share: float) -> str:
    """At which measured loads the device's median was below the server's."""
    devices = _of(part, "device", network, share)
    pairs = [(row, other) for row in devices if (other := beside(part, row)) is not None]
    wins = [row for row, other in pairs if row.p50 <= other.p50]
    if not wins or len(wins) == len(pairs):
        return f"{'all' if wins else 'none'} of {len(pairs)} loads"
    return f"{', '.join(f'{offered(row.measured):.0f}' for row in wins)} req/s"


def _of(
    part: SettingReport, side: str, network: str, share: float | None = None
) -> list[Comparison]:
    return [
        row
        for row in part.rows
        if row.measured.side == side
        and row.measured.network == network
        and share in {None, row.measured.share}
    ]


def beside(part: SettingReport, device: Comparison) -> Comparison | None:
    """The server's scenario of the same load and network."""
    one = device.measured
    for row in _of(part, "server", one.network):
        if (row.measured.load, row.measured.rate) == (one.load, one.rate):
            return row
    return None


def _even(part: SettingReport, rate: float | None) -> str:
    if rate is None:
        return "never"
    if rate == 0:
        return "always"
    return f"{rate:.1f}{'*' if beyond(rate, part.most) else ''}"


def milli(seconds: float) -> str:
    """Milliseconds with as many digits as say something."""
    value = 1000 * seconds
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0%}"
