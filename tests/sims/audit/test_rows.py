"""The release `rows`: what is read in a package, with the key and without, and whose it is."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.vicinal.settings import VicinalSettings
from common.wire import offload_pb2 as wire
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from server.training.train import TrainingSettings
from sims.audit.linkage import named
from sims.audit.rows import RowsRelease, RowsVersion
from sims.audit.seen import together
from sims.progress import quiet

RATINGS = synthetic(150, 200)
ADMITTING = VicinalSettings(
    12, 0.5, 1, neighbors_by="ratings", assumed_fakes=0.05, margin=2, exploration=0.02
)
SUPPORTED = VicinalSettings(30, 0.5, 1, min_support=4)


def version(folder: Path, settings: VicinalSettings) -> RowsVersion:
    training = TrainingSettings.on("synthetic", model="mf").model_copy(update={"epochs": 1})
    with ModelStore(folder) as store:
        release = RowsRelease(training, settings, store)
        return release.published(RATINGS, real=140, seed=0, progress=quiet)


@pytest.mark.parametrize("settings", [ADMITTING, SUPPORTED])
def test_a_package_is_read_as_it_was_made(tmp_path: Path, settings: VicinalSettings) -> None:
    made = version(tmp_path, settings)
    closed = 0
    for account in (0, 77, 149):  # the last one is a fake's
        data = made.package(account)
        opened, shown = made.unseal_package(account, data), made.read_package(data)
        recommender = made._accounts
        neighborhood = recommender.neighborhood(account, settings)
        hidden = recommender.hidden(account, settings, neighborhood)
        others = neighborhood.ratings.rows(np.arange(1, settings.neighbors))
        assert opened.ratings is not None and shown.ratings is not None
        assert opened.ratings.digest() == others.digest()
        assert shown.ratings.digest() == others.of_items(~hidden).digest()
        closed += len(opened.ratings) - len(shown.ratings)
        assert opened.vectors is not None
        assert np.array_equal(opened.vectors, neighborhood.user_parameters["user_embedding"][1:])
        nearest = recommender.nearest(
            np.array([account]), settings.neighbors, settings.neighbors_by
        )[0][1:]
        for seen in (opened, shown):
            owners = made.owners(account, seen)
            assert sorted(owners) == sorted(nearest)
            cut = RATINGS.rows(owners).of_items(seen.open_items)
            assert seen.ratings is not None and cut.digest() == seen.ratings.digest()
    assert closed > 0


def test_another_account_cannot_unseal_it(tmp_path: Path) -> None:
    made = version(tmp_path, ADMITTING)
    with pytest.raises(InputError):
        made.unseal_package(1, made.package(0))


def test_what_the_worker_refuses_is_told(tmp_path: Path) -> None:
    made = version(tmp_path, ADMITTING)
    with pytest.raises(InputError, match="package of account 150: unknown user 150"):
        made.package(150)


def test_who_asks_for_everybody_names_them(tmp_path: Path) -> None:
    made = version(tmp_path, ADMITTING)
    packages = [made.read_package(made.package(user)) for user in range(150)]
    owners = np.concatenate([made.owners(user, seen) for user, seen in enumerate(packages)])
    assert len(together(packages, 200)) == len(owners) == 150 * 11
    precision, recall = named(packages, "ratings", 200).judged(owners, np.arange(150))
    assert precision > 0.8 and recall > 0.5


def test_the_model_is_read_as_it_was_stored(tmp_path: Path) -> None:
    made = version(tmp_path, ADMITTING)
    read = made.read_model(made.model())
    assert read is not None
    table = made._accounts.version.parameters["item_embedding"]
    assert np.array_equal(read.parameters["item_embedding"], table)


@pytest.mark.parametrize("fold_in", [False, True])
def test_capped_rows_are_the_same_in_every_package(tmp_path: Path, fold_in: bool) -> None:
    training = TrainingSettings.on("synthetic", model="mf").model_copy(update={"epochs": 1})
    settings = VicinalSettings(12, 0.5, 1, neighbors_by="ratings", row_cap=5, fold_in=fold_in)
    with ModelStore(tmp_path) as store:
        release = RowsRelease(training, settings, store)
        made = release.published(RATINGS, real=140, seed=0, progress=quiet)
        raters = RATINGS.item_counts()
        vectors: dict[int, set[bytes]] = {}  # by owner
        for user in range(40):
            data = made.package(user)
            sent = wire.OffloadPackage.FromString(data).neighborhood
            assert (not sent.user_parameters) == fold_in
            seen = made.unseal_package(user, data)
            owners = made.owners(user, seen)
            assert len(owners) == 11 and user not in owners
            assert seen.ratings is not None and seen.vectors is not None
            for line, owner in enumerate(owners.tolist()):
                items = RATINGS.items_of(owner)
                most = items[np.lexsort((items, -raters[items]))[:5]]
                assert seen.ratings.items_of(line).tolist() == sorted(most.tolist())
                vectors.setdefault(owner, set()).add(seen.vectors[line].tobytes())
        # Rows that are alike are taken for each other; their trained vectors differ.
        assert not fold_in or all(len(each) == 1 for each in vectors.values())
        trained = release.store.find(training.digest(RATINGS))
        assert trained is not None
        owner = next(owner for owner, each in vectors.items() if len(each) == 1)
        (vector,) = vectors[owner]
        own = trained.user_parameters["user_embedding"][[owner]]
        # Rounded to a byte a number where it is the trained one.
        off = np.abs(np.frombuffer(vector, dtype=np.float32) - own).max()
        assert (off < 0.01 * np.abs(own).max()) != fold_in
