"""Who rated each item, laid out for server.recommending.rated_loops within a limit of memory.

Shapes: U users in B blocks of V = 64 · W, I items of which D have bitmaps and S = I - D lists, N
ratings.
"""

from typing import Final

import numpy as np

from common.ratings import RatingMatrix
from server.recommending.rated_loops import RatingLists, fill, raters_of, sizes

# A user's number within a block of this many fits 16 bits.
BLOCK: Final = 1 << 16
# Items rated by at least this share of users may have bitmaps: for others a list is as fast.
POPULAR: Final = 1 / 64
# What lists and bitmaps may take of the ratings' own memory; lists alone take what they take.
MEMORY_SHARE: Final = 0.5


def rating_lists(
    ratings: RatingMatrix, *, popular: float = POPULAR, memory_share: float = MEMORY_SHARE
) -> RatingLists:
    """All ratings in lists and bitmaps; with `popular` above 1 in lists alone."""
    users, items = ratings.user_count, ratings.item_count
    # Short lists in many blocks would be mostly their starts.
    in_blocks = 2 * len(ratings) + 8 * items * -(-users // BLOCK)
    in_one = 4 * len(ratings) + 8 * items
    block = max(1, -(-(users if in_one < in_blocks else min(users, BLOCK)) // 64)) * 64
    blocks = -(-users // block)
    width = 2 if block <= BLOCK else 4
    counts = raters_of(ratings.items, items)
    order = np.argsort(-counts, kind="stable")
    # What bitmaps of the most popular items take more than these items' lists.
    more = np.cumsum(blocks * (block // 8 - 8) - width * counts[order])
    room = memory_share * (ratings.indptr.nbytes + ratings.items.nbytes + ratings.levels.nbytes)
    room -= 4 * items + 8 * blocks * items + width * len(ratings)
    chosen = (more <= max(room, 0)) & (counts[order] >= max(1, popular * users))
    mapped = items if chosen.all() else int(np.argmin(chosen))
    place = np.empty(items, dtype=np.int32)
    place[order[:mapped]] = -1 - np.arange(mapped)
    place[np.sort(order[mapped:])] = np.arange(items - mapped)
    bitmaps = np.zeros((blocks, mapped, block // 64), dtype=np.uint64)
    starts = np.zeros(blocks * (items - mapped) + 1, dtype=np.int64)
    sizes(ratings.indptr, ratings.items, place, block, starts)
    count = int(starts[-1])
    raters = np.empty(count, np.uint16) if width == 2 else np.empty(count, np.uint32)
    fill(ratings.indptr, ratings.items, place, block, starts, raters, bitmaps)
    return RatingLists(place, starts, raters, bitmaps, block)
