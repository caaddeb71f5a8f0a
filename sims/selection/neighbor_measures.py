"""Which users are alike enough for a neighborhood: `python -m sims.selection.neighbor_measures`.

Prints a Markdown table: several measures of similarity between rows of ratings, each under some
attacks, on validation items (sims.selection.presets). A measure is judged by votes, one a neighbor
for every item that it rated, and by the defense of a model of kind mf.

Shapes: U users, fakes last, I items, k neighbors.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final, final

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from common.ranking import Counts, count_user, top_items
from common.ratings import RatingMatrix
from common.threads import limit_threads
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import VicinalSettings
from common.vicinal.tuning import tuned_scores
from common.wire.rounding import rounded
from server.model_store import ModelStore
from server.recommending.offload import order_by_content, supported
from server.recommending.recommender import Recommender
from sims.evaluation.experiment import LIKED, Prepared
from sims.selection.presets import Trial, validation

Table = NDArray[np.float32]
Similarities = NDArray[np.float64]
Users = NDArray[np.int64]

SETTINGS: Final = VicinalSettings(80, 0.4, 4, min_support=6)
MINIMA: Final = 128
# Of the candidates among which near duplicates are looked for, as a multiple of k.
CANDIDATES: Final = 4


@final
class Rows:
    """Tables [U, I] of one rating matrix, made when a measure first needs them."""

    def __init__(self, ratings: RatingMatrix) -> None:
        self.ratings = ratings
        self.values = ratings.dense()
        self.rated: Table = (self.values > 0).astype(np.float32)
        self.lengths = self.rated.sum(1, dtype=np.float64)
        self.raters = self.rated.sum(0, dtype=np.float64)
        self._made: dict[str, Table] = {}

    def table(self, name: str, make: Callable[[], Table]) -> Table:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def shared(self, user: int) -> Similarities:
        """n_uv: how many items every user rated that this one did, [U]."""
        return products(self.rated, self.rated[user])

    def norms(self, user: int) -> Similarities:
        """√(n_u n_v) with every user, [U]."""
        return np.asarray(np.sqrt(np.maximum(self.lengths * self.lengths[user], 1)))


def products(table: Table, row: Table) -> Similarities:
    """The inner product of a row with every row of a table, [U]."""
    return np.asarray(table @ row, dtype=np.float64)


def of_unit_length(table: Table) -> Table:
    """Its rows divided by their norms, so that products are cosines."""
    norms = np.sqrt(np.einsum("ui,ui->u", table, table))
    return np.asarray(table / np.maximum(norms, 1e-12)[:, None])


def cosine(rows: Rows, user: int) -> Similarities:
    """n_uv / √(n_u n_v)."""
    return rows.shared(user) / rows.norms(user)


def jaccard(rows: Rows, user: int) -> Similarities:
    """n_uv / (n_u + n_v - n_uv)."""
    shared = rows.shared(user)
    return np.asarray(shared / np.maximum(rows.lengths + rows.lengths[user] - shared, 1))


def by_length(rows: Rows, user: int, *, power: float) -> Similarities:
    """n_uv / n_v^power: below 1/2 long profiles come in, above short ones."""
    return np.asarray(rows.shared(user) / np.maximum(rows.lengths, 1) ** power)


def shrunk(rows: Rows, user: int, *, beta: float) -> Similarities:
    """The cosine times n_uv / (n_uv + β): few shared items count for little."""
    shared = rows.shared(user)
    return np.asarray(cosine(rows, user) * shared / (shared + beta))


def idf(rows: Rows, user: int, *, power: float) -> Similarities:
    """The cosine with items weighted by log(U / raters)^power."""

    def make() -> Table:
        weight = np.log(len(rows.lengths) / np.maximum(rows.raters, 1)) ** power
        return of_unit_length(rows.rated * weight.astype(np.float32))

    table = rows.table(f"idf {power}", make)
    return products(table, table[user])


def liked(rows: Rows, user: int) -> Similarities:
    """The cosine over items rated at 3/4 of the maximum at least."""

    def make() -> Table:
        return of_unit_length((rows.values >= LIKED).astype(np.float32))

    table = rows.table("liked", make)
    return products(table, table[user])


def rating_cosine(rows: Rows, user: int) -> Similarities:
    """The cosine of the ratings themselves."""
    table = rows.table("values", lambda: of_unit_length(rows.values))
    return products(table, table[user])


def pearson(rows: Rows, user: int, *, beta: float) -> Similarities:
    """Correlation over shared items around each user's mean, times n_uv / (n_uv + β)."""

    def make() -> Table:
        means = rows.values.sum(1) / np.maximum(rows.lengths, 1)
        return np.asarray((rows.values - means[:, None]) * rows.rated)

    centered, shared = rows.table("centered", make), rows.shared(user)
    squares = rows.table("squares", lambda: np.asarray(centered**2))
    own, theirs = products(rows.rated, squares[user]), products(squares, rows.rated[user])
    correlation = products(centered, centered[user]) / np.sqrt(np.maximum(own * theirs, 1e-12))
    return np.asarray(correlation * shared / (shared + beta))


def agreement(rows: Rows, user: int) -> Similarities:
    """The cosine, where a shared item counts 1 less the share of the scale between its ratings."""
    items = rows.ratings.items_of(user)
    scale = 1 - rows.ratings.scale.fractions[0]
    apart = np.abs(rows.values[:, items] - rows.values[user, items]) / scale
    agreed = ((1 - apart) * rows.rated[:, items]).sum(1, dtype=np.float64)
    return np.asarray(agreed / rows.norms(user))


def beyond_chance(rows: Rows, user: int) -> Similarities:
    """The cosine, less what a user who rates by popularity alone would have."""
    expected = rows.raters[rows.ratings.items_of(user)].sum() / rows.raters.sum() * rows.lengths
    return np.asarray((rows.shared(user) - expected) / rows.norms(user))


def sketched(rows: Rows, user: int) -> Similarities:
    """Jaccard's measure as 128 hashed minima estimate it (MinHash, Broder 1997)."""

    def make() -> Table:
        rng = np.random.default_rng(0)
        minima = np.empty((len(rows.lengths), MINIMA), dtype=np.float32)
        for column in minima.T:
            ranks = 1 + rng.permutation(rows.ratings.item_count).astype(np.float32)
            column[:] = np.where(rows.values > 0, ranks, np.inf).min(1)
        return minima

    minima = rows.table("minima", make)
    return np.asarray((minima == minima[user]).sum(1), dtype=np.float64)


def drawn(rows: Rows, user: int) -> Similarities:
    """Random users."""
    return np.random.default_rng(user).random(len(rows.lengths))


MEASURES: Final[dict[str, Callable[[Rows, int], Similarities]]] = {
    "random": drawn,
    "cosine": cosine,
    "Jaccard": jaccard,
    "n_uv / n_v^1/4": partial(by_length, power=0.25),
    "n_uv / n_v^3/4": partial(by_length, power=0.75),
    "shrunk, β = 5": partial(shrunk, beta=5.0),
    "shrunk, β = 50": partial(shrunk, beta=50.0),
    "idf": partial(idf, power=1.0),
    "√idf": partial(idf, power=0.5),
    "liked only": liked,
    "cosine of ratings": rating_cosine,
    "Pearson, β = 25": partial(pearson, beta=25.0),
    "agreement": agreement,
    "beyond chance": beyond_chance,
    "MinHash": sketched,
}
# The cosine where a user is passed over who is that similar to one taken before: clones count once.
COLLAPSED: Final = (0.9, 0.7, 0.5)


def nearest(rows: Rows, user: int, similarities: Similarities, count: int) -> Users:
    """The user itself, then the most similar ones, [k]; as far as users have anything to say."""
    similarities = similarities.copy()
    similarities[user] = np.inf
    return np.argsort(-similarities, kind="stable")[:count]


def collapsed(rows: Rows, user: int, count: int, *, limit: float) -> Users:
    """As nearest by the cosine, without users whose cosine with one taken before is above."""
    candidates = nearest(rows, user, cosine(rows, user), min(len(rows.lengths), CANDIDATES * count))
    table = rows.rated[candidates]
    norms = np.sqrt(np.maximum(rows.lengths[candidates], 1))
    alike = table @ table.T / np.outer(norms, norms) > limit
    taken = [0]
    for place in range(1, len(candidates)):
        if len(taken) < count and not alike[place, taken[1:]].any():
            taken.append(place)
    # Where nothing else is left, duplicates fill up.
    rest = np.setdiff1d(np.arange(len(candidates)), taken)[: count - len(taken)]
    return candidates[np.concatenate([taken, rest]).astype(np.int64)]


@final
class Judge:
    """One data set under one attack: what users get from neighbors."""

    def __init__(self, prepared: Prepared, recommender: Recommender, users: Users) -> None:
        self.prepared, self.recommender, self.users = prepared, recommender, users
        self.rows = Rows(recommender.ratings)

    def count(self, user: int, scores: NDArray[np.float32]) -> Counts:
        local, watched = self.prepared.local, self.prepared.watched
        rated = local.train.items_of(user)
        best = top_items(scores, rated, self.prepared.experiment.list_length)
        return count_user(best, rated, watched, local.held_out_of(user))

    def votes(self, members: Users) -> NDArray[np.float32]:
        """One vote of every neighbor for every item that it rated, [I]."""
        votes: NDArray[np.float32] = self.rows.rated[members[1:]].sum(0)
        return votes

    def defended(self, members: Users) -> NDArray[np.float32]:
        """Scores after fine-tuning on these users, as a server or device finds them, [I]."""
        ratings = supported(self.recommender.ratings.rows(members), SETTINGS.min_support)
        own = self.recommender.stored.user_parameters
        tables = {name: rounded(rows[members]) for name, rows in own.items()}
        order = order_by_content(ratings, tables)
        tables = {name: rows[order] for name, rows in tables.items()}
        neighborhood = Neighborhood(ratings.rows(order), tables)
        return tuned_scores(self.recommender.version.served, neighborhood, SETTINGS)

    def judged(self, choose: Callable[[Rows, int], Users]) -> "Judged":
        """What all users get from the neighbors that `choose` finds."""
        none = Counts.none(len(self.prepared.watched))
        totals, found = [none, none], np.zeros((2, len(self.users)))
        fakes = same = 0.0
        for place, user in enumerate(self.users.tolist()):
            members = choose(self.rows, user)
            fakes += float((members >= self.prepared.user_count).sum())
            by_cosine = nearest(self.rows, user, cosine(self.rows, user), len(members))
            same += float(np.isin(members[1:], by_cosine[1:]).mean())
            for way, scores in enumerate((self.votes(members), self.defended(members))):
                counts = self.count(user, scores)
                totals[way] += counts
                found[way, place] = counts.user_hits
        return Judged(same / len(self.users), fakes / len(self.users), totals, found)


@final
@dataclass(frozen=True)
class Judged:
    """What users got, on average or in total.

    same    share of the neighbors who are the cosine's, too
    fakes   fakes among the neighbors
    totals  counts of votes, and of the defense
    found   whose held-out item was shown: by votes, by the defense, [2, B]
    """

    same: float
    fakes: float
    totals: list[Counts]
    found: NDArray[np.float64]

    def cells(self, than: "Judged") -> str:
        """Of a table's line, with accuracy less another's and the standard error of that."""
        cells = [f"{self.same:.2f}", f"{self.fakes:.1f}"]
        for way, counts in enumerate(self.totals):
            less = self.found[way] - than.found[way]
            error = float(less.std()) / math.sqrt(len(less))
            cells += [f"{counts.hit_ratio:.3f}", f"{counts.accuracy:.3f}"]
            cells.append(f"{less.mean():+.3f} ± {error:.3f}")
        return " | ".join(cells)


def main(
    datasets: Annotated[str, typer.Option("--datasets")] = "ml-100k,filmtrust,ml-1m",
    attacks: Annotated[str, typer.Option("--attacks")] = "mixrand,vicinity",
    users: Annotated[int, typer.Option("--users", min=1)] = 300,
    only: Annotated[
        str, typer.Option("--only", help="Measures whose names match this expression.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    store: Annotated[Path | None, typer.Option("--store", help="Of trained models.")] = None,
) -> None:
    """Measure every measure on every data set under every attack, and print a table."""
    limit_threads()
    console = Console(highlight=False, soft_wrap=True)
    k, m = SETTINGS.neighbors, SETTINGS.min_support
    console.print(f"k = {k}, m = {m}, mf, {users} users, seed {seed}; HR and accuracy at 50.\n")
    heads = ["data set", "attack", "measure", "as by cosine", "fakes among k"]
    heads += ["votes: HR", "accuracy", "less cosine's"]
    heads += ["rvd: HR", "accuracy", "less cosine's"]
    console.print(f"| {' | '.join(heads)} |\n|---|---|---|{'---:|' * (len(heads) - 3)}")
    choices: dict[str, Callable[[Rows, int], Users]] = {
        name: partial(_by_measure, measure=measure) for name, measure in MEASURES.items()
    }
    choices |= {
        f"cosine, collapsed at {limit}": partial(collapsed, count=k, limit=limit)
        for limit in COLLAPSED
    }
    with TemporaryDirectory() as folder, ModelStore(store or Path(folder)) as models:
        for dataset in datasets.split(","):
            for attack in attacks.split(","):
                prepared = validation(dataset, seed, "mf", Trial(attack))
                rng = np.random.default_rng(seed)
                asked = rng.choice(
                    prepared.user_count, min(users, prepared.user_count), replace=False
                )
                judge = Judge(prepared, prepared.train(models, search="exact"), asked)
                plain = judge.judged(choices["cosine"])
                for name, choose in choices.items():
                    if re.search(only, name):
                        cells = judge.judged(choose).cells(plain)
                        console.print(f"| {dataset} | {attack} | {name} | {cells} |")


def _by_measure(rows: Rows, user: int, *, measure: Callable[[Rows, int], Similarities]) -> Users:
    return nearest(rows, user, measure(rows, user), SETTINGS.neighbors)


if __name__ == "__main__":
    typer.run(main)
