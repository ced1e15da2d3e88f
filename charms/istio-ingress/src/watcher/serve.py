"""A small HTTP server: a function for each path."""

import contextlib
import http.server
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Answer = tuple[int, str | Mapping[str, Any]]
"""A code, and what is said: text, or what becomes JSON."""
Answers = Mapping[str, Callable[[Mapping[str, str]], Answer]]
"""By path, what answers to the words behind the question mark."""


def serve(answers: Answers, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server that listens on the port, and answers once it is run."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            answer = answers.get(asked.path, _nothing)
            code, said = answer(dict(parse_qsl(asked.query)))
            text = said if isinstance(said, str) else json.dumps(said)
            kind = "text/plain; charset=utf-8" if isinstance(said, str) else "application/json"
            content = text.encode()
            with contextlib.suppress(ConnectionError):  # who asked has gone
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    return server


def _nothing(_: Mapping[str, str]) -> Answer:
    return 404, "not found\n"
