"""Files are written whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.files import write_file


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for data in (b"first", b""):
        write_file(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_file(tmp_path / "link", b"x")
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
