"""Loops for numba over who rated what: similar rows, and what rows support.

All users' overlaps with one user are counted through *lists*. Users come in blocks, so that a
block's counters stay in a core's cache and a user within one is a small number. An item's raters
in a block are a list of those numbers, or, for popular items, a bitmap of the block. Bitmaps are
added up as bits: plane p holds bit p of every user's count, 64 users to a word, so adding a bitmap
is a few logical operations for 64 users. Eight bitmaps are added at a time by carry-save adders
(Harley and Seal's circuit; Muła, Kurz and Lemire, "Faster Population Counts Using AVX2
Instructions", 2018), after which one bitmap of carries remains.

Nothing here may be reordered or approximated by the compiler: counts are integers, and a key is
one correctly rounded division, so every machine gets the same numbers. What is compiled is kept on
disk, and numba takes it for current while the caller's own file is unchanged: loops that call each
other have to stand in one file.

Shapes: U users in B blocks of V = 64 · W, I items of which D have bitmaps and S = I - D lists, N
ratings, P planes, n users in an order, k neighbors.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Users = NDArray[np.uint16] | NDArray[np.uint32]
Indices = NDArray[np.int64]
Items = NDArray[np.int32]
Keys = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])

# The planes that eight bitmaps are added to before carries leave them.
LOW_PLANES: Final = 3
# A byte's eight bits as the lowest bits of eight bytes.
SPREAD: Final[Words] = sum(
    (((np.arange(256) >> bit) & 1).astype(np.uint64) << np.uint64(8 * bit) for bit in range(8)),
    start=np.zeros(256, dtype=np.uint64),
)
# A user who falls short of the bar by more than rounding errors needs no division.
SLACK: Final = 1 - 1e-9


def exactly(function: Function) -> Function:
    """Compiled as it is written: no sums reordered, no quotients approximated."""
    made = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast(Function, made)


class RatingLists(NamedTuple):
    """Raters by item and block.

    place    an item's place among the lists, or -1 - its place among the bitmaps, int32 [I]
    starts   where every block's every list starts in `raters`, [B · S + 1]
    raters   users of all lists, numbered within their block
    bitmaps  uint64 [B, D, W]
    block    users in a block, V
    """

    place: Items
    starts: Indices
    raters: Users
    bitmaps: NDArray[np.uint64]
    block: int

    @property
    def nbytes(self) -> int:
        arrays = (self.place, self.starts, self.raters, self.bitmaps)
        return sum(array.nbytes for array in arrays)


@exactly
def most_similar(
    user: int,
    count: int,
    indptr: Indices,
    items: Items,
    item_count: int,
    lists: RatingLists,
    changed: Indices,
) -> tuple[Keys, Indices]:
    """Keys n_uv² / n_v of the `count` other users with the largest, and these users, in no order.

    Where fewer users share an item, there are keys of 0 with no user. `changed` are the users,
    ascending, whose rows are not in `lists` as they are.
    """
    users, rated = len(indptr) - 1, items[indptr[user] : indptr[user + 1]]
    listed, mapped = places_of(rated, lists.place)
    marked = np.zeros(item_count if len(changed) else 0, dtype=np.bool_)
    if len(changed):
        for item in rated:
            marked[item] = True
    keys = np.zeros(count, dtype=np.float64)
    found = np.full(count, users, dtype=np.int64)
    counts = np.empty(lists.block, dtype=np.int32)
    at = 0
    for b in range((users - 1) // lists.block + 1):
        first = b * lists.block
        here = counts[: min(lists.block, users - first)]
        here[:] = 0
        if b < len(lists.bitmaps):
            add_shared(here, b, listed, mapped, lists)
        while at < len(changed) and changed[at] < first + len(here):
            shared = 0
            for n in range(indptr[changed[at]], indptr[changed[at] + 1]):
                shared += marked[items[n]]
            here[changed[at] - first] = shared
            at += 1
        if first <= user < first + len(here):
            here[user - first] = 0
        keep_largest(keys, found, here, indptr[first:], first)
    return keys, found


@exactly
def keep_largest(keys: Keys, found: Indices, counts: Items, indptr: Indices, first: int) -> None:
    """Put users from `first` on in the place of those with smaller keys, the root of a heap.

    Users come in ascending order, so one whose key equals the root's stays out.
    """
    bar = SLACK * keys[0]
    for v in range(len(counts)):
        if counts[v] == 0:
            continue
        square = np.float64(counts[v]) * np.float64(counts[v])
        length = np.float64(indptr[v + 1] - indptr[v])
        if square < bar * length:
            continue
        key = square / length
        if key > keys[0]:
            _replace_root(keys, found, key, first + v)
            bar = SLACK * keys[0]


@exactly
def _replace_root(keys: Keys, found: Indices, key: float, user: int) -> None:
    """Of a binary heap whose root is the least key, and of equal keys the largest user."""
    parent = 0
    while True:
        child = 2 * parent + 1
        if child + 1 < len(keys) and (
            keys[child + 1] < keys[child]
            or (keys[child + 1] == keys[child] and found[child + 1] > found[child])
        ):
            child += 1
        if child >= len(keys) or not (
            keys[child] < key or (keys[child] == key and found[child] > user)
        ):
            break
        keys[parent], found[parent] = keys[child], found[child]
        parent = child
    keys[parent], found[parent] = key, user


@exactly
def changed_rows(indptr: Indices, items: Items, later_indptr: Indices, later: Items) -> Indices:
    """The users whose items are not the same later, those who are new among them, ascending."""
    users = np.empty(len(later_indptr) - 1, dtype=np.int64)
    count = 0
    for user in range(len(users)):
        start, length = later_indptr[user], later_indptr[user + 1] - later_indptr[user]
        same = user < len(indptr) - 1 and indptr[user + 1] - indptr[user] == length
        if same:
            before = indptr[user]
            for n in range(length):
                if items[before + n] != later[start + n]:
                    same = False
                    break
        if not same:
            users[count] = user
            count += 1
    return users[:count].copy()


@exactly
def supported_prefix(
    order: Indices,
    indptr: Indices,
    items: Items,
    unrated: NDArray[np.bool_],
    support: int,
    wanted: int,
) -> int:
    """The least number of users of `order` who give `wanted` unrated items `support` ratings."""
    counts = np.zeros(len(unrated), dtype=np.int32)
    found = 0
    for place in range(len(order)):
        user = order[place]
        for n in range(indptr[user], indptr[user + 1]):
            item = items[n]
            if unrated[item]:
                counts[item] += 1
                if counts[item] == support:
                    found += 1
        if found >= wanted:
            return place + 1
    return len(order)


@exactly
def raters_of(items: Items, item_count: int) -> Indices:
    """How many users rated every item, [I]; without a copy of `items`."""
    counts = np.zeros(item_count, dtype=np.int64)
    for item in items:
        counts[item] += 1
    return counts


@exactly
def sizes(indptr: Indices, items: Items, place: Items, block: int, starts: Indices) -> None:
    """Count every list, and add up where each starts."""
    blocks = (len(indptr) - 2) // block + 1
    lists = (len(starts) - 1) // max(blocks, 1)
    for user in range(len(indptr) - 1):
        first = user // block * lists
        for n in range(indptr[user], indptr[user + 1]):
            if place[items[n]] >= 0:
                starts[first + place[items[n]] + 1] += 1
    for n in range(len(starts) - 1):
        starts[n + 1] += starts[n]


@exactly
def fill(
    indptr: Indices,
    items: Items,
    place: Items,
    block: int,
    starts: Indices,
    raters: Users,
    bitmaps: Words,
) -> None:
    free = starts[:-1].copy()
    lists = len(free) // max(len(bitmaps), 1)
    for user in range(len(indptr) - 1):
        b, number = user // block, user % block
        for n in range(indptr[user], indptr[user + 1]):
            at = place[items[n]]
            if at >= 0:
                raters[free[b * lists + at]] = number
                free[b * lists + at] += 1
            else:
                bitmaps[b, -1 - at, number >> 6] |= np.uint64(1) << np.uint64(number & 63)


@exactly
def places_of(rated: Items, place: Items) -> tuple[Indices, Indices]:
    """Of some items those with lists and those with bitmaps, by their places there."""
    listed = np.empty(len(rated), dtype=np.int64)
    mapped = np.empty(len(rated), dtype=np.int64)
    lists = maps = 0
    for item in rated:
        if item >= len(place):  # rated by nobody when the lists were made
            continue
        if place[item] >= 0:
            listed[lists] = place[item]
            lists += 1
        else:
            mapped[maps] = -1 - place[item]
            maps += 1
    return listed[:lists], mapped[:maps]


@exactly
def add_shared(counts: Items, b: int, listed: Indices, mapped: Indices, lists: RatingLists) -> None:
    """Add to the first users of block b how many of some items each of them rated."""
    first = b * ((len(lists.starts) - 1) // len(lists.bitmaps))
    for at in listed:
        for n in range(lists.starts[first + at], lists.starts[first + at + 1]):
            counts[lists.raters[n]] += 1
    if len(mapped):
        add_counts(bit_counts(lists.bitmaps[b], mapped), counts)


@exactly
def bit_counts(bitmaps: Words, chosen: Indices) -> Words:
    """In how many of the chosen rows of `bitmaps` [D, W] each user is, as planes [P, W]."""
    words = bitmaps.shape[1]
    count = LOW_PLANES
    while 1 << count <= len(chosen):
        count += 1
    planes = np.zeros((count, words), dtype=np.uint64)
    carry = np.empty(words, dtype=np.uint64)
    done = 0
    while done + 8 <= len(chosen):
        _add_eight(planes, bitmaps, chosen[done : done + 8], carry)
        _add(planes, LOW_PLANES, carry)
        done += 8
    for place in chosen[done:]:
        carry[:] = bitmaps[place]
        _add(planes, 0, carry)
    return planes


@exactly
def _add(planes: Words, lowest: int, carry: Words) -> None:
    """Add 2^lowest to the counts of the users in `carry`, which is used up."""
    for p in range(lowest, len(planes)):
        plane, left = planes[p], np.uint64(0)
        for w in range(len(carry)):
            both = plane[w] & carry[w]
            plane[w] ^= carry[w]
            carry[w] = both
            left |= both
        if left == 0:
            return


@exactly
def _add_eight(planes: Words, bitmaps: Words, chosen: Indices, carry: Words) -> None:
    """Add eight bitmaps to the three lowest planes; `carry` becomes what they cannot hold."""
    ones, twos, fours = planes[0], planes[1], planes[2]
    a, b = bitmaps[chosen[0]], bitmaps[chosen[1]]
    c, d = bitmaps[chosen[2]], bitmaps[chosen[3]]
    e, f = bitmaps[chosen[4]], bitmaps[chosen[5]]
    g, h = bitmaps[chosen[6]], bitmaps[chosen[7]]
    for w in range(len(carry)):
        one = ones[w]
        odd = one ^ a[w]
        two_1, one = (one & a[w]) | (odd & b[w]), odd ^ b[w]
        odd = one ^ c[w]
        two_2, one = (one & c[w]) | (odd & d[w]), odd ^ d[w]
        odd = one ^ e[w]
        two_3, one = (one & e[w]) | (odd & f[w]), odd ^ f[w]
        odd = one ^ g[w]
        two_4, ones[w] = (one & g[w]) | (odd & h[w]), odd ^ h[w]
        two = twos[w]
        odd = two ^ two_1
        four_1, two = (two & two_1) | (odd & two_2), odd ^ two_2
        odd = two ^ two_3
        four_2, twos[w] = (two & two_3) | (odd & two_4), odd ^ two_4
        four = fours[w]
        odd = four ^ four_1
        carry[w], fours[w] = (four & four_1) | (odd & four_2), odd ^ four_2


@exactly
def add_counts(planes: Words, counts: Items) -> None:
    """Add the counts in `planes` [P, W] to those of the first users, at most 64 · W."""
    words = (len(counts) + 63) // 64
    lanes = np.empty(8 * words, dtype=np.uint64)  # eight users' counts in a word, a byte each
    for lowest in range(0, len(planes), 8):
        for w in range(words):
            for byte in range(8):
                sums = np.uint64(0)
                for p in range(lowest, min(lowest + 8, len(planes))):
                    bits = (planes[p, w] >> np.uint64(8 * byte)) & np.uint64(255)
                    sums |= SPREAD[bits] << np.uint64(p - lowest)
                lanes[8 * w + byte] = sums
        users = lanes.view(np.uint8)
        for v in range(len(counts)):
            counts[v] += np.int32(users[v]) << lowest
