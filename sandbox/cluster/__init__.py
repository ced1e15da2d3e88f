"""A real Kubernetes on this machine: built once, started in seconds, in namespaces of its own."""

import os
import shutil
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from sandbox.cluster import build, cgroups, images, network
from sandbox.cluster.configuration import AGENTS, CONTROL_PLANE, NodeSpec, Site
from sandbox.cluster.home import ClusterError, Home, locked
from sandbox.cluster.kubectl import Kubectl
from sandbox.cluster.node import Node, initial_processes, running_nodes
from sandbox.cluster.processes import until, wait

__all__ = [
    "Cluster",
    "ClusterError",
    "Condition",
    "NodeSpec",
    "find",
    "load_images",
    "prune_images",
    "start",
    "status",
    "stop",
]

NODES = (NodeSpec("node1", 1),)
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers, and how to reach it."""

    kubeconfig: Path
    host_address: str
    """The address at which the cluster's pods reach this machine."""
    local: bool
    """Whether it is the cluster of this package, not one that KUBECONFIG names."""
    kubectl: Path


@dataclass(frozen=True)
class Condition:
    """A process that a node should have, and its pid; None if it does not run."""

    node: str
    process: str
    pid: int | None


def start(progress: Progress, nodes: Sequence[NodeSpec] = NODES) -> Cluster:
    """Return a cluster that answers, after building, starting or mending what it needs.

    The cluster that KUBECONFIG names is taken as it is. Raises ClusterError.
    """
    if named := named_kubeconfig():
        return external(named, progress)
    require_root()
    home = Home.current()
    build.install_packages(home.packages_log, progress)
    binaries = build.binaries(home, progress)
    with locked(home.root / "lock", lambda: progress("waiting for another start or stop to end")):
        refuse_strangers(home)
        own = images.own(home, binaries)
        raise_nodes(home, binaries, nodes, own, progress)
        for old in set(home.binaries.iterdir()) - {binaries}:
            if not old.name.endswith(build.UNFINISHED):
                shutil.rmtree(old)
    return Cluster(home.kubeconfig, network.HOST_ADDRESS, True, binaries / "kubectl")


def find() -> Cluster | None:
    """Return the local cluster as it runs, None if it is off; nothing is started or mended."""
    require_root()
    home = Home.current()
    for node in running_nodes(home)[:1]:
        for server in node.found("kube-apiserver"):
            kubectl = Path(server.argv[0]).with_name("kubectl")
            return Cluster(home.kubeconfig, network.HOST_ADDRESS, True, kubectl)
    return None


def raise_nodes(
    home: Home, binaries: Path, specs: Sequence[NodeSpec], own: images.Own, progress: Progress
) -> None:
    """Boot the nodes that are off, start what does not run on them, and wait till all is ready."""
    nodes = [Node(home, spec) for spec in sorted(specs, key=lambda spec: spec.number)]
    first = nodes[0]
    (pause,) = images.contents(own.pause)
    (coredns,) = images.contents(own.coredns)
    plugins = build.plugins()
    assert plugins, "start installs them"
    site = Site(home, binaries, plugins, pause, first.spec)
    site.credentials()
    etcd, server, *managers = site.control_plane()
    network.raise_bridge()
    for node in nodes:
        if node.boot(binaries / "pause"):
            progress(f"{node.spec.name}: booted")
        others = [other.spec for other in nodes if other != node]
        node.connect(others, serves=node == first)
        node.ensure(site.runtime(node.spec))
    first.ensure(etcd)
    if first.ensure(server):
        progress(f"{first.spec.name}: started {server.name}")
    for node in nodes:
        log = node.log("containerd")
        wait(lambda node=node: images.answers(node), 30, f"containerd of {node.spec.name}", log)
        for tar in images.load(node, [own.pause, own.coredns, own.busybox]):
            progress(f"{node.spec.name}: loaded {tar.stem}")
    kubectl = Kubectl(binaries / "kubectl", home.kubeconfig)
    wait(lambda: kubectl.reads("/readyz"), 120, "the API server", first.log(server.name))
    started = [first.ensure(daemon) for daemon in managers]
    for node in nodes:
        for daemon in site.agents(node.spec):
            started.append(node.ensure(daemon))
            if started[-1]:
                progress(f"{node.spec.name}: started {daemon.name}")
    kubectl.apply({"coredns": coredns, "dns": network.DNS_SERVICE, "node": first.spec.name})
    for node in nodes:
        name = node.spec.name
        kubectl.wait_for(f"node/{name}", "create", "condition=Ready")
        kubelet = f"/api/v1/nodes/{name}/proxy/healthz"
        wait(lambda path=kubelet: kubectl.reads(path), 30, f"kubelet {name}", node.log("kubelet"))
    if not until(network.resolves, seconds=120):
        raise ClusterError(f"the cluster's DNS does not answer; see {first.log('kubelet')}")
    if any(started):
        progress("the cluster answers")


def require_root() -> None:
    """Raise a ClusterError unless this process is root's."""
    if os.geteuid() != 0:
        raise ClusterError("the local cluster needs root: use sudo, or set KUBECONFIG to another")


def refuse_strangers(home: Home) -> None:
    """Raise a ClusterError if a cluster of another cache folder runs on this machine."""
    for root, spec in initial_processes():
        if root != home.root:
            raise ClusterError(
                f"{spec.name} of another cluster runs from {root}: use that one, or stop it, "
                f"with KATONIC_CACHE={root.parent}"
            )


def named_kubeconfig() -> Path | None:
    """Return the file that KUBECONFIG names, None if unset or if it is this cluster's own."""
    named = os.environ.get("KUBECONFIG", "")
    if not named or Path(named).absolute() == Home.current().kubeconfig:
        return None
    if not Path(named).is_file():
        raise ClusterError(f"KUBECONFIG={named} is no file: correct it, or unset it")
    return Path(named).absolute()


def external(kubeconfig: Path, progress: Progress) -> Cluster:
    """Return the cluster that a kubeconfig names; its pods reach this machine as its API does."""
    found = shutil.which("kubectl")
    program = Path(found) if found else build.binaries(Home.current(), progress) / "kubectl"
    kubectl = Kubectl(program, kubeconfig)
    if not kubectl.reads("/readyz"):
        raise ClusterError(f"the cluster of KUBECONFIG={kubeconfig} does not answer")
    shown = kubectl.run("config", "view", "--minify", "--output=json").stdout
    server = urlsplit(yaml.safe_load(shown)["clusters"][0]["cluster"]["server"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as toward:
        toward.connect((server.hostname, server.port or 443))
        return Cluster(kubeconfig, toward.getsockname()[0], False, program)


def stop(wipe: bool = False, progress: Progress = lambda message: None) -> None:
    """Stop the local cluster as a power cut does, leaving no process, mount, route or group.

    With `wipe` its memory goes too: objects, images on nodes, volumes, certificates.
    """
    require_root()
    home = Home.current()
    with locked(home.root / "lock", lambda: progress("waiting for another start or stop to end")):
        for node in reversed(running_nodes(home)):
            node.power_off()
        network.remove_bridge()
        cgroups.remove()
        if wipe:
            shutil.rmtree(home.state, ignore_errors=True)


def load_images(tars: Sequence[Path]) -> list[Path]:
    """Import OCI tars on every node that lacks their images, and return those imported."""
    if named_kubeconfig():
        raise ClusterError("images for the cluster of KUBECONFIG come from its registry")
    imported = [tar for node in nodes_or_error() for tar in images.load(node, tars)]
    return list(dict.fromkeys(imported))


def prune_images(keep: Sequence[str]) -> list[str]:
    """Remove from the nodes what is named localhost/katonic/... and neither kept nor in use.

    In use is what an object of the cluster names, also one that has no pod now. Returns the
    names removed.
    """
    nodes = nodes_or_error()
    if not (found := find()):
        raise ClusterError("the local cluster is half dead: python -m sandbox.cluster up")
    kept = {*keep, *Kubectl(found.kubectl, found.kubeconfig).images()}
    removed = {name for node in nodes for name in images.prune(node, kept)}
    return sorted(name for name in removed if name.startswith(images.PRUNED))


def nodes_or_error() -> list[Node]:
    """Return the nodes that run; a ClusterError if none does."""
    require_root()
    if not (nodes := running_nodes(Home.current())):
        raise ClusterError("the local cluster does not run: python -m sandbox.cluster up")
    return nodes


def status() -> list[Condition]:
    """Return what each node that runs should run; nothing if the cluster is off."""
    require_root()
    conditions = []
    for position, node in enumerate(running_nodes(Home.current())):
        for name in (*(CONTROL_PLANE if position == 0 else ()), *AGENTS):
            found = node.found(name)
            conditions.append(Condition(node.spec.name, name, found[0].pid if found else None))
    return conditions
