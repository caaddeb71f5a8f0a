"""How a weight decay is chosen: the rule on runs made by hand."""

import pytest

from sims.attacks import REPORTED_TARGETS
from sims.selection import weight_decay
from sims.selection.weight_decay import Trained, choice, trained


def run(hit_ratio: float, accuracy: float) -> Trained:
    return Trained(hit_ratio, accuracy, 0.0, accuracy, 0.3)


def test_the_attack_bites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REPORTED_TARGETS, "synthetic:100x150", ())
    monkeypatch.setattr(weight_decay, "WEIGHT_DECAYS", (0.0,))
    (found,) = trained("synthetic:100x150", 0, "mf", 20)
    assert found.hit_ratio > found.clean_hit_ratio + 0.1


def test_the_most_accurate_where_the_attack_bites() -> None:
    assert choice([run(1.0, 0.1), run(0.9, 0.2), run(0.89, 0.3)]) == 1


def test_where_it_never_bites_the_highest_hit_ratio() -> None:
    assert choice([run(0.1, 0.3), run(0.5, 0.1), run(0.3, 0.2)]) == 1
