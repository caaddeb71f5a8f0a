"""A message to be answered, and its ways to nodes, as server.fleet.delivery keeps them."""

from dataclasses import dataclass, field

from flwr.app import Message


@dataclass(eq=False)
class Parcel:
    """A message on its way to be answered.

    expected  the caller waits for it; else it is a greeting
    """

    message: Message
    expected: bool
    tries: int = 0
    waits: int = 0
    breaks: int = 0
    progress: int = -1
    ready: float = 0.0
    lonely: float | None = None
    why: str = ""
    node: int = 0
    final: bool = False
    done: bool = False
    failed: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Flight:
    parcel: Parcel
    message: Message
    node: int
    sent: float
    clock: float
    due: float = 0.0
    overdue: bool = False
