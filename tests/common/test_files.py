"""Files are written whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from common.errors import InputError
from common.files import (
    BROKEN_OFF_SECONDS,
    MARK,
    clear_parts,
    make_folder,
    make_private,
    open_file,
    open_lock,
    read_file,
    remove_folder,
    require_ours,
    require_secret,
    write_file,
    write_output,
)


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for data in (b"first", b""):
        write_file(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_results_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_output(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed_where_a_result_goes(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_output(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"x"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "folder").mkdir()
    for path in (pipe, tmp_path / "folder"):
        with pytest.raises(OSError, match="not a regular file"):
            write_file(path, b"x")
    assert pipe.is_fifo() and len(list(tmp_path.iterdir())) == 2


FULL = """
import resource, signal, sys
from pathlib import Path
from common.files import write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # EFBIG then, as ENOSPC on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path(sys.argv[1]), b"new" * 1000)
except OSError as error:
    print(type(error).__name__, error.errno)
"""


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("OSError"), done.stderr
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


ENDLESS = """
import sys
from pathlib import Path
from common.files import write_file
print("up", flush=True)
while True:
    for letter in (b"a", b"b"):
        write_file(Path(sys.argv[1]), letter * 100_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    command = [sys.executable, "-c", ENDLESS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        while not path.exists():
            time.sleep(0.01)
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() in (b"a" * 100_000, b"b" * 100_000)


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_and_folders_are_for_their_owner_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    make_folder(tmp_path / "a" / "b")
    write_file(tmp_path / "a" / "b" / "c" / "d" / "file", b"x")
    with open_lock(tmp_path / "a" / "lock"):
        pass
    make_private(tmp_path / "a" / "tally")
    found = list((tmp_path / "a").rglob("*"))
    assert {mode(path) for path in found if path.is_file()} == {0o600}, umask
    assert {mode(path) for path in (tmp_path / "a", *found) if path.is_dir()} == {0o700}


def test_a_folder_of_ours_is_tightened_and_anothers_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    make_folder(ours)
    foreign.mkdir()
    for folder in (ours, foreign):
        folder.chmod(0o755)
        make_folder(folder)
    assert (mode(ours), mode(foreign)) == (0o700, 0o755)
    (line,) = caplog.messages
    assert line.startswith(f"{foreign}: other users") and f"chmod 700 {foreign}" in line


def test_only_what_was_made_here_is_deleted(tmp_path: Path) -> None:
    ours, foreign, link = tmp_path / "ours", tmp_path / "foreign", tmp_path / "link"
    make_folder(ours)
    foreign.mkdir()
    (foreign / "thesis").write_text("years of work")
    link.symlink_to(ours)
    for folder in (foreign, link):
        assert not remove_folder(folder) and folder.exists()
        with pytest.raises(InputError, match=r"vicinal did not make it.*choose another --store"):
            require_ours(folder, "another --store")
    # A mark of another text is not ours.
    (foreign / MARK).write_text("mine")
    assert not remove_folder(foreign)
    require_ours(tmp_path / "absent", "another --store")
    assert remove_folder(ours) and not ours.exists() and (foreign / "thesis").exists()


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (tmp_path / "link").symlink_to(target)
    for touch in (lambda path: write_file(path, b"x"), open_lock, open_file):
        with pytest.raises(OSError, match=r"link|levels"):
            touch(tmp_path / "link")
    assert target.read_bytes() == b"mine"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe", most=10)


def test_what_was_broken_off_is_cleared(tmp_path: Path) -> None:
    write_file(tmp_path / "kept", b"x")
    (tmp_path / ".mine.part").write_bytes(b"x")
    (tmp_path / ".file.0123abcd.vicinal-part").write_bytes(b"half")
    (tmp_path / ".folder.0123abcd.vicinal-part").mkdir()
    (tmp_path / ".folder.0123abcd.vicinal-part" / MARK).write_bytes(b"")
    clear_parts(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
    clear_parts(tmp_path, age=0)
    left = {"kept", ".mine.part", ".folder.0123abcd.vicinal-part"}
    assert {path.name for path in tmp_path.iterdir()} == left
    old = time.time() - BROKEN_OFF_SECONDS - 60
    os.utime(tmp_path / ".folder.0123abcd.vicinal-part", (old, old))
    clear_parts(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", ".mine.part"}


@pytest.mark.parametrize(
    ("bits", "fine"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_a_secret_is_for_its_owner_and_perhaps_a_group(
    tmp_path: Path, bits: int, fine: bool
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(bits)
    # As of mounted secrets, and of certificates that are renewed.
    (tmp_path / "link").symlink_to(secret)
    require_secret(tmp_path / "absent")
    with nullcontext() if fine else pytest.raises(InputError, match=r"chmod 600 .*link$"):
        require_secret(tmp_path / "link")
