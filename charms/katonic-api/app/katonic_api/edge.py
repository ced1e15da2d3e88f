"""What every request passes: its id, its size, its line in the log, its metrics."""

import asyncio
import functools
import logging
import re
import time
import uuid
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import metrics
from .problems import MEDIA_TYPE, ProblemBody

logger = logging.getLogger("katonic_api.access")

LARGEST = 256 * 2**10
"""Bytes that a request may have, but for the files'."""

_QUIET = {"/health", "/ready", "/metrics"}
_REQUEST_ID = re.compile(rb"[\w.:-]{1,100}")


class Edge:
    """Stands before the application.

    Args:
        leaving: Set once the server is about to end: connections are closed from then on, so that
            who keeps them comes to another server.
    """

    def __init__(self, app: ASGIApp, leaving: asyncio.Event) -> None:
        self._app, self._leaving = app, leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                said = message["headers"]
                said.append((b"x-request-id", request_id))
                said.append((b"x-content-type-options", b"nosniff"))
                said.append((b"cache-control", b"no-cache, private"))
                if self._leaving.is_set():
                    said.append((b"connection", b"close"))
            await send(message)

        try:
            if refusal := _refusal(scope, headers):
                await _refuse(answer, scope, *refusal)
            else:
                await self._app(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - begun
            method, route = scope["method"], getattr(scope.get("route"), "path", "none")
            requests, duration = _counted(method, route, status)
            requests.inc()
            duration.observe(seconds)
            if route not in _QUIET and logger.isEnabledFor(logging.INFO):
                path = scope.get("raw_path", b"").decode("ascii", "replace")
                words = (method, path, status, seconds * 1000, request_id.decode())
                logger.info("%s %s %s %.1f ms %s", *words)


@functools.lru_cache(4096)
def _counted(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return (
        metrics.REQUESTS.labels(method, route, str(status)),
        metrics.DURATION.labels(method, route),
    )


def _refusal(scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
    """Return the answer to what is too large, or does not say how large it is."""
    if scope["method"] == "PUT" and "/files/" in scope["path"]:
        return None
    length = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers or not length.isdigit():
        return 411, "Length Required", "Send the header Content-Length."
    if int(length) > LARGEST:
        return 413, "Content Too Large", f"A request has at most {LARGEST} bytes."
    return None


async def _refuse(send: Send, scope: Scope, status: int, title: str, detail: str) -> None:
    body = ProblemBody(title=title, status=status, detail=detail, instance=scope["path"])
    content = body.model_dump_json(exclude_none=True).encode()
    headers: list[Any] = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
