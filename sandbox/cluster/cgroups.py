"""The control groups that hold the nodes' pods, on cgroup v1 and v2."""

import os
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PARENT = "katonic"


def hierarchies() -> list[Path]:
    """Return the mounted hierarchies: the one of v2, or each of v1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return sorted(path.parent for path in ROOT.glob("*/cgroup.procs") if path.parent.is_dir())


def make(node: str) -> None:
    """Make the node's group in every hierarchy, with all controllers usable below it."""
    for hierarchy in hierarchies():
        group = hierarchy / PARENT / node
        group.mkdir(parents=True, exist_ok=True)
        if (hierarchy / "cgroup.controllers").exists():
            delegate(hierarchy)
            delegate(hierarchy / PARENT)
            continue
        for made in (group.parent, group):
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (made / name).exists() and not (made / name).read_text().strip():
                    (made / name).write_text((made.parent / name).read_text())


def delegate(group: Path) -> None:
    """Let the group's children use each of its controllers (cgroup v2)."""
    enabled = (group / "cgroup.subtree_control").read_text().split()
    for controller in (group / "cgroup.controllers").read_text().split():
        if controller not in enabled:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(node: str = "") -> None:
    """Remove a node's groups, or all of the cluster; their processes must have been killed."""
    deadline = time.monotonic() + 10
    for hierarchy in hierarchies():
        while (group := hierarchy / PARENT / node).exists():
            try:
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
