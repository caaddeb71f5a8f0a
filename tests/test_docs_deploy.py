"""docs/how-to/deploy-fleet.md, word for word: its blocks as one script, with real processes."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import uuid
from pathlib import Path

import pytest

from sims.fleet.flower import free_port, stage_app
from sims.processes.marked import marked_processes, stop_processes

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "how-to" / "deploy-fleet.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Of a block, what it must have printed.
SAID = {
    "flwr supernode register": r"(?s)(registered successfully.*){3}",
    "flwr run": r"vicinal-progress recommend 300/300",
    "grep -c": r"^2$",
    "stranger": r"(?s)^refused$.*Exit Code: 305",
}


def blocks() -> list[str]:
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody listens on."""
    for _ in range(100):
        first = free_port()
        used = {port for port in range(first, first + count) if listening(port)}
        if not used:
            return first
    raise AssertionError("no ports")


def listening(port: int) -> bool:
    state = Path("/proc/net/tcp").read_text(encoding="utf-8")
    return f":{port:04X} 00000000:0000" in state


def test_the_page_has_all_that_is_run() -> None:
    text = "\n".join(blocks())
    for wanted in ("--host", "--enable-supernode-auth", "supernode register", "flwr list fleet"):
        assert wanted in text
    assert all(any(word in block for block in blocks()) for word in SAID)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_works_word_for_word(tmp_path: Path) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("marks are read from /proc")
    folder = tmp_path / "w"
    folder.mkdir()
    app = stage_app(ROOT, folder / "vicinal-app")
    parts = [f"{block}echo '=== {number}'\n" for number, block in enumerate(blocks())]
    mark = f"VICINAL_TEST_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    # This checkout's code, whatever is installed.
    vicinal = tmp_path / "bin" / "vicinal"
    vicinal.parent.mkdir()
    vicinal.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sims.cli "$@"\n')
    vicinal.chmod(0o755)
    programs = (vicinal.parent, sysconfig.get_path("scripts"), os.environ["PATH"])
    environment = {
        **os.environ,
        name: value,
        "PATH": os.pathsep.join(map(str, programs)),
        "PYTHONPATH": str(ROOT),
        "PORT": str(free_ports(6)),
        "APP": str(app),
        "NO_PROXY": "127.0.0.1",
    }
    bash = shutil.which("bash")
    assert bash is not None
    try:
        done = subprocess.run(
            [bash, "-euo", "pipefail", "-c", "".join(parts)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=850,
            check=False,
        )
        logs = {path.name: path.read_text()[-2000:] for path in (folder / "logs").iterdir()}
        assert done.returncode == 0, (done.stdout[-3000:], done.stderr[-3000:], logs)
        said = re.split(r"^=== \d+$", done.stdout, flags=re.MULTILINE)
        for number, block in enumerate(blocks()):
            for word, pattern in SAID.items():
                if word in block:
                    assert re.search(pattern, said[number], re.MULTILINE), (word, said[number])
        result = json.loads((folder / "fleet" / "result.json").read_bytes())
        assert (result["users"], result["clients"]) == (300, 3)
        assert marked_processes(mark) == set()
    finally:
        stop_processes(mark, grace=5)
