"""Which network interface processes of a node talk over: the one of the node's Ray address."""

from __future__ import annotations

import os


def interface_of(address: str) -> str:
    """Name of the network interface that has an IP address.

    Raises:
        LookupError: none of this machine's has it.
    """
    import psutil

    names = psutil.net_if_addrs()
    for name, addresses in names.items():
        # A link-local IPv6 address carries its interface: fe80::1%eth0.
        if any(found.address.partition("%")[0] == address for found in addresses):
            return name
    raise LookupError(f"no network interface of this node has its Ray address {address} (there are {', '.join(names)})")


def follow_ray_address() -> str:
    """Lets gloo and NCCL use the interface of this node's Ray address; gloo would else take the one of the host name,
    which is often the loopback. What the user has set stays. Returns gloo's interface."""
    import ray

    if "GLOO_SOCKET_IFNAME" not in os.environ or "NCCL_SOCKET_IFNAME" not in os.environ:
        interface = interface_of(ray.util.get_node_ip_address())
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        # "=": that very interface, not every one whose name begins so.
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")
    return os.environ["GLOO_SOCKET_IFNAME"]
