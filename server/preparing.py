"""Ratings → model → what is served: all that a server does before it listens.

It serves the ratings that it is given, all of them. It knows no attack and no split: an experiment
that serves hands in poisoned ratings, and says so in `Offer.experiment`.

Shapes: U users, I items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import VicinalSettings, capped
from server.model_store import ModelStore, StoredModel, TrainedModel
from server.recommending.offload import Search
from server.recommending.recommender import Recommender
from server.training.train import Start, TrainingSettings, train
from server.versions.folder import (
    current_version,
    describe,
    read_serving,
    write_serving,
    write_version,
)

# Of a warm start: over all ratings, from parameters that have been trained on nearly all of them.
EPOCHS: Final = 2
# Of the regime's learning rate, which is made for fresh parameters
# (docs/decisions/0014-versions.md).
RATE_SHARE: Final = 0.1


@dataclass(frozen=True)
class Offer:
    """What devices may ask for, and what is measured of their answers.

    presets      ways to fine-tune, by name
    watched      items whose hit ratio is measured; a server may watch none
    list_length  K
    experiment   what is not served as it is, in words; empty for a server that serves its ratings
    """

    presets: Mapping[str, VicinalSettings]
    watched: tuple[int, ...] = ()
    list_length: int = 50
    experiment: str = ""


def trained(
    ratings: RatingMatrix,
    training: TrainingSettings,
    store: ModelStore,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> StoredModel:
    """The model of some ratings: from the store where it is there, else trained and kept.

    `progress` is called with (epochs done, epochs). Raises VicinalError when training diverges,
    OSError.
    """
    stored = store.find(training.digest(ratings))
    return stored or store.save(train(ratings, training, progress=progress))


def prepare(
    folder: Path,
    store: ModelStore,
    ratings: RatingMatrix,
    training: TrainingSettings,
    offer: Offer,
    *,
    users: int | None = None,
    search: Search = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Recommender:
    """Train, and write the folder that a server serves (server.versions.folder).

    users   who can be asked for, the first rows of `ratings`; None is all of them
    search  how neighbors are found (server.recommending.offload)

    A preset that asks for more neighbors than there are users gets all of them. Raises InputError
    for a watched item that is none, VicinalError when training diverges, OSError.
    """
    for item in offer.watched:
        if not 0 <= item < ratings.item_count:
            raise InputError(f"watched item {item} is not an item (0–{ratings.item_count - 1})")
    stored = trained(ratings, training, store, progress=progress)
    count = ratings.user_count if users is None else users
    recommender = Recommender(stored, ratings, count, search=search)
    description = describe(
        recommender,
        presets={name: capped(each, count) for name, each in offer.presets.items()},
        watched=offer.watched,
        list_length=offer.list_length,
        experiment=offer.experiment,
    )
    write_serving(folder, recommender, description)
    return recommender


def renew(folder: Path, ratings: RatingMatrix, *, users: int, dataset: str, seed: int) -> str:
    """Add a version of the ratings as they are now to a served folder; its name.

    ratings  the first `users` rows are the real users that are served; fakes may come and go
    dataset  whose training regime is taken (TrainingSettings.on)

    What devices may ask for stays the same, so that counts of both versions can be compared. Raises
    InputError when these are not the users and items that are served, VicinalError when training
    diverges, OSError.
    """
    old, description = read_serving(folder, current_version(folder))
    known = old.ratings
    now = (users, ratings.item_count, ratings.scale)
    before = (old.user_count, known.item_count, known.scale)
    if now != before:
        raise InputError(
            f"retraining: {now[0]} users × {now[1]} items on scale {now[2]}, but what is served "
            f"has {before[0]} × {before[1]} on {before[2]}: start the server anew"
        )
    model = warm_started(old, ratings, dataset=dataset, seed=seed)
    with TemporaryDirectory(dir=folder, prefix="training-") as scratch:
        with ModelStore(Path(scratch)) as store:
            stored = store.save(model)
        new = Recommender(stored, ratings, users, search=old.search)
        renewed = describe(
            new,
            presets=dict(description.presets),
            watched=description.watched,
            list_length=description.list_length,
            experiment=description.experiment,
        )
        write_version(folder, new, renewed)
    return renewed.version


def warm_started(
    old: Recommender,
    ratings: RatingMatrix,
    *,
    dataset: str,
    seed: int,
    rate_share: float = RATE_SHARE,
) -> TrainedModel:
    """A model of `ratings`, trained from the parameters of another with the same real users.

    rate_share  learning rate ÷ that of the model's regime. Raises VicinalError.
    """
    manifest = old.version.manifest
    regime = TrainingSettings.on(dataset, model=manifest.model, seed=seed)
    settings = regime.model_copy(
        update={
            "width": manifest.width,
            "epochs": EPOCHS,
            "learning_rate": rate_share * regime.learning_rate,
        }
    )
    # Fakes come and go; real users keep their rows.
    users = {name: rows[: old.user_count] for name, rows in old.stored.user_parameters.items()}
    start = Start(old.version.digest, {**old.version.parameters, **users})
    return train(ratings, settings, start=start)
