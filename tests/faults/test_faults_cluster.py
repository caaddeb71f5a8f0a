"""Three servers and a database under load: whatever dies, nothing is lost, doubled or mixed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sims.serving.balancer import nginx
from tests.faults.support.cluster_field import FAULTS, ClusterField
from tests.faults.support.figures import good
from tests.support.modules import ENVIRONMENT, ROOT

# From the death of the server that trains until another one does, with what a look at all takes.
FAILOVER_SECONDS = 5.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
]


def test_no_answer_is_wrong_and_no_report_is_lost_whichever_server_is_killed(
    tmp_path: Path,
) -> None:
    with ClusterField(tmp_path) as field:
        field.run(FAULTS)
        figures = field.finish()
    assert sum(field.done.values()) == len(FAULTS)
    assert good(figures, 0.999), (figures.wrong, figures.reports, figures.sums_differ)
    assert figures.versions >= 2 and figures.reports.counted > 0
    for name, requests in figures.requests.items():
        assert requests.failed == [] and requests.answered > 0, name
    # What is promised is measured by benchmarks.serving.cluster; here it only has to happen.
    assert len(field.failovers) == 1


def test_the_example_answers_everybody_and_counts_each_once(tmp_path: Path) -> None:
    options = ["--servers", "2", "--users", "60", "--folder", "cluster", "--json", "out.json"]
    done = subprocess.run(
        [sys.executable, "-m", "sims.cli", "cluster", *options],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_bytes())
    assert found["users"] == found["reported"] == found["counted"] == 60
    if nginx() is None:
        pytest.skip("no nginx is installed: devices asked the servers in turns alone")
    assert found["balanced"] == 20
