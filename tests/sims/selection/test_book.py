"""Which settings of a book are chosen, of answers that are made up."""

from dataclasses import replace

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from common.ranking import top_items
from common.vicinal.support import unlisted_last
from sims.selection import book
from sims.selection.book import Row, _chosen, _rows
from sims.selection.book_trials import DRAWS, POINTS, Answered, Leak, Point, Ranking
from sims.selection.presets import MIXRAND, UNATTACKED, Trial

FLOOD = Trial("flood")
ROW = Row(
    Point(100, 0.6, 1.0),
    0.6,
    0.98,
    0.1,
    300.0,
    (0.55, 0.01),
    (0.5, 0.01),
    (0.6, 0.01),
    0.0,
    0.0,
    1.0,
)


def test_of_the_private_and_accurate_the_one_is_chosen_that_holds() -> None:
    dull = replace(ROW, point=Point(100, 0.3, 1.0), kept=0.96)
    telling = replace(ROW, point=Point(100, 0.3, 1.0), full=(0.56, 0.01))
    flooded = replace(ROW, point=Point(100, 0.4, 1.0), held=0.9)
    better = replace(ROW, point=Point(50, 0.6, 1.0), accuracy=0.61, held=0.96)
    louder = replace(ROW, point=Point(50, 1.2, 1.0), accuracy=0.7)
    neighbors = replace(ROW, point=None, kept=1.0)
    assert _chosen([neighbors, dull, telling, flooded, ROW, better, louder]) is better
    assert _chosen([neighbors, dull, telling, flooded]) is flooded
    assert _chosen([neighbors, dull, telling]) is None


def test_rises_are_those_of_whom_an_attack_aims_at_above_what_they_are_without() -> None:
    calm = [[Answered(0.1, 0.1, 0.5, 0.2)] * DRAWS for _ in range(1 + len(POINTS))]
    mixed = [[Answered(0.1, 0.1, 0.5, 0.2)] * DRAWS] + [
        [Answered(0.2, 0.12, 0.4, 0.1)] * DRAWS for _ in POINTS
    ]
    # In one book of a flood the audience sees the targets.
    seen = [Answered(0.2, 0.6, 0.4, float("nan"))] + [Answered(0.2, 0.1, 0.4, float("nan"))] * (
        DRAWS - 1
    )
    flooded = [[Answered(0.1, 0.1, 0.5, 0.2)] * DRAWS, *([seen] * len(POINTS))]
    answers = {(UNATTACKED[0], 0): calm, (MIXRAND, 0): mixed, (FLOOD, 0): flooded}
    leaks = [[Leak(0.5 + at, 0.5, 0.6, 300.0) for _ in POINTS] for at in (0.0, 0.02)]
    neighbors, first, *_ = _rows([UNATTACKED[0], MIXRAND, FLOOD], 1, answers, leaks)
    assert neighbors.point is None and (neighbors.kept, neighbors.worst) == (1.0, 0.0)
    assert first.kept == pytest.approx(0.8) and first.tail == pytest.approx(0.1)
    assert first.worst == pytest.approx(0.5)
    assert first.held == pytest.approx(1 - 1 / (2 * DRAWS))
    assert first.full == pytest.approx((0.51, 0.01)) and len(first.told()) == 14


class BegunError(Exception):
    """What is to be measured is known."""


def test_an_attack_is_measured_with_what_it_is_compared_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Trial] = []

    def begin(_: object, calls: list[tuple[str, Trial, int, str, int]], **__: object) -> None:
        asked.extend(trial for _, trial, *_ in calls)
        raise BegunError

    monkeypatch.setattr(book, "in_processes", begin)
    with pytest.raises(BegunError):
        book.main("ml-100k", seeds=1, trial=["avgpop"])
    assert asked == [*UNATTACKED, Trial("avgpop"), Trial("avgpop", (("targets", "middle"),))]


@pytest.mark.parametrize(
    ("trial", "line"), [("flod", "unknown trial 'flod'"), ("none", "none is no attack")]
)
def test_what_is_no_attack_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, trial: str, line: str
) -> None:
    monkeypatch.delattr(book, "in_processes")
    with pytest.raises(typer.BadParameter, match=line):
        book.main("ml-100k", seeds=1, trial=[trial])


@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(1, 60),
    share=st.floats(0, 1),
    length=st.integers(1, 70),
)
def test_of_one_ranking_each_book_has_the_list_of_a_device(
    seed: int, items: int, share: float, length: int
) -> None:
    rng = np.random.default_rng(seed)
    # Of few values, so that items tie.
    scores = rng.integers(-3, 4, items).astype(np.float32)
    own = np.flatnonzero(rng.random(items) < 0.3).astype(np.int32)
    ranking = Ranking(scores, own)
    for _ in range(3):
        listed = rng.random(items) < share
        expected = top_items(unlisted_last(scores, listed, own), own, length)
        assert ranking.first(listed, length).tolist() == expected.tolist()
