"""What `/v1/live` tells: scrapes of the server's metrics, kept over time."""

import asyncio
import logging
import time
import urllib.request
from typing import Any, Final, final

from server.gateway.history import History, scraped
from server.gateway.problems import Problem
from server.gateway.upstream import Upstream

SCRAPE_SECONDS: Final = 5.0
MAX_SCRAPE_BYTES: Final = 8 << 20

_log = logging.getLogger(__name__)


@final
class Live:
    """Asks the server how it is, again and again.

    port  of its metrics on this machine; None: nothing is asked
    """

    def __init__(self, upstream: Upstream, port: int | None) -> None:
        self._upstream = upstream
        self._port = port
        self._history = History()
        self._away = False

    async def kept(self) -> None:
        """Until it is canceled."""
        while self._port is not None:
            try:
                watched = len((await self._upstream.current()).description.watched)
                text = await asyncio.to_thread(_read, self._port)
                self._history.add(scraped(text, time.time()), watched)
                self._away = False
            except (OSError, ValueError, KeyError, Problem) as error:
                if not self._away:
                    _log.warning("the server's metrics cannot be read: %s", error)
                self._away = True
            await asyncio.sleep(SCRAPE_SECONDS)

    async def told(self) -> dict[str, Any]:
        """For the page, which shows it as it is."""
        served = await self._upstream.current()
        described = served.description
        return {
            "now": time.time(),
            "metrics": "none" if self._port is None else "away" if self._away else "there",
            "version": described.version,
            "model": described.manifest.model,
            "users": described.user_count,
            "items": described.manifest.items,
            "experiment": described.experiment,
            "watched": served.called.items.told(described.watched)
            if served.called.items.ids
            else [{"index": each, "id": str(each), "title": None} for each in described.watched],
            "seen": [
                {"version": name, "since": since} for name, since in self._upstream.known.items()
            ],
            **self._history.told(),
        }


def _read(port: int) -> str:
    # No proxy that the environment names: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=SCRAPE_SECONDS) as reply:
        data: bytes = reply.read(MAX_SCRAPE_BYTES + 1)
    if len(data) > MAX_SCRAPE_BYTES:
        raise ValueError("more than metrics are")
    return data.decode()
