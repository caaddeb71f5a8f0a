"""Answers to scrapes: one thread, whatever callers send or do not send.

prometheus_client's own server starts a thread for every connection, also for one whose request
never comes to its end.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Final

MAX_CONNECTIONS: Final = 16
REQUEST_SECONDS: Final = 5.0
MAX_HEAD_BYTES: Final = 8 << 10

_HEAD: Final = (
    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n"
    "Connection: close\r\n\r\n"
)


@contextmanager
def answered(port: int, page: Callable[[], bytes], kind: str) -> Iterator[int]:
    """Answer every GET on 127.0.0.1 with a page while the block runs; gives the port.

    Raises OSError for a port that cannot be had.
    """
    listening = socket.create_server(("127.0.0.1", port))
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True, name="metrics")
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(_started(listening, page, kind), loop).result()
        yield listening.getsockname()[1]
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        listening.close()


async def _started(
    listening: socket.socket, page: Callable[[], bytes], kind: str
) -> asyncio.Server:
    opened: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        opened[task] = writer
        if len(opened) > MAX_CONNECTIONS:
            # The one that has been here longest; a scrape takes milliseconds.
            opened.pop(next(iter(opened))).transport.abort()
        try:
            with suppress(TimeoutError, OSError, ValueError, asyncio.IncompleteReadError):
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    if head.startswith(b"GET "):
                        status, body = "200 OK", page()
                    else:
                        status, body = "405 Method Not Allowed", b""
                    said = _HEAD.format(status=status, kind=kind, size=len(body))
                    writer.write(said.encode() + body)
                    await writer.drain()
        finally:
            opened.pop(task, None)
            writer.close()

    return await asyncio.start_server(answer, sock=listening, limit=MAX_HEAD_BYTES)


async def _ended(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
