"""A slim device's answer is the whole model's, to the last bit, or it is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import InputError
from common.models import MODELS
from common.ratings import RatingMatrix
from common.versions.version import Manifest
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import PRESETS, VicinalSettings
from common.vicinal.slim import SlimModel, check_slim, slim_model, slim_scores
from common.vicinal.tuning import ServedModel, tuned_scores
from common.wire import offload_pb2 as wire
from common.wire.slim import slim_from_wire, slim_to_wire
from server.data.synthetic import synthetic
from server.recommending.offload import supported

ITEMS, WIDTH = 80, 5
RATINGS = synthetic(40, ITEMS, seed=2)
POSSIBLE = {
    "curvature": VicinalSettings(12, 0.3, 3, min_support=2),
    "curvature, α = 0": VicinalSettings(12, 0.0, 3, min_support=2),
    "proximal": VicinalSettings(12, 0.3, 3, min_support=2, proximal_weight=0.1),
    "adagrad": VicinalSettings(12, 0.0, 3, "adagrad", 0.3, min_support=2),
    "adam": VicinalSettings(12, 0.0, 3, "adam", 0.03, min_support=2),
}


def served(name: str, seed: int) -> ServedModel:
    rng = np.random.default_rng(seed)
    shapes = MODELS[name].shared_shapes(ITEMS, WIDTH)
    return ServedModel(
        MODELS[name],
        {
            one: rng.standard_normal(shape, dtype=np.float32) / np.float32(3)
            for one, shape in shapes.items()
        },
    )


def neighborhood(name: str, seed: int, support: int) -> Neighborhood:
    rng = np.random.default_rng(seed)
    ratings = supported(RATINGS.rows(rng.permutation(40)[:12]), support)
    shapes = MODELS[name].user_shapes(12, WIDTH)
    own = {one: rng.standard_normal(shape, dtype=np.float32) for one, shape in shapes.items()}
    return Neighborhood(ratings, own)


def manifest(name: str) -> Manifest:
    return Manifest(name, 40, ITEMS, WIDTH, 1.0, 5.0, 1.0, "0" * 64, "0" * 64)


def received(name: str, sent: SlimModel, ratings: RatingMatrix) -> SlimModel:
    seen = seen_in(ratings)
    message, own = slim_to_wire(sent, ratings, seen, shared=True)
    message = wire.SlimModel.FromString(message.SerializeToString())
    return slim_from_wire(message, own, manifest(name), ratings, seen, shared=None)


def seen_in(ratings: RatingMatrix) -> NDArray[np.int32]:
    """Which items rows but the first have; every third of them is sealed all the same."""
    seen: NDArray[np.int32] = np.unique(ratings.items[ratings.indptr[1] :])
    return seen[np.arange(len(seen)) % 3 > 0]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", POSSIBLE)
@given(seed=st.integers(0, 10**6), support=st.sampled_from([2, 4, 12]))
@settings(max_examples=10, deadline=None)
def test_a_part_gives_the_answer_of_the_whole(name: str, how: str, seed: int, support: int) -> None:
    chosen = replace(POSSIBLE[how], min_support=support)
    whole, rows = served(name, seed), neighborhood(name, seed, support)
    if whole.model.sigmoid_output and chosen.unrated_weight > 0:
        return
    part = received(name, slim_model(whole, rows.ratings), rows.ratings)
    np.testing.assert_array_equal(
        slim_scores(whole.model, part, rows, chosen), tuned_scores(whole, rows, chosen)
    )


def test_no_supported_item_at_all() -> None:
    whole, rows = served("mf", 0), neighborhood("mf", 0, 12)
    empty = Neighborhood(supported(rows.ratings, 13), rows.user_parameters)
    part = slim_model(whole, empty.ratings)
    chosen = POSSIBLE["curvature"]
    np.testing.assert_array_equal(
        slim_scores(whole.model, part, empty, chosen), tuned_scores(whole, empty, chosen)
    )


@pytest.mark.parametrize(
    ("name", "chosen", "text"),
    [
        ("mf", PRESETS["mf"]["paper"], "min support above 1"),
        ("cdae", PRESETS["cdae"]["vicinal"], "behind its sigmoid"),
        ("mf", VicinalSettings(9, 0.1, 3, "adam", 0.03, min_support=2), "cannot use adam"),
    ],
)
def test_what_needs_the_whole_model_is_refused(
    name: str, chosen: VicinalSettings, text: str
) -> None:
    with pytest.raises(InputError, match=text):
        check_slim(MODELS[name], chosen)


def test_vicinal_presets_but_cdaes_are_possible() -> None:
    for name in ("mf", "nsvd", "autorec"):
        check_slim(MODELS[name], PRESETS[name]["vicinal"])


def test_what_is_shared_is_sent_once() -> None:
    whole, rows = served("autorec", 0), neighborhood("autorec", 0, 2)
    sent = slim_model(whole, rows.ratings)
    first = received("autorec", sent, rows.ratings)
    seen = seen_in(rows.ratings)
    message, own = slim_to_wire(sent, rows.ratings, seen, shared=False)
    assert not message.shared
    second = slim_from_wire(
        message, own, manifest("autorec"), rows.ratings, seen, shared=first.shared
    )
    assert second.shared is first.shared


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m: m.rows.pop("item_bias"), "not the model's"),
        (lambda m: m.shared.update({"x": b""}), "not the model's"),
        (lambda m: m.rows.update({"item_bias": b"\0" * 4}), "item_bias has 4 bytes"),
        (lambda m: m.shared.update({"hidden_bias": b"\xff" * 4 * WIDTH}), "not finite"),
    ],
)
def test_what_is_wrong_is_named(change: object, text: str) -> None:
    whole, rows = served("autorec", 0), neighborhood("autorec", 0, 2)
    seen = seen_in(rows.ratings)
    message, own = slim_to_wire(slim_model(whole, rows.ratings), rows.ratings, seen, shared=True)
    assert callable(change)
    change(message)
    with pytest.raises(InputError, match=text):
        slim_from_wire(message, own, manifest("autorec"), rows.ratings, seen, shared=None)
    shared = slim_model(whole, rows.ratings).shared
    with pytest.raises(InputError, match="not asked for"):
        slim_from_wire(message, own, manifest("autorec"), rows.ratings, seen, shared=shared)


@given(
    st.dictionaries(st.sampled_from(["item_embedding", "item_bias", "x"]), st.binary(max_size=99)),
    st.dictionaries(st.sampled_from(["item_gram", "hidden_bias", ""]), st.binary(max_size=99)),
)
def test_hostile_parts_are_refused(rows: dict[str, bytes], shared: dict[str, bytes]) -> None:
    ratings = neighborhood("mf", 0, 2).ratings
    with pytest.raises(InputError):
        slim_from_wire(
            wire.SlimModel(rows=rows, shared=shared),
            rows,
            manifest("mf"),
            ratings,
            seen_in(ratings),
            shared=None,
        )


def test_what_only_the_user_rated_is_in_the_sealed_part_alone() -> None:
    whole, found = served("mf", 0), neighborhood("mf", 0, 1)
    # The user with most ratings and two others.
    order = [int(np.diff(found.ratings.indptr).argmax()), 0, 1]
    rows = Neighborhood(found.ratings.rows(order), {})
    alone = np.setdiff1d(rows.ratings.items_of(0), rows.ratings.items[rows.ratings.indptr[1] :])
    assert len(alone) > 0
    seen = np.setdiff1d(np.arange(ITEMS, dtype=np.int32), alone)
    message, own = slim_to_wire(slim_model(whole, rows.ratings), rows.ratings, seen, shared=True)
    table = whole.parameters["item_embedding"]
    assert own["item_embedding"] == table[alone].tobytes()
    for item in alone:
        assert table[item].tobytes() not in message.rows["item_embedding"]
