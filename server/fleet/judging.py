"""What a client's reply is worth: whether it can be true, and is of what was asked."""

import math

from flwr.app import Message, MetricRecord

from common.errors import InputError, VicinalError
from common.report_privacy import LOCAL, SECAGG
from common.wire import fleet_pb2 as wire
from common.wire.fleet import (
    COMPUTED,
    METRICS,
    PROCESSOR,
    answers_from_metrics,
    counts_from_metrics,
    milliseconds,
    parse,
)
from server.fleet.ledger import Entry
from server.fleet.messages import payload_of
from server.fleet.private_reports import PrivateReports
from server.fleet.roster import Roster
from server.fleet.work import FleetJob
from server.recommending.recommender import Recommender


def plays(
    reply: Message, recommender: Recommender, job: FleetJob, roster: Roster
) -> tuple[int, int] | None:
    """A client's partition of how many; None where it does not hold the model version.

    Raises VicinalError for a client that cannot take part.
    """
    installed = parse(wire.Installed, payload_of(reply))
    _check_source(installed.source_digest, job)
    if not installed.version:
        return None
    digest, users = recommender.version.digest, recommender.user_count
    if installed.version != digest or not (installed.partition < installed.partitions <= users):
        raise VicinalError(
            f"plays {installed.partition} of {installed.partitions} partitions of {users} "
            "users, or holds another model version: set partition-id and num-partitions"
        )
    settled = roster.partitions
    if settled and installed.partitions != settled:
        raise VicinalError(
            f"plays one of {installed.partitions} partitions, others of {settled}: "
            "set num-partitions of every node"
        )
    return installed.partition, installed.partitions


def answers(
    reply: Message, asked: Entry, recommender: Recommender, job: FleetJob, reports: PrivateReports
) -> bool:
    """Whether somebody was answered; if not, the client does not hold the model version.

    Raises VicinalError for what cannot be.
    """
    answered = parse(wire.Answered, payload_of(reply))
    _check_source(answered.source_digest, job)
    if not answered.version:
        return False
    if METRICS not in reply.content.metric_records:
        raise VicinalError("answered without counts")
    metrics, many = reply.content.metric_records[METRICS], len(asked.users)
    times(reply)
    told = answered.version, answered.users
    if told != (recommender.version.digest, many) or not _can_be(metrics, asked, job, reports):
        raise VicinalError("answered something that it was not asked")
    return True


def times(reply: Message) -> tuple[float, float, float]:
    """When the client began, and what its work took. Raises InputError for what is no time."""
    metrics = reply.content.metric_records[METRICS]
    begun = parse(wire.Answered, payload_of(reply)).begun
    if not math.isfinite(begun):
        raise InputError("fleet message: begun is no time")
    return begun, milliseconds(metrics, COMPUTED), milliseconds(metrics, PROCESSOR)


def _can_be(metrics: MetricRecord, asked: Entry, job: FleetJob, reports: PrivateReports) -> bool:
    """Raises InputError for what is no report."""
    many = len(asked.users)
    if job.privacy.kind == SECAGG:
        return True  # nobody sees what one client counts
    if job.privacy.kind == LOCAL:
        return bool(answers_from_metrics(metrics, len(job.watched), many))
    counts = counts_from_metrics(metrics)
    # Who could be shown an item is known here: the rest is bounded by it.
    return counts.eligible == reports.eligible(asked.users) and counts.of_at_most(many)


def _check_source(digest: str, job: FleetJob) -> None:
    if digest != job.source_digest:
        raise VicinalError(
            f"runs other code ({digest[:12]}, not {job.source_digest[:12]}): start "
            "Flower from an empty folder, see docs/how-to/flower.md"
        )
