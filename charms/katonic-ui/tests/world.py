"""The pages as their charm meets them: a server that is ready, whatever lacks."""

import contextlib
import http.server
import threading
import time
from collections.abc import Iterator

EXECS = []
RUNS_WITHOUT = frozenset({"sessions", "oauth", "api"})
"""What is required, and without which the pages still tell people what is the matter."""


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def serve() -> Iterator[None]:
    """Answer as the pages do for as long as the context lasts."""
    server = _listen()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listen() -> http.server.ThreadingHTTPServer:
    """Listen on the port of the pages; should other tests on this machine have it now, wait."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            return http.server.ThreadingHTTPServer(("127.0.0.1", 8080), _Ready)
        time.sleep(0.1)
    return http.server.ThreadingHTTPServer(("127.0.0.1", 8080), _Ready)
