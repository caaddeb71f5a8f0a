"""Messages: what goes in comes out, and what a stranger sends is refused with InputError."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.ranking import Counts
from common.ratings import RatingMatrix, RatingScale
from common.versions.version import Manifest
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import STEP_RULES, VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.messages import (
    counts_from_wire,
    counts_to_wire,
    neighborhood_from_wire,
    neighborhood_to_wire,
    preset_from_wire,
    preset_to_wire,
)
from common.wire.packing import encode_varints, pack
from common.wire.rounding import rounded
from tests.support.crossing import crossed

SCALE = RatingScale(0.5, 4.0, 0.5)
# Nothing is cut from the user's own row.
ALL = VicinalSettings(2, 0.1, 1)


def manifest(items: int, width: int = 3) -> Manifest:
    return Manifest("mf", 100, items, width, 0.5, 4.0, 0.5, "0" * 64, "0" * 64)


@st.composite
def neighborhoods(draw: st.DrawFn) -> tuple[Neighborhood, Manifest]:
    """Any rows, empty ones too, over catalogs whose gaps need one to four bytes."""
    items = draw(st.sampled_from([1, 7, 130, 20_000, 3_000_000]))
    rows = draw(st.lists(st.sets(st.integers(0, items - 1), max_size=12), min_size=1, max_size=6))
    pairs = [(row, item) for row, chosen in enumerate(rows) for item in sorted(chosen)]
    levels = draw(st.lists(st.integers(0, 7), min_size=len(pairs), max_size=len(pairs)))
    ratings = RatingMatrix.from_triples(
        [row for row, _ in pairs],
        [item for _, item in pairs],
        levels,
        user_count=len(rows),
        item_count=items,
        scale=SCALE,
    )
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    table = rounded(rng.standard_normal((len(rows), 3), dtype=np.float32))
    return Neighborhood(ratings, {"user_embedding": table}), manifest(items)


@given(neighborhoods(), st.integers(1, 5))
def test_a_neighborhood_comes_back_as_it_was(
    case: tuple[Neighborhood, Manifest], every: int
) -> None:
    sent, described = case
    hidden = np.zeros(described.items, dtype=bool)
    hidden[sent.ratings.items[::every]] = True
    received = crossed(sent, described, ALL, hidden=hidden)
    assert received.ratings.digest() == sent.ratings.digest()
    assert np.array_equal(
        received.user_parameters["user_embedding"], sent.user_parameters["user_embedding"]
    )


def decoded(message: wire.Neighborhood, described: Manifest) -> Neighborhood:
    """As a device with one rating does it."""
    own = RatingMatrix.from_triples(
        [0], [0], [7], user_count=1, item_count=described.items, scale=SCALE
    )
    sealed = wire.Own(user_parameters={"user_embedding": bytes(1 + described.width)})
    return neighborhood_from_wire(message, described, sealed, own, ALL).neighborhood


def accepted(message: wire.Neighborhood, described: Manifest) -> Neighborhood | None:
    """The neighborhood, checked to be sound; None where it was refused as it should be."""
    try:
        received = decoded(message, described)
    except InputError:
        return None
    ratings = received.ratings
    assert ratings.user_count == 1 + len(message.row_lengths)
    assert ratings.item_count == described.items
    assert np.isfinite(received.user_parameters["user_embedding"]).all()
    dense = ratings.dense()
    assert ((dense == 0) | (dense >= 0.125)).all() and dense.max(initial=0) <= 1
    return received


@settings(max_examples=200)
@given(
    st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 5), max_size=5),
    st.binary(max_size=30),
    st.binary(max_size=12) | st.lists(st.integers(0, 9), max_size=12).map(bytes),
    st.binary(max_size=60),
    st.sampled_from(["user_embedding", "item_embedding", ""]),
)
def test_hostile_fields_are_refused_or_sound(
    lengths: list[int], items: bytes, levels: bytes, rows: bytes, name: str
) -> None:
    message = wire.Neighborhood(
        row_lengths=lengths, items=pack(items), levels=pack(levels), user_parameters={name: rows}
    )
    accepted(message, manifest(10))
    message.items, message.levels = items, levels
    accepted(message, manifest(10))


@settings(max_examples=200)
@given(neighborhoods(), st.data())
def test_hostile_changes_of_a_good_message_are_refused_or_sound(
    case: tuple[Neighborhood, Manifest], data: st.DataObject
) -> None:
    sent, described = case
    if described.items > 20_000:
        return  # the check makes a dense table
    octets = bytearray(neighborhood_to_wire(sent).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = wire.Neighborhood.FromString(bytes(octets))
    except DecodeError:
        return
    accepted(message, described)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"row_lengths": []}, "larger than 0 bytes"),
        ({"row_lengths": [3]}, "row lengths"),
        ({"row_lengths": [1]}, "larger than 1 bytes"),
        ({"row_lengths": [11]}, "more ratings than items"),
        ({"row_lengths": [2, 1]}, "parameters of 4 bytes"),
        ({"items": b"\x00"}, "not 2 numbers"),
        ({"items": b"\x00\x80"}, "not 2 numbers"),
        ({"items": b"\x00\x09"}, "out of range"),
        ({"items": b"\x00" + b"\x80" * 5 + b"\x01"}, "too long"),
        ({"items": b"\x00" + b"\xff" * 4 + b"\x7f"}, "out of range"),
        ({"levels": b"\x00\x08"}, "above the scale"),
        ({"user_parameters": {}}, "not the model's"),
        ({"user_parameters": {"user_embedding": b"\x80\x00\x80\x00"}}, "out of range"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], text: str) -> None:
    good: dict[str, object] = {
        "row_lengths": [2],
        "items": b"\x00\x08",
        "levels": b"\x00\x07",
        "user_parameters": {"user_embedding": b"\x00" * 4},
    }
    described = manifest(10)
    fields = {**good, **change}
    if "row_lengths" in change and change["row_lengths"] == [2, 1]:
        fields |= {"items": b"\x00\x08\x00", "levels": b"\x00\x07\x00"}
    for part in (good, fields):
        part |= {name: pack(data) for name, data in part.items() if isinstance(data, bytes)}
    assert accepted(wire.Neighborhood(**good), described) is not None  # type: ignore[arg-type]
    with pytest.raises(InputError, match=text):
        decoded(wire.Neighborhood(**fields), described)  # type: ignore[arg-type]


def test_a_message_cannot_ask_for_more_memory_than_it_is_large() -> None:
    # A few kilobytes of rows, over as many items each, would become a table of gigabytes.
    rows = 60_000
    message = wire.Neighborhood(
        row_lengths=[1] * rows,
        items=pack(encode_varints(np.arange(rows))),
        levels=pack(bytes(rows)),
        user_parameters={"user_embedding": bytes(4 * rows)},
    )
    with pytest.raises(InputError, match="60000 neighbors with 60000 ratings"):
        decoded(message, manifest(100_000))
    bomb = wire.Neighborhood(row_lengths=[2**31 - 1], levels=pack(bytes(2**20)))
    with pytest.raises(InputError, match="all too many"):
        decoded(bomb, manifest(2**31 - 1, width=1))


LARGE = st.integers(0, 2**64 - 1) | st.integers(0, 3)


@given(st.lists(LARGE, max_size=3), st.lists(LARGE, max_size=3), LARGE, LARGE, LARGE, LARGE)
def test_counts_come_back_or_are_impossible(
    eligible: list[int], hits: list[int], users: int, user_hits: int, liked: int, liked_hits: int
) -> None:
    message = wire.Counts(
        eligible=eligible,
        hits=hits,
        users=users,
        user_hits=user_hits,
        liked=liked,
        liked_hits=liked_hits,
    )
    possible = (
        len(eligible) == len(hits)
        and all(h <= e for h, e in zip(hits, eligible, strict=True))
        and liked_hits <= min(liked, user_hits)
        and max(liked, user_hits) <= users
    )
    if not possible:
        with pytest.raises(InputError):
            counts_from_wire(message)
        return
    counts = counts_from_wire(message)
    assert counts == Counts(tuple(eligible), tuple(hits), users, user_hits, liked, liked_hits)
    assert counts_to_wire(counts) == message


@given(
    st.integers(0, 2**32 - 1),
    st.floats(),
    st.integers(0, 2**32 - 1),
    st.sampled_from([*STEP_RULES, "sgd", ""]),
    st.floats(),
    st.integers(0, 2**32 - 1),
    st.floats(),
)
def test_hostile_presets_are_refused_or_come_back(
    neighbors: int, weight: float, steps: int, rule: str, rate: float, support: int, pull: float
) -> None:
    message = wire.Preset(
        name="x",
        neighbors=neighbors,
        unrated_weight=weight,
        steps=steps,
        step_rule=rule,
        learning_rate=rate,
        min_support=support,
        proximal_weight=pull,
        neighbors_by="embedding",
        margin=1,
    )
    try:
        received = preset_from_wire(message)
    except InputError:
        return
    numbers = (received.unrated_weight, received.learning_rate, received.proximal_weight)
    assert np.isfinite(numbers).all()
    assert preset_to_wire("x", received) == message


def test_presets_come_back() -> None:
    for preset in (
        VicinalSettings(12, 0.0, 25, step_rule="adagrad", learning_rate=0.3),
        VicinalSettings(80, 0.125, 10, min_support=4, proximal_weight=0.5),
    ):
        assert preset_from_wire(preset_to_wire("x", preset)) == preset


@pytest.mark.parametrize(("rule", "rate"), [("curvature", float("nan")), ("adagrad", np.inf)])
def test_a_learning_rate_that_is_no_number_is_refused(rule: str, rate: float) -> None:
    message = wire.Preset(
        neighbors=2, unrated_weight=0.1, steps=1, step_rule=rule, learning_rate=rate, min_support=1
    )
    with pytest.raises(InputError, match="learning rate"):
        preset_from_wire(message)
