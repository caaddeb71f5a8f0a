"""What `vicinal device` says of its users: a table, and the same as JSON."""

from datetime import timedelta
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from client.run import RunResult

# Of a latency, in percent of requests.
QUANTILES = {"p50": 50.0, "p99": 99.0}


def device_json(outcome: RunResult, preset: str) -> dict[str, Any]:
    """Counts, shares, seconds and bytes; latency is per user, from request to ranking."""
    counts = outcome.counts
    waited = np.array([one.waited for one in outcome.answered])
    computed = np.array([one.computed for one in outcome.answered])
    packages = np.array([one.received for one in outcome.answered])
    return {
        "version": outcome.version,
        "preset": preset,
        "experiment": outcome.experiment,
        "users": len(outcome.answered),
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
        "oldest_package_seconds": max((one.age for one in outcome.answered), default=0.0),
        "unreported_users": sum(not one.reported for one in outcome.answered),
        "hit_ratio": counts.hit_ratio,
        "hit_ratio_per_target": list(counts.hit_ratio_per_item),
        "accuracy": counts.accuracy,
        "accuracy_thresholded": counts.accuracy_thresholded,
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


def device_table(outcome: RunResult, preset: str) -> Table:
    """The same for a terminal."""
    report = device_json(outcome, preset)
    size, seconds = report["bytes"], report["seconds"]
    title = f"preset {preset}, version {outcome.version[:12]}"
    # As text: what a server says may hold what rich takes for markup.
    about = (
        Text(f"The server is an experiment: {outcome.experiment}") if outcome.experiment else None
    )
    table = Table(title=title, show_header=False, caption=about, caption_justify="left")
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
        table.add_row("… not reported, no server", str(report["unreported_users"]))
    table.add_row("hit ratio of watched items", f"{report['hit_ratio']:.4f}")
    table.add_row("accuracy", f"{report['accuracy']:.4f}")
    table.add_row("accuracy, liked items", f"{report['accuracy_thresholded']:.4f}")
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
