"""Serving a fleet of Flower clients: install once, send neighborhoods, add up counts.

Flower drops what it cannot deliver, so every reply is matched with the message it answers;
what is missing, failed or comes from other code ends the run with the reason.

Shapes: U users, n clients; client p plays the users u with u mod n = p.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp import Grid

from common.errors import VicinalError
from common.ranking import Counts
from common.vicinal.settings import VicinalSettings
from common.wire import fleet_pb2 as wire
from common.wire.fleet import INSTALL, MODEL, RECOMMEND, parse
from common.wire.messages import (
    counts_from_wire,
    neighborhood_to_wire,
    own_to_wire,
    preset_to_wire,
)
from common.wire.sealing import OwnRow, device_key
from server.fleet.messages import POLL_SECONDS, exchange, message_to, payload_of, sender
from server.recommending.recommender import Recommender
from server.reports.tally import Tally
from server.versions.folder import eligible_users

# A client's batch of users; larger messages hold up the others, smaller ones cost a delivery.
BATCH_BYTES: Final = 2 << 20
# What is under way at a time: Flower keeps messages in memory until they are answered.
WAVE_BYTES: Final = 64 << 20

# Called with what is being done, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class FleetJob:
    """The users of a fleet to answer for, and how.

    clients        how many must be connected
    reply_timeout  seconds without any reply (or any further client) after which to give up
    source_digest  of the code that clients must run
    secret         of which users' devices have a key each
    """

    preset: str
    settings: VicinalSettings
    list_length: int
    watched: tuple[int, ...]
    clients: int
    reply_timeout: float
    source_digest: str
    secret: bytes = field(repr=False)


def serve_fleet(grid: Grid, recommender: Recommender, job: FleetJob, *, report: Report) -> Counts:
    """The counts of all real users, answered by the fleet.

    Raises VicinalError naming the clients that failed, are missing or run other code.
    """
    nodes = connected(grid, job)
    partitions = install(grid, recommender, job, nodes, report)
    eligible = eligible_users(recommender, job.watched)
    with Tally(users=recommender.user_count, eligible=eligible) as tally:
        _answer_all(grid, recommender, job, partitions, tally, report)
        return tally.total(recommender.version.digest, job.preset)[1]


def _answer_all(
    grid: Grid,
    recommender: Recommender,
    job: FleetJob,
    partitions: dict[int, int],
    tally: Tally,
    report: Report,
) -> None:
    """Let the fleet answer for every real user, and add up what it replies."""
    digest, done = recommender.version.digest, 0
    for wave in _waves(_batches(recommender, job, partitions)):
        for sent, reply in exchange(grid, wave, timeout=job.reply_timeout):
            answered = parse(wire.Answered, payload_of(reply))
            asked = len(parse(wire.Work, payload_of(sent)).users)
            _check_source(reply, answered.source_digest, job)
            counts = counts_from_wire(answered.counts)
            fits = counts.of_at_most(asked)
            if (answered.version, answered.users) != (digest, asked) or not fits:
                raise VicinalError(f"{sender(reply)} answered something that it was not asked")
            tally.add(digest, job.preset, sent.metadata.message_id[:64], counts)
            done += asked
            report("recommend", done, recommender.user_count)
    if done != recommender.user_count:
        raise VicinalError(f"{done} of {recommender.user_count} users were answered")


def connected(grid: Grid, job: FleetJob) -> list[int]:
    """Node ids of the fleet, once as many clients are there as the job asks for.

    Raises VicinalError when no further client comes in time, or when there are too many.
    """
    seen, deadline = 0, time.monotonic() + job.reply_timeout
    while len(nodes := sorted(grid.get_node_ids())) < job.clients:
        if len(nodes) > seen:
            seen, deadline = len(nodes), time.monotonic() + job.reply_timeout
        if time.monotonic() > deadline:
            raise VicinalError(
                f"{len(nodes)} of {job.clients} clients are connected "
                f"after {job.reply_timeout:g} s: start the others or set clients={len(nodes)}"
            )
        time.sleep(POLL_SECONDS)
    if len(nodes) > job.clients:
        raise VicinalError(f"{len(nodes)} clients are connected, not {job.clients}: set clients")
    return nodes


def install(
    grid: Grid, recommender: Recommender, job: FleetJob, nodes: list[int], report: Report
) -> dict[int, int]:
    """Give every client the model version; which client plays which partition.

    Raises VicinalError when clients fail or do not share out the users among themselves.
    """
    data = recommender.path.read_bytes()
    digest = recommender.version.digest
    # One array for all: Flower uploads and stores equal arrays once.
    model = ArrayRecord({MODEL: Array("uint8", (len(data),), "vicinal.version", data)})
    payload = wire.Install(version=digest).SerializeToString()
    messages = [message_to(node, f"train.{INSTALL}", payload, model) for node in nodes]
    partitions: dict[int, int] = {}
    for sent, reply in exchange(grid, messages, timeout=job.reply_timeout):
        installed = parse(wire.Installed, payload_of(reply))
        _check_source(reply, installed.source_digest, job)
        if installed.version != digest or installed.partitions != len(nodes):
            raise VicinalError(
                f"{sender(reply)} plays one of {installed.partitions} partitions, but "
                f"{len(nodes)} clients are connected: set num-partitions of every node"
            )
        if installed.partition in partitions or installed.partition >= len(nodes):
            raise VicinalError(
                f"two clients play partition {installed.partition}: set partition-id"
            )
        partitions[installed.partition] = sent.metadata.dst_node_id
        report("install", len(partitions), len(nodes))
    return partitions


def _batches(
    recommender: Recommender, job: FleetJob, partitions: dict[int, int]
) -> Iterator[tuple[Message, int]]:
    """Messages and their sizes, one for every client in turn, until all users are in one."""
    waiting = [
        _client_batches(recommender, job, partition, len(partitions), node)
        for partition, node in sorted(partitions.items())
    ]
    while waiting:
        served = [(batches, next(batches, None)) for batches in waiting]
        waiting = [batches for batches, batch in served if batch is not None]
        yield from (batch for _, batch in served if batch is not None)


def _client_batches(
    recommender: Recommender, job: FleetJob, partition: int, partitions: int, node: int
) -> Iterator[tuple[Message, int]]:
    users, version = range(partition, recommender.user_count, partitions), recommender.version
    work = wire.Work(
        version=version.digest,
        preset=preset_to_wire(job.preset, job.settings),
        list_length=job.list_length,
        watched_items=job.watched,
    )
    size = 0
    for user in users:
        found = recommender.neighborhood(user, job.settings)
        hidden = recommender.hidden(user, job.settings, found)
        neighborhood = neighborhood_to_wire(found, hidden)
        own = OwnRow(recommender.ratings.rows([user]), device_key(job.secret, user))
        neighborhood.sealed = own.seal(own_to_wire(found, hidden), version.digest)
        work.users.add(user=user, neighborhood=neighborhood)
        size += neighborhood.ByteSize()
        if size >= BATCH_BYTES or user + partitions >= recommender.user_count:
            yield message_to(node, f"query.{RECOMMEND}", work.SerializeToString()), size
            del work.users[:]
            size = 0


def _waves(batches: Iterable[tuple[Message, int]]) -> Iterator[list[Message]]:
    wave: list[Message] = []
    size = 0
    for message, length in batches:
        wave.append(message)
        size += length
        if size >= WAVE_BYTES:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave


def _check_source(reply: Message, source_digest: str, job: FleetJob) -> None:
    if source_digest != job.source_digest:
        raise VicinalError(
            f"{sender(reply)} runs other code ({source_digest[:12]}, not "
            f"{job.source_digest[:12]}): start Flower from an empty folder, see "
            "docs/how-to/flower.md"
        )
