"""Retraining while serving: a child trains a new model version, the front then serves it.

The child writes the version into the serving folder and prints its name as its last line; what
it cannot do it says on stderr, and the server goes on as before.
"""

import asyncio
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, final

from common.errors import InputError
from common.versions.version import is_digest
from server.versions.catalog import Catalog, Served

# The child yields to the front and to the workers.
NICENESS: Final = 10

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retraining:
    """command: of the child process; every: seconds between trainings, or None: at SIGHUP only."""

    command: Sequence[str]
    every: float | None = None


@final
class Rotation:
    """Retrains at SIGHUP and every so often; one training at a time, in one event loop.

    published  is called with each new version
    """

    def __init__(
        self, versions: Catalog, retraining: Retraining, published: Callable[[Served], None]
    ) -> None:
        self._versions = versions
        self._retraining = retraining
        self._published = published
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Until it is canceled; the child is gone then."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        try:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), self._retraining.every)
                self._asked.clear()
                await self._rotate()
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    async def _rotate(self) -> None:
        try:
            version = await self._trained()
            served = self._versions.publish(version)
        except (InputError, OSError) as error:
            current = self._versions.current.description.version
            _log.error("%s: version %s is still served", error, current[:12])
            return
        _log.warning("version %s is served", version[:12])
        self._published(served)

    async def _trained(self) -> str:
        """The name of a version that is in the serving folder now.

        Raises InputError when there is no new one, OSError.
        """
        # Its stdin is a pipe that closes when this process ends, however that ends. Not uvloop's
        # subprocess: that forks, and a fork beside gRPC's threads crashed before the child began.
        child = subprocess.Popen(
            self._retraining.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        with child:
            try:
                with suppress(ProcessLookupError, PermissionError):
                    os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
                assert child.stdout is not None
                output = (
                    (await asyncio.to_thread(child.stdout.read)).decode(errors="replace").split()
                )
                code = await asyncio.to_thread(child.wait)
            finally:
                child.kill()
        if code or not output or not is_digest(output[-1]):
            raise InputError(f"training gave no new version (exit code {code})")
        return output[-1]
