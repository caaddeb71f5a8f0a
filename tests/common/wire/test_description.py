"""A server's description: what goes in comes out, and what cannot be is refused."""

from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.versions.version import Manifest
from common.vicinal.settings import PRESETS, VicinalSettings
from common.wire import offload_pb2 as wire
from common.wire.description import (
    MAX_STEPS,
    BookForm,
    Description,
    description_from_wire,
    description_to_wire,
)

DESCRIPTION = Description(
    version="0123456789abcdef" * 4,
    version_bytes=4 * 50 * 8 + 500,
    manifest=Manifest("mf", 20, 50, 8, 1.0, 5.0, 1.0, "a" * 64, "b" * 64),
    user_count=18,
    list_length=10,
    watched=(3, 49),
    presets=PRESETS["mf"],
)


def test_a_description_comes_back_as_it_was() -> None:
    data = description_to_wire(DESCRIPTION).SerializeToString()
    assert description_from_wire(wire.Description.FromString(data)) == DESCRIPTION


@settings(max_examples=200)
@given(st.data())
def test_hostile_changes_are_refused_or_sound(data: st.DataObject) -> None:
    octets = bytearray(description_to_wire(DESCRIPTION).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        said = description_from_wire(wire.Description.FromString(bytes(octets)))
    except (DecodeError, InputError):
        return
    assert said.user_count <= said.manifest.users
    assert 0 < said.version_bytes - 4 * said.manifest.items * said.manifest.width <= 1 << 20
    assert all(item < said.manifest.items for item in said.watched)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": "../" + "a" * 61}, "not a SHA-256"),
        ({"version_bytes": 4 * 50 * 8}, "do not fit"),
        ({"version_bytes": 4 * 50 * 8 + (1 << 20) + 1}, "do not fit"),
        ({"user_count": 0}, "0 users"),
        ({"user_count": 21}, "21 users, but the model has 20"),
        ({"list_length": 0}, "list length"),
        ({"watched": (50,)}, "outside 0–49"),
        ({"presets": {"x": VicinalSettings(100_000, 0.1, 5)}}, "more than"),
        ({"presets": {"x": VicinalSettings(10, 0.1, MAX_STEPS + 1)}}, "more than"),
    ],
)
def test_what_cannot_be_is_named(change: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        replace(DESCRIPTION, **change)  # type: ignore[arg-type]  # one field at a time


BOOK = replace(
    DESCRIPTION,
    presets={"vicinal": PRESETS["mf"]["vicinal"]},
    book=BookForm("c" * 64, 308, 0.83, 1.5),
)


def test_a_description_with_a_book_comes_back_and_says_nothing_new_to_devices_of_before() -> None:
    message = description_to_wire(BOOK)
    assert description_from_wire(wire.Description.FromString(message.SerializeToString())) == BOOK
    message.ClearField("book")
    assert description_from_wire(message) == replace(BOOK, book=None)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"book": BookForm("c" * 63, 308, 0.83, 0.83)}, "book's digest"),
        ({"book": BookForm("c" * 64, 0, 0.83, 0.83)}, "book of 0 bytes"),
        ({"book": BookForm("c" * 64, 5000, 0.83, 0.83)}, "5000 bytes does not fit 50 items"),
        ({"book": BookForm("c" * 64, 308, 0.0, 0.83)}, "is none"),
        ({"book": BookForm("c" * 64, 308, float("nan"), 0.83)}, "is none"),
        ({"book": BookForm("c" * 64, 308, 0.83, 0.82)}, "is none"),
        ({"presets": PRESETS["mf"]}, "one preset"),
        ({"presets": {"paper": PRESETS["mf"]["paper"]}}, "a book goes with the preset vicinal"),
        ({"presets": {"x": replace(PRESETS["mf"]["vicinal"], assumed_fakes=0.0)}}, "assume some"),
    ],
)
def test_a_book_that_cannot_be_is_named(change: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        replace(BOOK, **change)  # type: ignore[arg-type]  # one field at a time


def test_two_presets_of_one_name_are_refused() -> None:
    message = description_to_wire(DESCRIPTION)
    message.presets.append(message.presets[0])
    with pytest.raises(InputError, match="two presets of one name"):
        description_from_wire(message)


def test_an_unknown_preset_is_named_with_those_there_are() -> None:
    assert DESCRIPTION.preset("paper") == PRESETS["mf"]["paper"]
    with pytest.raises(
        InputError,
        match=r"unknown preset 'papre': did you mean paper\? the server offers paper, vic",
    ):
        DESCRIPTION.preset("papre")
