"""What a fleet cost: bytes each way, messages, and where the time of each went.

Names are those of `vicinal latency` where both measure the same (sims.latency.report).
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

# Fewer say nothing of the slowest hundredth.
LEAST_FOR_P99: Final = 100
_TIMES: Final = ("ms", "queue_ms", "computed_ms", "transfer_ms")


@dataclass
class Account:
    """Of one client, or of all.

    down, up      bytes of messages to it, of replies from it
    messages      sent; resent: those of them that had been sent before, to it or to another
    failed        messages that ended in an error, without a reply in time, or in a refused one
    processor_ms  that it says its work took
    ms            of each piece of work, from sending it to having its reply; that is queue_ms (on
                  the way, and waiting for a process), computed_ms and transfer_ms (the way back)
    """

    down: int = 0
    up: int = 0
    messages: int = 0
    resent: int = 0
    failed: int = 0
    processor_ms: float = 0.0
    ms: list[float] = field(default_factory=list)
    queue_ms: list[float] = field(default_factory=list)
    computed_ms: list[float] = field(default_factory=list)
    transfer_ms: list[float] = field(default_factory=list)

    def worked(self, ms: float, *, queue: float, computed: float, processor: float) -> None:
        """A piece of work was answered; what a client says of it lies within `ms`."""
        computed = min(computed, ms)
        queue = min(max(queue, 0.0), ms - computed)
        self.ms.append(ms)
        self.queue_ms.append(queue)
        self.computed_ms.append(computed)
        self.transfer_ms.append(ms - computed - queue)
        self.processor_ms += min(processor, ms)

    def as_json(self) -> dict[str, Any]:
        """Sums, and quantiles of the times: null where there are too few."""
        return {
            "messages": self.messages,
            "resent": self.resent,
            "failed": self.failed,
            "bytes": {"up": self.up, "down": self.down},
            "device_processor_ms": self.processor_ms / len(self.ms) if self.ms else None,
            "latency": {
                "answers": len(self.ms),
                "largest_ms": max(self.ms, default=None),
                **{name: _quantiles(getattr(self, name)) for name in _TIMES},
            },
        }


@final
class Accounts:
    """Of all clients, by node id."""

    def __init__(self) -> None:
        self._of: defaultdict[int, Account] = defaultdict(Account)

    def of(self, node: int) -> Account:
        return self._of[node]

    @property
    def nodes(self) -> list[int]:
        return list(self._of)

    def total(self) -> Account:
        """Of all clients together."""
        total = Account()
        for each in self._of.values():
            for name, value in vars(each).items():
                setattr(total, name, getattr(total, name) + value)
        return total


def _quantiles(values: list[float]) -> dict[str, float | None]:
    enough = len(values) >= LEAST_FOR_P99
    return {
        "p50": float(np.quantile(values, 0.5)) if values else None,
        "p99": float(np.quantile(values, 0.99)) if enough else None,
    }
