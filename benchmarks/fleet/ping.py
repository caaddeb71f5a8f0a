"""The least Flower app there can be: the server asks one node, again and again, what time it is."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import Final

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

# Before each line of seconds.
MARK: Final = "ping"
_POLL_SECONDS: Final = 0.01
_LONGEST_SECONDS: Final = 120.0

server = ServerApp()
client = ClientApp()


@client.query("ping")
def ping(message: Message, _context: Context) -> Message:
    """When the message was handled."""
    return Message(RecordDict({"at": ConfigRecord({"time": time.time()})}), reply_to=message)


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Prints the seconds of each message from there to back, and of its way there.

    soon  of the run config: replies are taken as server.flower_app does
    """
    pull: Callable[[list[str]], Iterable[Message]] = grid.pull_messages
    if context.run_config["soon"]:
        # The client, whose module this is, too, has no need of it.
        from flwr.superlink.grid.http_grid import HttpGrid  # noqa: PLC0415

        from server.fleet.replies import Replies  # noqa: PLC0415

        assert isinstance(grid, HttpGrid)
        pull = Replies(grid).pull
    while not list(grid.get_node_ids()):
        time.sleep(_POLL_SECONDS)
    node = next(iter(grid.get_node_ids()))
    for number in range(int(context.run_config["messages"])):
        start = time.time()
        sent = list(grid.push_messages([Message(RecordDict(), node, "query.ping")]))
        while not (replies := list(pull(sent))):
            if time.time() - start > _LONGEST_SECONDS:
                raise TimeoutError(f"message {number}: no reply")
            time.sleep(_POLL_SECONDS)
        handled = replies[0].content.config_records["at"]["time"]
        assert isinstance(handled, float)
        sys.stdout.write(f"{MARK} {time.time() - start:.4f} {handled - start:.4f}\n")
        sys.stdout.flush()
