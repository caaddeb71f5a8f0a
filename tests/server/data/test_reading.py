"""Bounded reads."""

import gzip
import zipfile
from pathlib import Path

import pytest

from common.errors import InputError
from server.data.reading import read_file, read_member


def test_a_gzipped_file_counts_by_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(5_000_000)))
    assert path.stat().st_size < 10_000
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_file(path, limit=1 << 20)
    assert read_file(path, limit=5_000_000) == bytes(5_000_000)


@pytest.mark.parametrize("damage", ["cut", "not gzip", "folder", "absent"])
def test_what_cannot_be_read_is_an_input_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ratings.csv.gz"
    if damage == "cut":
        path.write_bytes(gzip.compress(b"1,2,3\n" * 1000)[:-9])
    elif damage == "not gzip":
        path.write_bytes(b"1,2,3\n\0")
    elif damage == "folder":
        path.mkdir()
    with pytest.raises(InputError, match=r"ratings\.csv\.gz"):
        read_file(path, limit=1 << 20)


def zipped(path: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return path


def test_a_member_is_read_but_nothing_is_extracted(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "../../evil.dat", b"1::2::3")
    assert read_member(path, "../../evil.dat", limit=7) == b"1::2::3"
    assert list(tmp_path.iterdir()) == [path]


def test_a_zip_bomb_is_left_even_when_its_directory_lies(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "u.data", bytes(3_000_000))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_member(path, "u.data", limit=1 << 20)
    # The directory at the end now claims 100 bytes.
    data = path.read_bytes()
    path.write_bytes(data.replace((3_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(InputError):
        read_member(path, "u.data", limit=1 << 20)


def test_damaged_and_foreign_archives_are_input_errors(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", "u.data", b"1\t2\t3\n" * 100)
    with pytest.raises(InputError, match=r"holds no ratings\.dat"):
        read_member(path, "ratings.dat", limit=1 << 20)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            read_member(path, "u.data", limit=1 << 20)
        except InputError:
            continue
    path.write_bytes(whole[:50])
    with pytest.raises(InputError, match="cannot be read"):
        read_member(path, "u.data", limit=1 << 20)
