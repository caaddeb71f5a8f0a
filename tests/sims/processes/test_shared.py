"""Values for workers: the same there, their large arrays in memory once, and no file left."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from server.data.synthetic import synthetic
from sims.processes.pools import in_processes
from sims.processes.shared import LEAST_BYTES, shared
from tests.support.modules import ROOT

LARGE = np.arange(LEAST_BYTES, dtype=np.int64)
_kept: list[Any] = []
STAY = """
import numpy as np
from tests.sims.processes.test_shared import keep, pause
from sims.processes.pools import in_processes
if __name__ == "__main__":
    in_processes(pause, [()] * 2, processes=2, start=keep, arguments=(np.zeros(1 << 20),))
"""


def keep(*values: Any) -> None:
    _kept.extend(values)


def mapped_bytes() -> tuple[int, bool, float]:
    """Of the arrays that this worker was given: own memory, whether they can be written, a sum."""
    array = _kept[0]
    own = sum(
        int(line.split()[1])
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines()
        if line.startswith(("Private_Dirty", "Anonymous"))
    )
    return own, array.flags.writeable, float(array.sum())


def pause() -> None:
    os.write(1, b"started\n")
    time.sleep(600)


@given(
    st.lists(
        arrays.arrays(
            dtype=st.sampled_from([np.float32, np.int64, np.uint8]),
            shape=arrays.array_shapes(max_dims=2, max_side=300),
            fill=st.just(1),
        ),
        max_size=4,
    )
)
def test_a_value_is_what_was_shared(found: list[np.ndarray[Any, Any]]) -> None:
    value: dict[str, Any] = {
        "arrays": [*found, LARGE, LARGE.reshape(-1, 2).T],
        "twice": found,
        "word": "x",
    }
    with shared(value) as given_to:
        copy = replace(given_to)
        there = copy.value()
    assert not copy.path.exists()
    assert there["word"] == "x" and len(there["arrays"]) == len(value["arrays"])
    for one, other in zip(there["arrays"], value["arrays"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    # Large ones are no part of what a worker is sent.
    assert len(copy.head) < sum(array.nbytes for array in found) * 2 + LEAST_BYTES


def test_large_arrays_are_not_copied_into_workers() -> None:
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("memory is read from /proc")
    large = np.ones(1 << 25)  # 256 MiB
    (own, writable, total), *_ = in_processes(
        mapped_bytes, [()], processes=1, start=keep, arguments=(large,)
    )
    assert total == large.sum() and not writable
    assert own < large.nbytes >> 10


def test_what_ratings_find_anew_is_not_sent() -> None:
    ratings = synthetic(60, 80, seed=1)
    assert ratings.users.size and ratings.ratings.size
    with shared(ratings) as given_to:
        again = given_to.value()
    assert not {"users", "ratings"} & set(vars(again))
    assert again.digest() == ratings.digest()
    np.testing.assert_array_equal(again.users, ratings.users)


@pytest.mark.skipif(not Path("/proc").exists(), reason="children are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_file_is_left_whoever_is_killed(number: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "stay.py"
    script.write_text(STAY)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    assert list(scratch.glob("vicinal-shared-*"))
    process.send_signal(number)
    deadline = time.monotonic() + 60
    while list(scratch.glob("vicinal-shared-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not list(scratch.glob("vicinal-shared-*"))
    process.wait(timeout=60)
    process.stdout.close()
