"""How far lying devices move what a server is told, measured: a table for docs/protocol.md.

    python -m sims.serving.liars [--dataset ml-100k]

Every user's true counts come from the answers that the user's device would give (preset vicinal,
under the default attack, one rating of each held out). Then devices report them, a user or 25 users
to a token; the tokens of liars say that every user has every watched item in the list, and that the
held-out one is not. Reports are dealt to shards as a server deals them.

*In range* says in how many of 50 draws of the liars the range that `vicinal tally show --robust`
prints held what it is about: of the plain ratio that of the honest users, of the trimmed one the
trimmed mean of the shards without a liar. *Shards* is how many of 32 the liars reach.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final, NamedTuple

import numpy as np
import typer

from common.ranking import Counts, count_user
from common.threads import limit_threads
from common.vicinal.settings import preset
from server.model_store import ModelStore
from server.reports.robust import LIARS, accuracy, hit_ratio, robust_figure, trimmed_mean
from server.reports.sums import SHARDS
from server.trust.receipts import Receipts
from sims.evaluation.experiment import Experiment, prepare
from sims.numbers import stream

RUNS: Final = 50
Ratio = Callable[[Counts], float | None]
FIGURES: Final[Mapping[str, Ratio]] = {"hit ratio": hit_ratio, "accuracy": accuracy}


@dataclass(frozen=True)
class Scene:
    """users: of a token; repeats: how often liars report for each time that honest devices do."""

    name: str
    users: int
    repeats: int


SCENES: Final = (
    Scene("a token a user", 1, 1),
    Scene("a token a user, liars report 20 times as often", 1, 20),
    Scene("a token for 25 users", 25, 1),
    Scene("a token for 25 users, liars report 20 times as often", 25, 20),
)


def true_counts(dataset: str, seed: int) -> list[Counts]:
    """What each user's device would report, if it is honest."""
    prepared = prepare(Experiment(dataset, seed=seed))
    settings, length = preset("vicinal", model="mf"), prepared.experiment.list_length
    with TemporaryDirectory() as folder:
        with ModelStore(Path(folder)) as store:
            recommender = prepared.train(store)
        return [
            count_user(
                recommender.recommend(user, settings, length),
                prepared.local.items_of(user),
                prepared.watched,
                prepared.local.held_out_of(user),
            )
            for user in range(prepared.user_count)
        ]


def lie(counts: Counts) -> Counts:
    """The most that the counts of one user can be made to say."""
    everywhere = (1,) * len(counts.eligible)
    return Counts(everywhere, everywhere, 1, 0)


@dataclass(frozen=True)
class Reported:
    """What a server has: the sum of all reports and those of the shards; and what it cannot know:
    the honest users' sum, and which shards have liars.
    """

    total: Counts
    shards: Mapping[int, Counts]
    honest: Counts
    lying: frozenset[int]


def reported(
    users: list[Counts], scene: Scene, share: float, *, rng: np.random.Generator
) -> Reported:
    """Everybody's reports, with a share of the tokens lying."""
    tokens = [users[at : at + scene.users] for at in range(0, len(users), scene.users)]
    liars = set(rng.choice(len(tokens), int(share * len(tokens)), replace=False).tolist())
    receipts = Receipts(rng.bytes(32))
    none = Counts.none(len(users[0].eligible))
    shards: dict[int, Counts] = defaultdict(lambda: none)
    honest, lying = none, set()
    for number, mine in enumerate(tokens):
        shard = receipts.shard(f"token {number}", SHARDS)
        told = reduce(add, map(lie, mine) if number in liars else mine)
        for _ in range(scene.repeats if number in liars else 1):
            shards[shard] += told
        if number in liars:
            lying.add(shard)
        else:
            honest += told
    return Reported(reduce(add, shards.values()), shards, honest, frozenset(lying))


class Outcome(NamedTuple):
    """Of one draw: both ratios, and whether each range held what it is about."""

    plain: float
    trimmed: float
    plain_held: bool
    trimmed_held: bool
    shards: int


def outcome(found: Reported, ratio: Ratio, share: float) -> Outcome:
    figure, truth = robust_figure(found.total, found.shards.values(), ratio), ratio(found.honest)
    assert figure is not None and figure.trimmed is not None and truth is not None
    clean = [ratio(part) for shard, part in found.shards.items() if shard not in found.lying]
    kept = [value for value in clean if value is not None]
    (low, high), within = figure.honest[share], figure.trimmed_honest[share]
    return Outcome(
        figure.plain,
        figure.trimmed,
        low <= truth <= high,
        bool(kept) and within[0] <= trimmed_mean(kept) <= within[1],
        len(found.lying),
    )


def rows(users: list[Counts], seed: int) -> Iterator[str]:
    """The table, line by line."""
    heads = ("tokens", "what", "true", "liars", "shards", "plain", "in range", "trimmed")
    yield f"| {' | '.join(heads)} | in range |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|"
    for scene in SCENES:
        for name, ratio in FIGURES.items():
            truth = ratio(reduce(add, users))
            for share in LIARS:
                rng = stream(seed, f"{scene.name} {share}")
                draws = [
                    outcome(reported(users, scene, share, rng=rng), ratio, share)
                    for _ in range(RUNS)
                ]
                plain, trimmed, held, trimmed_held, shards = np.mean(draws, axis=0)
                cells = (
                    *(scene.name, name, f"{truth:.3f}", f"{100 * share:g} %", f"{shards:.0f}"),
                    *(f"{plain:.3f}", f"{100 * held:.0f} %"),
                    *(f"{trimmed:.3f}", f"{100 * trimmed_held:.0f} %"),
                )
                yield f"| {' | '.join(cells)} |"


app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Option("--dataset", help="whose users report")] = "ml-100k",
    seed: Annotated[int, typer.Option("--seed", min=0, help="of everything")] = 0,
) -> None:
    limit_threads()
    for line in rows(true_counts(dataset, seed), seed):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    app()
