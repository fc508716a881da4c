"""A Ray cluster of two nodes on this machine; obeys `kill` and `add`, a line each on stdin, for the second node.

python two_nodes.py HEAD_CPUS NODE_CPUS
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    head_cpus, node_cpus = map(int, sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": head_cpus})
    node = cluster.add_node(num_cpus=node_cpus)
    print(f"address {cluster.address}", flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            # SIGKILL of the raylet and all its workers.
            cluster.remove_node(node, allow_graceful=False)
        else:
            node = cluster.add_node(num_cpus=node_cpus)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
