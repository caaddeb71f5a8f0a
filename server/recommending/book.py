"""Making a version's book (common.vicinal.book): which items enough accounts rated, with noise.

Of each account at most `cap` ratings count, chosen by a hash of user and item. An item is in the
book where its count plus noise reaches t = ⌈f + σ⌉, f the fakes that are assumed among all
accounts. Nothing else is published: no count, no row, no vector. Any number of devices, and of
questions, learn what one device learns.

Noise is *sticky*: it is drawn from a secret key, the item and its count, and so is drawn anew only
when that count changes. Asking for the same ratings again averages nothing out.

The sum of a hundred noisy cells is noisier than one noisy count. So everybody is one cell here:
docs/decisions/0031-book.md has what was tried.

Shapes: U users, I items.
"""

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, final

import numpy as np
from numpy.typing import NDArray

from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.book import ItemBook, book_scores, check_book
from common.vicinal.settings import Space, VicinalSettings
from common.vicinal.support import scattered

if TYPE_CHECKING:
    from server.recommending.recommender import Recommender

# μ of one book; the noise follows from it and from the cap.
MU: Final = 0.83
# σ may be this share of the assumed fakes: the cap is as large as that allows.
NOISE_SHARE: Final = 0.5
LEAST_CAP: Final = 100
# Few people have rated more; what is beyond it would be noise for everybody.
MOST_CAP: Final = 2000
_BITS: Final = 53


@dataclass(frozen=True)
class BookSettings:
    """cap: ratings that count of one account; sigma: of the noise, 0 for none."""

    cap: int
    sigma: float

    @classmethod
    def of(cls, fakes: int, *, mu: float = MU) -> "BookSettings":
        """For so many assumed fakes, which everybody knows: nothing follows from the ratings.

        >>> BookSettings.of(30).cap
        155
        """
        cap = min(MOST_CAP, max(LEAST_CAP, int((mu * NOISE_SHARE * fakes) ** 2)))
        return cls(cap, cap**0.5 / mu)


def item_book(
    ratings: RatingMatrix,
    settings: VicinalSettings,
    key: bytes,
    *,
    how: BookSettings | None = None,
) -> ItemBook:
    """The book of some ratings, fakes' among them; the same arguments give the same book.

    key  secret, and the same for all versions of a server
    how  None: as the assumed fakes have it
    """
    fakes = settings.tolerated_fakes(ratings.user_count)
    if how is None:
        how = BookSettings.of(fakes)
    counts = capped_counts(ratings, how.cap, key)
    margin = how.sigma if how.sigma else settings.margin
    threshold = math.ceil(fakes + margin)
    noisy = counts + noise(counts, how.sigma, key)
    items = np.flatnonzero(noisy >= threshold).astype(np.int32)
    return ItemBook(ratings.user_count, ratings.item_count, items, how.cap, threshold, how.sigma)


def capped_counts(ratings: RatingMatrix, cap: int, key: bytes) -> NDArray[np.int64]:
    """How many accounts rated each item, where at most `cap` ratings of each count, [I]."""
    seed = int.from_bytes(hashlib.blake2b(b"cap", key=key[:64], digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):  # it is meant to wrap
        users = scattered(ratings.users.astype(np.uint64) + np.uint64(seed))
        drawn = scattered(users + ratings.items.astype(np.uint64))
    order = np.lexsort((ratings.items, drawn, ratings.users))
    place = np.arange(len(order)) - ratings.indptr[:-1][ratings.users[order]]
    return np.bincount(ratings.items[order[place < cap]], minlength=ratings.item_count)


def noise(counts: NDArray[np.int64], sigma: float, key: bytes) -> NDArray[np.float64]:
    """Of N(0, σ²) for every item, from the key, the item and its count alone, [I]."""
    if sigma == 0:
        return np.zeros(len(counts))
    normal = NormalDist(0.0, sigma)
    drawn = np.empty(len(counts))
    for item, count in enumerate(counts.tolist()):
        told = f"noise {item} {count}".encode()
        digest = hashlib.blake2b(told, key=key[:64], digest_size=8).digest()
        uniform = (int.from_bytes(digest, "little") >> (64 - _BITS)) + 0.5
        drawn[item] = normal.inv_cdf(uniform / (1 << _BITS))
    return drawn


@final
class BookRecommender:
    """What devices answer that have a version and its book, for a server that knows their ratings.

    Raises InputError for a model or settings that cannot do with a book.
    """

    def __init__(self, recommender: "Recommender", settings: VicinalSettings, key: bytes) -> None:
        check_book(recommender.version.served.model, settings)
        self._recommender = recommender
        self.book = item_book(recommender.ratings, settings, key)
        self.ratings = recommender.ratings
        self.user_count = recommender.user_count

    def recommend(
        self, user: int, _settings: VicinalSettings, list_length: int
    ) -> NDArray[np.int64]:
        """The top K of a device, best first."""
        own = self.ratings.rows([user])
        scores = book_scores(self._recommender.version.served, self.book, own)
        return top_items(scores, own.items, list_length)

    def recommend_undefended(self, user: int, list_length: int) -> NDArray[np.int64]:
        """The top K of the model as it was trained. Raises InputError."""
        return self._recommender.recommend_undefended(user, list_length)

    def nearest(
        self, users: NDArray[np.int64], count: int, space: Space = "embedding"
    ) -> NDArray[np.int64]:
        """Whom rows would come from; a book shows none of them."""
        return self._recommender.nearest(users, count, space)

    def supported(self, _user: int, _settings: VicinalSettings) -> NDArray[np.bool_]:
        """Whether each item is in the book, [I]."""
        return self.book.listed
