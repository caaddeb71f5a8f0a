"""Experiments: what is loaded, attacked and measured follows from the options and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.ranking import Counts
from server.model_store import ModelStore
from sims.attacks.profiles import write_profiles
from sims.evaluation.experiment import Experiment, liked, prepare
from sims.evaluation.measuring import popularity

SMALL = Experiment("synthetic:80x120", attack="random", seed=3)


def test_poisoned_ratings_are_real_users_and_then_fakes() -> None:
    prepared = prepare(SMALL)
    assert prepared.profiles is not None
    assert prepared.poisoned.user_count == 80 + 2 and prepared.user_count == 80
    np.testing.assert_array_equal(
        prepared.poisoned.dense(),
        np.vstack([prepared.split.train.dense(), prepared.profiles.ratings.dense()]),
    )


def test_held_out_items_are_hidden_from_training_and_from_the_attack() -> None:
    prepared = prepare(SMALL)
    held_out = prepared.split.held_out
    table = prepared.split.train.dense()
    assert len(held_out.users) == 80
    assert (table[held_out.users, held_out.items[held_out.users]] == 0).all()
    assert prepared.profiles is not None
    assert prepared.profiles.notes["source_digest"] == prepared.split.train.digest()


def test_every_attack_and_none_watch_the_same_targets() -> None:
    watched = {
        prepare(Experiment("synthetic:80x120", attack=attack, seed=3)).watched
        for attack in ("random", "average", "mixrand", "none")
    }
    assert len(watched) == 1


def test_named_targets_are_watched_whatever_the_attack() -> None:
    for attack in ("random", "none"):
        prepared = prepare(Experiment("synthetic:80x120", attack=attack, targets=(7, 3)))
        assert prepared.watched == (7, 3)


def test_without_an_attack_nothing_is_added() -> None:
    prepared = prepare(Experiment("synthetic:80x120", attack="none"))
    assert prepared.profiles is None
    assert prepared.poisoned is prepared.split.train


def test_a_profiles_file_is_the_attack_that_wrote_it(tmp_path: Path) -> None:
    prepared = prepare(SMALL)
    assert prepared.profiles is not None
    write_profiles(tmp_path / "p.csv", prepared.profiles)
    again = prepare(Experiment("synthetic:80x120", attack=f"file:{tmp_path / 'p.csv'}", seed=3))
    assert again.poisoned.digest() == prepared.poisoned.digest()
    assert again.watched == prepared.watched


def test_a_held_out_item_was_liked_from_four_of_five_on() -> None:
    split = prepare(SMALL).split
    levels = split.held_out.levels[split.held_out.users]
    np.testing.assert_array_equal(liked(split)[split.held_out.users], levels >= 3)


def test_models_are_trained_once(tmp_path: Path) -> None:
    prepared = prepare(SMALL)
    seen: list[str] = []
    with ModelStore(tmp_path) as store:
        for _ in range(2):
            prepared.train(store, progress=lambda what, _done, _all: seen.append(what))
            prepared.train(store, clean=True, progress=lambda what, _done, _all: seen.append(what))
    assert seen == ["train"] * 26 + ["train on clean ratings"] * 26


def test_popularity_by_hand() -> None:
    """The list of the most rated items that the user has not rated."""
    prepared = prepare(SMALL)
    counts = prepared.split.train.item_counts()
    rated = prepared.split.train.dense() > 0
    user_hits = 0
    for user in range(80):
        ranked = [item for item in np.argsort(-counts, kind="stable") if not rated[user, item]]
        user_hits += prepared.split.held_out.items[user] in ranked[:20]
    found = popularity(prepared.split.train, prepared.local, np.arange(80), prepared.watched, 20)
    assert isinstance(found, Counts)
    assert found.user_hits == user_hits and found.users == 80


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        (Experiment("no-such-data"), "unknown data set 'no-such-data': choose one of ml-100k"),
        (Experiment("no-such-data", model="mg"), "unknown model 'mg'"),
        (Experiment("no-such-data", attack="averge"), "did you mean average"),
        (Experiment("no-such-data", list_length=0), "K = 0: recommend at least one item"),
        (Experiment("synthetic:80x120", attack="file:/no/such"), "/no/such: no such file"),
        (Experiment("synthetic:80x120", attack="none", targets=(120,)), "target 120 is not an"),
        (Experiment("synthetic:80x120", attack="random", targets=(-1,)), "target -1 is not an"),
        (Experiment("synthetic:80x120", attack_size=0.6), "attack size 0.6: choose"),
        (Experiment("synthetic:80x120", attack_size=0.001), "no fake at all"),
    ],
)
def test_what_does_not_fit_is_refused_names_before_data(
    experiment: Experiment, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(experiment)
