"""nginx before several servers: one address for all, as devices without a list of servers need it.

A call that a server cannot take goes to another at once. That is right for every call of the
protocol: asking twice for an answer changes nothing, and a report has a key that is counted once.
"""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self, final

from common.errors import VicinalError
from common.files import make_folder, write_file
from common.text import last_words

START_SECONDS: Final = 30.0
_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin")


def nginx() -> Path | None:
    """Where it is installed; None where it is not."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    found = shutil.which("nginx", path=path)
    return None if found is None else Path(found)


def configuration(servers: Sequence[str], listen: str) -> str:
    """Of nginx, for servers that it reaches without encryption."""
    upstream = "\n".join(f"        server {one} max_fails=1 fail_timeout=2s;" for one in servers)
    return f"""worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    upstream vicinal {{
{upstream}
        keepalive 64;
    }}
    server {{
        listen {listen} http2;
        keepalive_requests 1000000;
        client_max_body_size 1m;
        location / {{
            grpc_pass grpc://vicinal;
            grpc_connect_timeout 1s;
            grpc_read_timeout 120s;
            grpc_next_upstream error timeout non_idempotent;
        }}
    }}
}}
"""


@final
class Balancer:
    """nginx in a folder, on a port of loopback, while the block runs.

    Raises VicinalError when it does not start.
    """

    def __init__(self, program: Path, folder: Path, servers: Sequence[str]) -> None:
        # nginx looks for relative names below the folder that it is given.
        folder = folder.absolute()
        make_folder(folder)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        own = pwd.getpwuid(os.geteuid()).pw_name
        lines = [
            "daemon off;",
            f"pid {folder}/pid;",
            # Its worker reads what this process's user may.
            *([f"user {own};"] if os.geteuid() == 0 else []),
        ]
        places = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "".join(f"    {one}_temp_path {folder}/{one};\n" for one in places)
        text = configuration(servers, self.address).replace("http {\n", f"http {{\n{temporary}")
        self._configuration = folder / "nginx.conf"
        write_file(self._configuration, f"{' '.join(lines)}\n{text}".encode())
        self._log = folder / "nginx.log"
        self._command = [str(program), "-p", str(folder), "-e", "stderr"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*self._command, "-c", str(self._configuration)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        host, _, port = self.address.rpartition(":")
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._end()
                    said = last_words(self._log.read_text(errors="replace"))
                    raise VicinalError(f"nginx did not start: {said}") from None
                time.sleep(0.05)

    def __exit__(self, *_error: object) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
