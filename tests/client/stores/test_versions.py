"""Model versions on a device's disk."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.stores.versions import VersionStore, parse_size
from common.errors import InputError, VicinalError
from common.files import BROKEN_OFF_SECONDS
from common.versions.encodings import Form
from common.versions.version import version_digest
from tests.support.serving import Scene, make_scene

ROOT = Path(__file__).resolve().parents[3]
# Of files that are being written.
ENDS = ("0a0a0a0a.vicinal-part", "1b1b1b1b.vicinal-part")


def own_form(scene: Scene) -> Form:
    """The version's own bytes."""
    return scene.description().form("float32")


def test_what_was_saved_comes_back_verified(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    digest = scene.recommender.version.digest
    store = VersionStore(tmp_path / "device")
    assert store.load(own_form(scene), digest) is None
    store.save(digest, scene.data)
    version = store.load(own_form(scene), digest)
    assert version is not None and version.manifest == scene.recommender.version.manifest
    assert [path.name for path in store.folder.iterdir()] == [f"{digest}.safetensors"]


def test_what_a_killed_writer_left_is_deleted_and_what_another_writes_is_not(
    tmp_path: Path,
) -> None:
    scene = make_scene(tmp_path)
    store = VersionStore(tmp_path / "device")
    store.folder.mkdir()
    left, written = (store.folder / f".{'a' * 64}.safetensors.{end}" for end in ENDS)
    for path in (left, written):
        path.write_bytes(b"the beginning of a version")
    old = left.stat().st_mtime - BROKEN_OFF_SECONDS - 60
    os.utime(left, (old, old))
    store.save(scene.recommender.version.digest, scene.data)
    assert not left.exists() and written.exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_file_is_deleted(tmp_path: Path, damage: str) -> None:
    scene = make_scene(tmp_path)
    digest = scene.recommender.version.digest
    store = VersionStore(tmp_path / "device")
    store.save(digest, scene.data)
    data = bytearray(scene.data)
    if damage == "flip":
        data[-1] ^= 1
    else:
        del data[0 if damage == "empty" else -1 :]
    store.path(digest).write_bytes(data)
    assert store.load(own_form(scene), digest) is None
    assert not store.path(digest).exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_only_a_digest_names_a_file(tmp_path: Path, name: str) -> None:
    store = VersionStore(tmp_path)
    with pytest.raises(InputError, match="not the name of a model version"):
        store.read(name)
    with pytest.raises(InputError, match="not the name of a model version"):
        store.save(name, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_clear_error_and_nothing_is_left(
    tmp_path: Path, small_disk: Path
) -> None:
    scene = make_scene(tmp_path, items=4000)
    store = VersionStore(small_disk / "device")
    with pytest.raises(VicinalError, match=r"No space left on device.*choose another --store"):
        store.save(scene.recommender.version.digest, scene.data)
    assert list(store.folder.iterdir()) == []


def test_a_file_size_limit_is_one_clear_error_and_nothing_is_left(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, items=4000)
    (tmp_path / "data").write_bytes(scene.data)
    # The process limits itself: a preexec_fn forks, and a fork of gRPC's threads may die.
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from client.stores.versions import VersionStore\n"
        "from common.errors import VicinalError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        f"store, data = VersionStore(Path({str(tmp_path / 'device')!r})), "
        f"Path({str(tmp_path / 'data')!r}).read_bytes()\n"
        f"try: store.save({scene.recommender.version.digest!r}, data)\n"
        "except VicinalError as error: sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "cannot write a model version" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "device").iterdir()) == []


WRITE_AND_READ = """
import sys
from pathlib import Path
from client.stores.versions import VersionStore
from common.versions.encodings import form_of
store, data, digest = VersionStore(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes(), sys.argv[3]
form = form_of(data, "float32")
for _ in range(30):
    store.save(digest, data)
    assert store.load(form, digest) is not None, "half a file was seen"
"""


def test_processes_that_share_a_folder_never_see_half_a_file(tmp_path: Path) -> None:
    scene = make_scene(tmp_path, items=4000)
    data = tmp_path / "data"
    data.write_bytes(scene.data)
    digest = scene.recommender.version.digest
    command = [sys.executable, "-c", WRITE_AND_READ, str(tmp_path / "device"), str(data), digest]
    writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert [path.name for path in (tmp_path / "device").iterdir()] == [f"{digest}.safetensors"]


def store_of(folder: Path, sizes: dict[str, int], **options: int) -> VersionStore:
    """Files of some sizes, used in this order, none of them in use."""
    store = VersionStore(folder, **options)
    for age, (letter, size) in enumerate(sizes.items()):
        store.save(digest_of(letter, size), letter.encode() * size)
        os.utime(store.path(digest_of(letter, size)), (age, age))
    store.release()
    return store


def digest_of(letter: str, size: int) -> str:
    return version_digest(letter.encode() * size)


def test_the_least_recently_used_leave_when_there_is_no_room(tmp_path: Path) -> None:
    store = store_of(tmp_path, {"a": 40, "b": 30, "c": 20}, max_bytes=100)
    assert store.digests() == [digest_of("c", 20), digest_of("b", 30), digest_of("a", 40)]
    store.save(digest_of("d", 60), b"d" * 60)
    assert set(store.digests()) == {digest_of("d", 60), digest_of("c", 20)}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100


def test_what_is_in_use_stays_though_another_process_needs_room(tmp_path: Path) -> None:
    scene = make_scene(tmp_path)
    form, size = own_form(scene), len(scene.data)
    folder = tmp_path / "device"
    store = store_of(folder, {"a": 40}, max_bytes=size + 100)
    store.save(form.digest, scene.data)
    os.utime(store.path(form.digest), (0, 0))
    assert store.load(form, form.digest) is not None
    os.utime(store.path(form.digest), (0, 0))
    code = (
        "import sys; from pathlib import Path; from client.stores.versions import VersionStore\n"
        f"VersionStore(Path({str(folder)!r}), max_bytes={size + 100}).save(sys.argv[1], b'b' * 90)"
    )
    command = [sys.executable, "-c", code, digest_of("b", 90)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert set(store.digests()) == {form.digest, digest_of("b", 90)}
    store.release()
    subprocess.run([*command[:-1], digest_of("b", 90)], cwd=ROOT, check=True)
    VersionStore(folder, max_bytes=100).save(digest_of("c", 90), b"c" * 90)
    assert store.digests() == [digest_of("c", 90)]


def test_a_form_that_the_store_may_not_hold_is_one_clear_error(tmp_path: Path) -> None:
    store = store_of(tmp_path, {"a": 40}, max_bytes=50)
    with pytest.raises(InputError, match="51 bytes is more than it may hold"):
        store.save(digest_of("b", 51), b"b" * 51)
    assert store.digests() == [digest_of("a", 40)]


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("64K", 65536), ("2 MiB", 2 << 20), ("3gb", 3 << 30)]
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "5T", "x", "1e9", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="give bytes, or as in 500M"):
        parse_size(text)
