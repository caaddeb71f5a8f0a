"""Ratings → model → what is served: all that a server does before it listens.

It serves the ratings of a data set as they are, all of them. It knows no attack and no split: an
experiment that serves hands in a Source of its own, which says so.

Shapes: U users, I items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.files import stored_secret
from common.ids import Names
from common.ratings import RatingMatrix
from common.vicinal.book import Release
from common.vicinal.settings import VicinalSettings, capped
from server.data.datasets import load_dataset
from server.data.doubts import Doubt
from server.data.growth import KnownIds, in_known_order
from server.data.ids import item_indices
from server.data.reading_options import ReadingOptions
from server.growing import with_appeared, with_later, with_new_items, with_new_users
from server.importing.imported import ImportedModel
from server.model_store import ModelStore, StoredModel, TrainedModel, Versions
from server.recommending.offload import Search
from server.recommending.recommender import Recommender
from server.training.train import Start, TrainingSettings, train
from server.versions.books import PublishedBook, published_book
from server.versions.deployment import deployed_secret, read_deployment
from server.versions.files import DEVICES_FILE
from server.versions.folder import (
    Edition,
    current_version,
    describe,
    next_publication,
    read_description,
    read_edition,
    read_serving,
    write_edition,
    write_serving,
    write_version,
)

# Of a warm start: over all ratings, from parameters that have been trained on nearly all of them.
EPOCHS: Final = 2
# Of the regime's learning rate, which is made for fresh parameters
# (docs/decisions/0014-versions.md).
RATE_SHARE: Final = 0.1
# Of the ratings that are served, of those of which new versions are made.
LEAST_KEPT: Final = 0.5


@dataclass(frozen=True)
class Source:
    """What a server trains on, and whom it serves.

    ratings     every row that training sees; the first `users` can be asked for
    watched     items whose hit ratio devices measure; a server may watch none
    experiment  what is not as it is in the data set, in words; empty when all is
    notes       what was done to read the ratings, as sentences
    doubts      what looks wrong in them
    titles      of the items, by index; None where none are known
    """

    ratings: RatingMatrix
    users: int
    watched: tuple[int, ...] = ()
    experiment: str = ""
    notes: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    titles: tuple[str | None, ...] | None = None

    @property
    def names(self) -> Names:
        """What the items are called."""
        return Names(self.ratings.item_ids, self.titles)


def load_source(
    dataset: str,
    *,
    seed: int = 0,
    watched: tuple[int | str, ...] = (),
    reading: ReadingOptions | None = None,
    known: KnownIds | None = None,
    progress: bool = False,
) -> Source:
    """The ratings of a data set as they are, all of them (server.data.datasets).

    `watched` are indices, or ids as `id:B104729`. `seed` is for synthetic ratings, `reading` for a
    file; users and items that are `known` keep their indices. Raises InputError for a data set that
    cannot be used and a watched item that is none.
    """
    loaded = load_dataset(dataset, seed=seed, reading=reading, progress=progress)
    loaded = in_known_order(loaded, known)
    ratings = loaded.ratings
    raters = ratings.item_counts()
    named = item_indices(ratings, watched)
    for item in named:
        if not 0 <= item < ratings.item_count:
            raise InputError(f"target {item} is not an item (0–{ratings.item_count - 1})")
        if raters[item] == ratings.user_count:
            raise InputError(f"every user has rated target {item}: nobody can be shown it")
    return Source(
        ratings,
        ratings.user_count,
        named,
        notes=loaded.notes,
        doubts=loaded.doubts,
        titles=loaded.titles,
    )


def trained(
    ratings: RatingMatrix,
    training: TrainingSettings | ImportedModel,
    store: ModelStore,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> StoredModel:
    """The model of some ratings: from the store where it is there, else trained and kept.

    `progress` is called with (epochs done, epochs). Raises VicinalError when training diverges,
    InputError for an imported model that is not there or does not fit, OSError.
    """
    if isinstance(training, ImportedModel):
        return training.version(ratings, store)
    return trained_here(ratings, training, store, progress=progress)


def trained_here(
    ratings: RatingMatrix,
    training: TrainingSettings,
    store: Versions,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> StoredModel:
    """As trained(), of a model that is none of others'."""
    stored = store.find(training.digest(ratings))
    return stored or store.save(train(ratings, training, progress=progress))


def device_secret(store: ModelStore) -> bytes:
    """Of which the devices of a store's servers have a key each. Raises InputError, OSError."""
    return stored_secret(store.folder / DEVICES_FILE)


def prepare(
    folder: Path,
    store: ModelStore,
    source: Source,
    training: TrainingSettings | ImportedModel,
    presets: Mapping[str, VicinalSettings],
    *,
    list_length: int = 50,
    search: Search = "auto",
    release: Release = "rows",
    progress: Callable[[int, int], None] | None = None,
) -> Recommender:
    """Train, and write the folder that a server serves (server.versions.folder).

    presets      what devices may ask for, by name; one of more neighbors than there are users gets
                 all of them who are not suspected
    list_length  K
    search       how neighbors are found (server.recommending.offload)
    release      book: devices get the book of the one preset, and no packages

    Raises VicinalError when training diverges, InputError where no book can be made, OSError.
    """
    stored = trained(source.ratings, training, store, progress=progress)
    recommender = Recommender(stored, source.ratings, source.users, search=search)
    book = _book_of(store.folder, recommender, presets) if release == "book" else None
    description = describe(
        recommender,
        presets={name: capped(each, recommender.neighbors) for name, each in presets.items()},
        watched=source.watched,
        list_length=list_length,
        experiment=source.experiment,
        publication=next_publication(store.folder),
        book=None if book is None else book.form,
    )
    write_serving(
        folder,
        recommender,
        description,
        device_secret(store),
        book=b"" if book is None else book.data,
    )
    return recommender


def _book_of(
    store: Path, recommender: Recommender, presets: Mapping[str, VicinalSettings]
) -> PublishedBook:
    """For a server's one preset. Raises InputError, OSError."""
    if len(presets) != 1:
        raise InputError("a book goes with one preset: leave out --presets")
    (settings,) = presets.values()
    return published_book(store, recommender.ratings, settings, recommender.version.digest)


def renew(
    folder: Path,
    source: Source,
    *,
    dataset: str,
    seed: int,
    training: TrainingSettings | None = None,
    publication: int,
    store: Path | None = None,
) -> str:
    """Add a version of the ratings as they are now to a served folder; its name.

    source    of the same real users and items and perhaps more, which come last; fakes may come
              and go
    dataset   whose training regime is taken (TrainingSettings.on)
    training  anew, and not from the parameters that are served, which not every training can
    publication  above that of what is served (server.versions.folder.next_publication)
    store     of the server; what is served with a book gets another book from there

    What devices may ask for and what is measured stay the same, so that counts of both versions can
    be compared. Raises InputError when users or items that are served are not among these, or the
    scale is another, VicinalError when training diverges, OSError.
    """
    served = current_version(folder)
    old, description = read_serving(folder, served)
    known = old.ratings
    ratings, users = source.ratings, source.users
    now = f"{users} users × {ratings.item_count} items on scale {ratings.scale}"
    before = f"{old.user_count} × {known.item_count} on {known.scale}"
    fewer = users < old.user_count or ratings.item_count < known.item_count
    if fewer or ratings.scale != known.scale:
        why = "some are missing" if fewer else "a --scale that holds all ratings has to be given"
        raise InputError(
            f"retraining: {now}, but what is served has {before}: {why}; start the server anew"
        )
    if training is None:
        model = warm_started(old, ratings, users, dataset=dataset, seed=seed)
    else:
        model = train(ratings, training)
    with TemporaryDirectory(dir=folder, prefix="training-") as scratch:
        with ModelStore(Path(scratch)) as kept:
            stored = kept.save(model)
        new = Recommender(stored, ratings, users, search=old.search)
        book = None
        if description.book is not None:
            assert store is not None, "books have their noise from a store"
            book = _book_of(store, new, description.presets)
        renewed = describe(
            new,
            presets=dict(description.presets),
            watched=description.watched,
            list_length=description.list_length,
            experiment=source.experiment,
            publication=publication,
            book=None if book is None else book.form,
        )
        write_version(
            folder,
            new,
            renewed,
            deployed_secret(folder / served),
            book=b"" if book is None else book.data,
        )
    return renewed.version


def require_kept(folder: Path, source: Source) -> None:
    """Raises InputError where most of the ratings that are served are gone.

    A file may be half-written, or have other columns than before. An experiment withholds others
    each time, and is not looked at.
    """
    served = read_deployment(folder / current_version(folder))
    before, now = served.ratings.rows(np.arange(served.user_count)), source.ratings
    if source.experiment:
        return
    width = max(before.item_count, now.item_count)
    served_pairs, pairs = (
        each.users.astype(np.int64) * width + each.items for each in (before, now)
    )
    kept = int(np.isin(served_pairs, pairs).sum())
    if kept < LEAST_KEPT * len(before):
        raise InputError(
            f"only {kept} of the {len(before)} ratings that are served are there: half-written, or "
            "with other columns? if it is meant so, start the server anew"
        )


def refresh(folder: Path, source: Source) -> Edition:
    """Let users be answered who came after the version that is served, without a training.

    source  real users and items alone, in the order of before, new ones last

    Their parameters are folded in from what they rated of the version's items. Ratings of users
    whom it was trained on stay as they were then. Raises InputError for another scale, OSError.
    """
    served = current_version(folder)
    base, last = read_deployment(folder / served), read_edition(folder, served)
    ratings, count = source.ratings, base.user_count
    if ratings.scale != base.ratings.scale:
        raise InputError(
            f"new users: their ratings are on scale {ratings.scale}, and those that are served on "
            f"{base.ratings.scale}: start the server anew"
        )
    items = base.ratings.item_count
    new = ratings.rows(np.arange(count, max(count, source.users))).over_items(items)
    before = read_deployment(folder / served, last.number).ratings
    if new.digest() == before.rows(np.arange(count, last.users)).digest():
        return last
    description, _ = read_description(folder, served)
    return write_edition(folder, served, with_later(base, new), description.watched)


def warm_started(
    old: Recommender,
    ratings: RatingMatrix,
    users: int,
    *,
    dataset: str,
    seed: int,
    rate_share: float = RATE_SHARE,
) -> TrainedModel:
    """A model of `ratings`, trained from the parameters of another with the same real users.

    users       real users now; those after the other's, those who had no ratings, and new items,
                start folded in
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
    start = Start(old.version.digest, _grown(old, ratings.rows(np.arange(users))))
    return train(ratings, settings, start=start)


def _grown(old: Recommender, ratings: RatingMatrix) -> dict[str, NDArray[np.float32]]:
    """Parameters to start from, of all real users and items of `ratings`.

    Fakes come and go; real users keep their rows.
    """
    model, shared, count = old.version.served.model, old.version.parameters, old.user_count
    real = np.arange(count)
    own = {name: rows[:count] for name, rows in old.stored.user_parameters.items()}
    now = ratings.over_items(old.ratings.item_count)
    users = with_appeared(model, shared, own, old.ratings.rows(real), now.rows(real))
    if ratings.user_count > count:
        users = with_new_users(
            model,
            shared,
            users,
            np.setdiff1d(real, old.stored.left_out),
            now.rows(real),
            now.rows(np.arange(count, ratings.user_count)),
        )
    return {**with_new_items(model, shared, users, ratings), **users}
