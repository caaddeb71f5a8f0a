"""Access rules of a server: tokens, rates, daily budgets, deadlines."""

from dataclasses import dataclass, field
from typing import final

from common.wire.description import Description
from common.wire.service import LEAST_BYTES_PER_SECOND
from server.metrics import Metrics
from server.trust.budgets import Budget, BudgetedWorkers
from server.trust.gate import Gate
from server.trust.limits import RateLimit
from server.trust.places import CallLimits
from server.trust.tokens import TokenKeys
from server.workers.frames import Workers


@final
@dataclass(frozen=True)
class Guard:
    """Tokens that callers must show, and the limits of each caller.

    keys          of the bearer tokens; None asks for none
    user_rate     calls a second; None does not limit them
    budget        of neighbors that are shown in a day; None does not limit them
    call_seconds  after which a call is ended, whatever deadline it has
    calls         that may be under way at a time
    """

    keys: TokenKeys | None = None
    user_rate: float | None = None
    budget: Budget | None = None
    call_seconds: float = 60.0
    calls: CallLimits = field(default_factory=lambda: CallLimits.of(4096))

    def gate(self, description: Description, metrics: Metrics, *, loopback: bool = True) -> Gate:
        """For one server, with buckets of its own; `loopback` as in Gate."""
        return Gate(
            metrics,
            users=description.user_count,
            calls=self.calls,
            keys=self.keys,
            loopback=loopback,
            rate=None if self.user_rate is None else RateLimit(self.user_rate),
            call_seconds=self.call_seconds,
            stream_seconds=self.call_seconds + description.version_bytes / LEAST_BYTES_PER_SECOND,
        )

    def limited(self, workers: Workers) -> Workers:
        """The same workers; with a daily budget, packages above it are refused."""
        return workers if self.budget is None else BudgetedWorkers(workers, self.budget)
