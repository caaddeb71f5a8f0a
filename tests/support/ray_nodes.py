"""Work on a Ray cluster of two nodes, one of them lost in the middle of a second run.

    python -m tests.support.ray_nodes FOLDER

prints as JSON what one process finds, what the cluster finds, and what it finds as it loses a node.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

# Loopback alone; read when Ray is imported.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from sims.cli import run
from sims.evaluation.study import Study, evaluate

STUDY = Study("synthetic:120x90", attack="mixrand", k=20, steps=5, list_length=10, baselines=())
CERTIFIED = ("--dataset", "synthetic:120x90", "--fakes", "2,5%")
STORE_BYTES = 100 << 20


def main(folder: Path) -> None:
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - after what it reads

    about: dict[str, Any] = {
        "num_cpus": 1,
        "node_ip_address": "127.0.0.1",
        "object_store_memory": STORE_BYTES,
    }
    cluster = Cluster(initialize_head=True, head_node_args={**about, "include_dashboard": False})
    second = cluster.add_node(**about)
    cluster.wait_for_nodes()
    seen, nodes, address = [0], [second], cluster.address

    def lose_one(what: str, done: int, _total: int) -> None:
        seen[0] += what == "recommend" and done > 0
        if seen[0] == 4 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)  # type: ignore[no-untyped-call]

    told: dict[str, Any] = {
        "certified": [_certified(folder, "--processes", "1"), _certified(folder, "--ray", address)],
    }
    found = [
        evaluate(STUDY, folder, processes=1),
        evaluate(STUDY, folder, ray=address),
        evaluate(STUDY, folder, ray=address, progress=lose_one),
    ]
    told |= {"lost": not nodes, "evaluated": [one.to_json() for one in found]}
    sys.stdout.write(f"\nRESULT {json.dumps(told)}\n")
    sys.stdout.flush()
    cluster.shutdown()  # type: ignore[no-untyped-call]  # as the rest of it


def _certified(folder: Path, *options: str) -> Any:
    output = folder / "certified.json"
    assert run(["certify", *CERTIFIED, *options, "--json", str(output)]) == 0
    # But for when and by which command.
    return {**json.loads(output.read_text()), "run": {}}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
