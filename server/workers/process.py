"""The front's side of a worker process: starting it, asking it, ending it."""

import asyncio
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final, final

from common.processes import module_command
from server.workers.frames import (
    COMPILED,
    Call,
    WorkerLostError,
    WorkerResult,
    read_result,
    write_request,
)

# A worker ends as soon as it has answered; one that does not is killed after so long.
END_SECONDS: Final = 3.0


@final
class WorkerProcess:
    """A process that answers one request at a time; made by `start_worker`.

    lost  whether it has ended, or is about to
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._code = _exit_code(process)
        self._reader = reader
        self._writer = writer
        self.lost = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Until it has read what it serves. Raises WorkerLostError."""
        await self._next_result()

    async def answer(self, call: Call, request: bytes) -> WorkerResult:
        """Raises WorkerLostError when it ends before it has answered."""
        write_request(self._writer, call, request)
        return await self._next_result()

    async def ended(self) -> int:
        """Until it has ended; its exit code, negative for a signal."""
        code = await asyncio.shield(self._code)
        self.lost = True
        return code

    def kill(self) -> None:
        """End it at once; `ended` says when it is gone."""
        self.lost = True
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Close the socket, which ends it; kill it if that does not."""
        self._writer.close()
        try:
            await asyncio.wait_for(self.ended(), END_SECONDS)
        except TimeoutError:
            self.kill()
            await self.ended()

    async def _next_result(self) -> WorkerResult:
        try:
            return await read_result(self._reader)
        except WorkerLostError:
            self.lost = True
            raise


def _exit_code(process: "subprocess.Popen[bytes]") -> "asyncio.Future[int]":
    """Of a process that a thread waits for."""
    loop = asyncio.get_running_loop()
    code: asyncio.Future[int] = loop.create_future()

    def tell(ended: int) -> None:
        if not code.done():
            code.set_result(ended)

    def wait() -> None:
        ended = process.wait()
        # A loop that is closed needs no answer.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, ended)

    Thread(target=wait, name="worker's end", daemon=True).start()
    return code


async def start_worker(folder: Path, *, compiled: bool = False) -> WorkerProcess:
    """A worker that is ready to serve `folder` (server.versions.folder). Raises WorkerLostError."""
    options = [COMPILED] if compiled else []
    ours, theirs = socket.socketpair()
    # A process group of its own, so that Ctrl-C in a terminal does not reach it; not a session: all
    # sessions get equal shares from Linux, however nice their processes are (sched(7), autogroup).
    # Not the loop's own subprocess: uvloop's forks, which beside gRPC's threads ended some children
    # at their start.
    with theirs:
        process = subprocess.Popen(
            module_command("server.workers.worker", str(folder), str(theirs.fileno()), *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
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
