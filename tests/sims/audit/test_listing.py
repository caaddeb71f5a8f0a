"""Guesses from a list of items, held against what is known of them by construction."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import norm

from common.ratings import RatingMatrix
from common.vicinal.book import ItemBook
from common.vicinal.settings import PRESETS
from server.data.synthetic import synthetic
from server.recommending.book import BookSettings, item_book, noise, weighed_counts
from sims.audit.knowledge import Background
from sims.audit.listing import LEAST_LOG, Belief, flips, joined, likelihood, most_auc, weights
from sims.audit.membership import auc
from tests.support.ratings import from_rows

# A threshold where many counts are.
SETTINGS = replace(PRESETS["mf"]["vicinal"], assumed_fakes=0.25)
RATINGS = synthetic(600, 150, 24_000, seed=1)
MEMBERS, OTHERS, SHADOWS = (
    RATINGS.rows(np.arange(*at)) for at in ((0, 300), (300, 450), (450, 600))
)


def listed(ratings: RatingMatrix, sigma: float, seed: int = 0, cap: int = 50) -> ItemBook:
    how = BookSettings(cap, sigma, margin=0.0)
    return item_book(ratings, SETTINGS, f"key {seed}".encode(), how=how)


def halved(seed: int) -> list[RatingMatrix]:
    """Members, others and shadows."""
    order = np.random.default_rng(seed).permutation(600)
    return [RATINGS.rows(part) for part in np.split(order, [300, 450])]


def informed(sigma: float, seed: int = 0) -> float:
    members, others, _ = halved(seed)
    book = listed(members, sigma, seed)
    counts = weighed_counts(members, book.cap)
    scores = []
    for people in (members, others):
        added = weights(people, np.diff(people.indptr), book.cap)
        without = counts - added if people is members else np.broadcast_to(counts, added.shape)
        scores.append(likelihood(book, Belief.informed(without, book), added))
    return auc(*scores)


def test_a_ratio_by_hand() -> None:
    """Two items that the person rated, one of them in the list, and one that is not its own."""
    book = ItemBook(10, 3, np.array([0, 2], dtype=np.int32), cap=2, threshold=5, sigma=2.0)
    belief = Belief(np.array([4.0, 6.0, 1.0]), np.array([2.0, 2.0, 2.0]))
    added = np.array([[1.0, 1.0, 0.0]])
    expected = np.log(norm.sf(0) / norm.sf(0.5)) + np.log(norm.cdf(-1) / norm.cdf(-0.5))
    np.testing.assert_allclose(likelihood(book, belief, added), [expected])


def test_nobody_who_knows_all_others_tells_more_than_is_proven() -> None:
    found = [
        float(np.mean([informed(sigma, seed) for seed in range(4)])) for sigma in (2.0, 10.0, 50.0)
    ]
    assert found[0] > found[1] > 0.52
    for sigma, value in zip((2.0, 10.0, 50.0), found, strict=True):
        # Of 300 members and 150 others an area is sure to 0.03; of four, to half of it.
        assert value < most_auc(50**0.5 / sigma) + 0.03
    assert most_auc(1.0) == pytest.approx(ndtr(1 / np.sqrt(2)))


def test_shadows_tell_less_than_all_others() -> None:
    areas = []
    for seed in range(8):
        members, others, shadows = halved(seed)
        book = listed(members, 4.0, seed)
        belief = Belief.from_shadows(Background(shadows), book)
        scores = [
            likelihood(book, belief, weights(people, np.diff(people.indptr), book.cap))
            for people in (members, others)
        ]
        areas.append((auc(*scores), informed(4.0, seed)))
    from_shadows, from_all = np.mean(areas, axis=0)
    assert 0.52 < from_shadows < from_all


def by_item(ratings: RatingMatrix, sigma: float, key: bytes) -> ItemBook:
    """As a book once was: the noise of an item is drawn from its own count."""
    counts = weighed_counts(ratings, 50)
    drawn = np.array(
        [
            noise(np.array([count]), sigma, key + bytes([item]))[0]
            for item, count in enumerate(counts)
        ]
    )
    items = np.flatnonzero(counts + drawn >= 25).astype(np.int32)
    return ItemBook(
        ratings.user_count, ratings.item_count, items, cap=50, threshold=25, sigma=sigma
    )


@pytest.mark.parametrize(("sticky", "least", "most"), [(True, 0.8, 1.0), (False, 0.3, 0.7)])
def test_noise_by_item_gives_newcomers_away_and_noise_of_all_does_not(
    sticky: bool, least: float, most: float
) -> None:
    few = MEMBERS.rows(np.arange(100))
    scores: tuple[list[float], list[float]] = [], []
    for pair in range(30):
        key = f"pair {pair}".encode()
        make = (
            by_item
            if sticky
            else lambda ratings, sigma, key: item_book(
                ratings, SETTINGS, key, how=BookSettings(50, sigma, margin=0.0)
            )
        )
        people = OTHERS.rows(np.array([2 * pair, 2 * pair + 1]))
        before, after = make(few, 8.0, key), make(few.stack(people.rows([0])), 8.0, key)
        added = weights(people, np.diff(people.indptr), 50)
        for side, score in zip(scores, flips(before, after, added).tolist(), strict=True):
            side.append(score)
    assert least <= auc(*(np.array(side) for side in scores)) <= most


def test_more_lists_tell_more_of_who_came() -> None:
    belief = Belief.from_shadows(Background(SHADOWS), listed(MEMBERS, 3.0))
    found: dict[int, tuple[list[float], list[float]]] = {1: ([], []), 8: ([], [])}
    for pair in range(40):
        people = OTHERS.rows(np.array([2 * pair, 2 * pair + 1]))
        added = weights(people, np.diff(people.indptr), 50)
        came = MEMBERS.stack(people.rows([0]))
        before = [listed(MEMBERS, 3.0, 100 * pair + at) for at in range(8)]
        after = [listed(came, 3.0, 100 * pair + at) for at in range(8)]
        for count, sides in found.items():
            scores = joined(before[:count], after[:count], belief, added)
            for side, score in zip(sides, scores.tolist(), strict=True):
                side.append(score)
    one, eight = (auc(*(np.array(side) for side in sides)) for sides in found.values())
    assert eight > one and eight > 0.6


def test_weights_are_those_of_the_server() -> None:
    people = from_rows([[0, 1, 2, 3], [1]], 5)
    table = weights(people, np.diff(people.indptr), 1)
    np.testing.assert_allclose(table.sum(axis=0), weighed_counts(people, 1))


@given(seed=st.integers(0, 2**32 - 1), informed=st.booleans())
def test_a_ratio_is_that_of_all_items_one_by_one(seed: int, informed: bool) -> None:
    rng = np.random.default_rng(seed)
    people, items = rng.integers(1, 6, 2).tolist()
    listed = np.flatnonzero(rng.random(items) < 0.5).astype(np.int32)
    book = ItemBook(50, items, listed, cap=2, threshold=5, sigma=2.0)
    shape = (people, items) if informed else (items,)
    belief = Belief(rng.normal(5, 40, shape), rng.uniform(0.5, 3, items))
    added = rng.choice([0.0, 0.5, 1.0], (people, items))
    means = np.broadcast_to(belief.means, added.shape)
    expected = np.zeros(people)
    for person, item in zip(*np.nonzero(added), strict=True):
        with_them, without = (
            norm(means[person, item] + more, belief.deviations[item])
            for more in (added[person, item], 0.0)
        )
        told = "logsf" if item in listed else "logcdf"
        expected[person] += max(getattr(with_them, told)(book.threshold), LEAST_LOG)
        expected[person] -= max(getattr(without, told)(book.threshold), LEAST_LOG)
    np.testing.assert_allclose(likelihood(book, belief, added), expected, rtol=1e-9, atol=1e-9)
