"""What happens over rounds, against a slow account of it."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from sims.evaluation.experiment import Experiment, Prepared, prepare
from sims.fleet.scenario import Scenario
from sims.fleet.world import Scene, World

DATASET = "synthetic:48x40"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(Experiment(dataset=DATASET, list_length=10, attack_size=0.1))


@pytest.fixture(scope="module")
def calm() -> Prepared:
    return prepare(Experiment(dataset=DATASET, list_length=10, attack="none"))


def pairs(scene: Scene) -> set[tuple[int, int]]:
    return set(zip(scene.known.users.tolist(), scene.known.items.tolist(), strict=True))


@given(
    st.integers(1, 12),
    st.integers(1, 6),
    st.floats(0, 0.9),
    st.floats(0, 0.9),
    st.floats(0, 0.5),
    st.floats(0, 1),
    st.floats(0.1, 1),
)
@settings(max_examples=60, deadline=None)
def test_ratings_come_with_their_users_and_stay(
    calm: Prepared,
    clients: int,
    rounds: int,
    held_back: float,
    absent: float,
    leave: float,
    appear: float,
    fraction: float,
) -> None:
    scenario = Scenario(
        rounds=rounds, held_back=held_back, absent=absent, leave=leave, appear=appear
    )
    world = World(calm, scenario, clients=clients, fraction=fraction)
    train = calm.split.train
    everything = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    known, before, seen = set[tuple[int, int]](), set[int](), set[int]()
    for number, scene in enumerate(world, start=1):
        there, now = set(scene.present), pairs(scene)
        assert scene.number == number and there <= set(range(clients))
        assert set(scene.asked) <= there and list(scene.asked) == sorted(set(scene.asked))
        assert len(scene.asked) == max(1, int(np.ceil(round(fraction * len(there), 9))))
        if number > 1:
            assert (scene.appeared, scene.left) == (len(there - before), len(before - there))
        # Nothing is lost or invented, and nothing comes of who is not there.
        assert known <= now <= everything
        assert scene.arrived == len(now) - len(known) == len(now - known)
        assert {user % clients for user, _ in now - known} <= there
        seen |= there
        of_seen = {user for user in range(train.user_count) if user % clients in seen}
        assert set(scene.unseen.tolist()) == set(range(train.user_count)) - of_seen
        assert scene.known.user_count == train.user_count
        known, before = now, there
    if absent == leave == 0:
        assert known == everything or rounds == 1


def test_nothing_changes_where_nothing_is_asked_for(prepared: Prepared) -> None:
    for scene in World(prepared, Scenario(rounds=3), clients=4):
        assert scene.known.digest() == prepared.split.train.digest()
        assert scene.asked == scene.present == (0, 1, 2, 3)
        assert prepared.profiles is not None and scene.fakes is not None
        assert scene.fakes.ratings.digest() == prepared.profiles.ratings.digest()


def test_the_attack_begins_when_it_is_said(prepared: Prepared) -> None:
    scenario = Scenario(rounds=4, attack_from=3, held_back=0.3)
    scenes = list(World(prepared, scenario, clients=4))
    assert [scene.fakes is None for scene in scenes] == [True, True, False, False]
    last = scenes[-1].fakes
    assert scenes[2].fakes is last and last is not None and last.targets == prepared.watched
    assert scenes[3].ratings.user_count == 48 + last.ratings.user_count
    # It is made of what is known by then.
    assert prepared.profiles is not None
    assert last.ratings.digest() != prepared.profiles.ratings.digest()


def test_the_newest_ratings_arrive_last(calm: Prepared) -> None:
    times = np.random.default_rng(3).integers(0, 10**9, len(calm.dataset.ratings))
    dated = dataclasses.replace(calm, dataset=dataclasses.replace(calm.dataset, timestamps=times))
    rated = calm.dataset.ratings
    when = dict(
        zip(zip(rated.users.tolist(), rated.items.tolist(), strict=True), times, strict=True)
    )
    scenario = Scenario(rounds=3, held_back=0.6, arrive="time")
    known = [pairs(scene) for scene in World(dated, scenario, clients=4)]
    for earlier, later in pairwise(known):
        for user in range(48):
            old = [when[pair] for pair in earlier if pair[0] == user]
            new = [when[pair] for pair in later - earlier if pair[0] == user]
            assert not new or max(old) <= min(new)
    with pytest.raises(InputError, match="no timestamps: let ratings arrive at random"):
        World(calm, scenario, clients=4)


def test_a_seed_gives_the_same_rounds_again(prepared: Prepared) -> None:
    scenario = Scenario(rounds=4, held_back=0.2, absent=0.3, leave=0.2, appear=0.5)

    def told(seed: int) -> list[tuple[str, tuple[int, ...]]]:
        other = prepare(Experiment(dataset=DATASET, list_length=10, attack_size=0.1, seed=seed))
        return [(s.ratings.digest(), s.asked) for s in World(other, scenario, clients=9)]

    assert told(0) == told(0) != told(1)


@pytest.mark.parametrize(
    ("scenario", "clients", "says"),
    [
        (Scenario(rounds=2), 49, "49 clients for 48 users: choose 1–48"),
        (Scenario(rounds=2, attack_from=3), 4, "the attack starts in round 3 of 2"),
    ],
)
def test_what_cannot_be_is_told(
    prepared: Prepared, scenario: Scenario, clients: int, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        World(prepared, scenario, clients=clients)


def test_a_run_config_names_its_keys() -> None:
    taken = Scenario.taken({"rounds": 3, "held-back": 0.2, "clients": 4})
    assert (taken.rounds, taken.held_back) == (3, 0.2)
    with pytest.raises(InputError, match="run config: held-back: "):
        Scenario.taken({"held-back": 1.5})
    with pytest.raises(InputError, match=r"run config: arrive: .*'random' or 'time'"):
        Scenario.taken({"arrive": "tomorrow"})
