"""Which users are alike enough for a neighborhood: `python -m sims.selection.neighbor_measures`.

Prints a Markdown table: several measures of similarity between rows of ratings, each under some
attacks, on validation items (sims.selection.presets). A measure is judged by votes, one a neighbor
for every item that it rated, and by the defense of a model of kind mf.

Shapes: U users, fakes last, I items, k neighbors.
"""

from collections.abc import Callable
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
from sims.selection.presets import validation

Table = NDArray[np.float32]
Similarities = NDArray[np.float64]
Users = NDArray[np.int64]

SETTINGS: Final = VicinalSettings(80, 0.4, 4, min_support=6)
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
        return (self.rated @ self.rated[user]).astype(np.float64)


def between(table: Table, user: int) -> Similarities:
    """The cosine of one row with every row, [U]."""
    norms = np.sqrt((table.astype(np.float64) ** 2).sum(1))
    return np.asarray(table @ table[user]) / np.maximum(norms * norms[user], 1e-12)


def cosine(rows: Rows, user: int) -> Similarities:
    """n_uv / √(n_u n_v)."""
    return rows.shared(user) / np.sqrt(np.maximum(rows.lengths * rows.lengths[user], 1))


def jaccard(rows: Rows, user: int) -> Similarities:
    """n_uv / (n_u + n_v - n_uv)."""
    shared = rows.shared(user)
    return shared / np.maximum(rows.lengths + rows.lengths[user] - shared, 1)


def by_length(rows: Rows, user: int, *, power: float) -> Similarities:
    """n_uv / n_v^power: below 1/2 long profiles come in, above short ones."""
    return rows.shared(user) / np.maximum(rows.lengths, 1) ** power


def shrunk(rows: Rows, user: int, *, beta: float) -> Similarities:
    """The cosine times n_uv / (n_uv + β): few shared items count for little."""
    shared = rows.shared(user)
    return cosine(rows, user) * shared / (shared + beta)


def idf(rows: Rows, user: int, *, power: float) -> Similarities:
    """The cosine with items weighted by log(U / raters)^power."""

    def make() -> Table:
        weight = np.log(len(rows.lengths) / np.maximum(rows.raters, 1)) ** power
        return (rows.rated * weight).astype(np.float32)

    return between(rows.table(f"idf {power}", make), user)


def liked(rows: Rows, user: int) -> Similarities:
    """The cosine over items rated at 3/4 of the maximum at least."""
    return between(rows.table("liked", lambda: (rows.values >= LIKED).astype(np.float32)), user)


def rating_cosine(rows: Rows, user: int) -> Similarities:
    """The cosine of the ratings themselves."""
    return between(rows.values, user)


def pearson(rows: Rows, user: int, *, beta: float) -> Similarities:
    """Correlation over shared items around each user's mean, times n_uv / (n_uv + β)."""

    def make() -> Table:
        means = rows.values.sum(1) / np.maximum(rows.lengths, 1)
        return ((rows.values - means[:, None]) * rows.rated).astype(np.float32)

    centered, shared = rows.table("centered", make), rows.shared(user)
    own = np.asarray(rows.rated @ centered[user] ** 2, dtype=np.float64)
    theirs = np.asarray(centered**2 @ rows.rated[user], dtype=np.float64)
    both = np.asarray(centered @ centered[user], dtype=np.float64)
    return both / np.sqrt(np.maximum(own * theirs, 1e-12)) * shared / (shared + beta)


def agreement(rows: Rows, user: int) -> Similarities:
    """The cosine, where a shared item counts 1 less the share of the scale between its ratings."""
    items = rows.ratings.items_of(user)
    apart = np.abs(rows.values[:, items] - rows.values[user, items]) / (1 - rows.values.min())
    agreed = ((1 - apart) * rows.rated[:, items]).sum(1, dtype=np.float64)
    return agreed / np.sqrt(np.maximum(rows.lengths * rows.lengths[user], 1))


def beyond_chance(rows: Rows, user: int) -> Similarities:
    """The cosine, less what a user who rates by popularity alone would have."""
    expected = rows.raters[rows.ratings.items_of(user)].sum() / rows.raters.sum() * rows.lengths
    norms = np.sqrt(np.maximum(rows.lengths * rows.lengths[user], 1))
    return (rows.shared(user) - expected) / norms


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

    def judged(self, choose: Callable[[Rows, int], Users]) -> str:
        """Table cells: fakes among neighbors; hit ratio and accuracy of votes and the defense."""
        none = Counts.none(len(self.prepared.watched))
        voted, tuned, fakes = none, none, 0.0
        for user in self.users.tolist():
            members = choose(self.rows, user)
            voted += self.count(user, self.votes(members))
            tuned += self.count(user, self.defended(members))
            fakes += float((members >= self.prepared.user_count).sum())
        cells = [f"{fakes / len(self.users):.1f}"]
        for counts in (voted, tuned):
            cells += [f"{counts.hit_ratio:.3f}", f"{counts.accuracy:.3f}"]
        return " | ".join(cells)


def main(
    datasets: Annotated[str, typer.Option("--datasets")] = "ml-100k,filmtrust,ml-1m",
    attacks: Annotated[str, typer.Option("--attacks")] = "mixrand,vicinity",
    users: Annotated[int, typer.Option("--users", min=1)] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    store: Annotated[Path | None, typer.Option("--store", help="Of trained models.")] = None,
) -> None:
    """Measure every measure on every data set under every attack, and print a table."""
    limit_threads()
    console = Console(highlight=False, soft_wrap=True)
    k, m = SETTINGS.neighbors, SETTINGS.min_support
    console.print(f"k = {k}, m = {m}, mf, {users} users, seed {seed}; HR and accuracy at 50.\n")
    heads = ["data set", "attack", "measure", "fakes among k"]
    heads += ["votes: HR", "accuracy", "rvd: HR", "accuracy"]
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
                prepared = validation(dataset, seed, attack=attack)
                rng = np.random.default_rng(seed)
                asked = rng.choice(
                    prepared.user_count, min(users, prepared.user_count), replace=False
                )
                judge = Judge(prepared, prepared.train(models, search="exact"), asked)
                for name, choose in choices.items():
                    console.print(f"| {dataset} | {attack} | {name} | {judge.judged(choose)} |")


def _by_measure(rows: Rows, user: int, *, measure: Callable[[Rows, int], Similarities]) -> Users:
    return nearest(rows, user, measure(rows, user), SETTINGS.neighbors)


if __name__ == "__main__":
    typer.run(main)
