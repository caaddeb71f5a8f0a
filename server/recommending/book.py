"""Making a version's book (common.vicinal.book): which items enough accounts rated, with noise.

An account of n ratings adds w = min(1, √(cap / n)) to the count of each item that it rated. So it
moves the counts by √cap at most, and a fake adds 1 to an item at most. An item is in the book
where count plus noise reaches t = ⌈f + margin · σ⌉, f the fakes that are assumed
among all accounts. Nothing else is published: no count, no row, no vector. Any number of devices,
and of questions, learn what one device learns.

Noise is drawn from a secret key and from all counts together. The same ratings give the same book,
so that asking again averages nothing out; and where any count is another one, all noise is. Drawn
by each item's own count, noise would change for the items of a newcomer alone, and give away who
came (docs/decisions/0037-weighed-book.md).

Shapes: U users, I items.
"""

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.vicinal.book import BookReader, ItemBook, check_book
from common.vicinal.settings import Space, VicinalSettings

if TYPE_CHECKING:
    from server.recommending.recommender import Recommender

# Chosen on validation items (sims.selection.book): what an account moves the counts by, squared;
# μ of one book at most, which is less where so many fakes are assumed that σ may be more; and how
# many σ the threshold is above the assumed fakes.
CAP: Final = 100
MU: Final = 0.83
NOISE_SHARE: Final = 0.1
MARGIN: Final = 1.0
_BITS: Final = 53


@dataclass(frozen=True)
class BookSettings:
    """How accounts are counted.

    cap     squared length of what one account adds to all counts, at most
    sigma   standard deviation of the noise, 0 for none
    margin  σ that the threshold is above the assumed fakes
    """

    cap: int
    sigma: float
    margin: float = MARGIN

    @classmethod
    def of(cls, fakes: int) -> "BookSettings":
        """For so many assumed fakes, which everybody knows: nothing follows from the ratings.

        >>> round(BookSettings.of(30).sigma, 1), BookSettings.of(1000).sigma
        (12.0, 100.0)
        """
        return cls(CAP, max(CAP**0.5 / MU, NOISE_SHARE * fakes))


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
    if how is None:
        how = BookSettings.of(settings.tolerated_fakes(ratings.user_count))
    return listed_book(ratings, settings, noisy_counts(ratings, key, how), how)


def noisy_counts(ratings: RatingMatrix, key: bytes, how: BookSettings) -> NDArray[np.float64]:
    """What decides over each item, whatever the margin is, [I]."""
    counts = weighed_counts(ratings, how.cap)
    # Sums of thirds and the like: what is equal but for the last bit stays equal.
    return np.round(counts + noise(counts, how.sigma, key), 9)


def listed_book(
    ratings: RatingMatrix,
    settings: VicinalSettings,
    noisy: NDArray[np.float64],
    how: BookSettings,
) -> ItemBook:
    """The book of noisy_counts() of the same ratings and settings, [I]."""
    margin = how.margin * how.sigma if how.sigma else settings.margin
    threshold = math.ceil(settings.tolerated_fakes(ratings.user_count) + margin)
    items = np.flatnonzero(noisy >= threshold).astype(np.int32)
    return ItemBook(ratings.user_count, ratings.item_count, items, how.cap, threshold, how.sigma)


def weighed_counts(ratings: RatingMatrix, cap: int) -> NDArray[np.float64]:
    """How many accounts rated each item, where those of more than `cap` ratings count less, [I]."""
    lengths = np.maximum(np.diff(ratings.indptr), 1)
    weights = np.minimum(1.0, np.sqrt(cap / lengths))
    counts = np.zeros(ratings.item_count)
    np.add.at(counts, ratings.items, weights[ratings.users])
    return counts


def noise(counts: NDArray[np.float64], sigma: float, key: bytes) -> NDArray[np.float64]:
    """Of N(0, σ²) for every item, from the key and all counts alone, [I]."""
    if sigma == 0:
        return np.zeros(len(counts))
    told = np.round(counts, 9).astype("<f8").tobytes()
    seed = hashlib.blake2b(b"noise" + told, key=key[:64]).digest()
    normal = NormalDist(0.0, sigma)
    drawn = np.empty(len(counts))
    for item in range(len(counts)):
        digest = hashlib.blake2b(item.to_bytes(8, "little"), key=seed, digest_size=8).digest()
        uniform = (int.from_bytes(digest, "little") >> (64 - _BITS)) + 0.5
        drawn[item] = normal.inv_cdf(uniform / (1 << _BITS))
    return drawn


def life_mu(mu: float, books: int) -> float:
    """μ of so many books of a server, whose accounts came, stayed and left as they liked.

    Each has noise of its own, so that squares add up (Dong, Roth and Su 2022, corollary 2). When a
    book changes is told by the model's name anyway.

    >>> life_mu(0.4, 4)
    0.8
    """
    return mu * float(np.sqrt(books))


@final
class BookRecommender:
    """What devices answer that have a version and its book, for a server that knows their ratings.

    Raises InputError for a model or settings that cannot do with a book.
    """

    def __init__(self, recommender: "Recommender", settings: VicinalSettings, key: bytes) -> None:
        check_book(recommender.version.served.model, settings)
        self._recommender = recommender
        self.book = item_book(recommender.ratings, settings, key)
        self._reader = BookReader(recommender.version.served, self.book)
        self.ratings = recommender.ratings
        self.user_count = recommender.user_count

    def recommend(
        self, user: int, _settings: VicinalSettings, list_length: int
    ) -> NDArray[np.int64]:
        """The top K of a device, best first."""
        return self._reader.top(self.ratings.rows([user]), list_length)

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
