"""A Flower node that answers soon: `python -m client.flower_node` with flower-supernode's options.

Flower's own node starts a Python for every message, waits 3 seconds whenever no message is there,
a second for objects of one that is announced, and looks every half second whether a reply is. Here
the messages of a node are handled by processes that are forked from one which has loaded Flower and
numpy, still one for each message, and the node looks again soon after it was needed. All else is
Flower's SuperNode.

Written against Flower 1.41.0, whose modules are used as they are but for the clock of one and how
soon two look again.
"""

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType
from typing import Final, final

from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import (
    SUPERNODE_UVICORN_DEFAULT_PORT,
    UVICORN_DEFAULT_HOST,
    TaskType,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient

# What a message's process would load anew; nothing of ours, which the app brings.
LOADED: Final = (
    "flwr.supernode.runtime.run_clientapp",
    "flwr.clientapp.client_app",
    "array_api_compat.numpy",
    "backports.zstd",
    "google.protobuf.internal.builder",
    "h11",
    "httpcore",
    "nacl.bindings",
    "numpy",
    "safetensors.numpy",
    "threadpoolctl",
)
OURS: Final = ("client", "common", "server", "sims", "vicinal")
# In seconds.
SHORTEST_WAIT: Final = 0.02
# Flower's own, of a node that nobody has needed for a while.
LONGEST_WAIT: Final = 3.0
GROWTH: Final = 1.25


def look_soon(module: ModuleType, pull: str) -> None:
    """Let this function of a module of Flower look again soon for objects that are under way.

    A message is announced before its objects are there; who asks in between waits for a second, and
    for twice as long each time after.
    """
    setattr(module, pull, partial(getattr(module, pull), initial_backoff=SHORTEST_WAIT))


@final
class Patience:
    """How long to wait for what was not there: little at first, more every time.

    A node that was needed t seconds ago looks about every t / 5 seconds.
    """

    def __init__(self) -> None:
        self._wait = SHORTEST_WAIT

    def needed(self) -> None:
        """Something was there."""
        self._wait = SHORTEST_WAIT

    def next_wait(self) -> float:
        """In seconds."""
        wait = self._wait
        self._wait = min(wait * GROWTH, LONGEST_WAIT)
        return wait


@final
class NodeClock:
    """What Flower's node has for the module `time`, of which it uses `sleep` alone.

    It sleeps for three seconds when no message was there, and for less while it waits for a reply.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience

    def sleep(self, seconds: float) -> None:
        """Wait, for no longer than asked."""
        if seconds >= LONGEST_WAIT:
            time.sleep(min(seconds, self._patience.next_wait()))
        else:
            self._patience.needed()
            time.sleep(min(seconds, SHORTEST_WAIT))


@final
class MessageForker:
    """Takes the tasks of a node as Flower's SuperExec does, and forks a process for each."""

    def __init__(self, address: str, authority: Path | None) -> None:
        self._address = address
        self._authority = None if authority is None else authority.read_bytes()
        self._patience = Patience()
        # Without a name of its own, as a process's main module is loaded in each that it forks.
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(LOADED))

    def run(self) -> None:
        """For ever."""
        client = RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=self._authority is None,
            root_certificates=self._authority,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")],
            retry_invoker=make_simple_http_retry_invoker(),
        )
        wanted = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        while True:
            found = client.AcquireTask(wanted)
            if found.HasField("task") and found.token:
                self._patience.needed()
                self._start(found.token)
            else:
                time.sleep(min(self._patience.next_wait(), 10 * SHORTEST_WAIT))

    def _start(self, token: str) -> None:
        multiprocessing.active_children()  # so that those that have ended are forgotten
        arguments = (self._address, token, self._authority, os.getpid())
        # Ended with the node: it knows its messages no more.
        self._context.Process(target=handle, args=arguments, daemon=True).start()


def handle(address: str, token: str, authority: bytes | None, node: int) -> None:
    """One message, as `flwr-clientapp` handles it; the process ends with it."""
    import flwr.supernode.runtime.run_clientapp as app  # noqa: PLC0415

    look_soon(app, "pull_and_inflate_object_from_tree")
    # The app's code is the app's own, and not what this module was loaded from.
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    app.run_clientapp(
        runtime_api_address=address,
        token=token,
        insecure=authority is None,
        certificates=authority,
        parent_pid=node,
        runtime_dependency_install=False,
    )


def main(arguments: Sequence[str]) -> None:
    """Run a node to its end."""
    import flwr.supernode.start_client_internal as node  # noqa: PLC0415
    from flwr.supernode.cli.flower_supernode import flower_supernode  # noqa: PLC0415

    # Only what has to be known here; Flower reads all of them, and refuses what is wrong.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--host", default=UVICORN_DEFAULT_HOST)
    parser.add_argument("--port", default=str(SUPERNODE_UVICORN_DEFAULT_PORT))
    parser.add_argument("--ssl-ca-certfile", type=Path)
    known, _ = parser.parse_known_args(arguments)
    host = f"[{known.host}]" if ":" in known.host else known.host
    setattr(node, "time", NodeClock(Patience()))  # noqa: B010  # that of a module, for mypy
    look_soon(node, "pull_objects")
    sys.argv = ["flower-supernode", *arguments, "--isolation", "process"]
    if {"--help", "-h", "--version", "-V"}.isdisjoint(arguments):
        forker = MessageForker(f"{host}:{known.port}", known.ssl_ca_certfile)
        threading.Thread(target=forker.run, name="message-forker", daemon=True).start()
    flower_supernode()


if __name__ == "__main__":
    main(sys.argv[1:])
