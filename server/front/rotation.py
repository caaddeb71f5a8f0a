"""Retraining while serving: a child trains a new model version, the front then serves it.

Between trainings another one takes in users who are new, as an edition of the version that is
served. The child writes what it made into the serving folder and prints its name as its last line;
what it cannot do it says on stderr, and the server goes on as before.
"""

import asyncio
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from common.errors import InputError
from common.versions.version import is_digest
from server.cluster.member import Member
from server.versions.catalog import Catalog, Served

# The child yields to the front and to the workers.
NICENESS: Final = 10
RETRAIN: Final = "retrain"
REFRESH: Final = "refresh"
DONE: Final = "done"
FAILED: Final = "failed"
AWAY: Final = "away"
# With which the child ends when the ratings are away: sysexits' EX_TEMPFAIL.
AWAY_CODE: Final = 75
# Until they are asked for again.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retraining:
    """How a served folder is brought up to date.

    command        of the child process that trains; None where nothing is trained
    every          seconds between trainings, or None: at SIGHUP only
    refresh        of the one that takes new users in without a training
    refresh_every  seconds between those, or None: never
    files          which the ratings are in: while none has changed, no users are taken in
    """

    command: Sequence[str] | None
    every: float | None = None
    refresh: Sequence[str] = ()
    refresh_every: float | None = None
    files: Sequence[str] = ()


class _AwayError(Exception):
    """The ratings could not be read now, and may be soon."""


def file_states(files: Sequence[str]) -> list[tuple[int, int, int]]:
    """What changes with files: time, size, number; empty where there is none to look at."""
    found = []
    for path in files:
        try:
            status = Path(path).stat()
        except OSError:
            return []
        found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return found


@final
class Rotation:
    """Retrains at SIGHUP and every so often, and takes in new users between; in one event loop.

    One child works at a time. What finds the ratings away is tried again, after pauses that grow.

    published  is called with each new version, and with the current one when it has more users
    ended      is called with what was done (retrain, refresh) and how it ended (done, failed, away)
    member     of servers that share versions: one of them trains, and what it made is served when
               all of them have it
    """

    def __init__(
        self,
        versions: Catalog,
        retraining: Retraining,
        published: Callable[[Served], None],
        ended: Callable[[str, str], None] = lambda _what, _how: None,
        member: Member | None = None,
    ) -> None:
        self._versions = versions
        self._retraining = retraining
        self._published = published
        self._ended = ended
        self._member = member
        self._asked = asyncio.Event()
        self._seen: list[tuple[int, int, int]] | None = None
        self._pauses: dict[str, float] = {}
        self._wanting: asyncio.Task[None] | None = None
        self._due = {
            RETRAIN: self._next(RETRAIN),
            REFRESH: self._next(REFRESH),
        }

    async def run(self) -> None:
        """Until it is canceled; the child is gone then."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asks)
        if self._member is not None:
            self._member.asked = self._asked.set
        try:
            while True:
                wait = min(self._due.values()) - time.monotonic()
                with suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._asked.wait(), None if wait == math.inf else max(wait, 0.0)
                    )
                if self._asked.is_set():
                    what = RETRAIN if self._retraining.command is not None else REFRESH
                else:
                    what = min(self._due, key=lambda each: self._due[each])
                self._asked.clear()
                if self._member is not None and self._member.fence is None:
                    self._due[what] = self._next(what)
                    continue
                await self._bring_up_to_date(what)
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _asks(self) -> None:
        """Somebody wants a training, of whichever server trains."""
        if self._member is None:
            self._asked.set()
        else:
            self._wanting = asyncio.create_task(self._want(self._member))

    async def _want(self, member: Member) -> None:
        try:
            await member.want()
        except InputError as error:
            _log.error("%s: %s", RETRAIN, error)

    def _next(self, what: str) -> float:
        """When it is regularly done again, by the monotonic clock."""
        every = self._retraining.every
        if what == REFRESH:
            every = self._retraining.refresh_every
        elif self._retraining.command is None:
            every = None
        return math.inf if every is None else time.monotonic() + every

    async def _bring_up_to_date(self, what: str) -> None:
        state = file_states(self._retraining.files)
        if what == REFRESH and state and state == self._seen:
            self._due[what] = self._next(what)
            return
        how = await self._rotate(what)
        self._ended(what, how)
        self._due[what] = self._next(what)
        if how == AWAY:
            pause = min(2 * self._pauses.get(what, FIRST_PAUSE_SECONDS / 2), LONGEST_PAUSE_SECONDS)
            self._pauses[what] = pause
            self._due[what] = min(self._due[what], time.monotonic() + pause)
            return
        self._pauses.pop(what, None)
        if how == DONE:
            self._seen = state
            if what == RETRAIN:
                self._due[REFRESH] = self._next(REFRESH)

    async def _rotate(self, what: str) -> str:
        """How it ended."""
        if self._member is not None:
            return await self._shared(what, self._member)
        current = self._versions.current
        try:
            if what == REFRESH:
                version = await self._child(self._retraining.refresh)
                if version != current.description.version:
                    raise InputError("new users of another version")
                users, served = current.users, self._versions.refreshed()
                if served.users > users:
                    _log.warning("%d new users are answered", served.users - users)
            else:
                assert self._retraining.command is not None
                version = await self._child(self._retraining.command)
                served = self._versions.publish(version)
                _log.warning("version %s is served", version[:12])
        except (InputError, OSError, _AwayError) as error:
            name = current.description.version[:12]
            _log.error("%s: %s: version %s is still served", what, error, name)
            return AWAY if isinstance(error, _AwayError) else FAILED
        self._published(served)
        return DONE

    async def _shared(self, what: str, member: Member) -> str:
        """As _rotate(); all servers serve it when they have it."""
        try:
            fence, number = await member.begin()
            try:
                command = self._retraining.refresh
                if what == RETRAIN:
                    assert self._retraining.command is not None
                    command = self._retraining.command
                version = await self._child(command)
                await member.share(version, fence)
            finally:
                await member.done(fence, number)
                self._asked.clear()
        except (InputError, OSError, _AwayError) as error:
            name = self._versions.current.description.version[:12]
            _log.error("%s: %s: version %s is still served", what, error, name)
            return AWAY if isinstance(error, _AwayError) else FAILED
        return DONE

    async def _child(self, command: Sequence[str]) -> str:
        """The name of a version that is in the serving folder now.

        Raises InputError when there is none, _AwayError when there may be soon, OSError.
        """
        # Its stdin is a pipe that closes when this process ends, however that ends. Not uvloop's
        # subprocess: that forks, and a fork beside gRPC's threads crashed before the child began.
        child = subprocess.Popen(
            command,
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
        if code == AWAY_CODE:
            raise _AwayError("the ratings are away")
        if code or not output or not is_digest(output[-1]):
            raise InputError(f"it gave no version (exit code {code})")
        return output[-1]
