"""The unit agent: runs a unit's hooks in its charm container and tells what its Pebbles say.

Standard library only, for it runs on the charm image's own Python. The container's Pebble starts
`agent.py /var/lib/juju/agents/unit-<app>-<n>`, where charm-init has put agent.conf.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import queue
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

HOME = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
CHARM = HOME / "charm"
POLL = 10  # seconds a long poll lasts
GONE = 410  # the controller no longer knows this unit
INHERITED = re.compile(
    r"KUBERNETES_.*|.*_SERVICE_(HOST|PORT)(_.*)?|(?!HTTP_PROBE).*_PORT(_\d+_(TCP|UDP).*)?"
)
terminating = threading.Event()


class Connection(threading.local):
    """One HTTP connection for each thread, tried again until the controller answers."""

    def __init__(self, controller: str, token: str):
        self.address = urlsplit(controller)
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.http: http.client.HTTPConnection | None = None

    def call(self, path: str, body: Any = None) -> bytes:
        """Returns the answer; ends the agent when the controller no longer knows the unit."""
        content = json.dumps(body) if body is not None else None
        while True:
            try:
                if self.http is None:
                    host, port = self.address.hostname or "", self.address.port
                    self.http = http.client.HTTPConnection(host, port, timeout=POLL + 15)
                self.http.request("POST" if content else "GET", path, content, self.headers)
                response = self.http.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException) as error:
                print(f"controller: {error!r}", flush=True)
                if self.http:
                    self.http.close()
                self.http = None
                time.sleep(0.5)
                continue
            if response.status == GONE:
                print("this unit is gone", flush=True)
                os._exit(0)
            if response.status < 400:
                return answer
            print(f"controller: {path}: {response.status} {answer[:300]!r}", flush=True)
            time.sleep(1)

    def own_address(self) -> str:
        """Returns this pod's address as the controller sees it."""
        with socket.create_connection((self.address.hostname or "", self.address.port or 80)) as s:
            return s.getsockname()[0]


class Log:
    """Lines for the model's debug-log, sent in order by one thread."""

    def __init__(self, connection: Connection, unit: str):
        self.connection, self.unit = connection, unit
        self.lines: queue.Queue[tuple[str, str, str]] = queue.Queue()
        threading.Thread(target=self._send, daemon=True).start()

    def put(self, level: str, module: str, text: str) -> None:
        """Adds a line."""
        self.lines.put((level, f"unit.{self.unit}.{module}", text))

    def flush(self) -> None:
        """Waits until the controller has every line."""
        self.lines.join()

    def _send(self) -> None:
        while True:
            lines = [self.lines.get()]
            while not self.lines.empty():
                lines.append(self.lines.get())
            self.connection.call("/agent/log", {"lines": lines})
            for _ in lines:
                self.lines.task_done()


class PebbleSocket(http.client.HTTPConnection):
    """HTTP over the socket of one workload container's Pebble."""

    def __init__(self, path: str):
        super().__init__("localhost", timeout=POLL + 15)
        self.path = path

    def connect(self) -> None:
        """Connects to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)

    def get(self, path: str, **query: str) -> Any:
        """Returns the result of a request; raises HTTPException when Pebble refuses it."""
        self.request("GET", f"{path}?{urlencode(query)}" if query else path)
        response = self.getresponse()
        answer = json.loads(response.read())
        if response.status >= 400:
            raise http.client.HTTPException(f"{path}: {answer['result']}")
        return answer["result"]


class Watcher:
    """Tells of one workload container that its Pebble answers, its notices and its checks.

    A first look tells what happened before this agent ran, notices before ready: so Juju replays
    them after a restart of the charm container.
    """

    def __init__(self, container: str, connection: Connection):
        self.container, self.connection = container, connection
        self.boot = ""
        self.after = ""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        path = f"/charm/containers/{self.container}/pebble.socket"
        while True:
            pebble = PebbleSocket(path)
            try:
                while True:
                    boot = pebble.get("/v1/system-info")["boot-id"]
                    self._look(pebble, wait=boot == self.boot)
                    if boot != self.boot:
                        self._report("ready")
                        self.boot = boot
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.2)
            finally:
                pebble.close()

    def _look(self, pebble: PebbleSocket, wait: bool) -> None:
        # A workload that is not root notifies in its own name, which Juju heeds since 4.0.13.
        query = {"types": "custom,change-update", "users": "all"}
        if wait:
            query["timeout"] = f"{POLL}s"
        if self.after:
            query["after"] = self.after
        for notice in pebble.get("/v1/notices", **query) or []:
            self.after = notice["last-repeated"]
            if notice["type"] == "custom":
                self._report("notice", id=notice["id"], type="custom", key=notice["key"])
                continue
            kind = notice.get("last-data", {}).get("kind")
            if kind not in ("perform-check", "recover-check"):
                continue
            try:
                status = pebble.get(f"/v1/changes/{notice['key']}")["status"]
            except http.client.HTTPException:  # pruned since
                continue
            if (kind, status) in (("perform-check", "Error"), ("recover-check", "Done")):
                check = notice["last-data"]["check-name"]
                self._report("check", name=check, failed=kind == "perform-check")

    def _report(self, what: str, **details: Any) -> None:
        report = {"container": self.container, "what": what, **details}
        self.connection.call("/agent/report", report)


def fetch_charm(connection: Connection, key: str) -> None:
    """Unpacks the packed charm of that key into the charm's directory, unless it lies there."""
    mark = HOME / "charm.key"
    if mark.exists() and mark.read_text() == key:
        return
    archive = connection.call(f"/agent/charm/{key}")
    shutil.rmtree(CHARM, ignore_errors=True)
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        for member in packed.infolist():
            mode = member.external_attr >> 16
            if member.is_dir():
                (CHARM / member.filename).mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(mode):
                (CHARM / member.filename).symlink_to(packed.read(member).decode())
            else:
                (CHARM / packed.extract(member, CHARM)).chmod(stat.S_IMODE(mode) or 0o644)
    mark.write_text(key)


def environment(given: dict[str, str]) -> dict[str, str]:
    """Returns a hook's whole environment: Kubernetes' service variables, and what is given."""
    return {k: v for k, v in os.environ.items() if INHERITED.fullmatch(k)} | given


def run(event: dict[str, Any], log: Log) -> dict[str, Any]:
    """Runs a hook, action or command; returns its exit code and, but for hooks, its output."""
    command = event.get("command")
    argv = ["/bin/bash", "-c", command] if command is not None else [str(CHARM / "dispatch")]
    hook = event["kind"] == "hook"
    printed: dict[str, list[str]] = {"stdout": [], "stderr": []}

    def read(stream: IO[str], name: str) -> None:
        with stream:
            for line in stream:
                if hook:
                    level = "INFO" if name == "stdout" else "WARNING"
                    log.put(level, event["name"], line.rstrip("\n"))
                else:
                    printed[name].append(line)

    try:
        process = subprocess.Popen(
            argv,
            cwd=CHARM,
            env=environment(event["environment"]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        log.put("ERROR", event["name"], f"cannot run {argv[0]}: {error}")
        return {"code": 127, "stdout": "", "stderr": f"{error}\n"}
    readers = [
        threading.Thread(target=read, args=(stream, name), daemon=True)
        for stream, name in ((process.stdout, "stdout"), (process.stderr, "stderr"))
    ]
    for reader in readers:
        reader.start()
    code = process.wait()
    for reader in readers:
        reader.join(timeout=1)  # what a hook left in the background may hold the pipe
    if code < 0:
        code = 128 - code
    return {"code": code, **{name: "".join(lines) for name, lines in printed.items()}}


class Liveness(BaseHTTPRequestHandler):
    """Answers the liveness check of the charm container's Pebble."""

    def do_GET(self) -> None:
        """Answers that the agent is alive."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Says nothing of each probe."""


def on_terminate(connection: Connection) -> Callable[..., None]:
    """Returns the handler of SIGTERM: it asks the controller for this unit's `stop`."""

    def handler(*_: Any) -> None:
        if not terminating.is_set():
            terminating.set()
            tell = threading.Thread(target=connection.call, args=("/agent/terminating", {}))
            tell.daemon = True
            tell.start()

    return handler


def main() -> None:
    """Runs what the controller gives this unit, until the container ends."""
    os.umask(0o022)
    conf = json.loads((HOME / "agent.conf").read_text())
    connection = Connection(conf["controller"], conf["token"])
    signal.signal(signal.SIGTERM, on_terminate(connection))
    probe = HTTPServer(("127.0.0.1", int(os.environ["HTTP_PROBE_PORT"])), Liveness)
    threading.Thread(target=probe.serve_forever, daemon=True).start()
    log = Log(connection, conf["unit"])
    hello = {"pod": conf["pod_uid"], "address": connection.own_address()}
    charm = json.loads(connection.call("/agent/hello", hello))["charm"]
    fetch_charm(connection, charm)
    for container in filter(None, os.environ.get("JUJU_CONTAINER_NAMES", "").split(",")):
        Watcher(container, connection)
    while True:
        wait = 0 if terminating.is_set() else POLL
        event = json.loads(connection.call(f"/agent/next?wait={wait}"))
        if event.get("lost"):  # the controller took this agent for gone
            connection.call("/agent/hello", hello)
        elif event:
            result = run(event, log)
            log.flush()
            connection.call("/agent/finish", {"context": event["context"], **result})
        if terminating.is_set() and event.get("name", "stop") == "stop":
            return


if __name__ == "__main__":
    main()
