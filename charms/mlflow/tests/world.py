"""MLflow as its charm meets it: an interpreter in the container, and a server that is healthy."""

import contextlib
import http.server
import threading
from collections.abc import Iterator

from ops import testing

EXECS = [testing.Exec(["/opt/mlflow/bin/python", "-c"])]


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def serve() -> Iterator[None]:
    """Answer as a healthy server does for as long as the context lasts."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 5000), _Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
