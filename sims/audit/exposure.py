"""How much of the users is shown, and to how many.

Shapes: U users, n lines, I items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sims.audit.seen import Seen

SHARES: Final = (10, 50, 90)
QUANTILES: Final = (50, 90, 100)


@dataclass(frozen=True)
class Content:
    """What one package shows to the device that it is for; means over packages.

    rows    lines of single users
    users   share of all users of whom there is one
    single  items that one of the lines alone has
    """

    rows: float
    users: float
    single: float


def content(packages: Sequence[Seen], users: int) -> Content:
    """Of some opened packages."""
    rows, single = [], []
    for seen in packages:
        rows.append(0 if seen.ratings is None else len(seen))
        raters = np.zeros(0) if seen.ratings is None else seen.ratings.item_counts()
        single.append(int((raters == 1).sum()))
    mean = float(np.mean(rows)) if rows else 0.0
    return Content(mean, mean / users, float(np.mean(single)) if single else 0.0)


def exposed(owners: Sequence[NDArray[np.int64]], users: int) -> NDArray[np.int64]:
    """In how many packages each user is, [U]; `owners` of each package's lines, -1 for nobody."""
    counts = np.zeros(users, dtype=np.int64)
    for each in owners:
        inside = np.unique(each)
        counts[inside[(inside >= 0) & (inside < users)]] += 1
    return counts


def accounts_to(
    owners: Sequence[NDArray[np.int64]], users: int, *, rng: np.random.Generator
) -> tuple[dict[int, int | None], float]:
    """How many accounts see 10, 50 and 90 % of all users, and the share that all of them see.

    owners  of the lines in each account's package; accounts come in a drawn order
    """
    seen = np.zeros(users, dtype=bool)
    needed: dict[int, int | None] = dict.fromkeys(SHARES)
    for count, account in enumerate(rng.permutation(len(owners)).tolist(), start=1):
        inside = owners[account]
        seen[inside[(inside >= 0) & (inside < users)]] = True
        for share in SHARES:
            if needed[share] is None and 100 * seen.sum() >= share * users:
                needed[share] = count
    return needed, float(seen.mean()) if users else 0.0


def rank_of(sums: NDArray[np.float64]) -> int:
    """How many lines can be told apart by adding and subtracting sums [n, I]: their rank.

    >>> rank_of(np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    2
    """
    if not sums.size:
        return 0
    gram = sums @ sums.T if len(sums) <= sums.shape[1] else sums.T @ sums
    values = np.linalg.eigvalsh(gram)
    return int((values > values.max(initial=0) * 1e-10).sum()) if values.max(initial=0) > 0 else 0


def sums_of(packages: Sequence[Seen], items: int) -> NDArray[np.float64]:
    """Raters of each item over all lines of each artifact, [artifacts, I].

    Of sums over several users each line is one; rows are added up, to say what would be left of a
    release that shipped the sums of the same packages and no rows.
    """
    parts = [
        np.asarray(seen.raters.sum(axis=0)).reshape(1, -1)
        if seen.ratings is not None
        else seen.raters.toarray()
        for seen in packages
        if len(seen)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, items))
