"""What a Flower client tells of its users' counts: their sum, less, or that under masks alone.

With secure sums, it has a part beside Flower's SecAgg+ mod. What it has counted waits in its own
state, by the groups of the messages that asked. When the mod collects, the server names the groups
that it counts, so that an answer that came twice, to two clients, is added up once.
"""

import os
from typing import Final

import numpy as np
from flwr.app import ConfigRecord, Context, Message
from flwr.common import Code, FitRes, Status, ndarrays_to_parameters
from flwr.compat.common.recorddict_compat import fitres_to_recorddict, recorddict_to_fitins

from common.errors import InputError
from common.ranking import Counts
from common.report_privacy import LOCAL, SECAGG, SECRET_BYTES, Draws, ReportPrivacy, answer_one
from common.wire import fleet_pb2 as wire
from common.wire.fleet import (
    ANSWERS,
    CONFIG,
    PRIVACY,
    RECEIPTS,
    SERVER_ROUND,
    counts_to_metrics,
)

_KEPT: Final = "kept-counts"
_GIVEN: Final = "given-counts"
_SECRET: Final = "report-secret"


def reported(
    message: Message, context: Context, work: wire.Work, counts: list[Counts]
) -> dict[str, int | list[int]]:
    """What is told of the counts of each user."""
    config = message.content.config_records.get(CONFIG, ConfigRecord())
    privacy = ReportPrivacy.parse(str(config.get(PRIVACY, "none")))
    if privacy.kind == LOCAL:
        secret, number = _secret(context), config.get(SERVER_ROUND)
        if not isinstance(number, int):
            raise InputError("recommend: the message names no round")
        reports = [
            answer_one(each, privacy.epsilon, Draws(secret, f"{number}/{work.version}/{user.user}"))
            for each, user in zip(counts, work.users, strict=True)
        ]
        return {ANSWERS: [sum(column) for column in zip(*reports, strict=True)]}
    total = sum(counts, Counts.none(len(work.watched_items)))
    if privacy.kind == SECAGG:
        _keep(context, message.metadata.group_id, total)
        return {}
    return counts_to_metrics(total)


def _secret(context: Context) -> bytes:
    """Of this client in this run; nobody else knows it."""
    record = context.state.config_records.get(_SECRET)
    if record is None:
        record = ConfigRecord({_SECRET: os.urandom(SECRET_BYTES)})
        context.state[_SECRET] = record
    found = record[_SECRET]
    assert isinstance(found, bytes)
    return found


def _keep(context: Context, group: str, counts: Counts) -> None:
    """Until they are collected."""
    record = context.state.config_records.get(_KEPT)
    if record is None:
        record = ConfigRecord()
        context.state[_KEPT] = record
    record[group] = summable(counts)


def give_counts(message: Message, context: Context) -> Message:
    """The sum over the groups that the message names, as the mod expects a model.

    Raises InputError for groups that are not kept, or named twice.
    """
    named = recorddict_to_fitins(message.content, keep_input=True).config.get(RECEIPTS)
    groups = str(named).split()
    record = context.state.config_records.get(_KEPT, ConfigRecord())
    if not groups or len(set(groups)) != len(groups) or not record.keys() >= set(groups):
        raise InputError("secure sum: the message names counts that are not kept here")
    _give_together(context, groups)
    rows = [np.array(record[group], dtype=np.float64) for group in groups]
    result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([np.sum(rows, axis=0)]), 1, {})
    return Message(fitres_to_recorddict(result, keep_input=False), reply_to=message)


def _give_together(context: Context, groups: list[str]) -> None:
    """Counts are added up with the same others each time: other sums would tell them apart.

    The same sum may be asked for again, where one was broken off. Raises InputError.
    """
    given = context.state.config_records.get(_GIVEN)
    if given is None:
        given = ConfigRecord()
        context.state[_GIVEN] = given
    together = " ".join(sorted(groups))
    for group in groups:
        if given.get(group, together) != together:
            raise InputError("secure sum: these counts were given in another sum")
        given[group] = together


def summable(counts: Counts) -> list[int]:
    """Eligible users are not among them: the server knows them."""
    rest = (counts.users, counts.user_hits, counts.liked, counts.liked_hits)
    return [*counts.hits, *rest]
