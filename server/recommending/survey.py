"""A look at a version when it is made: who the neighbors are, and lists with and without a defense.

It is taken of a sample of users that a seed fixes, not of those who ask: so it says nothing of
them, and versions can be compared.

*New accounts.* Of the users who were there before, which share of the neighbors came after the
version before? Accounts that nobody placed there on purpose are neighbors about as often as others
are, and less often while they have rated little. Profiles that are made to be near everybody are
neighbors more often than their number says.

*Hubs.* The share of all places in neighborhoods that the 1 % of accounts with the most of them
have.

Shapes: n users in the sample, k neighbors.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ranking import top_items
from common.vicinal.settings import VicinalSettings
from server.recommending.recommender import Recommender

SEED: Final = 0
HUBS: Final = 0.01


@dataclass(frozen=True)
class Survey:
    """Of one preset. Shares are of 0–1, errors are standard errors over the users asked.

    users              asked: of those who were there before
    new_accounts       share of all accounts that came since the version before
    new_neighbors      their share of the places in neighborhoods, and its error
    hub_neighbors      share of the places that the hubs have
    eligible           pairs of a user and a watched item that the user has not rated
    hits_defended      of them, those where the item is in the list; _undefended: of the plain model
    held_out           users with a withheld item
    found_defended     of them, those who have it in the list
    common             share of the plain model's lists that are in the defended ones
    """

    users: float
    new_accounts: float
    new_neighbors: float
    new_neighbors_error: float
    hub_neighbors: float
    eligible: float
    hits_defended: float
    hits_undefended: float
    held_out: float
    found_defended: float
    found_undefended: float
    common: float


def surveyed(
    recommender: Recommender,
    settings: VicinalSettings,
    watched: tuple[int, ...],
    list_length: int,
    *,
    most: int,
    before: int | None = None,
    held_out: NDArray[np.int32] | None = None,
) -> Survey:
    """Of at most so many users. `before`: users whom the version before had; None: there was none.

    held_out  withheld items by user, −1 for none; None where nothing was withheld
    """
    old = recommender.user_count if before is None else min(before, recommender.user_count)
    rng = np.random.default_rng(SEED)
    asked = np.sort(rng.choice(old, min(most, old), replace=False))
    accounts = recommender.ratings.user_count
    near = recommender.nearest(asked, settings.neighbors, settings.neighbors_by)[:, 1:]
    share, error = new_share(near, old, recommender.user_count)
    counts = dict.fromkeys(("eligible", "hits_defended", "hits_undefended"), 0)
    counts |= dict.fromkeys(("held_out", "found_defended", "found_undefended"), 0)
    common = []
    for user in asked.tolist():
        rated = recommender.ratings.items_of(user)
        lists = {
            "defended": recommender.recommend(user, settings, list_length),
            "undefended": top_items(recommender.plain_scores(user), rated, list_length),
        }
        eligible = np.setdiff1d(watched, rated)
        counts["eligible"] += len(eligible)
        hidden = -1 if held_out is None else int(held_out[user])
        counts["held_out"] += hidden >= 0
        for name, items in lists.items():
            counts[f"hits_{name}"] += int(np.isin(eligible, items).sum())
            counts[f"found_{name}"] += hidden >= 0 and hidden in items
        plain = lists["undefended"]
        if len(plain):
            common.append(float(np.isin(plain, lists["defended"]).mean()))
    places = np.sort(np.bincount(near.ravel(), minlength=accounts))[::-1]
    hubs = places[: max(1, math.ceil(HUBS * accounts))]
    return Survey(
        users=len(asked),
        new_accounts=(recommender.user_count - old) / accounts,
        new_neighbors=share,
        new_neighbors_error=error,
        hub_neighbors=float(hubs.sum() / max(1, places.sum())),
        common=float(np.mean(common)) if common else 0.0,
        **counts,
    )


def new_share(near: NDArray[np.int64], old: int, users: int) -> tuple[float, float]:
    """Share of neighbors [n, k − 1] who are users from `old` on, and its standard error."""
    if not near.size:
        return 0.0, 0.0
    shares = ((near >= old) & (near < users)).mean(axis=1)
    spread = float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0
    return float(shares.mean()), spread / math.sqrt(len(shares))


def surveys_text(surveys: Mapping[str, Survey]) -> str:
    """By preset; server.versions.folder reads it."""
    return json.dumps({name: asdict(each) for name, each in surveys.items()})
