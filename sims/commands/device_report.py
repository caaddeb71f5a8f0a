"""What `vicinal device` says of its users: a table, and the same as JSON."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import numpy as np
from rich.table import Table
from rich.text import Text

from client.answers import AnswerRecord
from client.run import RunResult, UsedBook
from common.ids import SHOWN_ID, Names
from common.text import one_line

# Of a latency, in percent of requests.
QUANTILES = {"p50": 50.0, "p99": 99.0}

# What each key of `vicinal device --json` means; COUNT as in sims.evaluation.keys.
KEYS: Final = {
    "version": "SHA-256 of the model version",
    "preset": "name of the preset that was asked for",
    "release": "rows or book: what the users were answered from",
    "book.listed": "how many items the book lists; null, as the next three, where there is none",
    "book.bytes": "that were fetched for it",
    "book.mu": "μ of Gaussian differential privacy, of this book alone",
    "book.mu_life": "the same of all books of the server's store, for accounts whose ratings stay",
    "experiment": "what the server does not serve as it is, in its words; empty for a plain one",
    "users": "how many users were answered",
    "tolerated_fakes": "f: how many of all accounts may be fakes and still hold up no recommended "
    "item alone; the least of the answers",
    "required_raters": "M: how many accounts have to rate an item to have it recommended, but for "
    "exploration; the least of the answers",
    "late_reports": "reports of earlier runs that were delivered now",
    "counts.COUNT": "the sums that were reported",
    "lists[].user": "of the lists that --show asks for: whose it is",
    "lists[].id": "what the user is called",
    "lists[].items[].index": "an item, best first",
    "lists[].items[].id": "what it is called; its index where no map says it",
    "lists[].items[].title": "its title, or null",
    "oldest_package_seconds": "age of the oldest package that a stale answer came from",
    "untold": "why the device does not report some of its users; empty where it reports all",
    "unreported_users": "users whose counts the server has not got yet",
    "hit_ratio": "share of the users who have not rated a watched item and see it in their list, "
    "mean over items; null where the server watches none",
    "hit_ratio_per_target": "the same for each watched item",
    "accuracy": "share of the users with a held-out item who have it in their list; null where "
    "none has one",
    "accuracy_thresholded": "the same over users who liked their held-out item",
    "seconds.per_user.p50": "from request to ranking, median; p99: 99th percentile",
    "seconds.per_user.p99": "",
    "seconds.package.p50": "of waiting for the package",
    "seconds.package.p99": "",
    "seconds.tune_and_rank.p50": "of fine-tuning and ranking; 0 where the server answered",
    "seconds.tune_and_rank.p99": "",
    "bytes.cold": "received for the model version; 0 when the store had it",
    "bytes.per_request_mean": "of a package; 0 for one kept from before",
    "bytes.per_request_max": "of the largest",
}


def device_json(outcome: RunResult, preset: str, show: int = 0) -> dict[str, Any]:
    """Counts, shares, seconds and bytes; latency is per user, from request to ranking.

    show  how many items of each list are told
    """
    counts = outcome.counts
    waited = np.array([one.waited for one in outcome.answered])
    computed = np.array([one.computed for one in outcome.answered])
    packages = np.array([one.received for one in outcome.answered])
    return {
        "version": outcome.version,
        "preset": preset,
        "release": "rows" if outcome.book is None else "book",
        "book": _book_json(outcome.book),
        "experiment": outcome.experiment,
        "users": len(outcome.answered),
        "tolerated_fakes": min((one.tolerated_fakes for one in outcome.answered), default=0),
        "required_raters": min((one.required_raters for one in outcome.answered), default=0),
        "late_reports": outcome.late_reports,
        "counts": {
            "eligible": list(counts.eligible),
            "hits": list(counts.hits),
            "users": counts.users,
            "user_hits": counts.user_hits,
            "liked": counts.liked,
            "liked_hits": counts.liked_hits,
            "on_device": counts.on_device,
            "stale": counts.stale,
            "by_server": counts.by_server,
        },
        "lists": [
            {
                "user": one.user,
                "id": outcome.users.get(one.user, str(one.user)),
                "items": _names_of(outcome, one).told(one.items[:show]),
            }
            for one in (outcome.answered if show else ())
        ],
        "oldest_package_seconds": max((one.age for one in outcome.answered), default=0.0),
        "untold": next((one.untold for one in outcome.answered if one.untold), ""),
        "unreported_users": sum(not one.reported for one in outcome.answered),
        "hit_ratio": counts.hit_ratio if counts.eligible else None,
        "hit_ratio_per_target": list(counts.hit_ratio_per_item),
        "accuracy": counts.accuracy if counts.users else None,
        "accuracy_thresholded": counts.accuracy_thresholded if counts.liked else None,
        "seconds": {
            what: {name: float(np.percentile(times, part)) for name, part in QUANTILES.items()}
            for what, times in (
                ("per_user", waited + computed),
                ("package", waited),
                ("tune_and_rank", computed),
            )
        },
        "bytes": {
            "cold": outcome.cold_bytes,
            "per_request_mean": float(packages.mean()),
            "per_request_max": int(packages.max()),
        },
    }


def _book_json(book: UsedBook | None) -> dict[str, float | None]:
    return {
        "listed": None if book is None else book.listed,
        "bytes": None if book is None else book.size,
        "mu": None if book is None else book.mu,
        "mu_life": None if book is None else book.mu_life,
    }


def _names_of(outcome: RunResult, answered: AnswerRecord) -> Names:
    """A version that came meanwhile may have other items."""
    return outcome.names if answered.version == outcome.version else Names()


def list_tables(outcome: RunResult, show: int) -> Iterator[Table]:
    """The first items of each user's list, by title and id where these are known."""
    for one in outcome.answered if show else ():
        name = one_line(outcome.users.get(one.user, str(one.user)), SHOWN_ID)
        table = Table(title=Text(f"for user {name}"), show_header=False, title_justify="left")
        table.add_column(justify="right")
        table.add_column()
        for place, item in enumerate(one.items[:show], start=1):
            table.add_row(str(place), Text(_names_of(outcome, one).shown(item)))
        yield table


def device_table(outcome: RunResult, preset: str) -> Table:
    """The same for a terminal."""
    report = device_json(outcome, preset)
    size, seconds = report["bytes"], report["seconds"]
    title = f"preset {preset}, version {outcome.version[:12]}"
    # As text: what a server says may hold what rich takes for markup.
    said = one_line(outcome.experiment, 500)
    notes = [f"The server is an experiment: {said}"] if said else []
    notes += [f"Not reported: {report['untold']}."] if report["untold"] else []
    about = Text("\n".join(notes)) if notes else None
    table = Table(
        title=title, min_width=len(title), show_header=False, caption=about, caption_justify="left"
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_row("users answered", str(report["users"]))
    if report["counts"]["by_server"]:
        table.add_row("… by the server", str(report["counts"]["by_server"]))
    if report["counts"]["stale"]:
        age = timedelta(seconds=round(report["oldest_package_seconds"]))
        table.add_row("… from the last package (STALE)", str(report["counts"]["stale"]))
        table.add_row("… the oldest of these", f"{age} old")
    if report["unreported_users"]:
        table.add_row("… not reported", str(report["unreported_users"]))
    if (book := report["book"])["listed"] is not None:
        table.add_row("items in the book", f"{book['listed']:,}")
        table.add_row("… its μ / that of all books", f"{book['mu']:.2f} / {book['mu_life']:.2f}")
    if report["tolerated_fakes"]:
        table.add_row("fakes tolerated", str(report["tolerated_fakes"]))
        table.add_row("… raters that an item needs", str(report["required_raters"]))
    for key, label in (
        ("hit_ratio", "hit ratio of watched items"),
        ("accuracy", "accuracy"),
        ("accuracy_thresholded", "accuracy, liked items"),
    ):
        table.add_row(label, "–" if report[key] is None else f"{report[key]:.4f}")
    for what, label in (
        ("per_user", "latency per user"),
        ("package", "… waiting for the package"),
        ("tune_and_rank", "… fine-tuning and ranking"),
    ):
        p50, p99 = (1000 * seconds[what][name] for name in QUANTILES)
        table.add_row(f"{label}, p50 / p99", f"{p50:.1f} / {p99:.1f} ms")
    if outcome.late_reports:
        table.add_row("reports of earlier runs, delivered now", str(outcome.late_reports))
    table.add_row("bytes for the model version", f"{size['cold']:,}")
    table.add_row("bytes per request, mean", f"{size['per_request_mean']:,.0f}")
    return table
