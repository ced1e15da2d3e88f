"""A server that tells what it was asked: it is pushed into the box, and runs there."""

import http.server
import json
import signal
import socket
import sys
import threading
import time
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """A server that ends as servers do: what it has begun to answer it answers."""

    daemon_threads = False


class Echo(http.server.BaseHTTPRequestHandler):
    """Tells each request as JSON; /slow/SECONDS takes its time, /code/CODE has that code.

    /decide/... lets "Authorization: Bearer good" pass as ann, and sends all others to sign in.
    """

    ending = threading.Event()
    """Whether each connection is closed behind its next answer."""
    protocol_version = "HTTP/1.1"
    timeout = 3

    def answer(self) -> None:
        """Answer."""
        length = int(self.headers.get("Content-Length") or 0)
        while length > 0 and (part := self.rfile.read(min(length, 2**20))):
            length -= len(part)
        word, _, rest = self.path.lstrip("/").partition("/")
        if word == "slow":
            time.sleep(float(rest))
        said = {
            "unit": socket.gethostname(),
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        content = json.dumps(said).encode()
        code, more = int(rest) if word == "code" else 200, {}
        if word == "decide":
            code, more = self.decide(said)
        self.send_response(code)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.ending.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def decide(self, said: dict[str, Any]) -> tuple[int, dict[str, str]]:
        """Return the code and the headers for who asks whether a request may pass."""
        if said["headers"].get("authorization") == "Bearer good":
            return 200, {"X-Katonic-User": "ann", "X-Katonic-Asked": said["path"]}
        return 302, {"Location": "https://sign-in.example/", "Set-Cookie": "state=1; Secure"}

    do_DELETE = do_GET = do_PATCH = do_POST = do_PUT = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


if __name__ == "__main__":
    with Server(("", int(sys.argv[1])), Echo) as server:

        def end(*_: object) -> None:
            Echo.ending.set()
            threading.Thread(target=server.shutdown).start()

        signal.signal(signal.SIGTERM, end)
        server.serve_forever()
