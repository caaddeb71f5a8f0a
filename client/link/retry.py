"""Pauses between attempts to reach a server."""

import random
import time
from typing import Final, final

import grpc

from common.wire.service import BUDGET_REFUSAL

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0


@final
class Retry:
    """Growing pauses until a number of seconds has passed."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_SECONDS

    def remaining(self) -> float:
        """Seconds left; never so few that a call could not be made."""
        return max(self._end - time.monotonic(), FIRST_PAUSE_SECONDS)

    def pause(self, hint: float = 0.0) -> bool:
        """Sleep for a while; False, at once, when no time is left for it.

        hint  seconds for which a server has asked; waited for a little longer, by chance, so
              that devices that were refused together do not come back together
        """
        pause = max(self._pause, hint * random.uniform(1.0, 1.5))
        if time.monotonic() + pause >= self._end:
            return False
        time.sleep(pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return True


def is_budget(error: grpc.RpcError) -> bool:
    """Whether a call was refused because a day's budget is spent."""
    return BUDGET_REFUSAL in [(key, value) for key, value in error.trailing_metadata() or ()]
