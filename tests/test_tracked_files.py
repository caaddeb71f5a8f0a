"""Nothing that a run writes is committed: a server's store, log and port once were."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OF_A_RUN = re.compile(r"\.(safetensors|sqlite(-wal|-shm)?|log|key|pem|secret|token)$|^(log|port)$")


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_file_of_a_run_is_committed() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    tracked = listed.stdout.splitlines()
    assert "pyproject.toml" in tracked
    assert [path for path in tracked if OF_A_RUN.search(path)] == []
