"""How many users a stranger can name who may ask for all of them, measured: for SECURITY.md.

    python -m sims.serving.linking [--dataset ml-100k]

Rows in packages have no names, and the asked user's is not among them. But the same row comes in
the packages of all whose neighbor it is, and who the neighbors of a row are can be computed from
the rows. So the stranger asks for everybody, without opening what is sealed, and takes as a user's
own row the one whose computed neighbors are most of those in the user's package.

*Precision* is which share of the ratings that are said to be a user's are; *recall* which share of
the user's ratings is said; means over the users who are named.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import numpy as np
import typer

from common.ratings import RatingMatrix
from common.threads import limit_threads
from common.vicinal.settings import capped, preset
from server.data.datasets import load_dataset
from server.model_store import ModelStore
from server.preparing import trained
from server.recommending.rated_neighbors import RatedNeighborIndex
from server.recommending.recommender import Recommender
from server.training.train import TrainingSettings

# Of a package's rows, below which the best match is taken for chance.
LEAST_SHARED: Final = 0.5

# A row's items and levels.
Row = tuple[bytes, bytes]


@dataclass(frozen=True)
class Linked:
    """users: asked for; named: to whom a row was given; right: of which nine tenths are theirs."""

    users: int
    named: int
    right: int
    precision: float
    recall: float


def rows_of(ratings: RatingMatrix) -> list[Row]:
    """Items and levels of each row."""
    ends = ratings.indptr[1:-1]
    parts = zip(np.split(ratings.items, ends), np.split(ratings.levels, ends), strict=True)
    return [(items.tobytes(), levels.tobytes()) for items, levels in parts]


def packages(dataset: str, seed: int) -> tuple[RatingMatrix, list[list[Row]]]:
    """The ratings, and by user the open rows of the package that anybody gets who asks."""
    ratings = load_dataset(dataset, seed=seed).ratings
    # Neighbors are sought by ratings: it does not matter how good the model is.
    training = TrainingSettings.on(dataset, model="mf", seed=seed).model_copy(update={"epochs": 1})
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        recommender = Recommender(trained(ratings, training, store), ratings, ratings.user_count)
        settings = capped(preset("vicinal"), recommender.neighbors)
        shown = []
        for user in range(ratings.user_count):
            found = recommender.neighborhood(user, settings)
            hidden = recommender.hidden(user, settings, found)
            others = found.ratings.rows(np.arange(1, len(found)))
            shown.append(rows_of(others.of_items(~hidden)))
        return ratings, shown


def owners(shown: list[list[Row]], ratings: RatingMatrix) -> dict[int, Row]:
    """By user the row that is taken for the user's own. Of `ratings` the shape alone is used."""
    known = sorted({row for rows in shown for row in rows})
    numbers = {row: number for number, row in enumerate(known)}
    items = [np.frombuffer(row[0], dtype=np.int32) for row in known]
    collected = RatingMatrix.from_triples(
        np.repeat(np.arange(len(known)), [len(each) for each in items]),
        np.concatenate(items),
        np.concatenate([np.frombuffer(row[1], dtype=np.uint8) for row in known]),
        user_count=len(known),
        item_count=ratings.item_count,
        scale=ratings.scale,
    )
    count = min(len(known), 1 + max(map(len, shown)))
    nearest = RatedNeighborIndex(collected).neighbors(np.arange(len(known)), count)[:, 1:]
    near: dict[int, list[int]] = {}
    for row, others in enumerate(nearest.tolist()):
        for other in others:
            near.setdefault(other, []).append(row)
    found = {}
    for user, rows in enumerate(shown):
        inside = {numbers[row] for row in rows}
        shared = Counter(one for row in inside for one in near.get(row, ()) if one not in inside)
        for best, often in shared.most_common(1):
            if often >= LEAST_SHARED * len(rows):
                found[user] = known[best]
    return found


def linked(dataset: str, seed: int = 0) -> Linked:
    """What the stranger says, compared with what is so."""
    ratings, shown = packages(dataset, seed)
    true = rows_of(ratings)
    precisions, recalls = [], []
    for user, row in owners(shown, ratings).items():
        said, own = (
            set(zip(np.frombuffer(items, np.int32), np.frombuffer(levels, np.uint8), strict=True))
            for items, levels in (row, true[user])
        )
        precisions.append(len(said & own) / len(said))
        recalls.append(len(said & own) / len(own))
    return Linked(
        ratings.user_count,
        len(precisions),
        sum(share >= 0.9 for share in precisions),
        float(np.mean(precisions)),
        float(np.mean(recalls)),
    )


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    dataset: Annotated[str, typer.Option("--dataset", help="whose users are named")] = "ml-100k",
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the training")] = 0,
) -> None:
    limit_threads()
    found = linked(dataset, seed)
    sys.stdout.write(
        f"{found.named} of {found.users} users are named, {found.right} rightly; "
        f"precision {found.precision:.2f}, recall {found.recall:.2f}\n"
    )


if __name__ == "__main__":
    app()
