"""How presets are chosen: the rule on runs made by hand, and candidates that it can rank."""

import pytest

from common.errors import InputError
from common.models import MODELS
from common.vicinal.settings import VicinalSettings
from server.training.methods import Apr, Rmf, Vat
from sims.selection.presets import (
    CANDIDATES,
    Candidate,
    Run,
    Runs,
    _chosen,
    _rank,
    candidates_of,
    validation,
)

SMALL, LARGE, LONG = (
    VicinalSettings(40, 0.1, 4),
    VicinalSettings(80, 0.1, 4),
    VicinalSettings(80, 0.1, 12),
)


def runs(*columns: tuple[float, float]) -> Runs:
    """One data set and one seed: (hit ratio, relative accuracy) of each candidate."""
    return {
        ("a", "mixrand"): [[Run(hit_ratio, 0.3, relative, 1.0) for hit_ratio, relative in columns]]
    }


def chosen(found: Runs, candidates: list[Candidate], kind: str) -> list[Candidate]:
    ranked = sorted(range(len(candidates)), key=lambda place: _rank(found, place, kind))
    return list(_chosen(found, candidates, ranked, kind))


def test_the_most_accurate_of_the_eligible_is_chosen() -> None:
    found = runs((0.01, 1.0), (0.05, 1.5), (0.06, 2.0))
    assert chosen(found, [SMALL, LARGE, LONG], "vicinal") == [LARGE]


def test_one_bad_run_refuses_a_candidate() -> None:
    found = runs((0.01, 1.0), (0.0, 1.5))
    found["a", "vicinity"] = runs((0.01, 1.0), (0.2, 1.5))["a", "mixrand"]
    assert chosen(found, [SMALL, LARGE], "vicinal") == [SMALL]


def test_the_least_work_within_two_percent() -> None:
    assert chosen(runs((0.0, 1.49), (0.0, 1.5)), [SMALL, LARGE], "vicinal") == [SMALL]
    assert chosen(runs((0.0, 1.4), (0.0, 1.5)), [SMALL, LARGE], "vicinal") == [LARGE]


def test_where_none_is_eligible_the_hit_ratio_counts() -> None:
    found = runs((0.5, 1.0), (0.2, 0.8), (0.9, 1.2))
    assert chosen(found, [SMALL, LARGE, LONG], "paper") == [LARGE]


def test_each_robust_training_has_its_own_choice() -> None:
    candidates: list[Candidate] = [Apr(epsilon=0.1), Apr(epsilon=0.5), Rmf(rank=6)]
    found = runs((0.9, 1.0), (0.5, 1.0), (0.0, 0.1))
    assert set(chosen(found, candidates, "robust")) == {Apr(epsilon=0.5), Rmf(rank=6)}


def test_a_robust_training_that_recommends_nothing_is_not_chosen() -> None:
    candidates: list[Candidate] = [Apr(epsilon=0.1), Apr(epsilon=0.5)]
    found = runs((0.99, 0.6), (0.0, 0.4))
    assert chosen(found, candidates, "robust") == [Apr(epsilon=0.1)]


@pytest.mark.parametrize("model", MODELS)
def test_candidates_differ(model: str) -> None:
    for kind in CANDIDATES:
        candidates = [repr(one) for one in CANDIDATES[kind](model)]
        assert len(set(candidates)) == len(candidates) > 5


def test_robust_candidates_can_be_taken_by_name() -> None:
    assert {type(each) for each in candidates_of("robust", "mf", ["vat"])} == {Vat}
    assert len(candidates_of("robust", "nsvd")) < len(candidates_of("robust", "mf"))
    assert candidates_of("vicinal", "mf", ["vat"]) == []


def test_only_data_sets_with_reported_targets_are_used() -> None:
    with pytest.raises(InputError, match="no reported targets"):
        validation("synthetic:40x50", 0)
