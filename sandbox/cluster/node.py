"""A node: namespaces of its own on this machine, and the processes in them.

Killing the node's first process ends every process, mount and interface of it at once.
"""

import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster import cgroups, network
from sandbox.cluster.configuration import Daemon, NodeSpec
from sandbox.cluster.home import Home
from sandbox.cluster.processes import Process, end, run, running, spawn, until, wait

MARK = "katonic-node"
PRIVATE_FOLDERS = ("/run", "/var/log", "/var/lib/cni")
BOOTED = "run/katonic-booted"
# The kubelet insists on these host-wide settings. It is shown files that hold them, and the
# machine's own stay as they are.
WANTED_SETTINGS = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}


def initial_processes() -> dict[tuple[Path, NodeSpec], Process]:
    """Return the first process of each node that runs, by the cluster's folder and the node."""
    return {
        (Path(process.argv[2]), NodeSpec(process.argv[3], int(process.argv[4]))): process
        for process in running()
        if process.argv[0].endswith("/pause") and process.argv[1:2] == (MARK,)
    }


def running_nodes(home: Home) -> list["Node"]:
    """Return the nodes that run, without their labels and taints, by number."""
    found = (Node(home, spec) for root, spec in initial_processes() if root == home.root)
    return sorted(found, key=lambda node: node.spec.number)


@dataclass(frozen=True)
class Node:
    """One node of the cluster in a home, whether it runs or not."""

    home: Home
    spec: NodeSpec

    @property
    def link(self) -> str:
        """Return the name of the interface that leads to the node."""
        return f"kat-{self.spec.number}"

    def initial(self) -> Process | None:
        """Return the node's first process, None if the node is off."""
        processes = initial_processes().items()
        own = (p for (root, spec), p in processes if root == self.home.root and spec == self.spec)
        return next(own, None)

    def root(self) -> Path:
        """Return the node's file system as this machine reaches it; the node must be on."""
        initial = self.initial()
        assert initial, self.spec.name
        return Path(f"/proc/{initial.pid}/root")

    def log(self, name: str) -> Path:
        """Return the log of one of the node's processes."""
        return self.home.log / f"{self.spec.name}-{name}.log"

    def enter(self, argv: Sequence[str | Path]) -> list[str | Path]:
        """Return the command that runs a command in the node's namespaces."""
        initial = self.initial()
        assert initial, self.spec.name
        # `ip netns exec` would hide the control groups: it mounts /sys anew.
        return ["nsenter", "-t", str(initial.pid), "-m", "-n", "-u", "-i", "-p", "--", *argv]

    def boot(self, pause: Path) -> bool:
        """Make the node's namespaces unless they are there, held by the program `pause`.

        Returns whether the node was off.
        """
        if self.initial():
            if (self.root() / BOOTED).exists():
                return False
            self.power_off()
        mark = (MARK, str(self.home.root), self.spec.name, str(self.spec.number))
        unshare = ("--mount", "--net", "--pid", "--uts", "--ipc", "--mount-proc")
        spawn(["unshare", *unshare, "--fork", "--kill-child", pause, *mark], self.log("init"))
        wait(lambda: self.initial() is not None, 10, f"node {self.spec.name}", self.log("init"))
        cgroups.remove(self.spec.name)  # groups of dead pods would hold the kubelet up
        cgroups.make(self.spec.name)
        settings = self.home.folder(self.spec.name) / "settings"
        settings.mkdir(parents=True, exist_ok=True)
        for name, value in WANTED_SETTINGS.items():
            (settings / Path(name).name).write_text(f"{value}\n")
        shown = (
            f"mount --bind {settings}/{Path(name).name} /proc/sys/{name}"
            for name in WANTED_SETTINGS
        )
        # With folders of its own for these a node leaves nothing on the machine.
        Path("/var/lib/cni").mkdir(exist_ok=True)
        self.shell(
            f"hostname {self.spec.name}",
            "mount --make-rshared /",
            *(f"mount -t tmpfs -o mode=755 tmpfs {folder}" for folder in PRIVATE_FOLDERS),
            *shown,
            "ip link set lo up",
            # Gives the node's processes the services' addresses without a default route.
            "ip link add svc0 type bridge",
            "ip link set svc0 up",
            "echo 1 >/proc/sys/net/ipv4/ip_forward",
            "echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables",
            f"touch /{BOOTED}",
        )
        return True

    def shell(self, *lines: str) -> None:
        """Run shell commands in the node; the first that fails ends them."""
        run(self.enter(["sh", "-euc", "\n".join(lines)]))

    def connect(self, others: Sequence[NodeSpec], serves: bool) -> None:
        """Join the node to the bridge, with routes to and from the other nodes' pods.

        The node that `serves` is this machine's way to the addresses of services.
        """
        pods, address = self.spec.pods, self.spec.address
        if not Path("/sys/class/net", self.link).exists():
            initial = self.initial()
            assert initial, self.spec.name
            network.ip(f"link add {self.link} type veth peer name eth0 netns {initial.pid}")
        services = [f"route replace {network.SERVICES} via {address}"] if serves else []
        network.ip(
            f"link set {self.link} master {network.BRIDGE} up",
            f"route replace {pods} via {address}",
            *services,
        )
        self.shell(
            f"ip address replace {address}/{network.MACHINES.prefixlen} dev eth0",
            "ip link set eth0 up",
            f"ip route replace {network.SERVICES} dev svc0 src {address}",
            *(f"ip route replace {other.pods} via {other.address}" for other in others),
        )

    def ensure(self, daemon: Daemon) -> bool:
        """Have the daemon run with exactly its arguments; return whether it was started."""
        for process in self.found(daemon.name):
            if process.argv == daemon.argv:
                return False
            end(process, signal.SIGTERM)
        log = self.log(daemon.name)
        spawn(self.enter(daemon.argv), log)
        wait(lambda: bool(self.found(daemon.name)), 10, f"{daemon.name} of {self.spec.name}", log)
        return True

    def listens(self, path: Path) -> bool:
        """Return whether a process of the node takes connections at a Unix socket."""
        with socket.socket(socket.AF_UNIX) as asking:
            return asking.connect_ex(f"{self.root()}{path}") == 0

    def found(self, name: str) -> list[Process]:
        """Return the processes in the node that run a program of this name."""
        initial = self.initial()
        return [
            process
            for process in running()
            if initial
            and process.namespace == initial.namespace
            and Path(process.argv[0]).name == name
        ]

    def power_off(self) -> None:
        """Kill everything in the node, as a power cut does."""
        if initial := self.initial():
            end(initial, signal.SIGKILL)
        until(lambda: not Path("/sys/class/net", self.link).exists(), seconds=5)
        if Path("/sys/class/net", self.link).exists():
            network.ip(f"link delete {self.link}")
