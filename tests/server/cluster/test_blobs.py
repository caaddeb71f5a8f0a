"""Bytes under their digests, in a folder and behind fsspec: nothing else is ever given back."""

import hashlib
import stat
import uuid
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InputError
from server.cluster.blobs import BlobsAwayError, BlobStore

DATA = b"a version's bytes" * 1000


@pytest.fixture(params=["path", "file", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "path": str(tmp_path / "blobs"),
        "file": f"file://{tmp_path}/blobs",
        "memory": f"memory://{uuid.uuid4().hex}",
    }[request.param]


def spoil(address: str, digest: str, data: bytes) -> None:
    """As whoever can write there."""
    if address.startswith("memory"):
        fsspec.filesystem("memory").pipe_file(f"{address[8:]}/{digest[:2]}/{digest}", data)
        return
    path = Path(address.removeprefix("file://")) / digest[:2] / digest
    path.write_bytes(data)


def test_what_was_put_is_got_by_whoever_knows_its_digest(address: str) -> None:
    digest = BlobStore(address).put(DATA)
    assert digest == hashlib.sha256(DATA).hexdigest()
    other = BlobStore(address)
    assert other.put(DATA) == digest
    assert other.get(digest, len(DATA)) == DATA
    other.delete(digest)
    other.delete(digest)
    with pytest.raises(BlobsAwayError, match="not there"):
        other.get(digest, len(DATA))


@pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"x", DATA[:-1] + b"x", b"x" * (1 << 20)])
def test_what_is_something_else_is_never_given_back(address: str, data: bytes) -> None:
    store = BlobStore(address)
    digest = store.put(DATA)
    spoil(address, digest, data)
    with pytest.raises(BlobsAwayError):
        store.get(digest, len(DATA))
    # What was broken off is written again.
    if len(data) != len(DATA):
        store.put(DATA)
        assert store.get(digest, len(DATA)) == DATA


@given(st.text(max_size=80))
def test_what_is_no_digest_names_no_file(name: str) -> None:
    with pytest.raises(BlobsAwayError, match=r"no digest|not there"):
        BlobStore("/nowhere").get(name, 1)


def test_a_folder_is_for_its_owner_and_no_link_is_followed(tmp_path: Path) -> None:
    store = BlobStore(str(tmp_path / "blobs"))
    digest = store.put(DATA)
    path = tmp_path / "blobs" / digest[:2] / digest
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "blobs").stat().st_mode) == 0o700
    (tmp_path / "there").write_bytes(DATA)
    path.unlink()
    path.symlink_to(tmp_path / "there")
    with pytest.raises(BlobsAwayError):
        store.get(digest, len(DATA))


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("some/folder", "give a whole path"),
        ("file://some/folder", "give a whole path"),
        ("nothing://there", "nothing"),
        ("ftp://ann:pw@host/there", "password"),
    ],
)
def test_an_address_that_cannot_be_used_is_said_in_one_line(address: str, text: str) -> None:
    with pytest.raises(InputError, match=text) as refused:
        BlobStore(address)
    assert "\n" not in str(refused.value) and "pw" not in str(refused.value)
