"""What the charm meets outside of Juju: its follower, whose controller finds all in order."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

EXECS = []
_GIB = 2**30


def pool(
    name: str, node: str, gpu_type: str | None = None, tainted: bool = True
) -> dict[str, Any]:
    """Return what a controller says of a pool with one node."""
    key, value = "katonic.ai/node-pool", name
    taint = ("nvidia.com/gpu", f"katonic-{gpu_type}") if gpu_type else (key, value)
    toleration = {"key": taint[0], "operator": "Equal", "effect": "NoSchedule", "value": taint[1]}
    gpus = 1 if gpu_type else 0
    return {
        "name": name,
        "selector": {key: value},
        "tolerations": [toleration] if tainted else [],
        "nodes": [node],
        "ready_nodes": 1,
        "minimum_nodes": 0 if gpu_type else 1,
        "maximum_nodes": 3,
        "applications": [] if gpu_type else ["mlflow"],
        "pods": 0 if gpu_type else 1,
        "requested": {"cpu": 1.5, "memory": 2 * _GIB, "gpus": 0},
        "allocatable": {"cpu": 7.9, "memory": 30 * _GIB, "gpus": gpus},
        "free": {"cpu": 6.0, "memory": 28 * _GIB, "gpus": gpus},
        "gpu_type": gpu_type,
    }


VERDICT = {
    "level": "active",
    "message": "1 of 1 applications on their pool",
    "digest": "d1",
    "troubles": [],
    "pools": [
        pool("platform", "n1"),
        pool("compute", "n2", tainted=False),
        pool("gpu-v100", "n3", "v100"),
    ],
    "applications": [
        {
            "name": "mlflow",
            "pools": ["platform"],
            "replicas": 1,
            "placed": 1,
            "pods": [{"name": "mlflow-0", "node": "n1", "place": "placed"}],
        }
    ],
}
DRAIN = {
    "node": "n1",
    "message": "1 of 2 pods would not fit elsewhere: mlflow-0",
    "moves": [
        {"namespace": "lab", "name": "mlflow-0", "to": None, "reason": "no other node takes it"},
        {"namespace": "lab", "name": "notes-0", "to": "n2", "reason": None},
    ],
}


class Follower(http.server.BaseHTTPRequestHandler):
    """The part of the follower's HTTP that the charm asks."""

    verdict: dict[str, Any] | None

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        node = parse_qs(asked.query).get("node", [""])[0]
        if self.verdict is None:
            self._answer(503, "the watcher does not answer: connection refused")
        elif asked.path in ("/ready", "/verdict"):
            self._answer(200, json.dumps(self.verdict))
        elif asked.path == "/drain" and node == DRAIN["node"]:
            self._answer(200, json.dumps(DRAIN))
        else:
            self._answer(404, f"there is no node {node}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"{text}\n".encode())


@contextlib.contextmanager
def serve(verdict: dict[str, Any] | None = VERDICT) -> Iterator[None]:
    """Have the follower say this for as long as the context lasts."""
    handler = type("Handler", (Follower,), {"verdict": verdict})
    server = _listen(handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen(handler: type[Follower]) -> http.server.ThreadingHTTPServer:
    """Listen on the follower's port; should other tests on this machine have it now, wait."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            return http.server.ThreadingHTTPServer(("127.0.0.1", 8080), handler)
        time.sleep(0.1)
    return http.server.ThreadingHTTPServer(("127.0.0.1", 8080), handler)
