"""Vectors that are made of rows: the arithmetic, and that every path makes the same ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.models import MODELS, model_named
from common.ratings import RatingMatrix
from common.vicinal.fold_in import (
    CONFIDENCE,
    RIDGE,
    SOLVED_AT_ONCE,
    folded,
    own_parameters,
)
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import PRESETS, VicinalSettings, preset
from common.vicinal.slim import slim_model, slim_scores
from common.vicinal.tuning import ServedModel, check_rule, tuned_scores
from server.data.synthetic import synthetic

ITEMS, WIDTH = 40, 5
RATINGS = synthetic(30, ITEMS, seed=3)
RULES = {
    "curvature": VicinalSettings(8, 0.3, 2, min_support=2),
    "adagrad": VicinalSettings(8, 0.0, 3, "adagrad", 0.3, min_support=2),
    "adam": VicinalSettings(8, 0.0, 3, "adam", 0.03, min_support=2),
}


def served(name: str, seed: int) -> ServedModel:
    rng = np.random.default_rng(seed)
    shapes = MODELS[name].shared_shapes(ITEMS, WIDTH)
    tables = {one: rng.standard_normal(shape, dtype=np.float32) for one, shape in shapes.items()}
    return ServedModel(MODELS[name], tables)


def rows_of(seed: int) -> RatingMatrix:
    return RATINGS.rows(np.random.default_rng(seed).permutation(30)[:8])


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_solved_alone_or_together_alike(name: str) -> None:
    """More rows than are solved at a time, one of them empty."""
    model, rows = served(name, 1), RATINGS.rows(np.arange(2 * SOLVED_AT_ONCE + 3) % 30)
    emptied = rows.indptr[5:7].tolist()
    keep = np.ones(len(rows), dtype=bool)
    keep[emptied[0] : emptied[1]] = False
    rows = RatingMatrix.from_triples(
        *(part[keep] for part in (rows.users, rows.items, rows.levels)),
        user_count=rows.user_count,
        item_count=ITEMS,
        scale=rows.scale,
    )
    table, gram = model.parameters["item_embedding"], model.item_gram
    found = folded(model.model, table, gram, rows)
    for row in range(rows.user_count):
        alone = own_parameters(model.model, table, gram, rows.rows([row]))
        assert found.keys() == alone.keys()
        for each, vector in alone.items():
            np.testing.assert_array_equal(found[each][[row]], vector)


@given(seed=st.integers(0, 10**6))
def test_each_vector_solves_its_equation(seed: int) -> None:
    model, rows = served("mf", seed), rows_of(seed)
    table = model.parameters["item_embedding"].astype(np.float64)
    found = folded(model.model, model.parameters["item_embedding"], model.item_gram, rows)
    ridge = RIDGE * sum(float(q @ q) for q in table) / WIDTH
    for row, vector in zip(rows.dense(), found["user_embedding"], strict=True):
        system, right = ridge * np.eye(WIDTH), np.zeros(WIDTH)
        for rating, q in zip(row.tolist(), table, strict=True):
            system += (1 + CONFIDENCE * rating) * np.outer(q, q)
            right += (1 + CONFIDENCE * rating) * q * (rating > 0)
        np.testing.assert_allclose(system @ vector, right, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "rule"), [("mf", "curvature"), *(("cdae", rule) for rule in RULES)]
)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_an_answer_is_that_of_the_vectors_that_its_rows_give(
    name: str, rule: str, seed: int
) -> None:
    how = replace(RULES[rule], fold_in=True)
    model, rows = served(name, seed), rows_of(seed)
    vectors = folded(model.model, model.parameters["item_embedding"], model.item_gram, rows)
    expected = tuned_scores(model, Neighborhood(rows, vectors), RULES[rule])
    sent = Neighborhood(rows, {})
    np.testing.assert_array_equal(tuned_scores(model, sent, how), expected)
    if not (model.model.sigmoid_output and how.unrated_weight > 0):
        part = slim_model(model, rows)
        np.testing.assert_allclose(
            slim_scores(model.model, part, sent, how), expected, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", ["nsvd", "autorec", "ease"])
def test_what_sends_no_vectors_is_told_so(name: str) -> None:
    with pytest.raises(InputError, match=f"^{name} sends no vectors of users: leave out --fold-in"):
        preset("vicinal", model=name, fold_in=True)
    with pytest.raises(InputError, match="sends no vectors"):
        check_rule(model_named(name), replace(PRESETS[name]["vicinal"], fold_in=True))


def test_where_trained_vectors_are_what_defends_they_are_sent() -> None:
    with pytest.raises(InputError, match=r"^mf by adagrad, as in preset paper, is defended by"):
        preset("paper", fold_in=True)
    with pytest.raises(InputError, match="is defended by trained vectors alone"):
        check_rule(model_named("mf"), replace(PRESETS["mf"]["paper"], fold_in=True))
    assert preset("paper", model="cdae", fold_in=True).fold_in


def test_what_is_served_as_mf_sends_vectors() -> None:
    how = preset("vicinal", model="ials", fold_in=True, row_cap=7)
    assert (how.fold_in, how.row_cap) == (True, 7)
    assert not preset("vicinal").fold_in
