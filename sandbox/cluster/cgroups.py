"""The control groups that hold the nodes' pods, on cgroup v1 and v2."""

import os
import time
from pathlib import Path

from sandbox.cluster.home import ClusterError

ROOT = Path("/sys/fs/cgroup")
PARENT = "katonic"
NEEDED = ("cpu", "cpuset", "hugetlb", "io", "memory", "pids")
"""The controllers of cgroup v2 that the kubelet and its containers use."""


def hierarchies(root: Path) -> list[Path]:
    """Return the mounted hierarchies: the one of v2, or each of v1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted(path.parent for path in root.glob("*/cgroup.procs"))


def make(node: str, root: Path = ROOT) -> None:
    """Make the node's group in every hierarchy, with the controllers usable below it."""
    for hierarchy in hierarchies(root):
        group = hierarchy / PARENT / node
        group.mkdir(parents=True, exist_ok=True)
        if hierarchy == root:
            delegate(hierarchy)
            delegate(hierarchy / PARENT)
            continue
        for made in (group.parent, group):
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (made / name).exists() and not (made / name).read_text().strip():
                    (made / name).write_text((made.parent / name).read_text())


def delegate(group: Path) -> None:
    """Let the group's children use the controllers that are needed (cgroup v2)."""
    control = group / "cgroup.subtree_control"
    available = (group / "cgroup.controllers").read_text().split()
    enabled = control.read_text().split()
    lacking = [f"+{it}" for it in NEEDED if it in available and it not in enabled]
    try:
        if lacking:
            control.write_text(" ".join(lacking))
    except OSError as error:
        raise ClusterError(
            f"{control} refuses {' '.join(lacking)} ({error.strerror}): a container cannot hold "
            f"the cluster, a machine or a virtual machine can"
        ) from error


def remove(node: str = "", root: Path = ROOT) -> None:
    """Remove a node's groups, or all of the cluster; their processes must have been killed."""
    deadline = time.monotonic() + 10
    for hierarchy in hierarchies(root):
        while (group := hierarchy / PARENT / node).exists():
            try:
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"{group} cannot be removed: {error.strerror}") from error
                time.sleep(0.1)
