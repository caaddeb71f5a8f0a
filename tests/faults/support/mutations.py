"""Valid bytes made invalid, in the ways in which transport, disks and strangers do."""

import random
import struct
from collections.abc import Callable, Sequence
from typing import Final

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]

# Where lengths, offsets and counts overflow or wrap.
NUMBERS: Final = (0, 1, -1, 127, 128, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
LARGE_NUMBERS: Final = (*NUMBERS, 1 << 33, 1 << 62, (1 << 63) - 1, -(1 << 63))
MOST_INSERTED: Final = 64


def flip(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def replace(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def truncate(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    del data[rng.randint(0, len(data)) :]


def cut(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start, end = _span(data, rng)
    del data[start:end]


def repeat(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    start, end = _span(data, rng)
    data[start:start] = data[start:end]


def insert(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    at = rng.randint(0, len(data))
    data[at:at] = rng.randbytes(rng.randint(1, MOST_INSERTED))


def splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    """The end of another valid input behind the beginning of this one."""
    other = rng.choice(others)
    data[rng.randint(0, len(data)) :] = other[rng.randint(0, len(other)) :]


def number(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """A number of 1, 2, 4 or 8 bytes that is likely to be wrong as a length."""
    width = rng.choice((1, 2, 4, 8))
    if len(data) >= width:
        at = rng.randint(0, len(data) - width)
        value = rng.choice(LARGE_NUMBERS) & ((1 << 8 * width) - 1)
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def varint(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """A number as protobuf and LEB128 write it, in the place of a byte."""
    if data:
        at = rng.randrange(len(data))
        data[at : at + 1] = _varint(rng.choice(LARGE_NUMBERS) & ((1 << 64) - 1))


def decimal(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """A number as JSON and CSV write it, in the place of a digit."""
    places = [place for place, octet in enumerate(data) if 0x30 <= octet <= 0x39]
    if places:
        at = rng.choice(places)
        said = rng.choice((*LARGE_NUMBERS, "1e999", "-0.0", "NaN", "Infinity", "1" * 400, "null"))
        data[at : at + 1] = str(said).encode()


def real(data: bytearray, rng: random.Random, _: Sequence[bytes]) -> None:
    """A float32 or a float64 that is no ordinary number."""
    form = rng.choice(("<f", "<d"))
    width = struct.calcsize(form)
    if len(data) >= width:
        at = rng.randint(0, len(data) - width)
        value = rng.choice((float("nan"), float("inf"), -float("inf"), 1e-45, 3.4e38, -0.0))
        data[at : at + width] = struct.pack(form, value)


MUTATIONS: Final[tuple[Mutation, ...]] = (
    *(flip, replace, truncate, cut, repeat, insert, splice, number, varint, decimal, real),
)


def mutated(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """One to four mutations, one after another."""
    changed = bytearray(data)
    for mutation in rng.choices(MUTATIONS, k=rng.randint(1, 4)):
        mutation(changed, rng, others)
    return bytes(changed)


def _span(data: bytearray, rng: random.Random) -> tuple[int, int]:
    start = rng.randint(0, len(data))
    return start, min(len(data), start + rng.randint(1, MOST_INSERTED))


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
