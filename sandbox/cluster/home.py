"""Where the cluster keeps what it builds and what it remembers."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class ClusterError(Exception):
    """What went wrong, in one line, and what to do about it."""


def cache() -> Path:
    """Return the folder of all that is built once: KATONIC_CACHE, else ~/.cache/katonic."""
    return Path(os.environ.get("KATONIC_CACHE") or Path.home() / ".cache/katonic").absolute()


@dataclass(frozen=True)
class Home:
    """The cluster's folders: `binaries` and `images` are a cache, `state` is its memory."""

    root: Path

    @classmethod
    def current(cls) -> "Home":
        """Return the one home of the cluster on this machine, whichever clone asks."""
        return cls(cache() / "cluster")

    @property
    def binaries(self) -> Path:
        """Return the folder of the built programs, one folder for each key."""
        return self.root / "bin"

    @property
    def images(self) -> Path:
        """Return the folder of the cluster's own images as OCI tars."""
        return self.root / "images"

    @property
    def platform_images(self) -> Path:
        """Return the folder of the platform's images as OCI tars, which sandbox.images makes."""
        return self.root.parent / "images"

    @property
    def log(self) -> Path:
        """Return the folder of the logs: build.log and <node>-<process>.log."""
        return self.root / "log"

    @property
    def packages_log(self) -> Path:
        """Return the log of what apt-get did."""
        return self.log / "packages.log"

    @property
    def state(self) -> Path:
        """Return the folder that a wipe deletes: certificates, etcd, nodes, volumes."""
        return self.root / "state"

    @property
    def pki(self) -> Path:
        """Return the folder of certificates, keys and kubeconfigs."""
        return self.state / "pki"

    @property
    def volumes(self) -> Path:
        """Return the folder of PersistentVolumes, one folder for each node."""
        return self.state / "volumes"

    def folder(self, node: str) -> Path:
        """Return the folder of one node's state: images, containers, logs of pods."""
        return self.state / "nodes" / node

    @property
    def kubeconfig(self) -> Path:
        """Return the administrator's kubeconfig."""
        return self.pki / "admin.kubeconfig"


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold an exclusive lock on the file; call `waiting` if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
