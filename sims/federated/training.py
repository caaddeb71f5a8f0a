"""mf trained in a fleet, in one process: the same functions that clients and server call.

Over Flower's messages it is server.fleet.learning, which gives the same numbers to the last bit.

Shapes: U users, M malicious clients, I items, d embedding width.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import final

import numpy as np

from client.federated import OwnRatings, local_update, own_vector
from common.errors import InputError, VicinalError
from common.federated import (
    ATTACK,
    CLIENT,
    LAST,
    ROUND,
    TABLE,
    VECTOR,
    Table,
    Update,
    first_rows,
    sampled,
    stream,
)
from common.ratings import RatingMatrix
from server.federated.settings import Federated
from sims.federated.attacker import Attacker, Bound
from sims.progress import Report, quiet


@final
@dataclass(frozen=True)
class Trained:
    """Items [I, d], and a vector for every user of the ratings, [U, d]."""

    items: Table
    users: Table


@final
@dataclass(frozen=True)
class Stage:
    """One of several trainings of a fleet that comes and goes.

    present  users who take part, ascending
    before   what it goes on from, of as many users or fewer; None: it begins
    rounds   of training that were before
    """

    present: tuple[int, ...]
    before: Trained | None = None
    rounds: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        found = hashlib.sha256(repr((self.present, self.rounds)).encode())
        if self.before is not None:
            found.update(self.before.items.tobytes() + self.before.users.tobytes())
        return found.hexdigest()


def train_in_fleet(
    ratings: RatingMatrix,
    settings: Federated,
    *,
    seed: int,
    attacker: Attacker | None = None,
    malicious: Sequence[int] = (),
    stage: Stage | None = None,
    progress: Report = quiet,
) -> Trained:
    """The table after all rounds; the same arguments give the same numbers.

    attacker   whoever controls the malicious clients; None: there are none
    malicious  numbers of its clients: users of the ratings, who send no update of their own, or
               numbers above theirs, who have no ratings
    stage      who takes part and what it goes on from; None: everybody, and nothing

    Raises VicinalError when the table does not stay finite, InputError for a rule that needs more
    clients.
    """
    aggregated = _flowers()
    users, items = ratings.user_count, ratings.item_count
    stage = stage or Stage(tuple(range(users)))
    table = first_rows(items, settings.width, rng=stream(seed, TABLE))
    vectors = np.concatenate(
        [first_rows(1, settings.width, rng=stream(seed, VECTOR, user)) for user in range(users)]
    )
    if stage.before is not None:
        table = stage.before.items.copy()
        vectors[: len(stage.before.users)] = stage.before.users
    own = [_own(ratings, user) for user in range(users)]
    controlled = frozenset(malicious if attacker is not None else ())
    everybody = np.array(sorted({*stage.present, *controlled}))
    for number in range(stage.rounds, stage.rounds + settings.rounds):
        asked = sampled(everybody, settings.clients, rng=stream(seed, ROUND, number))
        updates = dict[int, Update]()
        for client in (each for each in asked if each not in controlled):
            rng = stream(seed, CLIENT, number, client)
            vectors[client], updates[client] = local_update(
                table, vectors[client], own[client], settings.local, rng=rng
            )
        theirs = [client for client in asked if client in controlled]
        if attacker is not None and theirs:
            made = attacker.updates(
                table,
                len(theirs),
                Bound.of(list(updates.values()), settings.row_norm),
                rng=stream(seed, ATTACK, number),
            )
            updates |= dict(zip(theirs, made, strict=True))
        step = aggregated(
            [updates[client] for client in sorted(updates)],
            settings.aggregate,
            item_count=items,
            width=settings.width,
            malicious_share=settings.malicious_share,
            row_norm=settings.row_norm,
        )
        with np.errstate(over="ignore"):  # told below
            table[step.items] += step.rows
        if not np.isfinite(table).all():
            raise VicinalError(f"federated training diverged: lower the rate ({settings.rate:g})")
        progress("rounds", number + 1 - stage.rounds, settings.rounds)
    for user in stage.present:
        vectors[user] = own_vector(
            table,
            vectors[user],
            own[user],
            settings.local,
            steps=settings.last_steps,
            rng=stream(seed, LAST, user),
        )
    if not np.isfinite(vectors).all():
        raise VicinalError(f"federated training diverged: lower the rate ({settings.user_rate:g})")
    return Trained(table, vectors)


def _flowers() -> Callable[..., Update]:
    """server.federated.aggregation.aggregated. Raises InputError where Flower is not installed."""
    module = "server.federated.aggregation"
    try:
        found: Callable[..., Update] = import_module(module).aggregated
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "flwr":
            raise
        raise InputError("training in a fleet needs Flower: pip install 'vicinal[all]'") from None
    return found


def _own(ratings: RatingMatrix, user: int) -> OwnRatings:
    part = slice(ratings.indptr[user], ratings.indptr[user + 1])
    return OwnRatings(ratings.items[part].astype(np.int64), ratings.ratings[part])
