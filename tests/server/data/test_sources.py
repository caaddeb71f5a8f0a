"""Fetching: from a server on loopback that answers, lies, hangs or is not there; from pip."""

import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.errors import InputError, VicinalError
from server.data import sources
from server.data.downloads import download
from server.data.sources import FetchError, HttpFile, WheelMember, fetch

BODY = b"user,item,rating\n" + b"1,2,3\n" * 20_000
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The path says how to behave."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/silent":
            self.server.closing.wait(30)  # type: ignore[attr-defined]
            return
        self.send_response(200)
        if self.path == "/boast":
            self.send_header("Content-Length", str(10**12))
        self.end_headers()
        try:
            if self.path == "/endless":
                while not self.server.closing.is_set():  # type: ignore[attr-defined]
                    self.wfile.write(bytes(100_000))
            elif self.path == "/stalls":
                self.wfile.write(BODY[:50_000])
                self.server.closing.wait(30)  # type: ignore[attr-defined]
            elif self.path == "/cut":
                self.wfile.write(BODY[:-10])
            else:
                self.wfile.write(BODY)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the test's output clean."""


class Site(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


def source(url: str, *, label: str = "loopback", file_name: str = "data.csv") -> HttpFile:
    return HttpFile(label=label, url=url, md5=MD5, file_name=file_name)


def test_a_source_that_answers_fills_the_cache_once(site: Site, tmp_path: Path) -> None:
    cache = tmp_path / "not" / "there"
    sources = [source(f"{site.address}/good")]
    fetched = fetch("ml-100k", cache, sources=sources)
    assert fetched.path == cache / "data.csv"
    assert fetched.source == "loopback"
    assert fetched.path.read_bytes() == BODY
    assert list(cache.iterdir()) == [fetched.path]
    assert fetch("ml-100k", cache, sources=sources) == fetched
    assert site.asked == ["/good"]


def test_a_damaged_cache_is_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(BODY[:100])
    fetched = fetch("ml-100k", tmp_path, sources=[source(f"{site.address}/good")])
    assert fetched.path.read_bytes() == BODY


def test_every_source_that_fails_is_listed_with_its_reason(site: Site, tmp_path: Path) -> None:
    with socket_nobody_listens_on() as dead:
        sources = [
            source(f"{site.address}/cut", label="liar"),
            source(f"{site.address}/missing", label="mover"),
            source(dead, label="corpse"),
            source("http://no-such-host.invalid/x", label="phantom"),
        ]
        with pytest.raises(FetchError) as caught:
            fetch("ml-100k", tmp_path / "cache", sources=sources)
    text = str(caught.value)
    assert "liar (wrong checksum " in text
    assert "mover (HTTP status 404)" in text
    assert "corpse (no connection)" in text
    assert "phantom (" in text
    assert "VICINAL_DATA=<folder>" in text
    assert "\n" not in text
    assert caught.value.exit_code == 1
    assert list((tmp_path / "cache").iterdir()) == []


@contextmanager
def socket_nobody_listens_on() -> Iterator[str]:
    """A port that is taken, so that nobody else can listen on it, but does not accept."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/x"


def test_a_silent_source_is_left_after_five_seconds_for_the_next(
    site: Site, tmp_path: Path
) -> None:
    sources = [source(f"{site.address}/silent"), source(f"{site.address}/good", label="second")]
    start = time.monotonic()
    fetched = fetch("ml-100k", tmp_path, sources=sources)
    # The source itself hangs up after 30.
    assert 4.5 < time.monotonic() - start < 25
    assert fetched.source == "second"
    assert site.asked == ["/silent", "/good"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/stalls", r"no answer within 0\.5 s"),
        ("/silent", r"no answer within 0\.5 s"),
        ("/boast", "larger than 1 MiB"),
        ("/endless", "larger than 1 MiB"),
    ],
)
def test_a_download_is_bounded_in_time_and_size(site: Site, path: str, reason: str) -> None:
    start = time.monotonic()
    with pytest.raises(VicinalError, match=reason):
        download(f"{site.address}{path}", limit=1 << 20, silence_seconds=0.5)
    # The site itself hangs up after 30.
    assert time.monotonic() - start < 25


def test_a_name_that_cannot_be_fetched_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one of ml-100k, ml-1m"):
        fetch("filmtrust", tmp_path)


def test_a_cache_that_cannot_be_written_is_one_line(site: Site, tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    with pytest.raises(FetchError, match="exists"):
        fetch("ml-100k", occupied, sources=[source(f"{site.address}/good")])


# ---- the wheel: pip is really run, against a folder of links in place of a registry ----

MEMBER = b"user_id:token\titem_id:token\trating:float\n1\t1\t5\n"


def make_wheel(folder: Path, member: bytes) -> bytes:
    """A wheel that pip accepts: metadata, a record, and the one member."""
    buffer = io.BytesIO()
    info = "vicinal_probe-1.0.dist-info"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("probe/ml.inter", member)
        archive.writestr("probe/extra.txt", "not wanted")
        archive.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: vicinal-probe\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    folder.mkdir()
    (folder / "vicinal_probe-1.0-py3-none-any.whl").write_bytes(buffer.getvalue())
    return buffer.getvalue()


def probe(wheel: bytes, *, member: str = "probe/ml.inter") -> WheelMember:
    return WheelMember(
        label="the probe wheel",
        requirement="vicinal-probe==1.0",
        wheel_sha256=hashlib.sha256(wheel).hexdigest(),
        member=member,
        member_sha256=hashlib.sha256(MEMBER).hexdigest(),
        file_name="ml.inter",
    )


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip asks instead of any registry."""
    folder = tmp_path / "links"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_one_member_of_a_wheel_is_kept_and_nothing_else(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    wheel = make_wheel(links, MEMBER)
    fetched = fetch("ml-100k", tmp_path / "cache", sources=[probe(wheel)])
    assert fetched.path.read_bytes() == MEMBER
    assert list((tmp_path / "cache").iterdir()) == [fetched.path]
    assert list(scratch.iterdir()) == []


def test_a_wheel_with_another_checksum_or_member_is_refused(links: Path, tmp_path: Path) -> None:
    wheel = make_wheel(links, MEMBER)
    sources = [probe(wheel + b"!"), probe(wheel, member="probe/gone.inter")]
    with pytest.raises(FetchError) as caught:
        fetch("ml-100k", tmp_path / "cache", sources=sources)
    assert "wrong checksum" in str(caught.value)
    assert "holds no probe/gone.inter" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_when_nothing_answers_the_command_fails_with_one_line(tmp_path: Path) -> None:
    """The real sources, cut off: a dead proxy for http, no index for pip."""
    environment = {name: value for name, value in os.environ.items() if "PROXY" not in name.upper()}
    environment |= {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "VICINAL_CACHE": str(tmp_path),
    }
    environment.pop("PIP_FIND_LINKS", None)
    done = subprocess.run(
        [sys.executable, "-m", "sims.cli", "data", "fetch", "ml-100k"],
        cwd=Path(sources.__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "no source answered: GroupLens (no connection); the recbole 1.2.1 wheel (pip" in last
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sources.SOURCES)
def test_sources_are_distinct_files_with_plausible_checksums(name: str) -> None:
    named = sources.SOURCES[name]
    assert len({each.file_name for each in named}) == len(named)
    for each in named:
        if isinstance(each, HttpFile):
            assert each.url.startswith("https://")
            assert len(each.md5) == 32
        else:
            assert len(each.wheel_sha256) == len(each.member_sha256) == 64
