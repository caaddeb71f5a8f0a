"""Reports, added up."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from common.errors import InputError
from common.ranking import Counts
from server import tally as module
from server.tally import MAX_KEY_LENGTH, Tally

ONE = Counts((1, 0), (1, 0), 1, 1, 1, 1)


def test_many_threads_and_repeated_keys_add_up_to_each_key_once() -> None:
    tally = Tally(users=10, eligible=(9, 8))
    keys = [str(number % 300) for number in range(1200)]
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda key: tally.add("v", "paper", key, ONE), keys))
    assert sum(counted) == 300
    assert tally.total("v", "paper") == (300, Counts((300, 0), (300, 0), 300, 300, 300, 300))
    assert tally.total("w", "paper") == (0, Counts.none(2))


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        (Counts((10, 0), (0, 0), 10), "10 eligible users, but there are 9"),
        (Counts((0, 0), (0, 0), 11), "11 users, but there are 10"),
        (Counts((0,), (0,)), "1 watched items, not 2"),
    ],
)
def test_more_than_there_is_is_refused(counts: Counts, text: str) -> None:
    tally = Tally(users=10, eligible=(9, 8))
    with pytest.raises(InputError, match=text):
        tally.add("v", "paper", "key", counts)
    assert tally.total("v", "paper")[0] == 0


@pytest.mark.parametrize("key", ["", "k" * (MAX_KEY_LENGTH + 1)])
def test_a_key_has_a_length(key: str) -> None:
    with pytest.raises(InputError, match="key"):
        Tally(users=1, eligible=()).add("v", "paper", key, Counts.none(0))


def test_memory_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEYS", 3)
    tally = Tally(users=10, eligible=(9, 8))
    assert [tally.add("v", "p", key, ONE) for key in "abcda"] == [True] * 5
    assert not tally.add("v", "p", "d", ONE)
    assert len(tally._keys) == 3
