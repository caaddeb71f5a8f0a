"""No fakes below the price of promotion have an item recommended: all of them, or as many as fit.

What is asked is the real path: a neighborhood of the poisoned ratings, without exploration.
"""

from dataclasses import replace
from itertools import chain, combinations, combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.ratings import RatingMatrix
from common.vicinal.settings import Space, VicinalSettings, capped
from server.data.synthetic import synthetic
from server.recommending import admission
from server.recommending.certificate import UNREACHABLE, Certificate, shares
from server.recommending.offload import Offloader
from tests.support.ratings import from_rows

SETTINGS = VicinalSettings(4, 0.4, 2, min_support=2, neighbors_by="ratings", assumed_fakes=0.2)


def promoted(
    poisoned: RatingMatrix,
    user: int,
    how: VicinalSettings,
    embeddings: NDArray[np.float32] | None = None,
) -> NDArray[np.bool_]:
    """Items that a neighborhood has ratings of, beside the user's own, [I]."""
    where = np.zeros((poisoned.user_count, 1), np.float32) if embeddings is None else embeddings
    offloader = Offloader(poisoned, {}, lambda: where, version="a")
    found = np.zeros(poisoned.item_count, dtype=bool)
    found[offloader.neighborhood(user, how).ratings.items] = True
    found[poisoned.items_of(user)] = False
    return found


def profiles(items: int) -> list[tuple[int, ...]]:
    """Every set of items, the empty one too."""
    return [*chain.from_iterable(combinations(range(items), n) for n in range(items + 1))]


@st.composite
def small(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], int, VicinalSettings]:
    items = draw(st.integers(2, 4))
    users = draw(st.integers(3, 6))
    rows = draw(st.lists(st.sampled_from(profiles(items)), min_size=users, max_size=users))
    k = draw(st.integers(2, users))
    space: Space = draw(st.sampled_from(["ratings", "random", "embedding"]))
    how = VicinalSettings(
        k,
        0.4,
        2,
        min_support=draw(st.integers(1, k)),
        neighbors_by=space,
        assumed_fakes=draw(st.sampled_from([0.0, 0.1, 0.3, 0.5])),
        margin=draw(st.integers(1, 3)),
        candidates=draw(st.integers(0, 3)),
    )
    return rows, items, how


@settings(max_examples=12, deadline=None)
@given(small(), st.integers(0, 10**6))
def test_no_set_of_up_to_two_fakes_beats_the_price(
    case: tuple[list[tuple[int, ...]], int, VicinalSettings], seed: int
) -> None:
    rows, items, how = case
    rng = np.random.default_rng(seed)
    user = int(rng.integers(len(rows)))
    prices = Certificate(from_rows(rows, items), how).prices(user)
    if how.assumed_fakes == 0 and how.min_support == 1:
        assert not prices[prices != UNREACHABLE].any()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "FIRST_USERS", 1)
        for count in range(3):
            for fakes in combinations_with_replacement(profiles(items), count):
                poisoned = from_rows([*rows, *fakes], items)
                where = rng.normal(size=(poisoned.user_count, 2)).astype(np.float32)
                assert (prices[promoted(poisoned, user, how, where)] <= count).all()


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(small())
def test_no_set_of_three_fakes_beats_the_price(
    case: tuple[list[tuple[int, ...]], int, VicinalSettings],
) -> None:
    rows, items, how = case
    how = replace(how, neighbors_by="ratings")
    certificate = Certificate(from_rows(rows, items), how)
    prices = [certificate.prices(user) for user in range(len(rows))]
    for fakes in combinations_with_replacement(profiles(items), 3):
        poisoned = from_rows([*rows, *fakes], items)
        for user, known in enumerate(prices):
            assert (known[promoted(poisoned, user, how)] <= 3).all()


def test_the_price_holds_where_more_accounts_make_more_neighbors() -> None:
    """Of fewer users than k all are taken, and fakes bring more neighbors and more support."""
    asked = replace(SETTINGS, neighbors=32, min_support=8, assumed_fakes=0)
    rng = np.random.default_rng(0)
    for _ in range(40):
        rows = [tuple(np.flatnonzero(rng.random(6) < 0.3).tolist()) for _ in range(12)]
        user = int(rng.integers(12))
        prices = Certificate(from_rows(rows, 6), capped(asked, 12)).prices(user)
        for count in range(1, 4):
            for item in range(6):
                fakes = [tuple(sorted({*rows[user], item}))] * count
                found = promoted(from_rows([*rows, *fakes], 6), user, capped(asked, 12 + count))
                assert (prices[found] <= count).all()


RATINGS = synthetic(70, 50, seed=3)
ADMITTING = replace(SETTINGS, neighbors=20, assumed_fakes=0.05, margin=4, candidates=12)


def test_as_many_fakes_as_the_price_do_it_where_all_raters_count() -> None:
    how = replace(ADMITTING, candidates=0, min_support=1)
    prices = Certificate(RATINGS, how, form="any").prices(0)
    tried = 0
    for item in np.flatnonzero((prices > 0) & (prices != UNREACHABLE))[:10].tolist():
        fakes = from_rows([(item,)] * int(prices[item]), 50)
        stacked = RATINGS.stack(replace(fakes, scale=RATINGS.scale))
        # Admitted; whether the nearest k hold a rater is another matter.
        offloader = Offloader(stacked, {}, lambda: np.zeros((1, 1), np.float32), version="a")
        assert offloader.admission.admitted(0, how)[item]
        tried += 1
    assert tried


def clones(ratings: RatingMatrix, user: int, item: int, count: int) -> RatingMatrix:
    """Profiles that are nearest to a user and rate an item too."""
    row = tuple(sorted({*ratings.items_of(user).tolist(), item}))
    return replace(from_rows([row] * count, ratings.item_count), scale=ratings.scale)


def test_clones_of_the_user_mostly_attain_the_price_and_one_fewer_never_does() -> None:
    certificate, attained, asked = Certificate(RATINGS, ADMITTING), 0, 0
    for user in range(12):
        prices = certificate.prices(user)
        for item in np.flatnonzero((prices > 1) & (prices != UNREACHABLE))[:3].tolist():
            price = int(prices[item])
            few, enough = (clones(RATINGS, user, item, n) for n in (price - 1, price))
            assert not promoted(RATINGS.stack(few), user, ADMITTING)[item]
            attained += bool(promoted(RATINGS.stack(enough), user, ADMITTING)[item])
            asked += 1
    assert asked > 20 and attained > 0.8 * asked


@pytest.mark.parametrize("seed", range(3))
def test_prices_fall_with_genuine_raters_and_rise_with_what_is_required(seed: int) -> None:
    user = seed
    any_form = Certificate(RATINGS, ADMITTING, form="any").prices(user)
    raters, unrated = RATINGS.item_counts(), any_form != UNREACHABLE
    order = np.argsort(raters[unrated])
    assert (np.diff(any_form[unrated][order]) <= 0).all()
    pairwise = Certificate(RATINGS, ADMITTING).prices(user)
    assert (pairwise >= any_form).all()
    for stricter in (
        replace(ADMITTING, margin=7),
        replace(ADMITTING, assumed_fakes=0.2),
    ):
        assert (Certificate(RATINGS, stricter, form="any").prices(user) >= any_form).all()
    few = Certificate(RATINGS, replace(ADMITTING, min_support=1)).prices(user)
    assert (pairwise >= few).all()


def test_every_admitted_item_has_genuine_raters() -> None:
    """The other direction: of M raters at most f are fakes, so s are genuine."""
    fakes = clones(RATINGS, 0, 40, 3)
    poisoned = RATINGS.stack(fakes)
    how = replace(ADMITTING, neighbors_by="embedding")
    assert how.tolerated_fakes(poisoned.user_count) >= 3
    for user in range(0, 70, 7):
        shown = promoted(poisoned, user, replace(how, min_support=1, candidates=0))
        assert (RATINGS.item_counts()[shown] >= how.margin).all()


def test_candidates_are_looked_for_up_to_the_last_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few users as it takes, also where that is between the last size tried and all."""
    monkeypatch.setattr(admission, "FIRST_USERS", 40)
    offloader = Offloader(RATINGS, {}, lambda: np.zeros((1, 1), np.float32), version="a")
    taken = []
    for user in range(70):
        for candidates in range(1, 25):
            how = replace(ADMITTING, candidates=candidates)
            taken.append(len(offloader.admission.raters_of(user, how)))
    assert any(40 <= count < 70 for count in taken)


def test_shares_count_prices() -> None:
    certificate, unpopular = Certificate(RATINGS, ADMITTING), RATINGS.item_counts() < 8
    users, fakes = np.arange(0, 70, 5), [0, 2, 5, 30]
    found = shares(certificate, users, fakes, unpopular)
    prices = np.stack([certificate.prices(user) for user in users.tolist()])
    asked = RATINGS.rows(users).dense() == 0
    for row, count in zip(found, fakes, strict=True):
        assert row.fakes == count
        assert row.pairs == pytest.approx((prices[asked] > count).mean())
        rare = asked & unpopular
        assert row.unpopular == pytest.approx((prices[rare] > count).mean())
        assert row.items == pytest.approx((prices > count).all(0).mean())
        assert row.users == pytest.approx(((prices > count) | ~rare).all(1).mean())
    assert found[0].pairs > found[1].pairs > found[2].pairs > found[3].pairs == 0


def test_what_cannot_be_asked() -> None:
    certificate = Certificate(RATINGS, ADMITTING)
    with pytest.raises(InputError, match="unknown user 70: choose 0–69"):
        certificate.prices(70)
    with pytest.raises(InputError, match="unknown item 50: choose 0–49"):
        certificate.price(0, 50)
    assert certificate.price(0, int(RATINGS.items_of(0)[0])) == UNREACHABLE
    with pytest.raises(InputError, match="needs neighbors by ratings or random"):
        Certificate(RATINGS, replace(ADMITTING, neighbors_by="embedding"), form="pairwise")
    with pytest.raises(InputError, match="k = 71 neighbors of 70 users"):
        Certificate(RATINGS, replace(ADMITTING, neighbors=71))
    with pytest.raises(InputError, match="at least one"):
        shares(certificate, np.zeros(0, np.int64), [1], RATINGS.item_counts() < 5)


ATTACKS = 10_000


@pytest.mark.slow
@pytest.mark.parametrize("space", ["ratings", "embedding"])
def test_ten_thousand_attacks_below_the_price(space: Space) -> None:
    """Half of the attacks are drawn, half adapt: fakes are changed while that brings raters."""
    rng = np.random.default_rng(5)
    done = tight = 0
    while done < ATTACKS // 2:
        how = replace(
            ADMITTING,
            neighbors_by=space,
            assumed_fakes=float(rng.choice([0.02, 0.05, 0.1])),
            candidates=int(rng.choice([0, 5, 12, 25])),
            min_support=int(rng.choice([1, 2, 4])),
            neighbors=int(rng.choice([8, 20, 40])),
        )
        certificate = Certificate(RATINGS, how)
        user = int(rng.integers(70))
        prices = certificate.prices(user)
        open_to = np.flatnonzero((prices > 1) & (prices != UNREACHABLE))
        if not len(open_to):
            continue
        item = int(rng.choice(open_to))
        count = int(prices[item]) - 1
        attack = Attack(user, item, how, rng)
        rows = attack.drawn(count)
        for step in range(10):
            reached, raters = attack.tried(rows)
            assert not reached, (user, item, how, rows)
            done += 1
            tight += raters + 1 >= how.required_raters(70 + count)
            changed = attack.drawn(count) if step % 2 else attack.changed(rows)
            if attack.tried(changed)[1] >= raters:
                rows = changed
            done += 1
    assert tight > 100  # the attacks do come close


class Attack:
    """Fakes of one attacker who wants one item recommended to one user."""

    def __init__(
        self, user: int, item: int, how: VicinalSettings, rng: np.random.Generator
    ) -> None:
        self.user, self.item, self.how, self.rng = user, item, how, rng
        self._own = RATINGS.items_of(user)

    def drawn(self, count: int) -> list[tuple[int, ...]]:
        return [self._profile(int(self.rng.integers(4))) for _ in range(count)]

    def _profile(self, kind: int) -> tuple[int, ...]:
        filler = self.rng.permutation(50).astype(np.int32)[: self.rng.integers(1, 20)]
        if kind == 0:  # a clone
            filler = self._own
        elif kind == 1:  # what the user rated, in part
            filler = self.rng.permutation(self._own)[: self.rng.integers(1, len(self._own) + 1)]
        elif kind == 2:  # another user's row
            filler = RATINGS.items_of(int(self.rng.integers(70)))
        return tuple(sorted({*filler.tolist(), self.item}))

    def changed(self, rows: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        at = int(self.rng.integers(len(rows)))
        other = set(rows[at]) ^ {int(self.rng.integers(50))}
        return [*rows[:at], tuple(sorted(other)), *rows[at + 1 :]]

    def tried(self, rows: list[tuple[int, ...]]) -> tuple[bool, int]:
        """Whether the item is recommended, and how many raters of it count."""
        poisoned = RATINGS.stack(replace(from_rows(rows, 50), scale=RATINGS.scale))
        # As near to the user as the attacker likes; genuine users as the attacker likes, too.
        where = self.rng.normal(size=(poisoned.user_count, 2)).astype(np.float32)
        where[70:] = where[self.user]
        offloader = Offloader(poisoned, {}, lambda: where, version="a")
        counted = offloader.admission.raters_of(self.user, self.how)
        raters = int(poisoned.rows(counted).item_counts()[self.item])
        items = offloader.neighborhood(self.user, self.how).ratings.items
        return bool((items == self.item).any()), raters
