"""The load test, with a server that it really starts; no time is asserted."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.load import percentiles
from benchmarks.serving.load_server import quantile

ROOT = Path(__file__).resolve().parents[3]


def measured(module: str, folder: Path) -> tuple[str, Any]:
    """What a benchmark prints, and its figures."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--short", "--json", "figures.json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "figures.json").read_text())


def test_percentiles_are_those_of_all_samples() -> None:
    found = percentiles([place / 1000 for place in range(1001)])
    assert found == pytest.approx({"p50": 500, "p99": 990, "p99.9": 999})
    assert all(math.isnan(value) for value in percentiles([]).values())


def test_quantiles_are_of_what_came_between() -> None:
    before = {"whole": {0.001: 5.0, 0.01: 5.0, math.inf: 5.0}}
    after = {"whole": {0.001: 5.0, 0.01: 105.0, math.inf: 105.0}}
    assert quantile(before, after, "whole", 0.5) == pytest.approx(5.5)
    assert quantile(before, after, "whole", 1.0) == pytest.approx(10)
    assert quantile({}, before, "whole", 0.5) == pytest.approx(0.5)
    assert math.isnan(quantile(after, after, "whole", 0.5))
    assert math.isnan(quantile({}, {}, "refused", 0.5))


@pytest.mark.slow
def test_a_server_is_loaded_and_described(tmp_path: Path) -> None:
    printed, figures = measured("benchmarks.serving.load", tmp_path)
    assert printed.startswith("## Load\n")
    (found,) = figures["models"]
    assert found["saturation"] > 0 and found["model"] == "mf"
    for name in ("60 %", "3×"):
        phase = found["phases"][name]
        # Every request ended, as an answer or as a refusal, and the front saw the same calls.
        assert phase["answered"] > 0 and phase["lost"] == {}
        assert phase["answered"] + phase["refused"] == phase["asked"]
        assert phase["answer_front_ms"]["p50"] > 0
        assert min(phase["processor_ms"].values()) > 0
    assert len(found["memory_mib"][-1]) == 1 + found["workers"]


@pytest.mark.slow
def test_kinds_of_front_are_compared(tmp_path: Path) -> None:
    _, found = measured("benchmarks.serving.front_kinds", tmp_path)
    assert [len(part) for part in (found["refused"], found["exchanged"])] == [3, 2]
    assert all(min(costs) > 0 for part in found.values() for costs in part.values())
