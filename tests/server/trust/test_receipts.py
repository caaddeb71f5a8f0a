"""Receipts: only of what was answered, and the file with their key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.reports.report import ReportRefusedError
from server.trust.receipts import RECEIPT_BYTES, Receipts

KEY = b"k" * 32


@given(
    user=st.integers(0, 2**32 - 1),
    now=st.integers(0, 2**32 - 1),
    version=st.text(max_size=8),
    preset=st.text(max_size=8),
)
def test_a_receipt_says_whom_and_when(user: int, now: int, version: str, preset: str) -> None:
    receipts = Receipts(KEY, clock=lambda: now + 0.5)
    one, two = (receipts.issue(version, preset, user) for _ in range(2))
    first, second = Receipts(KEY).verified([one, two], version, preset)
    assert len(one) == RECEIPT_BYTES == 32
    assert (first.user, first.issued) == (second.user, second.issued) == (user, now)
    assert first.nonce != second.nonce


@given(data=st.data())
def test_no_other_bytes_are_a_receipt(data: st.DataObject) -> None:
    good = Receipts(KEY).issue("version", "preset", 7)
    place = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[place] ^= data.draw(st.integers(1, 255))
    cut, longer = good[: data.draw(st.integers(0, len(good) - 1))], good + b"\0"
    for given_ in (bytes(flipped), cut, longer, data.draw(st.binary(max_size=64))):
        with pytest.raises(ReportRefusedError, match="not one of this server"):
            Receipts(KEY).verified([given_], "version", "preset")
    for version, preset in (("versionp", "reset"), ("version", "other"), ("", "versionpreset")):
        with pytest.raises(ReportRefusedError):
            Receipts(KEY).verified([good], version, preset)
    with pytest.raises(ReportRefusedError):
        Receipts().verified([good], "version", "preset")


def test_shards_are_spread_and_depend_on_the_key() -> None:
    mine, other = Receipts(KEY), Receipts(b"o" * 32)
    dealt = [mine.shard(f"user {number}", 32) for number in range(3200)]
    counts = [dealt.count(shard) for shard in range(32)]
    assert min(counts) > 50 and max(counts) < 170
    assert dealt == [mine.shard(f"user {number}", 32) for number in range(3200)]
    assert dealt != [other.shard(f"user {number}", 32) for number in range(3200)]
