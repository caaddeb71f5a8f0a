"""Messages of Flower's simulation by whom they are for.

Flower's simulation asks for the messages of each client in turn, ten times a second, and looks
through all that are under way for each of them: with thousands of clients this takes longer than
the work. Here a client that has none costs a look into a table.

Written against Flower 1.41.0.
"""

from collections import defaultdict, deque
from typing import Any, Final, final

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.date import now

_STATE: Final = "InMemoryLinkState"


@final
class Mailboxes:
    """What has not been delivered, in the order in which it was sent."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self._store = state.store_message_ins
        self._waiting: defaultdict[int, deque[str]] = defaultdict(deque)

    def store_message_ins(self, message: Message) -> str | None:
        """As Flower's, which refuses by None."""
        with self._state.lock:
            identity: str | None = self._store(message)
            if identity is not None:
                self._waiting[message.metadata.dst_node_id].append(identity)
            return identity

    def get_message_ins(
        self, node_id: int, limit: int | None, *, run_id: int | None = None
    ) -> list[Message]:
        """As Flower's: not yet delivered, and delivered by this."""
        if node_id not in self._waiting:
            return []
        state, found = self._state, list[Message]()
        with state.lock:
            waiting = self._waiting.pop(node_id)
            state._check_stored_messages(set(waiting))
            while waiting and (limit is None or len(found) < limit):
                message = state.message_ins_store.get(waiting.popleft())
                # None of what was given up meanwhile.
                if message is not None and run_id in (None, message.metadata.run_id):
                    message.metadata.delivered_at = now().isoformat()
                    found.append(message)
            if waiting:
                self._waiting[node_id] = waiting
        return found


def sort_mail(grid: Grid) -> bool:
    """Give the grid of a simulation mailboxes; any other stays as it is. Whether it is one."""
    state: Any = getattr(grid, "state", None)
    if type(state).__name__ != _STATE or state.message_ins_store:
        return False
    boxes = Mailboxes(state)
    state.get_message_ins = boxes.get_message_ins
    state.store_message_ins = boxes.store_message_ins
    return True
