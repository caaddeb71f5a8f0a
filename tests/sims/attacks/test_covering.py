"""Covering: copies come in together, where they are said to."""

import numpy as np
import pytest

from server.data.synthetic import synthetic
from sims.attacks import make_profiles
from sims.attacks.covering import cover_by_lists, cover_by_ratings
from sims.attacks.neighborhoods import nearest_by_ratings
from tests.support.ratings import from_rows

REAL = synthetic(400, 150, seed=2)


def test_a_cover_by_hand() -> None:
    # Four users share items 0–3, three share 4–6; nobody is near anybody of the other kind.
    rows = [[0, 1, 2, 3]] * 4 + [[4, 5, 6]] * 3
    # All others of one's kind are at cosine 1, which no profile with a target exceeds. Only where
    # the third-nearest of the three is of the other kind, at 0, is there a place.
    found = cover_by_ratings(from_rows(rows, 8), (7,), profiles=2, room=4, k=4, copies=1)
    assert len(found) == 1 and set(found[0].tolist()) & {4, 5, 6}
    # With two copies to displace, k − r = 4: the fourth is of the other kind for everybody.
    found = cover_by_ratings(from_rows(rows, 8), (7,), profiles=2, room=4, k=5, copies=1)
    assert len(found) == 1 or not set(found[0].tolist()) & set(found[1].tolist())


@pytest.mark.parametrize(("k", "copies"), [(20, 3), (40, 6), (12, 1)])
def test_who_is_covered_has_all_copies_among_the_nearest(k: int, copies: int) -> None:
    made = make_profiles("covering", REAL, seed=0, options={"k": k, "copies": copies})
    both = REAL.stack(made.ratings)
    nearest = nearest_by_ratings(both, k - 1)[0][: REAL.user_count]
    fakes = (nearest >= REAL.user_count).sum(axis=1)
    covered = (fakes >= copies).mean()
    for other in ("vicinity", "hubclones"):
        rival = make_profiles(other, REAL, seed=0, options={"k": k, "space": "ratings"})
        near = nearest_by_ratings(REAL.stack(rival.ratings), k - 1)[0][: REAL.user_count]
        assert covered > ((near >= REAL.user_count).sum(axis=1) >= copies).mean(), other
    # Measured: 0.24, 0.26 and 0.54; real ratings have more in common.
    assert covered > 0.2


def test_there_are_as_many_copies_of_each_profile_as_asked() -> None:
    for copies, profiles in ((3, 4), (4, 3), (5, 2), (12, 1), (99, 1)):
        made = make_profiles("covering", REAL, seed=0, options={"k": 110, "copies": copies})
        _, counts = np.unique(made.ratings.dense(), axis=0, return_counts=True)
        assert made.ratings.user_count == 12
        assert len(counts) <= profiles and counts.min() >= min(copies, 12)


def test_in_the_space_of_embeddings_real_users_are_copied() -> None:
    made = make_profiles("covering", REAL, seed=0, options={"space": "embedding", "copies": 4})
    table, real = made.ratings.dense(), REAL.dense()
    table[:, list(made.targets)] = 0
    rows = np.unique(table, axis=0)
    assert len(rows) == 3
    for row in rows:
        assert (real[:, row > 0] == row[row > 0]).all(axis=1).any()


def test_lists_are_covered_greedily() -> None:
    others = np.array([[1, 2], [0, 2], [0, 1], [4, 0], [3, 0], [3, 4]])
    # 0 is listed by four; of users 0 and 5, who do not list it, 1 is the first listed.
    assert cover_by_lists(others, 3) == [0, 1, 3]
    assert cover_by_lists(others, 1) == [0]
