"""What happens to a fleet over rounds: who is there, what has been rated, and who is fake.

All of it is drawn before the first round from the experiment's seed, so that a run can go on where
it was broken off, and so that a fleet and one process live through the same.

Shapes: U real users, I items, N ratings of real users, n clients, R rounds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from client.stores.ratings import LocalRatings
from common.errors import InputError
from common.ratings import RatingMatrix
from sims.attacks.options import TARGETS
from sims.attacks.profiles import Profiles
from sims.evaluation.experiment import FILE_PREFIX, Prepared, attacked, liked
from sims.fleet.files import require_clients
from sims.fleet.scenario import Scenario
from sims.numbers import stream
from sims.progress import Report, quiet

NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Scene:
    """One round as the server finds it.

    number    from 1
    present   clients that are there; asked: those of them that are sampled, ascending
    appeared  clients that came since the round before; left: that went
    known     ratings of real users that the server has, [U, I]; who never was there has none
    arrived   how many of them are new
    fakes     the attack's users, a share of the real ones that the server knows when it begins;
              None before
    clients   who share out the users, there or not
    attacked  whether the attack has begun
    """

    number: int
    present: tuple[int, ...]
    asked: tuple[int, ...]
    appeared: int
    left: int
    known: RatingMatrix
    arrived: int
    fakes: Profiles | None
    clients: int
    attacked: bool

    @property
    def ratings(self) -> RatingMatrix:
        """What the server trains on: real users first, then fakes."""
        return self.known if self.fakes is None else self.known.stack(self.fakes.ratings)

    @property
    def unseen(self) -> NDArray[np.int64]:
        """Real users without any rating so far, ascending."""
        return np.flatnonzero(np.diff(self.known.indptr) == 0)


@final
class World:
    """All rounds of a scenario; iterating gives its scenes."""

    def __init__(
        self, prepared: Prepared, scenario: Scenario, *, clients: int, fraction: float = 1.0
    ) -> None:
        """Raises InputError for more clients than users, and for times that the data lack."""
        require_clients(clients, prepared.user_count)
        if scenario.attack_from > scenario.rounds:
            raise InputError(
                f"the attack starts in round {scenario.attack_from} of {scenario.rounds}: "
                "choose an earlier one"
            )
        self.prepared, self.scenario, self.clients = prepared, scenario, clients
        rng = stream(prepared.experiment.seed, "rounds")
        self._there = _presence(scenario, clients, rng)
        self._asked = [_sampled(there, fraction, rng) for there in self._there]
        self._arrivals = self._arrived(rng)

    def __iter__(self) -> Iterator[Scene]:
        return self.scenes()

    def scenes(self, progress: Report = quiet) -> Iterator[Scene]:
        """Round after round; the attack is made when it begins, of what is known by then."""
        fakes: Profiles | None = None
        before = np.zeros(len(self._arrivals), dtype=bool)
        absent = np.zeros(self.clients, dtype=bool)
        for number in range(1, self.scenario.rounds + 1):
            there = self._there[number - 1]
            came = self._arrivals <= number
            known = _part(self.prepared.split.train, came)
            if number == self.scenario.attack_from:
                fakes = self._attack(known, progress)
            earlier = there if number == 1 else absent
            yield Scene(
                number,
                _places(there),
                self._asked[number - 1],
                int((there & ~earlier).sum()),
                int((earlier & ~there).sum()),
                known,
                int((came & ~before).sum()),
                fakes,
                self.clients,
                number >= self.scenario.attack_from,
            )
            before, absent = came, there

    def local(self, scene: Scene) -> LocalRatings:
        """What devices know in a round: own ratings so far, and the held-out item."""
        split = self.prepared.split
        return LocalRatings(
            scene.known, split.held_out.items, liked(split), ids=scene.known.user_ids
        )

    @property
    def fewest_asked(self) -> int:
        """Clients, in any round."""
        return min(map(len, self._asked))

    def users_of(self, client: int) -> range:
        """Whom a client plays."""
        return range(client, self.prepared.user_count, self.clients)

    def _arrived(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The round in which the server gets each rating, [N]; NEVER for what does not come."""
        train, scenario = self.prepared.split.train, self.scenario
        order = _order(self.prepared, scenario, rng)
        arrivals = np.ones(len(train), dtype=np.int64)
        there = _next_there(self._there)
        for user in range(train.user_count):
            span = order[train.indptr[user] : train.indptr[user + 1]]
            late = span[len(span) - math.floor(scenario.held_back * len(span)) :]
            steps = np.arange(len(late)) * max(scenario.rounds - 1, 1) // max(len(late), 1)
            arrivals[late] = 2 + steps
            # What is rated while the client is not there comes with it.
            arrivals[span] = there[user % self.clients, arrivals[span]]
        return arrivals

    def _attack(self, known: RatingMatrix, progress: Report) -> Profiles | None:
        experiment = self.prepared.experiment
        if self.prepared.profiles is None:
            return None
        if experiment.attack.startswith(FILE_PREFIX):
            return self.prepared.profiles
        options = {
            name: value for name, value in experiment.attack_options.items() if name != TARGETS
        }
        named = replace(experiment, targets=self.prepared.profiles.targets, attack_options=options)
        # Who has rated nothing yet is no user to an attacker, nor to its budget.
        seen = np.flatnonzero(np.diff(known.indptr))
        made = attacked(named, known.rows(seen), progress=progress)
        return made and replace(made, audience=tuple(int(seen[user]) for user in made.audience))


def _presence(
    scenario: Scenario, clients: int, rng: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """Whether each client is there, [n], in each round; one at least is."""
    there = rng.random(clients) >= scenario.absent
    found = []
    for number in range(scenario.rounds):
        if number:
            drawn = rng.random(clients)
            there = np.where(there, drawn >= scenario.leave, drawn < scenario.appear)
        if not there.any():
            there = np.arange(clients) == rng.integers(clients)
        found.append(there)
    return found


def _sampled(
    there: NDArray[np.bool_], fraction: float, rng: np.random.Generator
) -> tuple[int, ...]:
    present = np.flatnonzero(there)
    count = math.ceil(round(fraction * len(present), 9))
    return tuple(np.sort(rng.choice(present, max(count, 1), replace=False)).tolist())


def _next_there(there: list[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """The first round from round r on in which each client is there, [n, R + 2]; NEVER if none."""
    found = np.full((len(there[0]), len(there) + 2), NEVER)
    for number in range(len(there), 0, -1):
        found[:, number] = np.where(there[number - 1], number, found[:, number + 1])
    return found


def _order(prepared: Prepared, scenario: Scenario, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the training ratings by user, and within one as they arrive, [N]."""
    train, dataset = prepared.split.train, prepared.dataset
    drawn = rng.random(len(train))
    if scenario.arrive == "random":
        return np.lexsort((drawn, train.users))
    if dataset.timestamps is None:
        raise InputError(
            f"{dataset.name} has no timestamps: let ratings arrive at random (--arrive random)"
        )
    held_out = prepared.split.held_out.items
    kept = dataset.ratings.items != held_out[dataset.ratings.users]
    return np.lexsort((drawn, dataset.timestamps[kept], train.users))


def _part(ratings: RatingMatrix, kept: NDArray[np.bool_]) -> RatingMatrix:
    """The ratings that `kept` [N] says, of as many users and items."""
    indptr = np.concatenate([[0], np.cumsum(kept)])[ratings.indptr]
    return RatingMatrix(
        indptr,
        ratings.items[kept],
        ratings.levels[kept],
        ratings.item_count,
        ratings.scale,
        ratings.user_ids,
        ratings.item_ids,
    )


def _places(there: NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(np.flatnonzero(there).tolist())
