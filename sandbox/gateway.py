"""Leads this machine's own ports 80 and 443 to the platform's gateway, by socat."""

import errno
import json
import signal
import socket
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster import Cluster, build, processes
from sandbox.cluster.home import ClusterError, Home
from sandbox.cluster.kubectl import Kubectl

APPLICATION = "istio-ingress"
SERVICE = f"{APPLICATION}-gateway"
LOOPBACK = ("127.0.0.1", "::1")
PORTS = (443, 80)
MARK = "katonic-gateway"
"""What our socats call themselves, by which they are found in /proc."""


TROUBLES = {
    errno.EADDRINUSE: "port {port} is taken: stop what `ss -ltnp sport = :{port}` shows, and"
    " deploy again",
    errno.EACCES: "port {port} is root's alone: deploy as root",
}
"""What a person reads of an errno; any other is of an address that is not here, as ::1 may be."""


@dataclass(frozen=True)
class Front:
    """The platform's one address, and what keeps this machine from it, a line each."""

    url: str
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listener:
    """A port of this machine, and the address and port that it leads to."""

    address: str
    port: int
    target: str

    @property
    def argv(self) -> tuple[str, ...]:
        """Return the command: a process for each connection, which no silence ends."""
        six = ":" in self.address
        kind, bound = ("6", f"[{self.address}],ipv6only") if six else ("4", self.address)
        listen = f"TCP{kind}-LISTEN:{self.port},bind={bound},reuseaddr,fork,backlog=1024"
        # What one side ends by half, as HTTP/1.0 may, the other has an hour to end as well.
        return (
            *("socat", "-t", "3600", "-lp", MARK),
            f"{listen},nodelay,su=nobody",
            f"TCP4:{self.target},nodelay,connect-timeout=5",
        )

    def refusal(self) -> int:
        """Return the errno with which this machine refuses the port, 0 when it does not."""
        try:
            with socket.socket(socket.AF_INET6 if ":" in self.address else socket.AF_INET) as it:
                it.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                it.bind((self.address, self.port))
        except OSError as error:
            return error.errno or errno.EINVAL
        return 0

    def connects(self) -> bool:
        """Return whether the port takes connections."""
        try:
            socket.create_connection((self.address, self.port), timeout=1).close()
        except OSError:
            return False
        return True


def open_front(
    cluster: Cluster, model: str, hostname: str, progress: Callable[[str], None]
) -> Front:
    """Have the name lead to the model's gateway, and return how the platform is reached."""
    home = Home.current()
    try:
        missing = [] if build.found("socat") else ["socat"]
        build.install_packages(missing, home.packages_log, progress)
        address, ports = service(cluster, model)
        listeners = [Listener(it, port, f"{address}:{port}") for port in ports for it in LOOPBACK]
        troubles = forward(listeners, home.log / "gateway.log")
        if hostname.endswith(".localhost") and not resolves(hostname):
            build.install_packages(["libnss-myhostname"], home.packages_log, progress)
    except ClusterError as error:
        return Front(f"https://{hostname}", (str(error),))
    if not resolves(hostname):
        troubles.append(
            f"{hostname} is not this machine's: add `127.0.0.1 {hostname}` to /etc/hosts"
        )
    return Front(f"{'https' if 443 in ports else 'http'}://{hostname}", tuple(troubles))


def service(cluster: Cluster, model: str) -> tuple[str, list[int]]:
    """Return the address of the model's gateway, and which of 443 and 80 it serves."""
    kubectl = Kubectl(cluster.kubectl, cluster.kubeconfig)
    found = kubectl.run("get", "service", SERVICE, "--namespace", model, "--output", "json")
    if found.returncode:
        raise ClusterError(f"no gateway: {found.stderr.strip()}")
    spec = json.loads(found.stdout)["spec"]
    served = {it["port"] for it in spec["ports"]}
    return spec["clusterIP"], [it for it in PORTS if it in served]


def forward(listeners: Iterable[Listener], log: Path) -> list[str]:
    """Have these ports lead there and no others of ours, and return what keeps one from it.

    One that leads there already goes on, with its connections.
    """
    wanted = {it.argv: it for it in listeners}
    close(kept=wanted.keys())
    there = {it.argv for it in running()}
    troubles = set()
    for argv, it in wanted.items():
        if argv in there:
            continue
        if (refused := it.refusal()) in TROUBLES:
            troubles.add(TROUBLES[refused].format(port=it.port))
        elif not refused:
            processes.spawn(argv, log)
            processes.wait(it.connects, 10, f"socat on port {it.port} of {it.address}", log)
    return sorted(troubles)


def close(kept: Set[tuple[str, ...]] = frozenset()) -> None:
    """End what leads to a gateway, the listeners before the connections they made."""
    while strays := [it for it in running() if it.argv not in kept]:
        for it in strays:
            processes.end(it, signal.SIGTERM)


def running() -> list[processes.Process]:
    """Return our socats, the older ones first."""
    found = [it for it in processes.running() if it.argv[0] == "socat" and MARK in it.argv]
    return sorted(found, key=lambda it: it.pid)


def resolves(hostname: str) -> bool:
    """Return whether programs on this machine take the name for this machine's."""
    try:
        found = socket.getaddrinfo(hostname, None, proto=socket.IPPROTO_TCP)
    except OSError:
        return False
    return {it[4][0] for it in found} <= {*LOOPBACK}
