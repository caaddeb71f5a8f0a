"""Devices under load while everything around them is killed, drained, rotated and cut.

`make soak` does the same for longer, and prints what docs/reliability.md holds.
"""

import signal
from pathlib import Path

import pytest

from tests.faults.support.schedule import BURST, Field, Plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
]

DEVICE = "device killed, started again"
ORDER = (
    *(DEVICE, DEVICE, "network reset", "worker of the server killed", DEVICE),
    *("new version asked for (SIGHUP)", "server killed, started again", DEVICE),
    *("reports that lie", "disk of the tally full", DEVICE),
    *("network silent for 1 s", "server drained under load, started again", DEVICE),
    *("hostile server", "new version asked for (SIGHUP)", DEVICE),
    *("new version asked for (SIGHUP)", "flood by one peer", DEVICE),
)


def test_no_answer_is_wrong_and_no_report_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    with Field(tmp_path, Plan(deadline=120.0)) as field:
        field.run(ORDER)
        figures = field.finish()
    assert sum(field.done.values()) == len(ORDER)
    assert figures.wrong == [] and figures.answers > 0 and figures.versions >= 2
    for name, requests in figures.requests.items():
        assert requests.failed == [] and requests.late == 0, name
        assert requests.answered > 0
    reports = figures.reports
    assert (reports.lost, reports.twice, reports.unknown) == (0, 0, 0)
    assert reports.counted > 0 and figures.sums_differ == []
    assert field.lies > 0 and field.believed == []
    assert (field.drained, field.dropped) == (BURST, 0)
    assert len(field.hostile.told) == 1 and field.hostile.bad == []
