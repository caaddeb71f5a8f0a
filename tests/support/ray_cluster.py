"""A Ray cluster of two nodes in a process of its own, since a process reads Ray's token once.

    python -m tests.support.ray_cluster FOLDER

prints the address on a line and ends the cluster when its input ends.
"""

import sys

from ray.cluster_utils import Cluster


def main(folder: str) -> None:
    # Flower takes any cluster that it finds where Ray puts them.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": folder})
    try:
        cluster.add_node(num_cpus=1)
        sys.stdout.write(f"\nADDRESS {cluster.address}\n")
        sys.stdout.flush()
        sys.stdin.read()
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main(sys.argv[1])
