"""A headless Chromium by its own protocol: pages, their console, what a screen reader is told."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, final

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_SECONDS = 60
WAIT_SECONDS = 20


def chromium() -> str | None:
    """Where one is installed; None where none is."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class NavigatedError(Exception):
    """A page that was asked is another one by now."""


@final
class Page:
    """One page of a browser, and all that it complained of and asked for."""

    def __init__(self, opened: ClientConnection) -> None:
        self._opened = opened
        self._number = 0
        self._session = ""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """One command, and what it gives."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._opened.send(json.dumps(message))
        while True:
            told = json.loads(self._opened.recv(WAIT_SECONDS))
            if told.get("id") == self._number:
                if "navigated" in told.get("error", {}).get("message", ""):
                    raise NavigatedError
                assert "error" not in told, told
                return told["result"]
            self._heard(told)

    def _heard(self, told: Any) -> None:
        about = told.get("params", {})
        if told["method"] == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif told["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(about["exceptionDetails"]))
        elif told["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def open(self, address: str) -> Self:
        self.call("Page.navigate", url=address)
        return self

    def size(self, width: int, *, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def value(self, script: str) -> Any:
        """What an expression gives."""
        given = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in given, given
        return given["result"].get("value")

    def until(self, script: str) -> Any:
        """Its value, once that is true."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            # A page that gives way to another while it is asked has no answer.
            with suppress(NavigatedError):
                if found := self.value(script):
                    return found
                assert time.monotonic() < end, (script, self.value("document.body.innerText"))
            time.sleep(0.05)

    def type(self, text: str) -> None:
        """Into whatever has the focus."""
        self.call("Input.insertText", text=text)

    def close(self) -> None:
        self._session = ""
        self.call("Target.closeTarget", targetId=self._target)

    def told(self) -> list[tuple[str, str]]:
        """Role and name of all that a screen reader is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node.get("ignored")
        ]

    def picture(self, path: Path) -> None:
        """Of the whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        given = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(given["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[ClientConnection]:
    """A browser with a profile of its own, while the block runs."""
    program = chromium()
    assert program is not None
    profile = folder / "profile"
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
                *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--no-proxy-server"),
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        said, end = profile / "DevToolsActivePort", time.monotonic() + START_SECONDS
        while not (said.exists() and said.read_text().count("\n")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        port, path = said.read_text().split("\n")[:2]
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as opened:
            yield opened
    finally:
        process.terminate()
        process.wait()
