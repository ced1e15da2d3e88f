"""What the charm meets outside of Juju: a server that answers, and remembers the services."""

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from ops import testing

EXECS = [testing.Exec(["/opt/katonic-api/bin/python", "-m", "katonic_api", "migrate"])]


class Server(http.server.BaseHTTPRequestHandler):
    """The part of the server's HTTP that the charm asks."""

    told: dict[str, Any]

    def do_GET(self) -> None:
        if self.path == "/ready":
            self._answer(200, b"ok\n")
        elif not self.headers.get("Authorization", "").startswith("Bearer "):
            self._answer(401)
        else:
            self._answer(200, json.dumps(self.told).encode())

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.told.update(json.loads(body))
        self._answer(204)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _answer(self, code: int, body: bytes = b"") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serve() -> Iterator[dict[str, Any]]:
    """Answer on the server's port for as long as the context lasts; yield what it was told."""
    told: dict[str, Any] = {"items": []}
    server = _listen(type("Told", (Server,), {"told": told}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen(handler: type[Server]) -> http.server.ThreadingHTTPServer:
    """Listen on the server's port; should other tests on this machine have it now, wait."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            return http.server.ThreadingHTTPServer(("127.0.0.1", 8080), handler)
        time.sleep(0.1)
    return http.server.ThreadingHTTPServer(("127.0.0.1", 8080), handler)
