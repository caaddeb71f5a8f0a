"""The front's side of a worker process: starting it, asking it, ending it."""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, final

from server.frames import Answer, Call, WorkerLostError, read_answer, write_request

# A worker ends as soon as it has answered; one that does not is killed after so long.
END_SECONDS: Final = 3.0
_ROOT: Final = Path(__file__).resolve().parent.parent


@final
class WorkerProcess:
    """A process that answers one request at a time; made by `start_worker`.

    lost  whether it has ended
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.lost = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Until it has read what it serves. Raises WorkerLostError."""
        await self._next_answer()

    async def answer(self, call: Call, request: bytes) -> Answer:
        """Raises WorkerLostError when it ends before it has answered."""
        write_request(self._writer, call, request)
        return await self._next_answer()

    async def ended(self) -> int:
        """Until it has ended; its exit code, negative for a signal."""
        code = await self._process.wait()
        self.lost = True
        return code

    async def end(self) -> None:
        """Close the socket, which ends it; kill it if that does not."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._process.wait(), END_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _next_answer(self) -> Answer:
        try:
            return await read_answer(self._reader)
        except WorkerLostError:
            self.lost = True
            raise


async def start_worker(folder: Path) -> WorkerProcess:
    """A worker that is ready to serve `folder` (server.serving). Raises WorkerLostError."""
    ours, theirs = socket.socketpair()
    # A group of its own, so that Ctrl-C in a terminal does not reach it; the path, so that it
    # runs this code wherever the front was started.
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "server.worker", str(folder), str(theirs.fileno())),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=(theirs.fileno(),),
            process_group=0,
        )
    worker = WorkerProcess(process, *await asyncio.open_connection(sock=ours))
    try:
        await worker.ready()
    except BaseException:
        await worker.end()
        raise
    return worker
