"""What a fleet is asked: neighborhoods of users, in messages of a few megabytes; or users alone.

Shapes: U users, n partitions; partition p has the users u with u mod n = p.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from common.report_privacy import OPEN, ReportPrivacy
from common.versions.version import version_digest
from common.vicinal.settings import VicinalSettings
from common.wire import fleet_pb2 as wire
from common.wire.messages import neighborhood_to_wire, own_to_wire, preset_to_wire
from common.wire.sealing import OwnRow, device_key
from server.recommending.recommender import Recommender

# A client's batch of users; larger messages hold up the others, smaller ones cost a delivery.
BATCH_BYTES: Final = 2 << 20
# The same of users who are answered from a book: a client has them answered within seconds.
BATCH_USERS: Final = 2048


@dataclass(frozen=True)
class FleetJob:
    """The users of a fleet to answer for, how, and with whom.

    clients          how many to wait for
    fraction         share of those there that are asked; min_clients: how many at least
    accept_failures  False: the first message that nobody answers ends the run
    under_way        messages at a time; 0: one for each client
    reply_timeout    seconds without any further client, and for each reply
    shared_models    whether clients of a machine keep the model version in one place
    privacy          what reports keep to themselves
    source_digest    of the code that clients must run
    secret           of which users' devices have a key each
    book             bytes of the version's, from which users are answered; empty: from packages
    """

    preset: str
    settings: VicinalSettings
    list_length: int
    watched: tuple[int, ...]
    clients: int
    source_digest: str
    secret: bytes = field(repr=False)
    fraction: float = 1.0
    min_clients: int = 1
    accept_failures: bool = True
    under_way: int = 0
    reply_timeout: float = 300.0
    shared_models: bool = False
    privacy: ReportPrivacy = OPEN
    book: bytes = b""


class Batch(NamedTuple):
    """Some users of a partition, and the message about them, serialized."""

    partition: int
    users: list[int]
    payload: bytes


def batches_in_turn(
    recommender: Recommender,
    job: FleetJob,
    asked: list[int],
    partitions: int,
    answered: Collection[int],
) -> Iterator[Batch]:
    """Batches of the partitions asked, one of each in turn, without users who are answered."""
    waiting = []
    for partition in asked:
        of_all = range(partition, recommender.user_count, partitions)
        users = [user for user in of_all if user not in answered]
        waiting.append(_batches(recommender, job, partition, users))
    while waiting:
        left = []
        for batches in waiting:
            batch = next(batches, None)
            if batch is not None:
                left.append(batches)
                yield batch
        waiting = left


def _batches(
    recommender: Recommender, job: FleetJob, partition: int, users: list[int]
) -> Iterator[Batch]:
    version = recommender.version.digest
    work = wire.Work(
        version=version,
        preset=preset_to_wire(job.preset, job.settings),
        list_length=job.list_length,
        watched_items=job.watched,
    )
    if job.book:
        work.book = version_digest(job.book)
        for start in range(0, len(users), BATCH_USERS):
            some = users[start : start + BATCH_USERS]
            del work.users[:]
            work.users.extend(wire.UserWork(user=user) for user in some)
            yield Batch(partition, some, work.SerializeToString())
        return
    size = 0
    for user in users:
        found = recommender.neighborhood(user, job.settings)
        hidden = recommender.hidden(user, job.settings, found)
        neighborhood = neighborhood_to_wire(found, hidden)
        own = OwnRow(recommender.ratings.rows([user]), device_key(job.secret, user))
        neighborhood.sealed = own.seal(own_to_wire(found, hidden), version)
        work.users.add(user=user, neighborhood=neighborhood)
        size += neighborhood.ByteSize()
        if size >= BATCH_BYTES or user == users[-1]:
            yield Batch(partition, [each.user for each in work.users], work.SerializeToString())
            del work.users[:]
            size = 0
