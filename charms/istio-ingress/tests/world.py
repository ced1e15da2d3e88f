"""What the charm meets outside of Juju: its follower, whose istiod finds all in order."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

EXECS = []
OPTIONS = {"external-hostname": "mlops.example"}
"""Without a name it waits for a load balancer, which is nothing that Juju makes."""
REPORT = {
    "istiod": {
        "gateways": ["istio-ingress-gateway-1", "istio-ingress-gateway-2"],
        "refusals": [],
        "digest": "d1",
    },
    "trouble": "",
}


class Follower(http.server.BaseHTTPRequestHandler):
    """The part of the follower's HTTP that the charm asks."""

    report: Mapping[str, Any] | None

    def do_GET(self) -> None:
        if self.report is None:
            self._answer(503, "the kinds of objects are not defined yet")
        else:
            self._answer(200, json.dumps(self.report))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, code: int, text: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"{text}\n".encode())


@contextlib.contextmanager
def serve(report: Mapping[str, Any] | None = REPORT) -> Iterator[None]:
    """Have the follower say this for as long as the context lasts."""
    handler = type("Handler", (Follower,), {"report": report})
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
