"""Settings of the book, chosen on validation items: the frontier of accuracy, leak and hit ratio.

`python -m sims.selection.book --dataset ml-100k`

Items and targets are those of sims.selection.presets: one more withheld per user, and none of the
reported targets. A candidate is a cap, a μ and a margin. Each faces the trials of a preset and a
flood, and is compared with rows under preset vicinal. The membership AUC is that of the likelihood
ratio (sims.audit.listing) on books of half of the users, with the noise of all of them: by whole
profiles, by 8 known ratings, and by who knows everybody else's ratings.

A candidate is eligible that keeps 97 % of the accuracy of rows in the mean over trials, and where
in 95 % of the books an attack raises the hit ratio of those it aims at by 0.05 at most. The one
with the least μ is chosen, and of these the most accurate; where none is eligible, the one that
comes nearest to the 95 % of those that keep the accuracy.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.models import model_named
from common.ranking import top_items
from common.vicinal.book import ItemBook, own_parameters
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import preset
from common.vicinal.support import unlisted_last
from common.wire.book import encode_book
from server.model_store import ModelStore
from server.recommending.book import BookSettings, item_book, weighed_counts
from sims.audit.knowledge import Background, Knowledge
from sims.audit.listing import Belief, likelihood, most_auc, weights
from sims.audit.membership import auc
from sims.evaluation.defenses import RVD, defense_named
from sims.evaluation.measuring import EvaluationSetup, measure_here
from sims.evaluation.metrics import tail_items
from sims.evaluation.outcomes import Outcomes
from sims.numbers import stream
from sims.processes.pools import in_processes
from sims.progress import counter, shown
from sims.selection.presets import MAX_RISE, UNATTACKED, VICINAL_TRIALS, Trial, validation

CAPS: Final = (50, 100)
MUS: Final = (0.3, 0.6, 0.83, 1.2)
MARGINS: Final = (0.0, 1.0, 1.5, 2.0)
TRIALS: Final = (*VICINAL_TRIALS, Trial("flood"))
LEAST_KEPT: Final = 0.97
LEAST_HELD: Final = 0.95
# Books of each trial and seed: whether an item of fakes is listed is chance.
DRAWS: Final = 5
# Halves of each data set and seed of which books are guessed.
HALVES: Final = 2


@dataclass(frozen=True)
class Point:
    """A candidate."""

    cap: int
    mu: float
    margin: float

    @property
    def how(self) -> BookSettings:
        return BookSettings(self.cap, self.cap**0.5 / self.mu, self.margin)


POINTS: Final = tuple(Point(*each) for each in product(CAPS, MUS, MARGINS))


@dataclass(frozen=True)
class Answered:
    """One candidate, or rows, in one trial on one seed; `tail` is of few, and may be of nobody."""

    hit_ratio: float
    inside: float
    accuracy: float
    tail: float


@dataclass(frozen=True)
class Leak:
    """One candidate on one half of the users: AUCs, and the bytes of the book of all."""

    full: float
    known: float
    informed: float
    size: float


# Of rows, then of every candidate: an answer for each draw.
Answers = list[list[Answered]]


def answers_of(dataset: str, trial: Trial, seed: int, model: str, users: int) -> Answers:
    """In one trial on one seed."""
    prepared = validation(dataset, seed, model, trial)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    audience = () if prepared.profiles is None else prepared.profiles.audience
    inside = np.array(audience or chosen, dtype=np.int64)
    settings, length = preset("vicinal", model=model), prepared.experiment.list_length
    robust = defense_named(RVD, model=model, preset="vicinal").robust
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        recommender = prepared.train(store, robust=robust)
        setup = EvaluationSetup(
            {"poisoned": recommender}, prepared.local, settings, prepared.watched, length
        )

        def by_rows(some: NDArray[np.int64]) -> Outcomes:
            return measure_here(setup, ["defended"], some)["defended"].outcomes

        served, ratings = recommender.version.served, recommender.ratings
        scores = {}
        for user in {*chosen.tolist(), *inside.tolist()}:
            own = ratings.rows([user])
            scores[user] = served.plain_scores(Neighborhood(own, own_parameters(served, own)))

        def by_book(book: ItemBook, some: NDArray[np.int64]) -> Outcomes:
            lists = np.full((len(some), length), -1, dtype=np.int32)
            for row, user in enumerate(some.tolist()):
                own = ratings.items_of(user)
                found = top_items(unlisted_last(scores[user], book.listed, own), own, length)
                lists[row, : len(found)] = found
            return Outcomes.of(some, lists, prepared.local, prepared.watched, length)

        rare = tail_items(prepared.local.train)[np.maximum(prepared.local.held_out[chosen], 0)]

        def judged(everybody: Outcomes, within: Outcomes) -> Answered:
            counts, few = everybody.counts, everybody.asked & rare
            tail = float(everybody.found()[few].mean()) if few.any() else float("nan")
            return Answered(counts.hit_ratio, within.counts.hit_ratio, counts.accuracy, tail)

        found = [[judged(by_rows(chosen), by_rows(inside))] * DRAWS]
        for point in POINTS:
            books = [
                item_book(ratings, settings, stream(seed, f"book {draw}").bytes(32), how=point.how)
                for draw in range(DRAWS)
            ]
            found.append([judged(by_book(book, chosen), by_book(book, inside)) for book in books])
        return found


def leaks_of(dataset: str, seed: int, half: int, model: str) -> list[Leak]:
    """Of every candidate, on one half of the users of one seed, without fakes."""
    train = validation(dataset, seed, model, UNATTACKED[0]).split.train
    settings = preset("vicinal", model=model)
    users = train.user_count
    order = stream(seed, f"half {half}").permutation(users)
    members, others, shadows = (
        train.rows(np.sort(part)) for part in np.split(order, [users // 2, users // 2 + users // 4])
    )
    background, knowledge = Background(shadows), Knowledge()
    raters = shadows.item_counts()
    secret = stream(seed, f"secret {half}").bytes(32)
    found = []
    for point in POINTS:
        how = point.how
        whole = item_book(train, settings, secret, how=how)
        book = item_book(members, settings, secret, how=how)
        counts = weighed_counts(members, how.cap)
        shadow_belief = Belief.from_shadows(background, book)
        scores: dict[str, list[NDArray[np.float64]]] = {"full": [], "known": [], "informed": []}
        for people in (members, others):
            lengths = np.diff(people.indptr)
            added = weights(people, lengths, how.cap)
            some = knowledge.of(people, raters, rng=stream(seed, f"known {half}"))
            scores["full"].append(likelihood(book, shadow_belief, added))
            scores["known"].append(likelihood(book, shadow_belief, weights(some, lengths, how.cap)))
            without = counts - added if people is members else np.broadcast_to(counts, added.shape)
            scores["informed"].append(likelihood(book, Belief.informed(without, book), added))
        found.append(
            Leak(
                auc(*scores["full"]),
                auc(*scores["known"]),
                auc(*scores["informed"]),
                float(len(encode_book(whole, "0" * 64))),
            )
        )
    return found


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
    trials = [
        each
        for each in TRIALS
        if not (each.middle and dataset == "filmtrust")
        and (not trial or each.attack in trial or each == UNATTACKED[0])
    ]
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
        return self.point is not None and self.kept >= LEAST_KEPT and self.held >= LEAST_HELD

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
    """As the head of this module has it; None where no candidate keeps the accuracy."""
    eligible = [row for row in rows if row.eligible]

    def rank(row: Row) -> tuple[float, float]:
        assert row.point is not None
        return row.point.mu, -row.accuracy

    if eligible:
        return min(eligible, key=rank)
    near = [row for row in rows if row.point is not None and row.kept >= LEAST_KEPT]
    return max(near, key=lambda row: (row.held, row.accuracy), default=None)


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
                    label=f"threshold f + {margin:g} σ" if some is kept else None,
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
            axes.annotate("chosen", at, (10, -18), textcoords="offset points")
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
