"""What every model promises of its forward pass; one in MODELS is tested without a change here."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from common.models import MODELS, Model, Parameters, model_named


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]


def parameters_of(model: Model, users: int, items: int, width: int, seed: int) -> Parameters:
    rng = np.random.default_rng(seed)
    shapes = {**model.user_shapes(users, width), **model.shared_shapes(items, width)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


sizes = st.integers(1, 7)


@given(users=sizes, items=sizes, width=sizes, seed=st.integers(0, 99))
def test_pairs_are_entries_of_the_whole_and_torch_is_numpy(
    model: Model, users: int, items: int, width: int, seed: int
) -> None:
    parameters = parameters_of(model, users, items, width, seed)
    rng = np.random.default_rng(seed)
    ratings = rng.choice([0, 0.2, 1], (users, items)).astype(np.float32)
    embedding = model.encode(parameters, ratings)
    scores = model.decode(parameters, embedding)
    assert embedding.shape == (users, width) and scores.shape == (users, items)
    chosen = rng.integers(0, items, users)
    pairs = model.decode_pairs(parameters, embedding, chosen)
    np.testing.assert_allclose(pairs, scores[np.arange(users), chosen], rtol=1e-4, atol=1e-5)

    tensors = {name: torch.from_numpy(table) for name, table in parameters.items()}
    encoded = model.encode(tensors, torch.from_numpy(ratings))
    np.testing.assert_allclose(encoded.numpy(), embedding, rtol=1e-4, atol=1e-5)
    decoded = model.decode(tensors, encoded)
    np.testing.assert_allclose(decoded.numpy(), scores, rtol=1e-4, atol=1e-5)
    paired = model.decode_pairs(tensors, encoded, torch.from_numpy(chosen))
    np.testing.assert_allclose(paired.numpy(), pairs, rtol=1e-4, atol=1e-5)


def test_gradients_of_pairs_and_of_the_whole_agree(model: Model) -> None:
    tables = parameters_of(model, 3, 5, 4, seed=0)
    chosen = torch.tensor([4, 0, 4])
    gradients = []
    for pairwise in (True, False):
        tensors = {name: torch.tensor(table, requires_grad=True) for name, table in tables.items()}
        embedding = model.encode(tensors, torch.full((3, 5), 0.6))
        if pairwise:
            scores = model.decode_pairs(tensors, embedding, chosen)
        else:
            scores = model.decode(tensors, embedding)[torch.arange(3), chosen]
        scores.square().sum().backward()
        gradients.append({name: tensor.grad for name, tensor in tensors.items()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().sum() > 0
        torch.testing.assert_close(gradient, gradients[1][name])


def test_shapes_have_one_row_per_user_and_fit_what_is_named(model: Model) -> None:
    for shape in model.user_shapes(9, 4).values():
        assert shape[0] == 9
    assert not set(model.user_shapes(9, 4)) & set(model.shared_shapes(8, 4))
    assert MODELS[model.name] is model


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown model 'mg': choose one of mf"):
        model_named("mg")
