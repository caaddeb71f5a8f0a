"""Scrapes, and connections that never come to be one."""

import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from server import metrics_port
from server.metrics_port import MAX_CONNECTIONS, answered


def read(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
        assert reply.headers["Content-Type"] == "text/plain"
        text: bytes = reply.read()
    return text


def test_half_sent_requests_take_no_threads_and_stop_no_scrape() -> None:
    with answered(0, lambda: b"x" * 100_000, "text/plain") as port:
        threads = threading.active_count()
        half = []
        for _ in range(100):
            half.append(socket.create_connection(("127.0.0.1", port), timeout=20))
            half[-1].sendall(b"GET /metrics HTTP/1.1\r\n")
        assert read(port) == b"x" * 100_000
        assert threading.active_count() == threads
        ended = 0
        for one in half[: len(half) - MAX_CONNECTIONS]:
            try:
                ended += one.recv(1) == b""
            except ConnectionResetError:
                ended += 1
        assert ended == len(half) - MAX_CONNECTIONS
        for one in half:
            one.close()
        assert read(port) == b"x" * 100_000


def test_a_request_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_port, "REQUEST_SECONDS", 0.2)
    with (
        answered(0, lambda: b"", "text/plain") as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as slow,
    ):
        begun = time.monotonic()
        slow.sendall(b"GET / HT")
        assert slow.recv(1) == b""
        assert time.monotonic() - begun > 0.1


def test_only_reading_is_allowed() -> None:
    with answered(0, lambda: b"", "text/plain") as port:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=b"x", method="POST")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=20)
