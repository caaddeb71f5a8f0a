"""Compiled loops against Algorithm 1 as it is written, and against numpy's path."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.models import MODELS
from common.vicinal.settings import PRESETS, StepRule, VicinalSettings
from common.vicinal.tuning import tuned_scores
from server.recommending import compiled
from server.recommending.compiled_loops import run
from sims.theory.reference import reference_scores
from tests.common.vicinal.test_tuning import PAPER, case, shapes


@settings(max_examples=150, deadline=None)
@given(
    **shapes,
    steps=st.integers(0, 8),
    rule=st.sampled_from(["adagrad", "adam"]),
    learning_rate=st.sampled_from([0.1, 30.0]),
    support=st.integers(1, 2),
)
def test_compiled_loops_match_the_reference_on_every_score(
    model: str, seed: int, rows: int, items: int, width: int, density: float, steps: int,
    rule: StepRule, learning_rate: float, support: int,
) -> None:  # fmt: skip
    served, neighborhood = case(model, seed, rows, items, width, density, np.float64)
    setting = VicinalSettings(
        rows, 0.0, steps, step_rule=rule, learning_rate=learning_rate,
        min_support=min(support, rows),
    )  # fmt: skip
    assert compiled.covers(setting)
    fast = compiled.tuned_scores(served, neighborhood, setting)
    slow = reference_scores(served, neighborhood, setting).numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_single_precision_is_numpys_up_to_rounding(model: str) -> None:
    served, neighborhood = case(model, 6, 12, 200, 16, 0.1, np.float32)
    for table in (*served.parameters.values(), *neighborhood.user_parameters.values()):
        table.setflags(write=False)
    setting = replace(PRESETS[model]["paper"], learning_rate=0.01)
    fast = compiled.tuned_scores(served, neighborhood, setting)
    assert fast.dtype == np.float32
    slow = tuned_scores(served, neighborhood, setting)
    np.testing.assert_allclose(fast, slow, atol=1e-3 * np.abs(slow).max())


@pytest.mark.parametrize("model", MODELS)
def test_a_rate_that_is_never_small_enough_leaves_the_model(model: str) -> None:
    served, neighborhood = case(model, 7, 8, 30, 4, 0.3, np.float32)
    setting = replace(PAPER, learning_rate=3e38)
    scores = compiled.tuned_scores(served, neighborhood, setting)
    np.testing.assert_allclose(scores, served.plain_scores(neighborhood), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "other",
    [
        PRESETS["mf"]["vicinal"],
        replace(PAPER, unrated_weight=0.1),
        replace(PAPER, proximal_weight=0.1),
    ],
)
def test_other_settings_are_left_to_numpy(other: VicinalSettings) -> None:
    served, neighborhood = case("mf", 8, 8, 30, 4, 0.3, np.float32)
    assert not compiled.covers(other)
    fast = compiled.tuned_scores(served, neighborhood, other)
    np.testing.assert_array_equal(fast, tuned_scores(served, neighborhood, other))


def test_warming_compiles_what_every_model_runs() -> None:
    compiled.warm()
    before = len(run.signatures)  # type: ignore[attr-defined]
    for model in MODELS:
        served, neighborhood = case(model, 9, 8, 30, 4, 0.3, np.float32)
        compiled.tuned_scores(served, neighborhood, PRESETS[model]["paper"])
    assert len(run.signatures) == before  # type: ignore[attr-defined]
