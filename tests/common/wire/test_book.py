"""A book's bytes give the book back, and nothing else is taken for one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from common.versions.version import Manifest
from common.vicinal.book import ItemBook
from common.wire import offload_pb2 as wire
from common.wire.book import decode_book, encode_book
from common.wire.packing import encode_varints, pack

VERSION = "ab" * 32
MANIFEST = Manifest("mf", 40, 300, 4, 1.0, 5.0, 1.0, "0" * 64, "0" * 64)


def book(items: list[int]) -> ItemBook:
    return ItemBook(40, 300, np.array(items, dtype=np.int32), cap=100, threshold=5, sigma=2.5)


@given(items=st.sets(st.integers(0, 299)))
def test_bytes_give_the_book_back(items: set[int]) -> None:
    sent = book(sorted(items))
    got = decode_book(encode_book(sent, VERSION), MANIFEST, VERSION)
    np.testing.assert_array_equal(got.items, sent.items)
    assert replace(got, items=sent.items) == sent
    assert len(encode_book(sent, VERSION)) < 150 + 2 * len(items)


@given(data=st.binary(max_size=400))
@settings(max_examples=300)
def test_noise_is_no_book(data: bytes) -> None:
    with pytest.raises(InputError):
        decode_book(data, MANIFEST, VERSION)


@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_book_is_a_book_or_refused(place: int, value: int) -> None:
    data = bytearray(encode_book(book([3, 4, 200, 299]), VERSION))
    data[place % len(data)] = value
    try:
        got = decode_book(bytes(data), MANIFEST, VERSION)
    except InputError:
        return
    assert len(got.items) <= 300
    assert got.item_count == 300
    assert (np.diff(got.items) > 0).all()


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"version": "cd" * 32}, "another model version"),
        ({"users": 41}, "another model version"),
        ({"listed": 301}, "lists 301 of 300 items"),
        ({"listed": 3}, "not 3 numbers"),
        ({"sigma": float("nan")}, "noise that is none"),
        ({"cap": 0}, "counts nobody"),
        ({"items": pack(encode_varints(np.array([300, 0])))}, "has not"),
        ({"items": pack(encode_varints(np.array([298, 5])))}, "has not"),
        ({"items": pack(bytes(1 << 24))}, "larger than 10 bytes"),
        ({"items": b"no zstd"}, "damaged"),
    ],
)
def test_what_a_server_would_not_send(change: dict[str, object], line: str) -> None:
    message = wire.ItemBook.FromString(encode_book(book([1, 2]), VERSION))
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(InputError, match=line):
        decode_book(message.SerializeToString(), MANIFEST, VERSION)


def test_more_bytes_than_all_items_need_are_not_read() -> None:
    with pytest.raises(InputError, match="more than 300 items need"):
        decode_book(bytes(1 << 20), MANIFEST, VERSION)
