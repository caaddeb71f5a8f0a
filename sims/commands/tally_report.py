"""What `vicinal tally` says: tables, JSON, CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from client.link.connection import Connection
from common.errors import InputError, VicinalError
from common.ids import UNNAMED, Names, read_map
from common.ranking import Counts
from server.reports.estimates import Estimate, RandomizedEstimates, estimates
from server.reports.reading import read_shared_tally, read_tally
from server.reports.robust import LIARS, RobustFigure, accuracy, hit_ratio, robust_figure
from server.reports.sums import SHARDS, Sums, loaded, sums_from_wire
from server.reports.tally import STEP
from server.reports.tally_tables import Whose
from server.sql.postgresql import Database

WAYS: Final = {
    "on_device": "… on the device",
    "stale": "… from a last package",
    "by_server": "… by the server",
}
FIGURES: Final = {"hit_ratio": hit_ratio, "accuracy": accuracy}
# What each key of `vicinal tally export` means, in one part of the list.
KEYS: Final = {
    "[].version": "SHA-256 of the model version",
    "[].preset": "name of the preset",
    "[].list_length": "K; null where it is not known",
    "[].watched": "the items whose hit ratio is measured",
    "[].watched_items[].index": "the same, with --ids",
    "[].watched_items[].id": "what an item is called",
    "[].watched_items[].title": "its title, or null",
    "[].reports": "how many reports were counted; from a server a multiple of 100",
    "[].counts.COUNT": "their sums",
    "[].hit_ratio": "mean over the watched items that anybody could be shown, or null",
    "[].hit_ratio_per_item": "the same for each item",
    "[].accuracy": "share of users with a held-out item who have it in their list, or null",
    "[].randomized[].epsilon": "ε of the randomized answers that the estimates come from",
    "[].randomized[].hit_ratio": "`value`, `error` (one standard error), `answers`; or null",
    "[].randomized[].hit_ratio_per_item": "the same for each item",
    "[].randomized[].accuracy": "the same",
    "[].robust.FIGURE.plain": "of `hit_ratio` and `accuracy`: of all reports",
    "[].robust.FIGURE.trimmed": "mean over shards, without the smallest and largest eighth",
    "[].robust.FIGURE.shards": "how many shards have reports",
    "[].robust.FIGURE.honest.SHARE": "in which the honest users' is, if that share of the counted "
    "users is lied about",
    "[].robust.FIGURE.trimmed_honest.SHARE": "in which the honest shards' trimmed mean is, if that "
    "share of the shards lies",
}


@dataclass(frozen=True)
class Told:
    """Sums of one version and preset, and of which items; list_length 0: not known."""

    version: str
    preset: str
    watched: tuple[int, ...]
    list_length: int
    sums: Sums

    @property
    def randomized(self) -> list[RandomizedEstimates]:
        return [estimates(epsilon, answers) for epsilon, answers in self.sums.randomized.items()]

    def robust(self, figure: str) -> RobustFigure | None:
        shards = [counts for _, counts in self.sums.shards.values()]
        return robust_figure(self.sums.counts, shards, FIGURES[figure])


def told_by_file(path: Path) -> list[Told]:
    """All reports so far. Raises InputError."""
    return _told(str(path), read_tally(path))


def told_by_database(address: str) -> list[Told]:
    """All reports so far, whichever server counted them. Raises InputError."""
    with Database(address) as database:
        return _told(database.shown, read_shared_tally(database))


def _told(place: str, every: Mapping[Whose, Sums]) -> list[Told]:
    found = []
    for whose, sums in every.items():
        count = len(sums.counts.eligible)
        watched, list_length = tuple(range(count)), 0
        if whose.measured:
            watched, list_length = _measured(place, whose.measured, count)
        found.append(Told(whose.version, whose.preset, watched, list_length, sums))
    return found


def _measured(place: str, text: str, count: int) -> tuple[tuple[int, ...], int]:
    """`count` watched items, and K, as server.reports.tally.measured_by() has them."""
    try:
        _, items, list_length = loaded(text)
        if [type(each) for each in (*items, list_length)] == [int] * (count + 1):
            return tuple(items), list_length
    except (ValueError, TypeError):
        pass
    raise InputError(f"tally {place}: damaged: it does not say what was measured")


def told_by_server(connection: Connection) -> list[Told]:
    """The sums of the current version, in steps. Raises VicinalError."""
    description = connection.describe()
    found = []
    for preset in description.presets:
        try:
            sums = sums_from_wire(connection.published(description, preset))
        except InputError as error:
            raise VicinalError(str(error)) from error
        watched = description.watched
        if len(watched) != len(sums.counts.eligible):
            raise VicinalError("tally: not of the items that the server says it watches")
        found.append(Told(description.version, preset, watched, description.list_length, sums))
    return found


def named(told: Sequence[Told], path: Path | None) -> Names:
    """What a map calls the watched items. Raises InputError where it lacks one."""
    if path is None:
        return UNNAMED
    names = read_map(path).items
    count = len(names.ids or ())
    if any(item >= count for one in told for item in one.watched):
        raise InputError(f"{path}: is a map of {count} items, fewer than the tally's")
    return names


def tables(told: Sequence[Told], names: Names = UNNAMED, *, robust: bool) -> Iterator[Table | Text]:
    """For a terminal of 80 columns."""
    if not told:
        yield Text("No report was counted yet.")
    for one in told:
        yield _table(one, names)
        if robust and one.sums.reports:
            yield _robust_table(one)


def _table(told: Told, names: Names) -> Table:
    title = Text(f"preset {told.preset}, version {told.version[:12]}")
    table = Table(title=title, min_width=len(title), show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    if not told.sums.reports:
        table.add_row("reports", f"fewer than {STEP}: a server tells whole hundreds")
        return table
    counts = told.sums.counts
    table.add_row("reports", f"{told.sums.reports:,}")
    table.add_row("users answered", f"{counts.answered:,}")
    for way, label in WAYS.items():
        if count := getattr(counts, way):
            table.add_row(label, f"{count:,}")
    if (ratio := hit_ratio(counts)) is not None:
        table.add_row("hit ratio of watched items", f"{ratio:.4f}")
        for item, hits, eligible in zip(told.watched, counts.hits, counts.eligible, strict=True):
            if eligible:
                table.add_row(
                    Text(f"… item {names.shown(item, 30)}"),
                    f"{hits / eligible:.4f} of {eligible:,}",
                )
    if counts.users:
        table.add_row("accuracy", f"{counts.accuracy:.4f} of {counts.users:,}")
    for one in told.randomized:
        table.add_section()
        table.add_row(f"randomized, ε = {one.epsilon:g}", "estimate ± standard error")
        table.add_row("hit ratio of watched items", _estimate(one.hit_ratio))
        for item, estimate in zip(told.watched, one.hit_ratios, strict=True):
            table.add_row(Text(f"… item {names.shown(item, 30)}"), _estimate(estimate))
        table.add_row("accuracy", _estimate(one.accuracy))
    return table


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return "too few answers"
    return f"{found.value:.4f} ± {found.error:.4f} of {found.answers:,}"


def _robust_table(told: Told) -> Table:
    caption = Text(
        "users lie: that share of the counted users is lied about in any way; their tokens and "
        "receipts keep liars to their share.\n"
        f"shards lie: that share of the shards, rounded up, of which {len(told.sums.shards)} of "
        f"{SHARDS} have reports; one token is in one shard, "
        "however much it reports. Liars with a token each reach more shards than their share."
    )
    table = Table(title="what liars can move", caption=caption, caption_justify="left")
    table.add_column("")
    table.add_column("liars", justify="right")
    table.add_column("plain", justify="right")
    table.add_column("users lie", justify="right")
    table.add_column("trimmed", justify="right")
    table.add_column("shards lie", justify="right")
    for figure in FIGURES:
        found = told.robust(figure)
        if found is None:
            continue
        trimmed = "-" if found.trimmed is None else f"{found.trimmed:.4f}"
        for share in LIARS:
            within = found.trimmed_honest.get(share)
            table.add_row(
                figure.replace("_", " "),
                f"{100 * share:g} %",
                f"{found.plain:.4f}",
                _range(found.honest[share]),
                trimmed,
                "-" if within is None else _range(within),
            )
    return table


def _range(found: tuple[float, float]) -> str:
    return f"{found[0]:.4f}–{found[1]:.4f}"


def tally_json(told: Sequence[Told], names: Names = UNNAMED) -> list[dict[str, Any]]:
    """All of it, by the names of KEYS."""
    return [
        {
            "version": one.version,
            "preset": one.preset,
            "list_length": one.list_length or None,
            "watched": list(one.watched),
            "watched_items": names.told(one.watched) if names.ids else None,
            "reports": one.sums.reports,
            "counts": asdict(one.sums.counts),
            "hit_ratio": hit_ratio(one.sums.counts),
            "hit_ratio_per_item": list(one.sums.counts.hit_ratio_per_item),
            "accuracy": accuracy(one.sums.counts),
            "randomized": [
                {
                    "epsilon": each.epsilon,
                    "hit_ratio": _as_json(each.hit_ratio),
                    "hit_ratio_per_item": [_as_json(item) for item in each.hit_ratios],
                    "accuracy": _as_json(each.accuracy),
                }
                for each in one.randomized
            ],
            "robust": {
                figure: asdict(found) for figure in FIGURES if (found := one.robust(figure))
            },
        }
        for one in told
    ]


def _as_json(found: Estimate | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def tally_csv(told: Sequence[Told], names: Names = UNNAMED) -> str:
    """A line for each number: version, preset, what, item, epsilon, value, error, of.

    Where a map names the items, their id and title follow.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("version", "preset", "what", "item", "epsilon", "value", "error", "of")
    writer.writerow((*head, *(("id", "title") if names.ids else ())))
    for one in told:
        for line in (*_counted(one), *_estimated(one)):
            item, called = line[1], [""] * (2 if names.ids else 0)
            if names.ids and isinstance(item, int):
                called = [names.id_of(item), names.title_of(item) or ""]
            writer.writerow((one.version, one.preset, *line, *called))
    return text.getvalue()


def _counted(told: Told) -> Iterator[tuple[object, ...]]:
    counts: Counts = told.sums.counts
    yield "reports", "", "", told.sums.reports, "", ""
    for way in WAYS:
        yield way, "", "", getattr(counts, way), "", ""
    for item, hits, eligible in zip(told.watched, counts.hits, counts.eligible, strict=True):
        yield "hit_ratio", item, "", hits / eligible if eligible else "", "", eligible
    yield "accuracy", "", "", counts.accuracy if counts.users else "", "", counts.users


def _estimated(told: Told) -> Iterator[tuple[object, ...]]:
    for one in told.randomized:
        items = zip(told.watched, one.hit_ratios, strict=True)
        named = [("hit_ratio", item, found) for item, found in items]
        for what, item, found in (*named, ("accuracy", "", one.accuracy)):
            if found is not None:
                yield what, item, one.epsilon, found.value, found.error, found.answers
