"""Devices behind a network of 100 ms, 1 % loss and 1 Mbit/s; `make soak` asks a thousand times."""

from pathlib import Path

import pytest

from tests.faults.support.bad_network import DEVICES, behind_proxy

pytestmark = pytest.mark.slow


def test_a_bad_network_keeps_no_request_from_its_answer(tmp_path: Path) -> None:
    found = behind_proxy(tmp_path, 48)
    assert found.failed == [] and found.wrong == 0
    assert (len(found.cold), len(found.warm)) == (DEVICES, 48)
    assert found.late == 0 and found.good
