"""The processes of a node, found in /proc: no pid file that could be stale."""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster.home import ClusterError

ENVIRONMENT = {  # sbin too, which not every user's PATH has
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
MOST_FILES = 1_048_576
LARGEST_LOG = 16 * 1024 * 1024


@dataclass(frozen=True)
class Process:
    """A running process: its pid on this machine, arguments, and pid namespace."""

    pid: int
    argv: tuple[str, ...]
    namespace: str


def running() -> list[Process]:
    """Return the processes of this machine; those that end meanwhile are left out."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
                argv = cmdline.read().decode(errors="replace").split("\0")[:-1]
            if argv:
                found.append(Process(int(pid), tuple(argv), os.readlink(f"/proc/{pid}/ns/pid")))
        except OSError:
            continue
    return found


def run(argv: Sequence[str | Path], stdin: str = "") -> str:
    """Run a system command to its end and return what it says; a ClusterError if it fails."""
    ran = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=ENVIRONMENT)
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        raise ClusterError(f"{' '.join(map(str, argv))[:200]}: {said[-1]}")
    return ran.stdout


def spawn(argv: Sequence[str | Path], log: Path) -> None:
    """Start a process that outlives this one and shares no terminal or environment with it.

    It may open as many files as root may, up to a million, whatever this shell's own limit is.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = min(most, MOST_FILES) if most != resource.RLIM_INFINITY else MOST_FILES
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LARGEST_LOG:
        log.rename(log.with_suffix(".log.old"))
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", "prlimit", f"--nofile={files}", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=ENVIRONMENT,
            cwd="/",
            umask=0o022,
            check=True,
        )


def end(process: Process, by: signal.Signals) -> None:
    """Signal a process and wait until it is gone; kill it if it takes more than 20 s."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process in running():  # the pid may have gone to another process before pidfd_open
            signal.pidfd_send_signal(pidfd, by)
            if not until(lambda: not alive(process), seconds=20):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                until(lambda: not alive(process), seconds=20)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def alive(process: Process) -> bool:
    """Return whether the process still runs; a zombie does not."""
    try:
        return os.readlink(f"/proc/{process.pid}/ns/pid") == process.namespace
    except OSError:
        return False


def until(condition: Callable[[], object], seconds: float) -> bool:
    """Return whether the condition held within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait(condition: Callable[[], object], seconds: float, what: str, log: Path) -> None:
    """Wait for a condition; raise a ClusterError that names the log if it does not come."""
    if not until(condition, seconds):
        raise ClusterError(f"{what} did not come within {seconds:.0f} s; see {log}")
