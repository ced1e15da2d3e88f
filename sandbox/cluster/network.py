"""The cluster's addresses, and its bridge and routes on this machine; none leads out of it."""

import json
import socket
from collections.abc import Iterable
from ipaddress import IPv4Network
from pathlib import Path

from sandbox.cluster.home import ClusterError
from sandbox.cluster.processes import run

BRIDGE = "katonic0"
MACHINES = IPv4Network("10.200.0.0/24")
PODS = IPv4Network("10.244.0.0/16")
SERVICES = IPv4Network("10.96.0.0/16")
FAKE_PODS = "10.244.224.0/19"
"""The range of the pods that kwok plays: no node's number reaches it."""
HOST_ADDRESS = str(MACHINES[1])
API_SERVICE = str(SERVICES[1])
DNS_SERVICE = str(SERVICES[10])


def overlap(routes: Iterable[dict[str, str]]) -> dict[str, str] | None:
    """Return the first route, as `ip -json route` tells it, that is in the cluster's way."""
    for route in routes:
        if route["dst"] == "default" or route.get("type") == "unreachable":
            continue
        network = IPv4Network(route["dst"], strict=False)
        if route.get("dev") != BRIDGE and any(map(network.overlaps, (MACHINES, PODS, SERVICES))):
            return route
    return None


def raise_bridge() -> None:
    """Make the bridge that joins this machine and the nodes; a ClusterError if it cannot be."""
    if route := overlap(json.loads(run(["ip", "-json", "-4", "route"]) or "[]")):
        raise ClusterError(
            f"this machine's route to {route['dst']} by {route.get('dev')} is in the way of the "
            f"cluster's ranges {MACHINES}, {PODS} and {SERVICES}: stop what uses it"
        )
    if not Path("/proc/sys/net/bridge").exists():  # a module of most kernels, built into some
        run(["modprobe", "br_netfilter"])
    if not Path("/sys/class/net", BRIDGE).exists():
        ip(
            f"link add {BRIDGE} type bridge",
            f"address add {HOST_ADDRESS}/{MACHINES.prefixlen} dev {BRIDGE}",
        )
    # The unreachable routes keep the ranges from leaving by the default route.
    unreachable = (f"route replace unreachable {net} metric 4000" for net in (PODS, SERVICES))
    ip(f"link set {BRIDGE} up", *unreachable)


def remove_bridge() -> None:
    """Remove the bridge and every route of the cluster from this machine."""
    if Path("/sys/class/net", BRIDGE).exists():
        ip(f"link delete {BRIDGE}")
    kept = run(["ip", "route", "show", "type", "unreachable", "metric", "4000"])
    gone = (str(net) for net in (PODS, SERVICES) if str(net) in kept)
    ip(*(f"route delete unreachable {net} metric 4000" for net in gone))


def ip(*commands: str) -> None:
    """Run `ip` commands in one batch on this machine."""
    run(["ip", "-batch", "-"], "\n".join(commands))


def resolves() -> bool:
    """Return whether the cluster's DNS, asked over its service address, knows `kubernetes`."""
    name = b"".join(
        bytes([len(label)]) + label
        for label in (b"kubernetes", b"default", b"svc", b"cluster", b"local")
    )
    question = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + name + b"\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        try:
            asking.sendto(question, (DNS_SERVICE, 53))
            return asking.recv(512).endswith(socket.inet_aton(API_SERVICE))
        except OSError:
            return False
