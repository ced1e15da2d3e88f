"""Finds the controller process of this user, starts it when it does not run, and talks to it.

Imports nothing but the standard library, so that a `juju status` costs little.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

ROOT = Path(__file__).resolve().parents[1]


class ControllerError(Exception):
    """The controller refuses a request; the text is Juju's."""


@dataclass
class Record:
    """What is known of the controller from one start to the next; only its user can read it."""

    uuid: str
    secret: str
    token: str
    port: int
    pid: int = 0
    sources: str = ""
    address: str = "127.0.0.1"
    kubeconfig: str = ""
    kubectl: str = ""
    agent_image: str = ""
    charm_image: str = ""


def home() -> Path:
    """Return the folder of the controller's state, made when it is not there."""
    path = Path(os.environ.get("KATONIC_STATE") or Path.home() / ".local/state/katonic")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write(path: Path, content: bytes) -> None:
    """Replace a file at once, readable by its owner alone."""
    new = path.with_name(f"{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    new.replace(path)


def _port() -> int:
    """Return a port that is this state folder's own, so that two controllers never meet."""
    return 17000 + zlib.crc32(str(home()).encode()) % 3000


def read_record() -> Record | None:
    """Return the controller's record, None when there never was one."""
    path = home() / "controller.json"
    return Record(**json.loads(path.read_bytes())) if path.exists() else None


def write_record(record: Record) -> None:
    """Keep the controller's record."""
    write(home() / "controller.json", json.dumps(asdict(record)).encode())


def request(record: Record, method: str, path: str, body: Any = None, **query: Any) -> Any:
    """Return the controller's answer; raises ControllerError, or OSError when it does not run."""
    target = quote(path) + (f"?{urlencode(query)}" if query else "")
    connection = http.client.HTTPConnection("127.0.0.1", record.port, timeout=600)
    try:
        content = json.dumps(body) if body is not None else None
        connection.request(method, target, content, {"Authorization": f"Bearer {record.token}"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise ControllerError(answer.decode())
    return json.loads(answer)


def running(record: Record | None) -> bool:
    """Return whether the controller answers."""
    with contextlib.suppress(OSError, http.client.HTTPException, ControllerError, ValueError):
        return record is not None and request(record, "GET", "/health") == record.uuid
    return False


def sources() -> str:
    """Return a digest of the controller's sources: one of other sources is replaced."""
    digest = hashlib.sha256()
    folder = ROOT / "sandbox"
    for path in sorted([*folder.glob("*.py"), *(folder / "agent").rglob("*.*")]):
        if path.suffix in (".py", ".go") and "tests" not in path.parts:
            digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def ensure(progress: Callable[[str], None]) -> Record:
    """Return the record of a controller that runs, started with its cluster if need be."""
    record, now = read_record(), sources()
    if record and record.sources == now and running(record):
        return record
    with _lock():
        record = read_record() or Record(
            str(uuid.uuid4()), secrets.token_hex(32), secrets.token_urlsafe(32), _port()
        )
        if record.sources == now and running(record):
            return record
        from sandbox import cluster, images

        try:
            started = cluster.start(progress)
            built = images.build(["agent", "charm-base"], progress)
        except (cluster.ClusterError, images.ImageError) as error:
            raise ControllerError(str(error)) from None
        stop(record)
        record.sources, record.address = now, started.host_address
        record.kubeconfig, record.kubectl = str(started.kubeconfig), str(started.kubectl)
        record.agent_image = built["agent"].reference
        record.charm_image = built["charm-base"].reference
        write_record(record)
        progress("starting the controller")
        _spawn(record)
    return record


def stop(record: Record | None = None, wipe: bool = False) -> None:
    """End the controller process; its models and their pods stay, unless `wipe` forgets them."""
    record = record or read_record()
    if record is not None and running(record):
        os.kill(record.pid, signal.SIGTERM)
        for _ in range(100):
            if not running(record):
                break
            time.sleep(0.1)
        else:
            os.kill(record.pid, signal.SIGKILL)
    if wipe:
        shutil.rmtree(home())


def _spawn(record: Record) -> None:
    log = home() / "controller.log"
    log.touch(mode=0o600)
    launch = 'exec "$0" -m sandbox.server </dev/null >>"$1" 2>&1 & echo $!'
    started = subprocess.run(
        ["sh", "-c", launch, sys.executable, str(log)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        start_new_session=True,
        check=True,
    )
    record.pid = int(started.stdout)
    write_record(record)
    while not running(record):
        if not Path(f"/proc/{record.pid}").exists():
            raise ControllerError(f"the controller does not start; see {log}")
        time.sleep(0.05)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    with open(home() / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
