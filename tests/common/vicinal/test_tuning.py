"""The fast path against Algorithm 1 as it is written, and what a fine-tune must never do."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.models import MODELS
from common.ratings import RatingMatrix, RatingScale
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.optimizers import TouchedCopy
from common.vicinal.settings import PRESETS, StepRule, VicinalSettings
from common.vicinal.tuning import ServedModel, tuned_scores
from sims.theory.reference import VicinalCopy, fine_tuned, reference_scores

SCALE = RatingScale(1, 5, 1)


def case(
    model: str, seed: int, rows: int, items: int, width: int, density: float, dtype: type
) -> tuple[ServedModel, Neighborhood]:
    """A random model and neighborhood; rows may be empty, items unrated."""
    rng = np.random.default_rng(seed)
    mask = rng.random((rows, items)) < density
    users, columns = np.nonzero(mask)
    ratings = RatingMatrix.from_triples(
        users,
        columns,
        rng.integers(0, 5, len(users)),
        user_count=rows,
        item_count=items,
        scale=SCALE,
    )
    spread = (1 / width) ** 0.25

    def drawn(shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
        return {
            name: rng.normal(0.2, spread, shape).astype(dtype) for name, shape in shapes.items()
        }

    chosen = MODELS[model]
    served = ServedModel(chosen, drawn(chosen.shared_shapes(items, width)))
    return served, Neighborhood(ratings, drawn(chosen.user_shapes(rows, width)))


PAPER = PRESETS["mf"]["paper"]

shapes = {
    "model": st.sampled_from(list(MODELS)),
    "seed": st.integers(0, 10_000),
    "rows": st.integers(1, 12),
    "items": st.integers(1, 40),
    "width": st.integers(1, 8),
    "density": st.sampled_from([0.0, 0.05, 0.3, 0.9, 1.0]),
}


@settings(max_examples=150, deadline=None)
@given(
    **shapes,
    alpha=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    steps=st.integers(0, 6),
    proximal=st.sampled_from([0.0, 0.01]),
)
def test_curvature_steps_match_the_reference_on_every_score(
    model: str, seed: int, rows: int, items: int, width: int, density: float, alpha: float,
    steps: int, proximal: float,
) -> None:  # fmt: skip
    served, neighborhood = case(model, seed, rows, items, width, density, np.float64)
    setting = VicinalSettings(rows, alpha, steps, proximal_weight=proximal)
    fast = tuned_scores(served, neighborhood, setting)
    slow = reference_scores(served, neighborhood, setting).numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    **shapes,
    alpha=st.sampled_from([0.0, 0.3]),
    steps=st.integers(0, 8),
    proximal=st.sampled_from([0.0, 0.01]),
    rule=st.sampled_from(["adagrad", "adam"]),
)
def test_optimizers_match_the_reference_on_every_score(
    model: str, seed: int, rows: int, items: int, width: int, density: float, alpha: float,
    steps: int, proximal: float, rule: StepRule,
) -> None:  # fmt: skip
    served, neighborhood = case(model, seed, rows, items, width, density, np.float64)
    setting = VicinalSettings(
        rows, alpha, steps, step_rule=rule, learning_rate=0.1, proximal_weight=proximal
    )
    fast = tuned_scores(served, neighborhood, setting)
    slow = reference_scores(served, neighborhood, setting).numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    model=st.sampled_from(list(MODELS)),
    seed=st.integers(0, 10_000),
    alpha=st.sampled_from([0.0, 0.1, 0.6]),
)
def test_single_precision_matches_the_reference_in_double(
    model: str, seed: int, alpha: float
) -> None:
    setting = VicinalSettings(20, alpha, 4)
    served, neighborhood = case(model, seed, 20, 120, 16, 0.2, np.float32)
    double = ServedModel(served.model, doubled(served.parameters))
    rows = replace(neighborhood, user_parameters=doubled(neighborhood.user_parameters))
    fast = tuned_scores(served, neighborhood, setting)
    assert fast.dtype == np.float32
    slow = reference_scores(double, rows, setting).numpy()
    np.testing.assert_allclose(fast, slow, rtol=1e-4, atol=1e-3)


def doubled(tables: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """In double precision, whatever the type says."""
    return {name: table.astype(np.float64) for name, table in tables.items()}


@settings(max_examples=100, deadline=None)
@given(
    **shapes,
    setting=st.sampled_from(
        [
            VicinalSettings(1, 0.0, 5),
            VicinalSettings(1, 0.5, 5),
            VicinalSettings(1, 1.0, 5),
            PAPER,
            replace(PAPER, learning_rate=1000.0),
            replace(PAPER, unrated_weight=0.3, learning_rate=30.0),
        ]
    ),
    magnitude=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_a_fine_tune_is_finite_and_never_ends_above_its_start(
    model: str, seed: int, rows: int, items: int, width: int, density: float,
    setting: VicinalSettings, magnitude: float,
) -> None:  # fmt: skip
    served, neighborhood = case(model, seed, rows, items, width, density, np.float64)
    tables = {name: table * magnitude for name, table in served.parameters.items()}
    served = ServedModel(served.model, tables)
    copy = VicinalCopy(served, neighborhood)
    objective = float(copy.objective(setting).detach())
    scores = tuned_scores(served, neighborhood, setting)
    assert np.isfinite(scores).all()
    # Beyond, sigmoids saturate: their gradients are rounding, of which adagrad makes whole steps.
    if magnitude <= 1:
        np.testing.assert_allclose(
            scores, reference_scores(served, neighborhood, setting).numpy(), rtol=1e-4, atol=1e-5
        )
    # Scores of one row say nothing of the objective; the reference, which they match, does.
    tuned = fine_tuned(served, neighborhood, setting)
    assert float(tuned.objective(setting).detach()) <= objective * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("model", MODELS)
def test_the_model_and_the_neighborhood_stay_as_they_were(model: str) -> None:
    served, neighborhood = case(model, 3, 8, 30, 4, 0.3, np.float32)
    for table in (*served.parameters.values(), *neighborhood.user_parameters.values()):
        table.setflags(write=False)
    for setting in PRESETS[model].values():
        tuned_scores(served, neighborhood, setting)


@pytest.mark.parametrize("model", MODELS)
def test_no_steps_are_the_plain_model(model: str) -> None:
    served, neighborhood = case(model, 4, 8, 30, 4, 0.3, np.float32)
    for setting in (VicinalSettings(8, 0.1, 0), replace(PAPER, steps=0)):
        scores = tuned_scores(served, neighborhood, setting)
        np.testing.assert_allclose(scores, served.plain_scores(neighborhood), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_gradients_by_hand_are_finite_differences(model: str, alpha: float) -> None:
    served, neighborhood = case(model, 5, 6, 14, 3, 0.4, np.float64)
    setting = replace(PAPER, unrated_weight=alpha, proximal_weight=0.1)
    parameters = {**served.parameters, **neighborhood.user_parameters}
    copy = TouchedCopy(served.model, parameters, served.item_table, neighborhood.ratings, setting)
    rng = np.random.default_rng(0)
    for table in copy.tables.values():
        table += rng.normal(0, 0.3, table.shape)  # away from the start, so that λ pulls too
    gradients = {name: table.copy() for name, table in copy.gradients().items()}
    assert gradients.keys() == copy.tables.keys()
    for name, table in copy.tables.items():
        for place in rng.choice(table.size, min(table.size, 12), replace=False):
            ends = []
            for shift in (1e-5, -1e-5):
                table.flat[place] += shift
                ends.append(copy.objective() / 2)
                table.flat[place] -= shift
            numeric = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(gradients[name].flat[place], numeric, rtol=1e-5, atol=1e-8)


def test_one_step_by_hand() -> None:
    """One user, two items, d = 1, α = ½, one step, worked out on paper.

    p = 1, q = (1, 2), only item 0 rated, r = 1 (5 of 5). Users: residual W∘(pq − r) =
    (0, ½·2 = 1), gradient 0·1 + 1·2 = 2; S = ½(1 + 4) = 2.5, bound = ½·1 = 0.5, p = 1 − 2/3 = ⅓.
    Items: touched q₀: residual ⅓ − 1 = −⅔, gradient −2/9; S = ½·⅑ = 1/18, bound = ½·⅑ = 1/18,
    q₀ = 1 + (2/9)·9 = 3. Untouched q₁: gradient S·2, bound S (the mean), q₁ = 2 − 2·½ = 1.
    Scores: p·q = (1, ⅓).
    """
    ratings = RatingMatrix.from_triples([0], [0], [4], user_count=1, item_count=2, scale=SCALE)
    served = ServedModel(MODELS["mf"], {"item_embedding": np.array([[1], [2]], dtype=np.float32)})
    users = {"user_embedding": np.ones((1, 1), dtype=np.float32)}
    scores = tuned_scores(served, Neighborhood(ratings, users), VicinalSettings(1, 0.5, 1))
    np.testing.assert_allclose(scores, [1.0, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"neighbors": 0},
        {"unrated_weight": -0.1},
        {"unrated_weight": 1.5},
        {"steps": -1},
        {"step_rule": "adagrad"},
        {"step_rule": "adam"},
        {"learning_rate": 1.0},
        {"min_support": 0},
        {"min_support": 13},
        {"proximal_weight": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError):
        replace(VicinalSettings(12, 0.1, 5), **wrong)  # type: ignore[arg-type]
