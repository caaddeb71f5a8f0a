"""A fleet's training: FedAvg against a centralized step, and the same bits for the same seed."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError, VicinalError
from common.federated import Table, Update
from common.ratings import RatingMatrix
from server.data.synthetic import synthetic
from server.federated.settings import AGGREGATIONS, Federated, federated_of
from sims.federated.attacker import Attacker
from sims.federated.registry import attacker_of
from sims.federated.training import Stage, train_in_fleet
from tests.support.ratings import from_table


def small(**changed: object) -> Federated:
    usual: dict[str, object] = {"rounds": 3, "clients": 1000, "width": 4, "last_steps": 0}
    return Federated.model_validate(usual | changed)


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_one_round_of_all_clients_is_a_centralized_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ratings = from_table(rng.integers(1, 6, (6, 8)) * (rng.random((6, 8)) < 0.6))
    options = small(rounds=1, unrated=0.0, rate=0.05, user_rate=0.2)
    start = train_in_fleet(ratings, options.model_copy(update={"rounds": 0}), seed=seed)
    found = train_in_fleet(ratings, options, seed=seed)
    p, q = (
        torch.from_numpy(each.astype(np.float64)).requires_grad_()
        for each in (start.users, start.items)
    )
    users, items = torch.from_numpy(ratings.users.copy()), torch.from_numpy(ratings.items.copy())
    gaps = (p[users] * q[items]).sum(1) - torch.from_numpy(ratings.ratings.copy())
    slopes = torch.autograd.grad(gaps.square().sum(), [p, q])
    # A step on the sum over all users; every row's by the number of its ratings, on both sides.
    own = np.maximum(np.diff(ratings.indptr), 1)[:, None]
    raters = np.maximum(ratings.item_counts(), 1)[:, None]
    expected = p.detach().numpy() - 0.2 * slopes[0].numpy() / own
    assert found.users == pytest.approx(expected, abs=1e-6)
    assert found.items == pytest.approx(
        q.detach().numpy() - 0.05 * slopes[1].numpy() / raters, abs=1e-6
    )


def test_with_all_rows_sent_by_all_it_is_plain_fedavg() -> None:
    ratings = from_table(np.random.default_rng(0).integers(1, 6, (5, 7)))
    options = small(rounds=1, unrated=0.0, rate=0.05)
    start = train_in_fleet(ratings, options.model_copy(update={"rounds": 0}), seed=1)
    found = train_in_fleet(ratings, options, seed=1)
    gaps = start.users @ start.items.T - ratings.dense()
    assert found.items == pytest.approx(start.items - 0.05 * 2 * gaps.T @ start.users / 5, abs=1e-6)


def test_every_round_lowers_the_error() -> None:
    ratings = synthetic(60, 80, seed=2)
    errors = []
    for rounds in (1, 5, 20, 40):
        model = train_in_fleet(ratings, small(rounds=rounds, unrated=0.0, last_steps=5), seed=0)
        predicted = (model.users[ratings.users] * model.items[ratings.items]).sum(1)
        errors.append(float(np.square(predicted - ratings.ratings).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.2 * errors[0]


def attacker(ratings: RatingMatrix) -> Attacker:
    return attacker_of("pieck-uea", ratings, (3, 5), width=4, seed=0)


@pytest.mark.parametrize("rule", AGGREGATIONS)
def test_the_same_seed_gives_the_same_bits(rule: str) -> None:
    ratings = synthetic(60, 80, seed=2)
    options = small(aggregate=rule, clients=30)

    def once(seed: int) -> bytes:
        model = train_in_fleet(
            ratings, options, seed=seed, attacker=attacker(ratings), malicious=range(60, 63)
        )
        return model.items.tobytes() + model.users.tobytes()

    assert once(7) == once(7)
    assert once(7) != once(8)


def test_a_malicious_share_of_0_is_the_clean_model_to_the_last_bit() -> None:
    ratings = synthetic(60, 80, seed=2)
    options = small(clients=20, rounds=15)
    clean = train_in_fleet(ratings, options, seed=0)
    none = train_in_fleet(ratings, options, seed=0, attacker=attacker(ratings), malicious=())
    some = train_in_fleet(
        ratings, options, seed=0, attacker=attacker(ratings), malicious=range(60, 66)
    )
    assert none.items.tobytes() == clean.items.tobytes()
    assert none.users.tobytes() == clean.users.tobytes()
    assert some.items.tobytes() != clean.items.tobytes()


class Liar:
    """Sends the largest numbers that there are."""

    def updates(self, table: Table, count: int, _bound: object, *, rng: object) -> list[Update]:
        rows = np.full((1, table.shape[1]), 1.5e38, dtype=np.float32)
        return [Update(np.zeros(1, dtype=np.int64), rows)] * count


def test_a_table_that_overflows_is_told() -> None:
    # Half of item 0's rows are lies: the mean is 10³⁷ and more, and the next round's squares no
    # numbers any more.
    options = small(row_norm=1e39, rounds=60, unrated=0.0)
    with pytest.raises((VicinalError, InputError), match=r"diverged|not finite"):
        train_in_fleet(
            synthetic(60, 80, seed=2), options, seed=0, attacker=Liar(), malicious=range(60, 160)
        )


def test_what_the_settings_cannot_be_is_told_in_one_line() -> None:
    assert federated_of(rounds=None, rate=0.5).rate == 0.5
    for wrong in ({"rounds": 0}, {"rate": float("nan")}, {"rond": 3}):
        with pytest.raises(InputError, match=f"federated training, {next(iter(wrong))}: "):
            federated_of(**wrong)
    with pytest.raises(InputError, match="median"):
        federated_of(aggregate="medain")


@given(st.integers(0, 2**32), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_a_training_in_parts_is_the_training(seed: int, first: int) -> None:
    rng = np.random.default_rng(seed)
    ratings = from_table(rng.integers(1, 6, (6, 8)) * (rng.random((6, 8)) < 0.6))
    everybody = tuple(range(6))
    whole = train_in_fleet(ratings, small(rounds=5, clients=4), seed=seed)
    part = train_in_fleet(ratings, small(rounds=first, clients=4), seed=seed)
    rest = train_in_fleet(
        ratings,
        small(rounds=5 - first, clients=4),
        seed=seed,
        stage=Stage(everybody, part, rounds=first),
    )
    assert rest.items.tobytes() == whole.items.tobytes()
    assert rest.users.tobytes() == whole.users.tobytes()


def test_who_is_absent_gives_nothing_and_keeps_its_vector() -> None:
    ratings = synthetic(30, 40, seed=2)
    before = train_in_fleet(ratings, small(rounds=2, last_steps=3), seed=0)
    present = tuple(range(0, 30, 2))
    found = train_in_fleet(
        ratings, small(rounds=2, last_steps=3), seed=0, stage=Stage(present, before, 2)
    )
    # What the absent have rated is of no account.
    alone = ratings.dense().copy()
    alone[1::2] = 0
    without = from_table(np.rint(alone * 5).astype(int))
    again = train_in_fleet(
        without, small(rounds=2, last_steps=3), seed=0, stage=Stage(present, before, 2)
    )
    assert found.items.tobytes() == again.items.tobytes() != before.items.tobytes()
    assert found.users[1::2].tobytes() == before.users[1::2].tobytes()
    assert (found.users[::2] != before.users[::2]).any(axis=1).all()
