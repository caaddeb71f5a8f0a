"""Two hundred readers who stall, in front of a real server process."""

from pathlib import Path

import pytest

from tests.faults.support.stalled import MOST_MIB, SLACK_SECONDS, STREAMS, USERS, stall

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
]


def test_readers_who_stall_cost_bounded_memory_and_are_cut(tmp_path: Path) -> None:
    # 8 MiB: more than the system takes from the server for somebody who does not read.
    found = stall(tmp_path, "synthetic:200x32000", call_seconds=3.0)
    assert found.answered == USERS
    assert found.while_stalled - found.before < MOST_MIB * STREAMS
    assert found.sent < 8.0, "the system took it all: nobody stalled"
    assert found.cut_after < found.limit + SLACK_SECONDS
    assert found.good
