"""What a fleet's run came to, for JSON: counts, who answered, who did not and why, what it cost."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from common.report_privacy import OPEN
from common.versions.version import version_digest
from server.fleet.messages import failure_line
from server.fleet.strategy import VicinalStrategy
from server.fleet.work import FleetJob
from server.recommending.recommender import Recommender


def asked_digest(job: FleetJob, recommender: Recommender) -> str:
    """Of all that counts depend on: two runs with the same may be added up."""
    asked = [
        recommender.version.digest,
        job.source_digest,
        dataclasses.asdict(job.settings),
        job.list_length,
        job.watched,
        recommender.user_count,
        str(job.privacy),
        version_digest(job.book),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def result_of(strategy: VicinalStrategy, server_round: int = 1) -> dict[str, Any]:
    """Of one round."""
    job, roster = strategy.job, strategy.roster
    answered = strategy.ledger.counted(server_round)
    asked = filter(strategy.is_wanted, range(roster.partitions))
    partitions = [_partition(strategy, server_round, each) for each in asked]
    return {
        "version": strategy.recommender.version.digest,
        "source_digest": job.source_digest,
        "release": "book" if job.book else "rows",
        "preset": job.preset,
        "settings": dataclasses.asdict(job.settings),
        "clients": job.clients,
        "users": strategy.recommender.user_count
        if strategy.wanted is None
        else sum(len(strategy.users_of(each)) for each in strategy.wanted),
        "answered": len(answered),
        "resumed": strategy.ledger.resumed,
        "list_length": job.list_length,
        "watched": list(job.watched),
        **strategy.reports.measures(server_round),
        "partitions": partitions,
        "failures": _failures(strategy, partitions),
        "broken_off": strategy.broken_off,
        **strategy.accounts.total().as_json(),
        "per_client": [
            {"client": node, "partition": roster.partition(node), **account.as_json()}
            for node in strategy.accounts.nodes
            for account in [strategy.accounts.of(node)]
        ],
    }


def too_few(result: Mapping[str, Any], min_replies: int) -> str | None:
    """Why a result is of too few partitions, in one line; None where it is not.

    min_replies  partitions whose users were all answered; 0: all that there are
    """
    partitions, failures = result["partitions"], result["failures"]
    whole = sum(each["answered"] == each["users"] for each in partitions)
    wanted = min_replies or max(1, len(partitions))
    if whole >= wanted:
        return None
    line = (
        f"{result['answered']} of {result['users']} users were answered, all of them in {whole} of "
        f"{len(partitions)} partitions, not {wanted}"
    )
    if not failures:
        return line
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return f"{line}: {failure_line(failures[0])}{more}"


def _partition(strategy: VicinalStrategy, server_round: int, partition: int) -> dict[str, Any]:
    users = strategy.users_of(partition)
    return {
        "partition": partition,
        "users": len(users),
        "answered": len(strategy.ledger.counted(server_round).intersection(users)),
        "counts": None
        if strategy.job.privacy != OPEN
        else dataclasses.asdict(strategy.counts(server_round, partition)),
    }


def _failures(strategy: VicinalStrategy, partitions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of messages, of clients, and of partitions that nobody played."""
    failures = list(strategy.failures)
    told = {failure["partition"] for failure in failures}
    asked = partitions if strategy.job.fraction >= 1 else []
    for each in asked:
        missing = each["users"] - each["answered"]
        if missing and each["partition"] not in told:
            why = strategy.broken_off or "no client plays it"
            failures.append(
                {
                    "partition": each["partition"],
                    "client": None,
                    "users": missing,
                    "reason": why,
                }
            )
    return failures
