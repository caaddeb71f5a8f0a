"""Users in shards on a Ray cluster of two nodes: what one machine finds, to the last count."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from common.errors import InputError
from sims.cli import run
from sims.evaluation.study import Study, evaluate
from tests.support.modules import ENVIRONMENT, ROOT, command


def counted(found: dict[str, Any]) -> dict[str, Any]:
    """What it counted, and neither how long that took nor when it was."""
    return {name: of for name, of in found.items() if "seconds" not in name and name != "run"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_nodes_find_what_one_machine_finds_also_when_one_is_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        command("tests.support.ray_nodes", str(tmp_path / "store")),
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.rpartition("RESULT ")[2])
    here, there, after = map(counted, said["evaluated"])
    assert said["lost"] and here == there == after
    assert here["users"] == 120
    here, there = map(counted, said["audited"])
    assert here == there and len(here["kept"]) == 14
    here, there = map(counted, said["cells"])
    assert here == there and here["users"] == 120
    whole, lost = (list(map(counted, cells)) for cells in said["grids"])
    assert whole == lost and len(whole) == 4 and not any(cell["error"] for cell in whole)
    assert said["died"] == list(range(6))
    assert said["interrupted"] == [130, True, 0]
    assert said["other_library"].startswith("1: ")
    assert "127.0.0.1 has numba 99.0, this machine" in said["other_library"]
    here, there = map(counted, said["certified"])
    assert here == there and here["users"] == 120


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    study = Study("synthetic:120x90")
    with pytest.raises(InputError, match="--ray"):
        evaluate(study, tmp_path, ray="127.0.0.1:6379", processes=2)


def test_an_address_that_is_none_is_told_before_anything_is_done(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = ["--store", str(tmp_path / "store"), "--dataset", "synthetic:120x90"]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        # Where nobody listens, where nobody answers, and what is no address.
        free = f"127.0.0.1:{listening.getsockname()[1]}"
        for address in ("127.0.0.1:1", free, "ray://head:10001", "auto", "127.0.0.1:65537"):
            assert run(["evaluate", *store, "--ray", address]) == 2
            error = capfd.readouterr().err
            assert f"error: no Ray at {address}" in error.replace("'", "")
            assert error.count("\n") == 1
            assert ("give HOST:PORT" in error) == (address not in ("127.0.0.1:1", free))
    assert not (tmp_path / "store").exists()
