"""Guesses of an audit: who was among those of whom a version was made, and what else they rated.

Half of the users are in the version, a quarter are shadows, whom the attacker knows, and another
quarter are those who are in no version.

Shapes: U users, I items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ratings import RatingMatrix
from common.vicinal.book import ItemBook
from server.recommending.book import weighed_counts
from sims.audit.attributes import by_popularity, guessed, hits
from sims.audit.knowledge import Background, Knowledge
from sims.audit.listing import Belief, flips, joined, likelihood, weights
from sims.audit.membership import TESTS, Scores, auc, model_fit, model_span
from sims.audit.release import Version
from sims.audit.sampled import Figures, Sampled, area
from sims.audit.seen import Seen, distinct
from sims.numbers import stream
from sims.progress import Report, counter

# Packages whose reader guesses who is a member.
READ_PACKAGES: Final = 20
# Newcomers who are guessed between two books, with others who come at the same time, of all.
NEWCOMERS: Final = 60
GROWTH: Final = 0.02
# Books before and after somebody came.
BOOKS: Final = 4

# Of members and others.
Pair = tuple[RatingMatrix, RatingMatrix]


@dataclass(frozen=True)
class Guessing:
    """What is guessed of whom.

    knowledge  what an attacker knows of a person
    queries    people who are asked about, at most
    train      ratings of all users, [U, I]
    """

    knowledge: Knowledge
    queries: int
    train: RatingMatrix
    seed: int
    title: str
    progress: Report

    def figures(
        self,
        published: Callable[[RatingMatrix], Version],
        observed: Callable[[Version, int], Seen],
    ) -> Figures:
        """What is guessed of a version of half of the users, by who sees what.

        observed  what an observer has of a version who asks for so many users
        """
        users = self.train.user_count
        order = stream(self.seed, "halves").permutation(users)
        half, quarter = users // 2, users // 4
        inside, shadows = np.sort(order[:half]), np.sort(order[half : half + quarter])
        members = self.train.rows(inside[: self.queries])
        others = self.train.rows(np.sort(order[half + quarter :])[: self.queries])
        background = Background(self.train.rows(shadows))
        raters = background.shadows.item_counts()
        people = members, others
        known = (
            self._known(members, raters, "members"),
            self._known(others, raters, "others"),
        )
        version = published(self.train.rows(inside))
        lines, _ = distinct(observed(version, half))
        found = self._models(version, published(background.shadows), known, people)
        readers = stream(self.seed, "guessing").permutation(half)[:READ_PACKAGES].tolist()
        opened = [
            version.unseal_package(user, data)
            for user in readers
            if (data := version.package(user)) is not None
        ]
        for name, test in TESTS.items():
            given = known if name == "plain" else people

            def guess(
                seen: Seen, test: Callable[..., Scores] = test, given: Pair = given
            ) -> Sampled:
                return _area(*(test(seen, each, background) for each in given))

            found[f"membership.package.{name}"] = (
                _averaged([guess(seen) for seen in opened]) if opened else None
            )
            found[f"membership.all.{name}"] = guess(lines) if len(lines) else None

        found |= self._listed(version, background, known, people)
        newcomers = np.sort(order[half + quarter :])
        found |= self._joined(version, background, inside, newcomers)

        def advantage(scores: Callable[[RatingMatrix], NDArray[np.float64]]) -> float:
            one, other = (
                hits(scores(some), some, whole) for some, whole in zip(known, people, strict=True)
            )
            return one - other

        of_members = version.ratings.item_counts()
        found["attributes.all"] = advantage(lambda some: guessed(lines, some, background))
        found["attributes.popularity"] = advantage(lambda some: by_popularity(of_members, some))
        return found

    def _models(self, version: Version, shadow: Version, known: Pair, people: Pair) -> Figures:
        """The model's own leak, which no release of rows or books changes."""
        mine, theirs = (each.read_model(each.model()) for each in (version, shadow))
        found: Figures = {}
        for name, test, given in (
            ("plain", model_fit, known),
            ("full", model_fit, people),
            ("table", model_span, people),
        ):
            found[f"membership.model.{name}"] = (
                None
                if mine is None or theirs is None
                else _area(*(test(mine, each) - test(theirs, each) for each in given))
            )
        return found

    def _listed(
        self, version: Version, background: Background, known: Pair, people: Pair
    ) -> Figures:
        """Who is told by a list of items, by the strongest guess that there is."""
        data = version.book()
        book = None if data is None else version.read_list(data)
        if book is None:
            return dict.fromkeys(("membership.book.plain", "membership.book.full", "informed.book"))
        shadows = Belief.from_shadows(background, book)
        counts = weighed_counts(version.ratings, book.cap)
        scores: dict[str, list[Scores]] = {"plain": [], "full": [], "informed": []}
        for some, whole in zip(known, people, strict=True):
            lengths = np.diff(whole.indptr)
            added = weights(whole, lengths, book.cap)
            scores["plain"].append(likelihood(book, shadows, weights(some, lengths, book.cap)))
            scores["full"].append(likelihood(book, shadows, added))
            without = counts - added if whole is people[0] else np.broadcast_to(counts, added.shape)
            scores["informed"].append(likelihood(book, Belief.informed(without, book), added))
        return {
            "membership.book.plain": _area(*scores["plain"]),
            "membership.book.full": _area(*scores["full"]),
            "informed.book": _area(*scores["informed"]),
        }

    def _joined(
        self,
        version: Version,
        background: Background,
        inside: NDArray[np.int64],
        outside: NDArray[np.int64],
    ) -> Figures:
        """Who came between two books, among those who did not; others come and rate as well."""
        names = ("joined.flips", "joined.pair", "joined.versions")
        data = version.book()
        book = None if data is None else version.read_list(data)
        if book is None:
            return dict.fromkeys(names)
        rng = stream(self.seed, "newcomers")
        few = max(1, round(GROWTH * len(inside)))
        belief = Belief.from_shadows(background, book)
        scores: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}

        def published(users: NDArray[np.int64]) -> ItemBook:
            data = version.book_of(self.train.rows(users))
            found = None if data is None else version.read_list(data)
            assert found is not None
            return found

        advance = counter(self.progress, self.title, NEWCOMERS)
        for _ in range(NEWCOMERS):
            drawn = rng.permutation(outside)
            pair, others = drawn[:2], drawn[2 : 2 + 2 * BOOKS * few]
            steps = [others[: few * step] for step in range(2 * BOOKS)]
            books = [
                published(np.concatenate([inside, step, pair[:1] if at >= BOOKS else pair[:0]]))
                for at, step in enumerate(steps)
            ]
            before, after = books[:BOOKS], books[BOOKS:]
            people = self.train.rows(pair)
            added = weights(people, np.diff(people.indptr), book.cap)
            found = (
                flips(before[-1], after[0], added),
                joined(before[-1:], after[:1], belief, added),
                joined(before, after, belief, added),
            )
            for name, both in zip(names, found, strict=True):
                for side, score in zip(scores[name], both.tolist(), strict=True):
                    side.append(score)
            advance(1)
        return {name: _area(*(np.array(side) for side in sides)) for name, sides in scores.items()}

    def _known(self, people: RatingMatrix, raters: NDArray[np.int64], name: str) -> RatingMatrix:
        return self.knowledge.of(people, raters, rng=stream(self.seed, name))


def _area(members: Scores, others: Scores) -> Sampled:
    return area(auc(members, others), len(members), len(others))


def _averaged(parts: list[Sampled]) -> Sampled:
    """Of several artifacts guessed about the same people: their error does not shrink."""
    return Sampled(float(np.mean(parts)), float(np.mean([part.error for part in parts])))
