"""A real Kubernetes on this machine: built once, started in seconds, in namespaces of its own."""

import os
import shutil
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from sandbox.cluster import build, cgroups, images, network
from sandbox.cluster.configuration import (
    AGENTS,
    CONTAINERD_SOCKET,
    CONTROL_PLANE,
    KUBELET_PORT,
    NODES,
    PORT,
    Site,
)
from sandbox.cluster.home import ClusterError, Home, locked
from sandbox.cluster.kubectl import Kubectl, fakes, is_ready
from sandbox.cluster.node import Node, initial_processes, running_nodes
from sandbox.cluster.processes import until, wait
from sandbox.images import oci

__all__ = ["Cluster", "ClusterError", "Condition", "find", "start", "status", "stop"]

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers, and how to reach it."""

    kubeconfig: Path
    host_address: str
    """The address at which the cluster's pods reach this machine."""
    kubectl: Path


@dataclass(frozen=True)
class Condition:
    """A process that a node should have, and its pid; None if it does not run."""

    node: str
    process: str
    pid: int | None


def start(progress: Progress) -> Cluster:
    """Return a cluster that answers, after building, starting or mending what it needs.

    The cluster that KUBECONFIG names is taken as it is. Raises ClusterError.
    """
    if named := named_kubeconfig():
        return external(named, progress)
    require_root()
    home = Home.current()
    build.install_packages(build.missing_packages(), home.packages_log, progress)
    binaries = build.binaries(home, progress)
    with locked(home.root / "lock", lambda: progress("waiting for another start or stop to end")):
        refuse_strangers(home)
        refuse_other_nodes(home)
        raise_nodes(home, binaries, images.own(home, binaries), progress)
        for old in set(home.binaries.iterdir()) - {binaries}:
            if not old.name.endswith(build.UNFINISHED):
                shutil.rmtree(old)
    return Cluster(home.kubeconfig, network.HOST_ADDRESS, binaries / "kubectl")


def find() -> Cluster | None:
    """Return the local cluster as it runs, None if it is off; nothing is started or mended."""
    require_root()
    home = Home.current()
    for node in running_nodes(home)[:1]:
        for server in node.found("kube-apiserver"):
            kubectl = Path(server.argv[0]).with_name("kubectl")
            return Cluster(home.kubeconfig, network.HOST_ADDRESS, kubectl)
    return None


def raise_nodes(home: Home, binaries: Path, own: images.Own, progress: Progress) -> None:
    """Boot the nodes that are off, start what does not run on them, and wait till all is ready."""
    nodes = [Node(home, spec) for spec in NODES]
    control = nodes[0]
    plugins = build.plugins()
    assert plugins, "start installs them"
    site = Site(home, binaries, plugins, oci.read_reference(own.pause), control.spec)
    site.credentials()
    etcd, server, *managers = site.control_plane()
    agents = {node: site.agents(node.spec) for node in nodes}
    network.raise_bridge()

    def boot(node: Node) -> bool:
        booted = node.boot(binaries / "pause")
        node.connect([other.spec for other in nodes if other != node], serves=node == control)
        node.ensure(site.runtime(node.spec))
        return booted

    def employ(node: Node) -> list[str]:
        listens = partial(node.listens, CONTAINERD_SOCKET)
        wait(listens, 30, f"containerd of {node.spec.name}", node.log("containerd"))
        return [daemon.name for daemon in agents[node] if node.ensure(daemon)]

    with ThreadPoolExecutor(len(nodes)) as pool:
        booted = zip(nodes, pool.map(boot, nodes), strict=True)
        if names := [node.spec.name for node, was_off in booted if was_off]:
            progress(f"booted {', '.join(names)}")
        control.ensure(etcd)
        if control.ensure(server):
            progress(f"{control.spec.name}: started {server.name}")
        ready = partial(site.read, control.spec, PORT, "/readyz")
        wait(ready, 120, "the API server", control.log(server.name))
        kubectl = Kubectl(binaries / "kubectl", home.kubeconfig)
        coredns = oci.read_reference(own.coredns)
        kubectl.apply_manifests(
            {"coredns": coredns, "dns": network.DNS_SERVICE, "node": control.spec.name}
        )
        started = [daemon.name for daemon in managers if control.ensure(daemon)]
        for node, names in zip(nodes, pool.map(employ, nodes), strict=True):
            started += names
            if names:
                progress(f"{node.spec.name}: started {', '.join(names)}")
    settle(site, nodes, kubectl)
    if not until(network.resolves, seconds=120):
        raise ClusterError(f"the cluster's DNS does not answer; see {control.log('kubelet')}")
    if started:
        progress("the cluster answers")


def settle(site: Site, nodes: Sequence[Node], kubectl: Kubectl) -> None:
    """Wait until every node has its labels and is ready, those that kwok plays too."""
    labels = {node.spec.name: node.spec.labels for node in nodes}
    log = nodes[0].log("kube-apiserver")
    wait(lambda: kubectl.introduce(site.registered(), labels), 120, "one of the nodes", log)
    for name in (*labels, *(fake["metadata"]["name"] for fake in fakes())):
        wait(lambda name=name: is_ready(site.registered().get(name)), 120, f"node {name}", log)
    for node in nodes:
        healthy = partial(site.read, node.spec, KUBELET_PORT, "/healthz")
        wait(healthy, 30, f"kubelet {node.spec.name}", node.log("kubelet"))


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


def refuse_other_nodes(home: Home) -> None:
    """Raise a ClusterError if the cluster remembers a node that is none of its nodes now."""
    folder = home.folder(NODES[0].name).parent
    remembered = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if strange := remembered - {spec.name for spec in NODES}:
        raise ClusterError(
            f"the cluster was made with other nodes ({', '.join(sorted(strange))}): "
            f"run `./katonic stop --wipe`"
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
        return Cluster(kubeconfig, toward.getsockname()[0], program)


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


def status() -> list[Condition]:
    """Return what each node should run, and whether it does; nothing if the cluster is off."""
    require_root()
    home = Home.current()
    conditions = []
    for spec in NODES if running_nodes(home) else ():
        for name in (*(CONTROL_PLANE if spec == NODES[0] else ()), *AGENTS):
            found = Node(home, spec).found(name)
            conditions.append(Condition(spec.name, name, found[0].pid if found else None))
    return conditions
