"""Print docs/results.md: `python -m sims.evaluation.results_page > docs/results.md`.

Runs each `vicinal evaluate` command below as it stands, once a seed, and prints what came out.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from common.processes import module_command
from sims.progress import shown

SEEDS: Final = (0, 1, 2)
CONDITIONS: Final = ("clean", "clean_defended", "undefended", "defended", "popularity")


@dataclass(frozen=True)
class EvaluateCommand:
    """A heading, and the arguments of the `vicinal evaluate` command below it."""

    heading: str
    arguments: str


COMMANDS: Final = (
    EvaluateCommand(
        "MovieLens 100K, preset vicinal",
        "--dataset ml-100k --model mf --attack mixrand --targets 1485,1320,821,1562,1531 "
        "--defense rvd --preset vicinal",
    ),
    EvaluateCommand(
        "MovieLens 100K, preset paper",
        "--dataset ml-100k --model mf --attack mixrand --targets 1485,1320,821,1562,1531 "
        "--defense rvd --preset paper",
    ),
    EvaluateCommand(
        "FilmTrust, preset vicinal",
        "--dataset filmtrust --model mf --attack mixrand --targets 1576,926,942,848,107 "
        "--defense rvd --preset vicinal",
    ),
)

INTRODUCTION: Final = """\
# Results

All users, lists of K = 50 items, the published leave-one-out split and target items, seeds 0–2.
Symbols and terms are explained in the [glossary](glossary.md).

- **HR@50**, the hit ratio, is the share of users who have not rated a target item and see it in
  their top 50, averaged over the five targets. Lower is better under attack.
- **accuracy@50** is the share of users whose held-out item is in their top 50. *Of liked items*
  counts only held-out ratings that are high.
- *clean* is the model trained without the attack, *undefended* the one trained with it.
  *popularity* ranks items by the number of ratings that the attacked server sees.

The presets were chosen without test items and without these targets ([decision
0023](decisions/0023-admission.md)). Seconds are of the machine that ran this (2 cores, shared
with other work) and vary. *defend* is everything after training: all users, clean and attacked
model, with and without defense.

On FilmTrust few items were rated by many users, and a list of 50 is longer than that. The rest of
the list is decided by a handful of fake users: ranking by popularity shows the targets to most
users. The defense lowers the hit ratio to 0.015, at the accuracy of popularity ([decision
0023](decisions/0023-admission.md)).

This page is printed by `python -m sims.evaluation.results_page > docs/results.md`. It runs the
commands below for `--seed 0`, `1` and `2`; `VICINAL_DATA` names a folder with both data sets.
"""


def main() -> None:
    """Run every command for every seed and print the page."""
    total = len(COMMANDS) * len(SEEDS)
    pages, done = [INTRODUCTION], 0
    with TemporaryDirectory() as folder, shown() as progress:
        for command in COMMANDS:
            results = []
            for seed in SEEDS:
                progress("evaluate", done, total)
                results.append(_run(command, seed, Path(folder)))
                done += 1
            pages.append(_section(command, results))
        progress("evaluate", done, total)
    sys.stdout.write("\n".join(pages))


def _run(command: EvaluateCommand, seed: int, folder: Path) -> dict[str, Any]:
    output = folder / "result.json"
    arguments = module_command("sims.cli", "evaluate", *command.arguments.split())
    arguments += ["--seed", str(seed), "--store", str(folder / "store"), "--json", str(output)]
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    result: dict[str, Any] = json.loads(output.read_text())
    return result


def _section(command: EvaluateCommand, results: list[dict[str, Any]]) -> str:
    first = results[0]
    lines = [
        f"## {command.heading}",
        "",
        "```",
        "vicinal evaluate " + command.arguments.replace(" --targets", " \\\n    --targets"),
        "```",
        "",
        f"{first['users']} users, {first['fakes']} fakes, k = {first['k']}, "
        f"α = {first['unrated_weight']:g}, {first['steps']} steps, "
        f"m = {first['min_support']}; split: {first['split']}.",
    ]
    for metric in ("hit_ratio", "accuracy", "accuracy_thresholded"):
        lines += ["", *_table(metric, results)]
    lines += ["", *_seconds(results), ""]
    return "\n".join(lines)


def _table(metric: str, results: list[dict[str, Any]]) -> list[str]:
    names = {
        "hit_ratio": "HR@50",
        "accuracy": "accuracy@50",
        "accuracy_thresholded": "accuracy@50 of liked items",
    }
    values = np.array([[result[metric][name] for name in CONDITIONS] for result in results])
    return _markdown(
        [names[metric], *(name.replace("_", ", ") for name in CONDITIONS)],
        [f"{value:.4f}" for value in values.reshape(-1)],
    )


def _seconds(results: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"{result['seconds']['defend']:.1f}",
            f"{1000 * result['seconds']['per_user_p50']:.1f}",
            f"{1000 * result['seconds']['per_user_p99']:.1f}",
            f"{100 * result['fake_neighbor_share']:.2f} %",
        ]
        for result in results
    ]
    heads = ["seed", "defend, s", "per user p50, ms", "p99, ms", "fakes among neighbors"]
    return _markdown(heads, [cell for row in rows for cell in row], mean=False)


def _markdown(heads: list[str], cells: list[str], *, mean: bool = True) -> list[str]:
    """One row a seed, and their mean below."""
    width = len(heads) - 1
    rows = [cells[start : start + width] for start in range(0, len(cells), width)]
    table = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * width + "|"]
    table += [f"| seed {seed} | {' | '.join(row)} |" for seed, row in zip(SEEDS, rows, strict=True)]
    if mean:
        means = np.array(rows, dtype=float).mean(axis=0)
        table.append("| **mean** | " + " | ".join(f"**{value:.4f}**" for value in means) + " |")
    return table


if __name__ == "__main__":
    main()
