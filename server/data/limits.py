"""How much is read: what this machine has memory for, not a number of our own."""

from typing import Final

from common.memory import available_memory

# What a rating takes at most while it is read, and a byte of text with the rating in it.
BYTES_A_RATING: Final = 72
BYTES_A_BYTE: Final = 3
# Rows are counted in 32 bits.
MOST_ROWS: Final = 2**32 - 2
# However little is free: small files are read, and the system says no where it has to.
LEAST_FREE: Final = 1 << 30


def most_rows() -> int:
    """Ratings that fit."""
    return min(_free() // BYTES_A_RATING, MOST_ROWS)


def most_bytes() -> int:
    """Bytes of a file, unpacked, that fit with what is made of them."""
    return _free() // BYTES_A_BYTE


def _free() -> int:
    return max(available_memory(), LEAST_FREE)
