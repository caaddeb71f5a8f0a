"""Why an item is in a user's list, or is not: who rated it, and what promoting it would take.

Shapes: I items, n items asked about.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.vicinal.settings import VicinalSettings
from server.recommending.certificate import UNREACHABLE
from server.recommending.recommender import Recommender

MOST_ITEMS: Final = 100


class Admitted(IntEnum):
    """Whether an item may be recommended to a user; the numbers are the contract's."""

    NO = 0
    FOR_RATERS = 1
    DRAWN = 2
    RATED = 3


@dataclass(frozen=True)
class Reason:
    """Of one item.

    supporters  neighbors who rated it, where the neighborhood has it
    raters      accounts that rated it, of those that are counted for this user
    price       fakes below which it is not promoted, whatever they rate (certificate.Certificate);
                None: no number does it, or nothing can be proved
    """

    item: int
    supporters: int
    raters: int
    admitted: Admitted
    price: int | None


@dataclass(frozen=True)
class Explanation:
    """Of some items of one user.

    neighbors  others whose ratings the answer is tuned on
    form       of the certificate; empty where none holds
    """

    neighbors: int
    accounts: int
    assumed_fakes: int
    required_raters: int
    form: str
    reasons: tuple[Reason, ...]


def explained(
    recommender: Recommender, user: int, settings: VicinalSettings, items: NDArray[np.int64]
) -> Explanation:
    """Reasons of items [n], in their order. Raises InputError for unknown ones, and too many."""
    ratings = recommender.ratings
    if not 0 < len(items) <= MOST_ITEMS:
        raise InputError(f"reasons of {len(items)} items: ask for 1–{MOST_ITEMS}")
    if items.max() >= ratings.item_count:
        raise InputError(f"unknown item {items.max()}: choose 0–{ratings.item_count - 1}")
    neighborhood = recommender.neighborhood(user, settings)
    others = neighborhood.ratings.rows(np.arange(1, len(neighborhood)))
    supporters = others.item_counts()[items]
    admission = recommender.admission
    raters = admission.counted_raters(user, settings)[items]
    status = _admitted(recommender, user, settings)[items]
    certificate = recommender.certificate(settings)
    prices: list[int | None] = [None] * len(items)
    if certificate is not None:
        found = certificate.prices(user)[items].tolist()
        prices = [None if price == UNREACHABLE else price for price in found]
    accounts = ratings.user_count
    return Explanation(
        len(neighborhood) - 1,
        accounts,
        settings.tolerated_fakes(accounts),
        settings.required_raters(accounts),
        "" if certificate is None else certificate.form,
        tuple(
            Reason(item, int(near), int(all_of_them), Admitted(how), price)
            for item, near, all_of_them, how, price in zip(
                items.tolist(), supporters, raters, status, prices, strict=True
            )
        ),
    )


def _admitted(recommender: Recommender, user: int, settings: VicinalSettings) -> NDArray[np.int64]:
    """Of every item, [I]."""
    admission, ratings = recommender.admission, recommender.ratings
    status = np.full(ratings.item_count, Admitted.NO, dtype=np.int64)
    status[admission.admitted(user, settings)] = Admitted.DRAWN
    status[admission.rated_enough(user, settings)] = Admitted.FOR_RATERS
    status[ratings.items_of(user)] = Admitted.RATED
    return status
