"""How presets are chosen: the rule on runs made by hand, and candidates that it can rank."""

import pytest

from common.errors import InputError
from common.models import MODELS
from common.vicinal.settings import VicinalSettings
from server.training.methods import Apr, Rmf, Robust
from sims.selection.candidates import CANDIDATES, Candidate
from sims.selection.presets import (
    TRIALS,
    UNATTACKED,
    Run,
    Runs,
    Trial,
    _chosen,
    _rank,
    candidates_of,
    trials_of,
    validation,
)

SMALL, LARGE, LONG = (
    Candidate(None, VicinalSettings(40, 0.1, 4)),
    Candidate(None, VicinalSettings(80, 0.1, 4)),
    Candidate(None, VicinalSettings(80, 0.1, 12)),
)
CALM, MIXED, GROUP = UNATTACKED[0], Trial("mixrand"), Trial("group")
MIDDLE_CALM, MIDDLE = UNATTACKED[1], Trial("avgpop", (("targets", "middle"),))


def measured(*columns: tuple[float, float], inside: float | None = None) -> list[list[Run]]:
    """One seed: (hit ratio, relative accuracy) of each candidate."""
    return [
        [
            Run(hit_ratio, hit_ratio if inside is None else inside, 0.3, relative, 1.0)
            for hit_ratio, relative in columns
        ]
    ]


def runs(*columns: tuple[float, float]) -> Runs:
    """One data set, attacked and not: without an attack no target is hit."""
    calm = [(0.0, relative) for _, relative in columns]
    return {("a", CALM): measured(*calm), ("a", MIXED): measured(*columns)}


def chosen(found: Runs, candidates: list[Candidate], kind: str) -> list[Candidate]:
    ranked = sorted(range(len(candidates)), key=lambda place: _rank(found, place, kind))
    return list(_chosen(found, candidates, ranked, kind))


def test_the_most_accurate_of_the_eligible_is_chosen() -> None:
    found = runs((0.01, 1.0), (0.05, 1.5), (0.06, 2.0))
    assert chosen(found, [SMALL, LARGE, LONG], "vicinal") == [LARGE]


def test_one_bad_run_refuses_a_candidate() -> None:
    found = runs((0.01, 1.0), (0.0, 1.5))
    found["a", Trial("vicinity")] = measured((0.01, 1.0), (0.2, 1.5))
    assert chosen(found, [SMALL, LARGE], "vicinal") == [SMALL]


def test_what_counts_is_the_rise_and_where_a_group_is_aimed_at_that_inside_of_it() -> None:
    found = runs((0.0, 1.0), (0.0, 1.5))
    found["a", MIDDLE_CALM] = measured((0.3, 1.0), (0.3, 1.5))
    found["a", MIDDLE] = measured((0.34, 1.0), (0.34, 1.5))
    assert chosen(found, [SMALL, LARGE], "vicinal") == [LARGE]
    found["a", GROUP] = measured((0.0, 1.5), inside=0.2)
    found["a", GROUP][0].insert(0, Run(0.0, 0.0, 0.3, 1.0, 1.0))
    assert chosen(found, [SMALL, LARGE], "vicinal") == [SMALL]


def test_the_least_work_within_one_percent() -> None:
    assert chosen(runs((0.0, 1.49), (0.0, 1.5)), [SMALL, LARGE], "vicinal") == [SMALL]
    assert chosen(runs((0.0, 1.48), (0.0, 1.5)), [SMALL, LARGE], "vicinal") == [LARGE]


def test_where_none_is_eligible_the_hit_ratio_counts() -> None:
    found = runs((0.5, 1.0), (0.2, 0.8), (0.9, 1.2))
    assert chosen(found, [SMALL, LARGE, LONG], "paper") == [LARGE]


def test_each_robust_training_has_its_own_choice() -> None:
    trained: list[Robust] = [Apr(epsilon=0.1), Apr(epsilon=0.5), Rmf(rank=6)]
    candidates = [Candidate(each, None) for each in trained]
    found = runs((0.9, 1.0), (0.5, 1.0), (0.0, 0.1))
    names = {repr(each.training) for each in chosen(found, candidates, "robust")}
    assert names == {repr(Apr(epsilon=0.5)), repr(Rmf(rank=6))}


def test_a_robust_training_that_recommends_nothing_is_not_chosen() -> None:
    candidates = [Candidate(Apr(epsilon=0.1), None), Candidate(Apr(epsilon=0.5), None)]
    assert chosen(runs((0.99, 0.6), (0.0, 0.4)), candidates, "robust") == candidates[:1]


def test_candidates_can_be_taken_by_their_training() -> None:
    found = candidates_of("robust", "mf", ["vat"])
    assert {each.training.method for each in found if each.training} == {"vat"}
    assert len(candidates_of("robust", "nsvd")) < len(candidates_of("robust", "mf"))
    assert candidates_of("vicinal", "mf", ["vat"]) == []


@pytest.mark.parametrize("model", MODELS)
def test_candidates_differ(model: str) -> None:
    for kind in CANDIDATES:
        candidates = [repr(one) for one in CANDIDATES[kind](model)]
        assert len(set(candidates)) == len(candidates) > 5


def test_trials_can_be_taken_by_their_attack() -> None:
    assert [each.attack for each in trials_of(TRIALS["vicinal"], ["covering"])] == [
        "none",
        "none",
        "covering",
    ]
    # Alone, the choice is by accuracy.
    assert chosen({("a", CALM): measured((0.0, 1.0), (0.0, 1.5))}, [SMALL, LARGE], "vicinal") == [
        LARGE
    ]
    with pytest.raises(InputError, match="unknown trial 'cover'"):
        trials_of(TRIALS["vicinal"], ["cover"])


def test_only_data_sets_with_reported_targets_are_used() -> None:
    with pytest.raises(InputError, match="no reported targets"):
        validation("synthetic:40x50", 0, "mf", MIXED)
