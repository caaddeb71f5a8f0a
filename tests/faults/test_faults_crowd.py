"""Many devices at once; `make soak` takes a thousand."""

from pathlib import Path

import pytest

from tests.faults.support.crowd import serve_crowd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
]


def test_devices_that_come_at_once_are_all_served(tmp_path: Path) -> None:
    crowd = serve_crowd(tmp_path, 200)
    assert crowd.errors == [] and crowd.wrong == 0
    assert len(crowd.seconds) == crowd.reports == 200
    assert crowd.sums_agree and crowd.good
