"""What is measured of each candidate for a book's settings: answers under attack, and guesses.

sims.selection.book compares and prints. Candidates differ in what is listed alone, so that a user's
items are scored and ranked once, and noise is drawn once for all margins.

Shapes: I items, K recommended items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ranking import top_items
from common.ratings import RatingMatrix
from common.vicinal.book import ItemBook
from common.vicinal.fold_in import own_parameters
from common.vicinal.neighborhood import Neighborhood
from common.vicinal.settings import preset
from common.vicinal.support import unlisted_last
from common.wire.book import encode_book
from server.model_store import ModelStore
from server.recommending.book import BookSettings, listed_book, noisy_counts, weighed_counts
from sims.audit.knowledge import Background, Knowledge
from sims.audit.listing import Belief, likelihood, weights
from sims.audit.membership import auc
from sims.evaluation.defenses import RVD, defense_named
from sims.evaluation.measuring import EvaluationSetup, measure_here
from sims.evaluation.metrics import tail_items
from sims.evaluation.outcomes import Outcomes
from sims.numbers import stream
from sims.selection.presets import UNATTACKED, VICINAL_TRIALS, Trial, validation

CAPS: Final = (50, 100)
MUS: Final = (0.3, 0.6, 0.83, 1.2)
MARGINS: Final = (0.0, 1.0, 1.5, 2.0)
TRIALS: Final = (*VICINAL_TRIALS, Trial("flood"))
# Books of each trial and seed: whether an item of fakes is listed is chance.
DRAWS: Final = 5
# Halves of each data set and seed of which books are guessed.
HALVES: Final = 2


@dataclass(frozen=True)
class Point:
    """A candidate."""

    cap: int
    mu: float
    margin: float

    @property
    def how(self) -> BookSettings:
        return BookSettings(self.cap, self.cap**0.5 / self.mu, self.margin)

    @property
    def noise(self) -> tuple[int, float]:
        """What noise depends on: points of other margins have the same."""
        return self.cap, self.mu


POINTS: Final = tuple(Point(*each) for each in product(CAPS, MUS, MARGINS))


@dataclass(frozen=True)
class Answered:
    """One candidate, or rows, in one trial on one seed; `tail` is of few, and may be of nobody."""

    hit_ratio: float
    inside: float
    accuracy: float
    tail: float


@dataclass(frozen=True)
class Leak:
    """One candidate on one half of the users: AUCs, and the bytes of the book of all."""

    full: float
    known: float
    informed: float
    size: float


# Of rows, then of every candidate: an answer for each draw.
Answers = list[list[Answered]]


def answers_of(dataset: str, trial: Trial, seed: int, model: str, users: int) -> Answers:
    """In one trial on one seed."""
    prepared = validation(dataset, seed, model, trial)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(prepared.user_count, min(users, prepared.user_count), replace=False)
    audience = () if prepared.profiles is None else prepared.profiles.audience
    inside = np.array(audience or chosen, dtype=np.int64)
    settings, length = preset("vicinal", model=model), prepared.experiment.list_length
    robust = defense_named(RVD, model=model, preset="vicinal").robust
    with TemporaryDirectory() as folder, ModelStore(Path(folder)) as store:
        recommender = prepared.train(store, robust=robust)
        setup = EvaluationSetup(
            {"poisoned": recommender}, prepared.local, settings, prepared.watched, length
        )

        def by_rows(some: NDArray[np.int64]) -> Outcomes:
            return measure_here(setup, ["defended"], some)["defended"].outcomes

        served, ratings = recommender.version.served, recommender.ratings
        items, rankings = served.parameters["item_embedding"], {}
        for user in {*chosen.tolist(), *inside.tolist()}:
            own = ratings.rows([user])
            vector = own_parameters(served.model, items, served.item_gram, own)
            scores = served.plain_scores(Neighborhood(own, vector))
            rankings[user] = Ranking(scores, own.items)

        def by_book(book: ItemBook, some: NDArray[np.int64]) -> Outcomes:
            lists = np.full((len(some), length), -1, dtype=np.int32)
            listed = book.listed
            for row, user in enumerate(some.tolist()):
                found = rankings[user].first(listed, length)
                lists[row, : len(found)] = found
            return Outcomes.of(some, lists, prepared.local, prepared.watched, length)

        rare = tail_items(prepared.local.train)[np.maximum(prepared.local.held_out[chosen], 0)]

        def judged(everybody: Outcomes, within: Outcomes) -> Answered:
            counts, few = everybody.counts, everybody.asked & rare
            tail = float(everybody.found()[few].mean()) if few.any() else float("nan")
            return Answered(counts.hit_ratio, within.counts.hit_ratio, counts.accuracy, tail)

        keys = [stream(seed, f"book {draw}").bytes(32) for draw in range(DRAWS)]
        noisy = drawn(ratings, keys)
        found = [[judged(by_rows(chosen), by_rows(inside))] * DRAWS]
        for point in POINTS:
            books = [
                listed_book(ratings, settings, counts, point.how) for counts in noisy[point.noise]
            ]
            found.append([judged(by_book(book, chosen), by_book(book, inside)) for book in books])
        return found


class Ranking:
    """One user's ranking of all items, from which those of many books are read."""

    def __init__(self, scores: NDArray[np.float32], own: NDArray[np.int32]) -> None:
        self._scores, self._own = scores, own
        self._order = top_items(scores, own, len(scores))

    def first(self, listed: NDArray[np.bool_], length: int) -> NDArray[np.int64]:
        """The top K where `listed` [I] are in the book, as a device finds it (BookReader)."""
        found = self._order[listed[self._order]]
        if len(found) >= length:
            return found[:length]
        return top_items(unlisted_last(self._scores, listed, self._own), self._own, length)


def drawn(
    ratings: RatingMatrix, keys: Sequence[bytes]
) -> dict[tuple[int, float], list[NDArray[np.float64]]]:
    """Noisy counts by each key, for all points of a cap and a μ."""
    different = {point.noise: point.how for point in POINTS}
    return {at: [noisy_counts(ratings, key, how) for key in keys] for at, how in different.items()}


def leaks_of(dataset: str, seed: int, half: int, model: str) -> list[Leak]:
    """Of every candidate, on one half of the users of one seed, without fakes."""
    train = validation(dataset, seed, model, UNATTACKED[0]).split.train
    settings = preset("vicinal", model=model)
    users = train.user_count
    order = stream(seed, f"half {half}").permutation(users)
    members, others, shadows = (
        train.rows(np.sort(part)) for part in np.split(order, [users // 2, users // 2 + users // 4])
    )
    background, knowledge = Background(shadows), Knowledge()
    raters = shadows.item_counts()
    secret = stream(seed, f"secret {half}").bytes(32)
    wholes, books = drawn(train, [secret]), drawn(members, [secret])
    known = [
        knowledge.of(people, raters, rng=stream(seed, f"known {half}"))
        for people in (members, others)
    ]
    found = []
    for point in POINTS:
        how = point.how
        whole = listed_book(train, settings, wholes[point.noise][0], how)
        book = listed_book(members, settings, books[point.noise][0], how)
        counts = weighed_counts(members, how.cap)
        shadow_belief = Belief.from_shadows(background, book)
        scores: dict[str, list[NDArray[np.float64]]] = {"full": [], "known": [], "informed": []}
        for people, some in zip((members, others), known, strict=True):
            lengths = np.diff(people.indptr)
            added = weights(people, lengths, how.cap)
            scores["full"].append(likelihood(book, shadow_belief, added))
            scores["known"].append(likelihood(book, shadow_belief, weights(some, lengths, how.cap)))
            without = counts - added if people is members else np.broadcast_to(counts, added.shape)
            scores["informed"].append(likelihood(book, Belief.informed(without, book), added))
        found.append(
            Leak(
                auc(*scores["full"]),
                auc(*scores["known"]),
                auc(*scores["informed"]),
                float(len(encode_book(whole, "0" * 64))),
            )
        )
    return found
