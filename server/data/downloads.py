"""One bounded HTTP download: limited in size, and left when the other side keeps silent."""

import tempfile
import threading
import time
from pathlib import Path
from typing import final

import pooch
import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from common.errors import VicinalError
from server.data.reading import MIB, first_line

# The meter hears of whole chunks only: at this size a line slower than 1.6 kB/s counts as silent.
CHUNK_BYTES = 1 << 13


def download(url: str, *, limit: int, silence_seconds: float, progress: bool = False) -> bytes:
    """The bytes at an http(s) address, at most `limit` of them.

    Raises VicinalError with a short reason when the address does not answer or falls silent
    for `silence_seconds`, sends too much, or refuses.
    """
    # A timeout of the HTTP library covers neither name lookup nor a list of dead addresses. So
    # the transfer runs in a thread of its own, which is left behind when it makes no progress;
    # the folder it writes to is ours and goes away.
    with tempfile.TemporaryDirectory(prefix="vicinal-", ignore_cleanup_errors=True) as folder:
        target = Path(folder) / "download"
        with _bar(progress) as bar:
            meter = _Meter(limit, bar)
            failures: list[Exception] = []
            thread = threading.Thread(
                target=_transfer,
                args=(url, target, meter, silence_seconds, failures),
                name="download",
                daemon=True,
            )
            thread.start()
            while thread.is_alive():
                thread.join(timeout=0.05)
                if thread.is_alive() and time.monotonic() - meter.last_heard > silence_seconds:
                    meter.left = True
                    raise VicinalError(f"no answer within {silence_seconds:g} s")
        if failures:
            raise VicinalError(_reason(failures[0])) from failures[0]
        return target.read_bytes()


@final
class _Meter:
    """The progress bar that pooch drives: it also stops a transfer that is too long or left."""

    def __init__(self, limit: int, bar: Progress) -> None:
        self.limit = limit
        self.left = False
        self.last_heard = time.monotonic()
        self._received = 0
        self._bar = bar
        self._task = bar.add_task("download", total=None)

    @property
    def total(self) -> int:
        return self.limit

    @total.setter
    def total(self, announced: int) -> None:
        """Pooch sets what the answer's header announces, 0 when it does not say."""
        self.last_heard = time.monotonic()
        if announced > self.limit:
            raise VicinalError(f"larger than {self.limit // MIB} MiB")
        self._bar.update(self._task, total=announced or None)

    def update(self, count: int) -> None:
        """Another chunk of up to `count` bytes has come."""
        self.last_heard = time.monotonic()
        self._received += count
        if self.left:
            raise VicinalError("left")
        if self._received > self.limit + CHUNK_BYTES:
            raise VicinalError(f"larger than {self.limit // MIB} MiB")
        self._bar.update(self._task, advance=count)

    def reset(self) -> None:
        """Pooch winds back before it fills the bar; the bytes have been counted already."""
        self._received = 0
        self._bar.update(self._task, completed=0)

    def close(self) -> None:
        """The bar closes with the download."""


def _transfer(
    url: str, target: Path, meter: _Meter, silence_seconds: float, failures: list[Exception]
) -> None:
    # Silence is the caller's to judge. The library's own timeout, which it reports as a lost
    # connection in the middle of a body, only ends this thread once it has been left.
    downloader = pooch.HTTPDownloader(
        progressbar=meter, chunk_size=CHUNK_BYTES, timeout=2 * silence_seconds
    )
    try:
        downloader(url, str(target), None)
    except Exception as error:  # noqa: BLE001 - the caller's thread raises it, whatever it is
        failures.append(error)


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        unresolved = "resolve" in str(error).lower()
        return "its host name is not known here" if unresolved else "no connection"
    return first_line(error)


def _bar(shown: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        DownloadColumn(),
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    )
