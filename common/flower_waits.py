"""How soon Flower looks again for what is not there yet."""

from functools import partial
from types import ModuleType
from typing import Final

# In seconds.
SHORTEST_WAIT: Final = 0.02


def look_soon(module: ModuleType, pull: str) -> None:
    """Let this function of a module of Flower look again soon for objects that are under way.

    A message is announced before its objects are there; who asks in between waits for a second, and
    for twice as long each time after.
    """
    setattr(module, pull, partial(getattr(module, pull), initial_backoff=SHORTEST_WAIT))
