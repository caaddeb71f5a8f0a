"""What is sealed for a user's device: who can open it, and with which ratings."""

import numpy as np
import pytest

from common.errors import InputError
from common.ratings import RatingMatrix
from common.wire import offload_pb2 as wire
from common.wire.sealing import NONCE_BYTES, TAG_BYTES, OtherRatingsError, OwnRow, device_key
from tests.common.wire.test_messages import SCALE

VERSION = "a" * 64
SECRET = bytes(range(32))
OWN = wire.Own(user_parameters={"user_embedding": b"\x80\x01\x02"}, rows={"item_bias": b"1234"})


def rated(items: list[int], levels: list[int]) -> RatingMatrix:
    return RatingMatrix.from_triples(
        np.zeros(len(items)), items, levels, user_count=1, item_count=50, scale=SCALE
    )


MINE = OwnRow(rated([3, 17], [2, 7]), device_key(SECRET, 7))


def test_it_opens_for_the_same_ratings_key_and_version() -> None:
    sealed = MINE.seal(OWN, VERSION)
    assert MINE.unseal(sealed, VERSION) == OWN
    # The nonce is random: equal parts do not look equal.
    assert MINE.seal(OWN, VERSION) != sealed
    assert len(sealed) == NONCE_BYTES + len(OWN.SerializeToString()) + TAG_BYTES
    assert b"item_bias" not in sealed


@pytest.mark.parametrize(
    ("other", "version"),
    [
        (OwnRow(rated([3, 17], [2, 6]), MINE.key), VERSION),
        (OwnRow(rated([3, 18], [2, 7]), MINE.key), VERSION),
        (OwnRow(rated([3], [2]), MINE.key), VERSION),
        (OwnRow(MINE.ratings, device_key(SECRET, 8)), VERSION),
        (OwnRow(MINE.ratings, device_key(SECRET[::-1], 7)), VERSION),
        (MINE, "b" * 64),
    ],
)
def test_it_opens_for_no_others(other: OwnRow, version: str) -> None:
    with pytest.raises(OtherRatingsError, match="not those of this device"):
        other.unseal(MINE.seal(OWN, VERSION), version)


def test_what_is_cut_off_or_changed_is_refused() -> None:
    sealed = MINE.seal(OWN, VERSION)
    for length in range(len(sealed)):
        with pytest.raises(InputError):
            MINE.unseal(sealed[:length], VERSION)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(OtherRatingsError):
            MINE.unseal(bytes(changed), VERSION)
