"""What the charm meets outside of Juju: a MinIO that keeps what it is told in memory."""

import contextlib
import dataclasses
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ops import testing

EXECS = [testing.Exec(["install"])]
_ACCOUNTS = ("policies", "users", "user_mappings")


@dataclasses.dataclass
class Store:
    """What one MinIO has; its administrator's name tells it from others at the same address."""

    accounts: dict[str, dict[str, Any]] = dataclasses.field(
        default_factory=lambda: {name: {} for name in _ACCOUNTS}
    )
    buckets: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)


stores: dict[str, Store] = {}


class MinIO(BaseHTTPRequestHandler):
    """The part of MinIO's API that the charm speaks."""

    def do_GET(self) -> None:
        path, query = self._asked()
        if path == "/minio/health/ready":
            self._answer()
        elif path == "/minio/admin/v3/export-iam":
            self._answer(self._exported())
        elif path == "/":
            self._answer("".join(f"<Name>{it}</Name>" for it in self._store.buckets).encode())
        elif "versioning" in query:
            self._answer(self._store.buckets[path[1:]].get("versioning", "").encode())
        else:
            self._answer(code=404)

    def do_PUT(self) -> None:
        path, query = self._asked()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/minio/admin/v3/import-iam":
            with zipfile.ZipFile(io.BytesIO(body)) as archive:
                for name in _ACCOUNTS:
                    said = json.loads(archive.read(f"iam-assets/{name}.json"))
                    self._store.accounts[name] |= said
        elif query:
            self._store.buckets[path[1:]] |= dict.fromkeys(query, body.decode())
        else:
            self._store.buckets[path[1:]] = {}
        self._answer()

    def do_DELETE(self) -> None:
        _, query = self._asked()
        for name in ("users", "user_mappings"):
            self._store.accounts[name].pop(query["accessKey"][0], None)
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""

    def _asked(self) -> tuple[str, dict[str, list[str]]]:
        asked = urlsplit(self.path)
        return asked.path, parse_qs(asked.query, keep_blank_values=True)

    @property
    def _store(self) -> Store:
        credential = re.search(r"Credential=([^/]+)/", self.headers["Authorization"])
        assert credential
        return stores.setdefault(credential[1], Store())

    def _exported(self) -> bytes:
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as files:
            for name, it in self._store.accounts.items():
                files.writestr(f"iam-assets/{name}.json", json.dumps(it))
        return archive.getvalue()

    def _answer(self, body: bytes = b"", code: int = 200) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serve() -> Iterator[None]:
    """Play an empty MinIO for as long as the context lasts."""
    stores.clear()
    server = _listen()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _listen() -> ThreadingHTTPServer:
    """Listen on MinIO's port; should other tests on this machine have it now, wait for it."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            return ThreadingHTTPServer(("localhost", 9000), MinIO)
        time.sleep(0.1)
    return ThreadingHTTPServer(("localhost", 9000), MinIO)
