"""What a simulated fleet found, as JSON and as a table."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from rich.table import Table

from common.vicinal.settings import VicinalSettings
from sims.evaluation.experiment import Prepared
from sims.functions import label

# Of the server app's result, as they are.
OF_THE_FLEET: Final = (
    *(
        "answered",
        "resumed",
        "broken_off",
        "failures",
        "partitions",
        "messages",
        "resent",
        "failed",
    ),
    *("bytes", "latency", "device_processor_ms", "server_processor_seconds", "per_client"),
    "report_privacy",
)
_SHOWN_FAILURES: Final = 5


def fleet_json(prepared: Prepared, result: dict[str, Any], defense: str) -> dict[str, Any]:
    """The server app's result with the keys that `vicinal evaluate` writes, as far as known."""
    experiment, settings = prepared.experiment, result["settings"]
    assumed = VicinalSettings(**settings)
    return {
        "dataset": experiment.dataset,
        "source": prepared.source,
        **prepared.read(),
        "split": prepared.split.kind,
        "model": experiment.model,
        "attack": label(experiment.attack),
        "defense": defense,
        "release": result["release"],
        "preset": result["preset"],
        "seed": experiment.seed,
        "k": settings["neighbors"],
        "unrated_weight": settings["unrated_weight"],
        "steps": settings["steps"],
        "min_support": settings["min_support"],
        "proximal_weight": settings["proximal_weight"],
        "neighbors_by": settings["neighbors_by"],
        "assumed_fakes": settings["assumed_fakes"],
        "margin": settings["margin"],
        "candidates": settings["candidates"],
        "exploration": settings["exploration"],
        "row_cap": settings["row_cap"],
        "fold_in": settings["fold_in"],
        "tolerated_fakes": assumed.tolerated_fakes(prepared.poisoned.user_count),
        "list_length": result["list_length"],
        "users": result["users"],
        "clients": result["clients"],
        "targets": result["watched"],
        "hit_ratio": {"defended": result["hit_ratio"]},
        "hit_ratio_per_target": result["hit_ratio_per_target"],
        "accuracy": {"defended": result["accuracy"]},
        "accuracy_thresholded": {"defended": result["accuracy_thresholded"]},
        "counts": result["counts"],
        "version": result["version"],
        **{name: result[name] for name in OF_THE_FLEET},
        "seconds": {"fleet": result["seconds"]},
    }


def fleet_table(prepared: Prepared, result: dict[str, Any], defense: str) -> Table:
    """Hit ratio and accuracy, at most 80 columns wide."""
    experiment, length = prepared.experiment, result["list_length"]
    title = (
        f"{experiment.dataset} · {experiment.model} · attack {label(experiment.attack)} · "
        f"seed {experiment.seed} · {result['users']} users on {result['clients']} clients"
    )
    from_book = ", from a book" if result["release"] == "book" else ""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in (f"HR@{length}", f"accuracy@{length}", "of liked items", "seconds"):
        table.add_column(heading, justify="right")
    table.add_row(
        f"defense {defense} ({result['preset']}{from_book})",
        f"{result['hit_ratio']:.3f}",
        f"{result['accuracy']:.3f}",
        f"{result['accuracy_thresholded']:.3f}",
        f"{result['seconds']:.1f}",
    )
    return table


def fleet_summary(prepared: Prepared, result: dict[str, Any]) -> Iterator[str]:
    """Who answered and what it cost, in a few lines; why others did not, and what looks wrong."""
    latency, size = result["latency"], result["bytes"]
    resumed = f" ({result['resumed']} of them before)" if result["resumed"] else ""
    yield f"answered: {result['answered']} of {result['users']} users{resumed}"
    yield (
        f"messages: {result['messages']}, {result['resent']} of them again; to clients "
        f"{size['down'] / 1e6:.1f} MB, from them {size['up'] / 1e6:.1f} MB"
    )
    if (privacy := result["report_privacy"])["epsilon"] is not None:
        error = privacy["error"]
        yield (
            f"reports: {privacy['kind']}:{privacy['epsilon']:g}, spent by a user at most "
            f"{privacy['spent']['most']:g}; standard error of the hit ratio "
            f"{error['hit_ratio']:.3f}, of accuracy {error['accuracy']:.3f}"
        )
    if latency["answers"]:
        parts = " + ".join(
            f"{name} {latency[f'{name}_ms']['p50']:.0f}"
            for name in ("queue", "computed", "transfer")
        )
        p99 = latency["ms"]["p99"]
        slow = "" if p99 is None else f", p99 {p99:.0f}"
        yield f"ms a message: p50 {latency['ms']['p50']:.0f}{slow} (p50 {parts})"
    why = Counter(failure["reason"] for failure in result["failures"])
    for reason, count in why.most_common(_SHOWN_FAILURES):
        yield f"failed: {count} × {reason}"
    if len(why) > _SHOWN_FAILURES:
        yield f"failed: for {len(why) - _SHOWN_FAILURES} other reasons, see result.json"
    for doubt in prepared.doubts:
        yield f"warning: {doubt.text}"
