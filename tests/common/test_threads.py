"""One arithmetic thread a process, whatever the environment asks for."""

import json
import os
import subprocess
import sys

import pytest

PROBE = """
import json, os
{order}
from threadpoolctl import threadpool_info
pools = [pool["num_threads"] for pool in threadpool_info()]
print(json.dumps([pools, os.environ["OMP_NUM_THREADS"]]))
"""
LIMIT = "from common.threads import limit_threads; limit_threads()"


@pytest.mark.parametrize("order", [f"{LIMIT}\nimport numpy", f"import numpy\n{LIMIT}"])
def test_numpy_keeps_to_one_thread_loaded_before_or_after(order: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(order=order)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    pools, inherited = json.loads(done.stdout)
    assert pools and set(pools) == {1}
    assert inherited == "1"
