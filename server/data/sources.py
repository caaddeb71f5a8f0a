"""Fetching public data sets over the network, verified, into a cache.

Every source has a known checksum. The first that answers rightly is used; one that keeps silent
for `SILENCE_SECONDS` is left for the next.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never, final

from rich.console import Console

from common.errors import InputError, VicinalError
from common.files import write_output
from common.names import unknown
from server.data.downloads import download
from server.data.reading import MIB, first_line, read_file, read_member

SILENCE_SECONDS = 5.0
PIP_SECONDS = 60.0
MAX_ARCHIVE_BYTES = 64 * MIB
MAX_MEMBER_BYTES = 64 * MIB


@final
class FetchError(VicinalError):
    """No source of a data set answered; the message lists each with its reason. Exit code 1."""


@dataclass(frozen=True)
class HttpFile:
    """A file at an address, kept as it is; its MD5 is the one that its publisher gives."""

    label: str
    url: str
    md5: str
    file_name: str


@dataclass(frozen=True)
class WheelMember:
    """One member of a Python wheel that pip can get where only a package registry is reachable.

    The wheel is verified by its SHA-256 and thrown away; only the member is kept.
    """

    label: str
    requirement: str
    wheel_sha256: str
    member: str
    member_sha256: str
    file_name: str


Source = HttpFile | WheelMember

SOURCES: dict[str, tuple[Source, ...]] = {
    "ml-100k": (
        HttpFile(
            label="GroupLens",
            url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            md5="0e33842e24a9c977be4e0107933c0723",
            file_name="ml-100k.zip",
        ),
        WheelMember(
            label="the recbole 1.2.1 wheel",
            requirement="recbole==1.2.1",
            wheel_sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
            member="recbole/dataset_example/ml-100k/ml-100k.inter",
            member_sha256="4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            file_name="ml-100k.inter",
        ),
    ),
    "ml-1m": (
        HttpFile(
            label="GroupLens",
            url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
            md5="c4d9eecfca2ab87c1945afe126590906",
            file_name="ml-1m.zip",
        ),
    ),
}


@dataclass(frozen=True)
class CachedFile:
    """A verified file in the cache, and the label of the source it came from."""

    path: Path
    source: str


def fetch(
    name: str, cache: Path, *, progress: bool = False, sources: Sequence[Source] | None = None
) -> CachedFile:
    """The file of a data set, from the cache if it is there and whole, else from the network.

    `sources` replaces those of `SOURCES`; `progress` shows on stderr what is asked. Raises
    InputError for a name that cannot be fetched, and FetchError when no source answers or the
    cache cannot be written.
    """
    known = SOURCES.get(name) if sources is None else sources
    if known is None:
        raise unknown("data set to fetch", name, SOURCES)
    for source in known:
        if _is_whole(cache / source.file_name, source):
            return CachedFile(cache / source.file_name, source.label)
    console = Console(stderr=True, quiet=not progress)
    reasons = []
    for source in known:
        console.print(f"{name}: asking {source.label} …")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            _get(source, cache, progress=progress)
        except (VicinalError, OSError) as error:
            reason = first_line(error)
            reasons.append(f"{source.label} ({reason})")
            console.print(f"{name}: {source.label}: {reason}", soft_wrap=True, markup=False)
        else:
            return CachedFile(cache / source.file_name, source.label)
    raise FetchError(
        f"{name}: no source answered: {'; '.join(reasons)}. Put the files into a folder and name "
        "it in VICINAL_DATA=<folder>, or use --dataset synthetic"
    )


def _is_whole(path: Path, source: Source) -> bool:
    """Whether the cache holds the file with the right checksum."""
    if not path.is_file():
        return False
    try:
        _verify(read_file(path, limit=MAX_ARCHIVE_BYTES), source)
    except InputError:
        return False
    return True


def _verify(data: bytes, source: Source) -> None:
    if isinstance(source, HttpFile):
        found, known = hashlib.md5(data, usedforsecurity=False).hexdigest(), source.md5
    else:
        found, known = hashlib.sha256(data).hexdigest(), source.member_sha256
    if found != known:
        raise InputError(f"wrong checksum {found}, should be {known}")


def _get(source: Source, cache: Path, *, progress: bool) -> None:
    """Put the verified file of one source into the cache; raises VicinalError or OSError."""
    match source:
        case HttpFile():
            data = download(
                source.url,
                limit=MAX_ARCHIVE_BYTES,
                silence_seconds=SILENCE_SECONDS,
                progress=progress,
            )
        case WheelMember():
            data = _member_of_wheel(source)
        case _:
            assert_never(source)
    _verify(data, source)
    write_output(cache / source.file_name, data)


def _member_of_wheel(source: WheelMember) -> bytes:
    """Let pip get the wheel into a folder that goes away, and read the one member.

    Only a built wheel is taken: a source distribution would run code to be built.
    """
    with tempfile.TemporaryDirectory(prefix="vicinal-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-cache-dir", "--only-binary=:all:", "--disable-pip-version-check"]
        command += ["--no-input", "--retries=0", f"--timeout={SILENCE_SECONDS:g}"]
        command += ["--dest", folder, source.requirement]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise VicinalError(f"pip took longer than {PIP_SECONDS:g} s") from None
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise VicinalError(f"pip failed: {lines[-1].strip()[:200] if lines else 'no wheel'}")
        wheel = wheels[0]
        found = hashlib.sha256(read_file(wheel, limit=MAX_ARCHIVE_BYTES)).hexdigest()
        if found != source.wheel_sha256:
            raise InputError(f"wrong checksum {found} of {wheel.name}")
        return read_member(wheel, source.member, limit=MAX_MEMBER_BYTES)
