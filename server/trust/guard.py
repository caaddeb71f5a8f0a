"""What a server asks of its callers, and how much each of them may have."""

from dataclasses import dataclass
from typing import final

from common.wire.description import Description
from common.wire.service import LEAST_BYTES_PER_SECOND
from server.metrics import Metrics
from server.trust.gate import Gate
from server.trust.limits import Budgeted, NeighborBudget, RateLimit
from server.trust.tokens import TokenKeys
from server.workers.frames import Answers


@final
@dataclass(frozen=True)
class Guard:
    """What is asked of callers, and how much each may have.

    keys             of the bearer tokens; None asks for none
    user_rate        calls a second; None does not limit them
    daily_neighbors  distinct neighbors that a user is shown in a day; None does not limit them
    call_seconds     after which a call is ended, whatever deadline it has
    """

    keys: TokenKeys | None = None
    user_rate: float | None = None
    daily_neighbors: int | None = None
    call_seconds: float = 60.0

    def gate(self, description: Description, metrics: Metrics) -> Gate:
        """For one server, with buckets of its own."""
        return Gate(
            metrics,
            users=description.user_count,
            keys=self.keys,
            rate=None if self.user_rate is None else RateLimit(self.user_rate),
            call_seconds=self.call_seconds,
            stream_seconds=self.call_seconds + description.version_bytes / LEAST_BYTES_PER_SECOND,
        )

    def answers(self, answers: Answers) -> Answers:
        """The same answers, held to the daily budget if there is one."""
        if self.daily_neighbors is None:
            return answers
        return Budgeted(answers, NeighborBudget(self.daily_neighbors))
