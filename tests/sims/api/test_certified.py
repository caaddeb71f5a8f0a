"""What an answer says of fakes, and the price of an item, from the data's ids to the numbers."""

import math

import numpy as np
import pytest

import vicinal as vc
from common.vicinal.support import draws

USERS, FAKES = 60, 12
# Assumed: 3 % of 72 accounts, rounded up, and a margin of 1 where there are so few.
TOLERATED, REQUIRED = 3, 4


@pytest.fixture(scope="module")
def model() -> vc.Model:
    data = vc.load(f"synthetic:{USERS}x120")
    return vc.train(data, vc.attack("average", data, attack_size=0.2))


def raters(model: vc.Model) -> list[int]:
    counts: list[int] = model._scorer.ratings.item_counts().tolist()
    return counts


def test_an_answer_says_what_it_stands(model: vc.Model) -> None:
    assert model.fakes == FAKES
    counts, explored = raters(model), 0
    for user in range(USERS):
        found = model.recommend(user, 5)
        assert (found.tolerated_fakes, found.required_raters) == (TOLERATED, REQUIRED)
        drawn = draws(120, model.data.ratings.items_of(user), purpose=1) < 0.02
        few = [item for item in found.indices.tolist() if counts[item] < REQUIRED]
        assert all(drawn[item] for item in few)
        explored += len(few)
    assert explored < 0.1 * 5 * USERS


@pytest.mark.parametrize("defense", ["paper", "none"])
def test_what_assumes_no_fakes_says_so(model: vc.Model, defense: str) -> None:
    found = model.recommend(3, 5, defense)
    assert (found.tolerated_fakes, found.required_raters) == (0, 0)


def test_a_price_is_what_is_missing_to_admission(model: vc.Model) -> None:
    prices = set()
    for item, count in enumerate(raters(model)):
        for user in (0, 7):
            price = model.price(user, item)
            if item in model.data.ratings.items_of(user):
                assert price is None
                continue
            fakes = 0
            while count + fakes < math.ceil(0.03 * (USERS + FAKES + fakes)) + 1:
                fakes += 1
            assert price == fakes
            prices.add(price)
    assert len(prices) > 2 and 0 in prices


@pytest.mark.parametrize("defense", ["paper", "none"])
def test_where_nothing_is_assumed_an_item_needs_no_fakes(model: vc.Model, defense: str) -> None:
    rated = int(model.data.ratings.items_of(7)[0])
    unrated = np.setdiff1d(np.arange(120), model.data.ratings.items_of(7))
    assert model.price(7, rated, defense) is None
    assert {model.price(7, item, defense) for item in unrated.tolist()} == {0}


def test_a_price_takes_the_datas_ids(model: vc.Model) -> None:
    assert model.price("7", "11", "rvd") == model.price(7, 11)
    for user, item, defense, message in (
        (60, 0, "vicinal", "unknown user"),
        (0, 120, "vicinal", "unknown item"),
        (0, 0, "vicinl", "unknown defense"),
    ):
        with pytest.raises(vc.InputError, match=message):
            model.price(user, item, defense)
    baseline = vc.train(model.data, model="userknn")
    with pytest.raises(vc.InputError, match="nothing to train robustly or to fine-tune"):
        baseline.price(7, 11)
    assert baseline.price(7, int(model.data.ratings.items_of(7)[0]), "none") is None
