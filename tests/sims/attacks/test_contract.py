"""What every attack promises; a new one in ATTACKS is tested without a change here."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix, RatingScale
from common.vicinal.settings import preset
from server.data.synthetic import synthetic
from server.model_store import ModelStore
from sims.attacks import ATTACKS, Budget, choose_targets, make_profiles, targets_of
from sims.attacks.average import item_statistics
from sims.attacks.mixrand import usermix
from sims.attacks.registry import goal_of
from sims.evaluation.experiment import Experiment, prepare
from sims.evaluation.measuring import EvaluationSetup, measure

# Zero-based, with 1–4 ratings each: the targets published with the data set.
ML_100K_TARGETS = (1485, 1320, 821, 1562, 1531)
# HR@50 over all real users without a defense; over seeds 0–2 measured as 0.44–0.49 (random),
# 0.96–0.98 (uniform), 0.93 (average), 1.00 (mixrand, mixinf, pga), 0.82–0.98 (tna) and 0.99
# (aush, vicinity).
UNDEFENDED = {
    "random": 0.3,
    "uniform": 0.8,
    "average": 0.8,
    "aush": 0.9,
    "pga": 0.9,
    "tna": 0.7,
    "mixrand": 0.9,
    "mixinf": 0.9,
    "vicinity": 0.9,
    "hubclones": 0.9,
    "covering": 0.9,
    "avgpop": 0.9,
    "group": 0.8,
    "flood": 0.8,
    "split": 0.9,
    "unattack": 0.9,
    "gcoattack": 0.9,
}

# What these do not have, because of what they are: chance, fakes that differ, full profiles, and
# more ratings than the extremes of the scale.
WITHOUT_CHANCE = {"avgpop", "targets-only", "covering"}
IDENTICAL_FAKES = {"avgpop", "targets-only", "covering", "group"}
SHORT_PROFILES = {"targets-only"}
FEW_LEVELS = {"targets-only", "nuke", "covering"}

needs_data = pytest.mark.skipif("VICINAL_DATA" not in os.environ, reason="VICINAL_DATA is not set")


@cache
def ratings() -> RatingMatrix:
    return synthetic(150, 200, seed=3)


@pytest.fixture(params=ATTACKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("targets", [None, (7,), (199, 0, 3)])
def test_the_budget_is_kept(name: str, targets: tuple[int, ...] | None) -> None:
    real = ratings()
    profiles = make_profiles(name, real, seed=0, targets=targets)
    sizes = np.diff(profiles.ratings.indptr)
    assert profiles.ratings.user_count == int(0.03 * real.user_count) == 4
    assert profiles.ratings.item_count == real.item_count
    assert len(profiles.targets) <= sizes.min() and sizes.max() <= len(real) // real.user_count
    # A mixture of two light users may be smaller; what draws its fillers freely fills up.
    assert name in SHORT_PROFILES or sizes.max() >= 0.4 * len(real) / real.user_count


@pytest.mark.parametrize(("size", "fakes"), [(0.01, 3), (0.05, 15), (0.1, 30)])
def test_every_size_is_kept(name: str, size: float, fakes: int) -> None:
    made = make_profiles(name, well_rated(), seed=0, attack_size=size)
    assert made.ratings.user_count == fakes


@pytest.mark.parametrize("rating_count", [300, 360])
def test_a_profile_with_room_for_no_filler_or_one_is_made(name: str, rating_count: int) -> None:
    small = synthetic(60, 80, rating_count, seed=1)
    targets = (1, 2, 3, 4, 5)
    fakes = make_profiles(name, small, seed=0, targets=targets, attack_size=0.1).ratings
    assert np.diff(fakes.indptr).max() <= rating_count // 60
    assert (fakes.dense()[:, list(targets)] == wished(name, fakes)).all()


def wished(name: str, fakes: RatingMatrix) -> float:
    """The fraction that every target gets: the maximum, or the minimum where it is to fall."""
    return float(fakes.scale.fractions[0 if goal_of(name) == "demote" else -1])


def test_every_fake_rates_every_target_at_the_extreme_that_it_wishes_once(name: str) -> None:
    profiles = make_profiles(name, ratings(), seed=1)
    table = profiles.ratings.dense()
    assert profiles.goal == goal_of(name)
    assert (table[:, list(profiles.targets)] == wished(name, profiles.ratings)).all()
    # No target is a filler: a pair that occurs twice is refused, so the top rating is the only one.
    assert len(profiles.targets) == 5


def test_ratings_are_on_the_grid_of_the_data_set(name: str) -> None:
    half_stars = RatingScale(0.5, 5, 0.5)
    real = ratings()
    # All but user 0 have rated every item.
    users, items = np.divmod(np.arange(30, 40 * 30), 30)
    levels = np.random.default_rng(0).integers(0, 10, users.size)
    coarse = RatingMatrix.from_triples(
        users, items, levels, user_count=40, item_count=30, scale=half_stars
    )
    for source in (real, coarse):
        fakes = make_profiles(name, source, seed=0, targets=(1, 2), attack_size=0.1).ratings
        assert fakes.scale == source.scale
        assert set(fakes.levels.tolist()) <= set(range(source.scale.level_count))
        assert name in FEW_LEVELS or len(set(fakes.levels.tolist())) > 2


def test_a_target_that_nobody_can_be_shown(name: str) -> None:
    levels = np.ones(80, dtype=np.int64)
    users, items = np.divmod(np.arange(80), 4)
    everything = RatingMatrix.from_triples(
        users, items, levels, user_count=20, item_count=4, scale=RatingScale(1, 5, 1)
    )
    with pytest.raises(InputError, match="every user has rated target 1"):
        make_profiles(name, everything, seed=0, targets=(1,), attack_size=0.1)


def test_the_seed_decides(name: str) -> None:
    first, again, other = (
        make_profiles(name, ratings(), seed=seed, targets=(3, 4)).ratings.digest()
        for seed in (5, 5, 6)
    )
    assert first == again
    assert (first == other) is (name in WITHOUT_CHANCE)


def test_fakes_differ_from_each_other(name: str) -> None:
    fakes = make_profiles(name, ratings(), seed=0).ratings
    different = len(np.unique(fakes.dense(), axis=0))
    if name == "split":
        assert 1 < different < fakes.user_count  # the half that covers is of one profile
    else:
        assert different == (1 if name in IDENTICAL_FAKES else fakes.user_count)


def test_the_ratings_attacked_are_left_alone(name: str) -> None:
    real = ratings()
    before = real.digest()
    make_profiles(name, real, seed=0)
    assert real.digest() == before


def test_notes_say_how_the_profiles_came_about(name: str) -> None:
    profiles = make_profiles(name, ratings(), seed=9)
    assert profiles.notes["attack"] == name
    assert profiles.notes["seed"] == "9"
    assert profiles.notes["fakes"] == "4"
    assert profiles.notes["source_digest"] == ratings().digest()


def test_targets_depend_on_the_seed_and_not_on_the_attack() -> None:
    drawn = {
        make_profiles(each, ratings(), seed=2).targets
        for each in ATTACKS
        if goal_of(each) == "promote"
    }
    assert drawn == {targets_of(ratings(), seed=2, targets=None)}
    assert make_profiles("random", ratings(), seed=3).targets not in drawn


def test_targets_of_other_popularity_are_drawn_where_they_are_asked_for(name: str) -> None:
    counts = well_rated().item_counts()
    for choice, least, most in (("unpopular", 1, 4), ("middle", 40, 60), ("popular", 90, 300)):
        made = make_profiles(name, well_rated(), seed=0, options={"targets": choice})
        assert all(least <= count <= most for count in counts[list(made.targets)])
        assert f"targets={choice}" in made.notes["options"]


@cache
def well_rated() -> RatingMatrix:
    """Items of 1–4, of 40–60, and of over 90 ratings, ten or more of each."""
    rng = np.random.default_rng(0)
    counts = np.concatenate([np.arange(10) % 4 + 1, rng.integers(40, 61, 30), np.arange(90, 150)])
    rows = [rng.choice(300, count, replace=False) for count in counts]
    return RatingMatrix.from_triples(
        np.concatenate(rows),
        np.repeat(np.arange(len(counts)), counts),
        rng.integers(0, 5, int(counts.sum())),
        user_count=300,
        item_count=len(counts),
        scale=RatingScale(1, 5, 1),
    )


def test_what_everybody_has_rated_is_no_popular_target() -> None:
    rows, items = np.divmod(np.arange(20 * 8), 8)
    kept = (items < 2) | (rows > 0)
    two_by_all = RatingMatrix.from_triples(
        rows[kept],
        items[kept],
        np.zeros(int(kept.sum())),
        user_count=20,
        item_count=8,
        scale=RatingScale(1, 5, 1),
    )
    drawn = choose_targets(two_by_all, rng=np.random.default_rng(0), choice="popular")
    assert set(drawn) <= {2, 3, 4, 5, 6, 7}


def test_a_choice_of_targets_beside_named_ones_is_refused() -> None:
    with pytest.raises(InputError, match="the targets are named; leave one of the two out"):
        make_profiles("random", ratings(), seed=0, targets=(1,), options={"targets": "middle"})
    with pytest.raises(InputError, match="unknown value 'midle': did you mean middle"):
        make_profiles("random", ratings(), seed=0, options={"targets": "midle"})


def test_drawn_targets_are_unpopular_items_that_somebody_rated() -> None:
    for seed in range(20):
        targets = choose_targets(ratings(), rng=np.random.default_rng(seed))
        assert len(set(targets)) == 5
        assert all(1 <= count <= 4 for count in ratings().item_counts()[list(targets)])


def test_a_data_set_without_unpopular_items_needs_named_targets() -> None:
    users, items = np.meshgrid(np.arange(10), np.arange(9), indexing="ij")
    popular = RatingMatrix.from_triples(
        users.ravel(),
        items.ravel(),
        np.zeros(90),
        user_count=10,
        item_count=9,
        scale=RatingScale(1, 5, 1),
    )
    with pytest.raises(InputError, match="name targets with --targets"):
        make_profiles("random", popular, seed=0, attack_size=0.1)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0.0, "choose a share of users"),
        (-0.1, "choose a share of users"),
        (0.51, "choose a share of users"),
        (float("nan"), "choose a share of users"),
        (0.001, "no fake at all: raise --attack-size"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(size: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Budget.of(ratings(), (1,), size)


def test_more_targets_than_a_profile_holds_are_refused() -> None:
    with pytest.raises(InputError, match="no room for 199 targets"):
        make_profiles("random", ratings(), seed=0, targets=tuple(range(199)))


@pytest.mark.parametrize("targets", [(200,), (-1,), (3, 3), ()])
def test_targets_that_cannot_be_promoted_are_refused(name: str, targets: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="target"):
        make_profiles(name, ratings(), seed=0, targets=targets)


def test_an_unknown_attack_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean mixrand"):
        make_profiles("mixrnd", ratings(), seed=0)


def test_item_statistics_by_hand() -> None:
    # Item 0: 1, 3 (mean 2, deviation 1); item 1: 5 alone; item 2: nothing.
    three = RatingMatrix.from_triples(
        [0, 1, 1],
        [0, 0, 1],
        [0, 2, 4],
        user_count=2,
        item_count=3,
        scale=RatingScale(1, 5, 1),
    )
    means, deviations = item_statistics(three)
    spread = float(np.std([1, 3, 5]))
    np.testing.assert_allclose(means, [2, 5, 3])
    np.testing.assert_allclose(deviations, np.array([1, spread, spread]))


def test_a_mixture_rates_only_what_its_two_users_rated() -> None:
    real = ratings()
    rated = real.dense() > 0
    for seed in range(20):
        mixed = usermix(real, rng=np.random.default_rng(seed)) > 0
        # Replays the first draw: which two users are mixed.
        a, b = np.random.default_rng(seed).choice(real.user_count, 2, replace=False)
        assert not (mixed & ~(rated[a] | rated[b])).any()
        assert mixed.any()


def filler_correlation(name: str, real: RatingMatrix, targets: tuple[int, ...]) -> float:
    """Correlation of filler ratings with the mean ratings of their items, over rated items."""
    fakes = make_profiles(name, real, seed=0, targets=targets).ratings
    means: NDArray[np.float64]
    means, _ = item_statistics(real)
    filler = ~np.isin(fakes.items, targets) & (real.item_counts()[fakes.items] > 0)
    return float(np.corrcoef(fakes.ratings[filler], means[fakes.items[filler]])[0, 1])


def test_filler_ratings_follow_item_means_where_the_attack_says_so() -> None:
    real = synthetic(943, 1682, seed=0)
    targets = targets_of(real, seed=0, targets=None)
    for name in ("random", "uniform"):
        assert abs(filler_correlation(name, real, targets)) < 0.08
    assert filler_correlation("average", real, targets) >= 0.3


@needs_data
@pytest.mark.realdata
def test_filler_ratings_follow_item_means_on_movielens() -> None:
    real = prepare(Experiment("ml-100k", attack="none", targets=ML_100K_TARGETS)).split.train
    for name in ("random", "uniform"):
        assert abs(filler_correlation(name, real, ML_100K_TARGETS)) < 0.08
    assert filler_correlation("average", real, ML_100K_TARGETS) >= 0.3


@needs_data
@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize("name", UNDEFENDED)
def test_every_attack_bites_on_movielens(name: str, tmp_path: Path) -> None:
    prepared = prepare(Experiment("ml-100k", attack=name, targets=ML_100K_TARGETS))
    with ModelStore(tmp_path) as store:
        clean = prepared.train(store, clean=True)
        poisoned = prepared.train(store)
    setup = EvaluationSetup(
        {"clean": clean, "poisoned": poisoned},
        prepared.local,
        preset("paper"),
        prepared.watched,
        50,
    )
    measured = measure(setup, ["clean", "undefended"], np.arange(prepared.user_count))
    assert measured["clean"].counts.hit_ratio <= 0.01
    assert measured["undefended"].counts.hit_ratio >= UNDEFENDED[name]
