"""The whole loop on releases whose leak is known, and what is said of goals."""

import numpy as np
import pytest

from common.errors import InputError
from server.data.datasets import load_dataset
from sims.audit.audit import Plan, audited, spies
from sims.audit.goals import Estimate, Goals, estimates
from sims.audit.knowledge import Knowledge
from sims.audit.membership import auc
from sims.audit.release import Release
from sims.audit.report import FIGURES
from sims.audit.sampled import Figures, Sampled, area, share
from sims.evaluation.experiment import Experiment
from tests.support.ratings import from_table
from tests.support.releases import BookRelease, PlainRelease, cells, whole

NAME = "synthetic:160x200"
PLAN = Plan(Experiment(NAME), splits=1, accounts=20, queries=60)


def figures(release: Release) -> Figures:
    (found,) = audited(PLAN, release, BookRelease(None), load_dataset(NAME))
    assert found.keys() == FIGURES.keys()
    return found


def test_a_release_of_nothing_gives_nothing_away() -> None:
    found = figures(BookRelease(None))
    for name in ("linkage.recall", "naming.recall", "spies.met", "spies.linked", "exposure.most"):
        assert found[name] == 0, name
    for name in ("content.rows", "accounts.reached", "rank.rows", "rank.sums"):
        assert found[name] == 0, name
    guesses = [name for name in found if name.startswith(("membership.", "joined.", "informed."))]
    assert len(guesses) > 10 and all(found[name] is None for name in guesses)
    assert found["accounts.to_10"] is None and found["mu"] is None
    # 60 members and 40 others, ten guesses each.
    assert found["attributes.all"] == pytest.approx(0, abs=0.12)
    missed = Goals(hr=1.0, accuracy=0.0).missed(estimates([found]))
    assert missed == []


def test_a_release_of_plain_profiles_gives_all_away() -> None:
    found = figures(PlainRelease())
    assert found["exposure.most"] == found["exposure.median"] == 1.0
    assert found["rank.rows"] == 1.0 and found["accounts.reached"] == 1.0
    assert found["accounts.to_90"] == 1 and found["spies.met"] == 1.0
    recall, precision = found["linkage.recall"], found["linkage.precision"]
    assert recall is not None and recall > 0.9 and precision is not None and precision > 0.9
    for artifact in ("package", "all"):
        for test in ("full", "whitened"):
            value = found[f"membership.{artifact}.{test}"]
            assert value is not None and value > 0.99
    advantage = found["attributes.all"]
    assert advantage is not None and advantage > 0.05
    # Everybody's package is the same: its sum is one equation.
    assert found["rank.sums"] == 1 / 160


def test_a_book_of_profiles_is_attacked_without_requests() -> None:
    found = figures(BookRelease(whole))
    assert found["bytes.package"] == 0 and found["bytes.book"] == 4
    assert found["membership.package.full"] is None
    value = found["membership.all.full"]
    assert value is not None and value > 0.99


def test_a_book_of_sums_has_nobody_in_it() -> None:
    found = figures(BookRelease(cells))
    assert found["linkage.recall"] == 0 and found["rank.rows"] == 0
    # Eight cells of twenty users, and one of four fakes.
    assert found["rank.sums"] == 9 / 160


def test_too_few_users_are_refused() -> None:
    small = "synthetic:39x60"
    with pytest.raises(InputError, match="39 users are too few to audit: give 40"):
        audited(Plan(Experiment(small)), BookRelease(None), BookRelease(None), load_dataset(small))


def test_spies_copy_what_is_known_and_praise_a_target_each() -> None:
    known = from_table([[1, 2, 0, 0, 3], [0, 2, 0, 1, 0], [2, 0, 0, 0, 0]])
    made = spies(known, (2, 3)).dense() * 5
    assert made.tolist() == [[1, 2, 5, 0, 3], [0, 2, 0, 5, 0], [2, 0, 5, 0, 0]]


def test_errors_are_over_splits() -> None:
    found = estimates([{"a": 1.0, "b": None}, {"a": 3.0, "b": 1.0}])
    assert found["a"] == Estimate(2.0, 1.0) and found["b"] == Estimate(None, None)
    assert estimates([{"a": 1.0}])["a"] == Estimate(1.0, None)
    # Splits that agree by luck are no surer than the people who were asked.
    lucky = estimates([{"a": share(0.5, 100)}, {"a": share(0.5, 100)}])["a"]
    assert lucky.error == pytest.approx(0.05 / np.sqrt(2))
    assert estimates([{"a": share(0.5, 100)}])["a"].error == 0.05
    assert estimates([{"a": Sampled(0.0, 0.1)}, {"a": Sampled(1.0, 0.1)}])["a"].error == 0.5


def test_the_error_of_an_area_is_that_of_drawn_people() -> None:
    rng = np.random.default_rng(0)
    areas = [auc(rng.normal(0.5, 1, 40), rng.normal(0, 1, 60)) for _ in range(2000)]
    expected = area(float(np.mean(areas)), 40, 60).error
    assert np.std(areas) == pytest.approx(expected, rel=0.1)


def test_each_missed_goal_is_a_line() -> None:
    good = dict.fromkeys(FIGURES, Estimate(0.0, None)) | {"accuracy.kept": Estimate(1.0, None)}
    assert Goals().missed(good) == []
    bad = {
        "naming.recall": "missed --max-linkage 0.01: naming.recall is 0.600",
        "membership.all.whitened": "missed --max-auc 0.55: membership.all.whitened is 0.600",
        "content.users": "missed --max-exposed 0.01: content.users is 0.600",
        "hit_ratio.audience": "missed --max-hr 0.05: hit_ratio.audience is 0.600",
        "accuracy.kept": "missed --min-accuracy 0.9: accuracy.kept is 0.600",
    }
    for name, line in bad.items():
        assert Goals().missed(good | {name: Estimate(0.6, None)}) == [line]
    worse = good | {name: Estimate(0.6, None) for name in bad}
    assert Goals().missed(worse) == list(bad.values())
    # The model's own leak is no release's.
    assert Goals().missed(good | {"membership.model.full": Estimate(0.9, None)}) == []
    with pytest.raises(InputError, match="goal hr 2"):
        Goals(hr=2.0)


def test_what_is_known_decides() -> None:
    more = Plan(Experiment(NAME), Knowledge(2, "random", noise=1), splits=1, accounts=5, queries=60)
    (found,) = audited(more, PlainRelease(), BookRelease(None), load_dataset(NAME))
    usual = figures(PlainRelease())["linkage.recall"]
    assert found["linkage.recall"] is not None and usual is not None
    assert found["linkage.recall"] < usual - 0.3
    assert np.isfinite(found["attributes.all"] or 0.0)
