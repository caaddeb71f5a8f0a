"""Settings of the book, chosen on validation items: the frontier of accuracy, leak and hit ratio.

`python -m sims.selection.book --dataset ml-100k`

Items and targets are those of sims.selection.presets: one more withheld per user, and none of the
reported targets. A candidate is a cap, a μ and a margin. Each faces the trials of a preset and a
flood, and is compared with rows under preset vicinal. The membership AUC is that of the likelihood
ratio (sims.audit.listing) on books of half of the users, with the noise of all of them: by whole
profiles, by 8 known ratings, and by who knows everybody else's ratings.

A candidate is eligible that keeps 97 % of the accuracy of rows in the mean over trials, and whose
books tell by whole profiles who is a member with an AUC of 0.55 at most. The one is chosen where
most books hold, up to 95 %: an attack raises the hit ratio of those it aims at by 0.05 at most. Of
several, the one with the least μ, and then the most accurate.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from rich.console import Console

from common.errors import InputError
from common.models import model_named
from sims.audit.listing import most_auc
from sims.processes.pools import in_processes
from sims.progress import counter, shown
from sims.selection.book_trials import (
    HALVES,
    MARGINS,
    POINTS,
    TRIALS,
    Answers,
    Leak,
    Point,
    answers_of,
    leaks_of,
)
from sims.selection.presets import MAX_RISE, UNATTACKED, Trial, trials_of

LEAST_KEPT: Final = 0.97
LEAST_HELD: Final = 0.95
MOST_AUC: Final = 0.55


def main(
    dataset: Annotated[str, typer.Option(help="ml-100k ml-1m filmtrust.")] = "ml-100k",
    model: Annotated[str, typer.Option(help="mf nsvd autorec cdae.")] = "mf",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0, 1, …")] = 3,
    users: Annotated[int, typer.Option(min=1, help="Users of each seed.")] = 300,
    trial: Annotated[
        list[str] | None, typer.Option(help="This attack alone, as flood; repeat for several.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the frontier: an svg.")] = None,
) -> None:
    """Measure every candidate and print them as a Markdown table, the chosen one in bold."""
    model_named(model)
    try:
        trials = trials_of(TRIALS, trial or ())
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    trials = [each for each in trials if not (each.middle and dataset == "filmtrust")]
    if all(each in UNATTACKED for each in trials):
        raise typer.BadParameter("none is no attack: name one")
    asked = list(product(trials, range(seeds)))
    halves = list(product(range(seeds), range(HALVES)))
    with shown() as progress:
        advance = counter(progress, "answer", len(asked))
        calls = [(dataset, trial, seed, model, users) for trial, seed in asked]
        answers = in_processes(answers_of, calls, arrived=lambda _: advance(1))
        guessing = counter(progress, "guess", len(halves))
        guesses = [(dataset, seed, half, model) for seed, half in halves]
        leaks = in_processes(leaks_of, guesses, arrived=lambda _: guessing(1))
    rows = _rows(trials, seeds, dict(zip(asked, answers, strict=True)), leaks)
    best = _chosen(rows)
    console = Console(width=1000, highlight=False)
    console.print(
        "| cap | μ | margin | accuracy | ÷ rows | tail | bytes | AUC, profile | AUC, 8 known "
        "| AUC, all others known | proven | hit ratio | worst rise | cells ≤ +0.05 |"
    )
    console.print("|---" * 14 + "|")
    for row in rows:
        told = row.told()
        console.print("| " + " | ".join(f"**{x}**" if row is best else x for x in told) + " |")
    if picture is not None:
        _draw(rows, best, f"{dataset}, {model}, {seeds} seeds, validation items", picture)


@dataclass(frozen=True)
class Row:
    """A candidate over all trials and seeds; `point` is None for rows of neighbors."""

    point: Point | None
    accuracy: float
    kept: float
    tail: float
    size: float
    full: tuple[float, float]
    known: tuple[float, float]
    informed: tuple[float, float]
    hit_ratio: float
    worst: float
    held: float

    @property
    def eligible(self) -> bool:
        return self.point is not None and self.kept >= LEAST_KEPT and self.full[0] <= MOST_AUC

    def told(self) -> list[str]:
        """The cells of a line."""
        point = self.point
        head = (
            ["rows", "–", "–"]
            if point is None
            else [str(point.cap), f"{point.mu:g}", f"{point.margin:g}"]
        )
        shares = [f"{self.accuracy:.3f}", f"{self.kept:.3f}", f"{self.tail:.3f}"]
        leak = (
            ["–"] * 5
            if point is None
            else [
                f"{self.size:.0f}",
                *(
                    f"{mean:.3f} ± {error:.3f}"
                    for mean, error in (self.full, self.known, self.informed)
                ),
                f"{most_auc(point.mu):.3f}",
            ]
        )
        return [
            *head,
            *shares,
            *leak,
            f"{self.hit_ratio:.3f}",
            f"{self.worst:.3f}",
            f"{self.held:.3f}",
        ]


def _rows(
    trials: list[Trial],
    seeds: int,
    answers: dict[tuple[Trial, int], Answers],
    leaks: list[list[Leak]],
) -> list[Row]:
    rows = []
    attacked = [
        (trial, seed) for trial, seed in product(trials, range(seeds)) if trial not in UNATTACKED
    ]

    def rises_of(trial: Trial, seed: int, place: int) -> list[float]:
        calm = next(each for each in UNATTACKED if each.middle == trial.middle)
        pairs = zip(answers[trial, seed][place], answers[calm, seed][place], strict=True)
        return [attacked.inside - before.hit_ratio for attacked, before in pairs]

    for place, point in enumerate((None, *POINTS)):
        mine = [one for key in attacked for one in answers[key][place]]
        kept = [
            one.accuracy / max(rows_too.accuracy, 1e-9)
            for key in attacked
            for one, rows_too in zip(answers[key][place], answers[key][0], strict=True)
        ]
        rises = [rise for key in attacked for rise in rises_of(*key, place)]
        parts = [] if point is None else [leak[place - 1] for leak in leaks]

        def over(values: list[float]) -> tuple[float, float]:
            if not values:
                return 0.0, 0.0
            return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))

        rows.append(
            Row(
                point,
                float(np.mean([each.accuracy for each in mine])),
                float(np.mean(kept)),
                float(np.nanmean([each.tail for each in mine])),
                over([each.size for each in parts])[0],
                over([each.full for each in parts]),
                over([each.known for each in parts]),
                over([each.informed for each in parts]),
                float(np.mean([each.hit_ratio for each in mine])),
                max(rises),
                float(np.mean([each <= MAX_RISE for each in rises])),
            )
        )
    return rows


def _chosen(rows: list[Row]) -> Row | None:
    """As the head of this module has it; None where no candidate is eligible."""

    def rank(row: Row) -> tuple[float, float, float]:
        assert row.point is not None
        return -min(row.held, LEAST_HELD), row.point.mu, -row.accuracy

    return min((row for row in rows if row.eligible), key=rank, default=None)


def _draw(rows: list[Row], best: Row | None, title: str, path: Path) -> None:
    """AUC against accuracy, a marker a margin, as large as the book; the frontier is a line."""
    from sims.figures import style  # noqa: PLC0415 - matplotlib

    books = [row for row in rows if row.point is not None]
    most = max(row.size for row in books)
    with style.drawing():
        figure, (axes,) = style.canvas(1, 1, (7.6, 5.2))
        for place, margin in enumerate(MARGINS):
            mine = [row for row in books if row.point is not None and row.point.margin == margin]
            kept = [row for row in mine if row.held >= LEAST_HELD]
            others = [row for row in mine if row.held < LEAST_HELD]
            color, marker = style.look(place).color, style.look(place).marker
            for some, face in ((kept, color), (others, "none")):
                axes.scatter(
                    [row.full[0] for row in some],
                    [row.accuracy for row in some],
                    [120 * row.size / most for row in some],
                    marker=marker,
                    facecolors=face,
                    edgecolors=color,
                    label=f"threshold f + {margin:g} σ" if some is (kept or others) else None,
                )
        frontier: list[Row] = []
        for row in sorted(books, key=lambda row: (row.full[0], -row.accuracy)):
            if row.held >= LEAST_HELD and (not frontier or row.accuracy > frontier[-1].accuracy):
                frontier.append(row)
        axes.plot(
            [row.full[0] for row in frontier], [row.accuracy for row in frontier], color=style.MUTED
        )
        axes.axhline(rows[0].accuracy, color=style.BLACK, linestyle=":", label="rows")
        if best is not None:
            at = best.full[0], best.accuracy
            axes.annotate(
                "chosen",
                at,
                (-64, 26),
                textcoords="offset points",
                arrowprops={"arrowstyle": "->", "shrinkB": 8},
            )
        axes.set_xlabel("membership AUC of a book, whole profile known (lower is better)")
        axes.set_ylabel("accuracy@50 (higher is better)")
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.legend()
        caption = (
            "A point is a cap, a μ and a margin; it is as large as the book has bytes. Hollow: an "
            f"attack raises the hit ratio of those it aims at by more than {MAX_RISE:g} in more "
            f"than {1 - LEAST_HELD:.0%} of the books."
        )
        style.headed(figure, f"{title} · books", caption)
    style.save(figure, path)


if __name__ == "__main__":
    cli = typer.Typer(pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
