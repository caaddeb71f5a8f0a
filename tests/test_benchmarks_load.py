"""The load test, with a server that it really starts; no time is asserted."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import percentiles

ROOT = Path(__file__).resolve().parent.parent


def test_percentiles_are_those_of_all_samples() -> None:
    found = percentiles([place / 1000 for place in range(1001)])
    assert found == pytest.approx({"p50": 500, "p99": 990, "p99.9": 999})
    assert all(math.isnan(value) for value in percentiles([]).values())


@pytest.mark.slow
def test_a_server_is_loaded_and_described(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", "--short", "--json", "load.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Load\n")
    (found,) = json.loads((tmp_path / "load.json").read_text())["models"]
    assert found["saturation"] > 0 and found["model"] == "mf"
    for phase in ("modest", "overload"):
        # Every request ended, as an answer or as a refusal.
        assert found[phase]["answered"] > 0 and found[phase]["other"] == 0
    assert len(found["memory_mib"]["after"]) == 1 + found["workers"]
    assert min(found["processor_ms"].values()) > 0
