"""Answers by HTTP: what the watcher sees, and what its follower has heard."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import metrics
from .drain import drain
from .watch import Watcher

_LONGEST = 60.0
"""Seconds that a request may wait for news at most."""


class Site:
    """What a watcher says.

    /health      200 once all has been seen
    /verdict     the verdict; `?after=DIGEST&wait=SECONDS` waits for another one
    /drain       `?node=NAME`: what would not fit elsewhere if the node went
    /metrics     Prometheus' text
    """

    def __init__(self, watcher: Watcher, calls: Mapping[tuple[str, int], int]) -> None:
        self._watcher = watcher
        self._calls = calls

    @property
    def application(self) -> Starlette:
        """Return it as an ASGI application."""
        answers = (self.health, self.verdict, self.drain, self.metrics)
        return Starlette(routes=[Route(f"/{it.__name__}", it) for it in answers])

    async def health(self, _: Request) -> Response:
        """Answer whether all has been seen."""
        return PlainTextResponse("ok\n") if self._watcher.verdict else self._not_yet()

    async def verdict(self, request: Request) -> Response:
        """Answer with the verdict."""
        after = request.query_params.get("after", "")
        try:
            seconds = min(float(request.query_params.get("wait", "0")), _LONGEST)
        except ValueError:
            return PlainTextResponse("wait: expected seconds\n", 400)
        if after and seconds > 0:
            await self._watcher.wait(after, seconds)
        verdict = self._watcher.verdict
        return json(verdict) if verdict else self._not_yet()

    async def drain(self, request: Request) -> Response:
        """Answer with what would become of a node's pods."""
        node = request.query_params.get("node", "")
        if self._watcher.verdict is None:
            return self._not_yet()
        found = drain(self._watcher.view.cluster(), node)
        return json(found) if found else PlainTextResponse(f"there is no node {node}\n", 404)

    async def metrics(self, _: Request) -> Response:
        """Answer with the metrics."""
        counts = {
            "mends_total": self._watcher.mender.mends,
            "errors_total": self._watcher.work.errors,
            "watch_restarts_total": self._watcher.restarts,
        }
        return PlainTextResponse(metrics.text(self._watcher.verdict, self._calls, counts))

    def _not_yet(self) -> Response:
        why = f"kubernetes: {self._watcher.silent}" if self._watcher.silent else "looking around"
        return PlainTextResponse(f"{why}\n", 503)


def json(it: msgspec.Struct) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(it), media_type="application/json")


async def serve(application: Starlette, port: int) -> None:
    """Answer on all addresses, until the process is told to end.

    Raises:
        OSError: Another listens there.
    """
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with socket.create_server(("", port), family=family, dualstack_ipv6=both) as listening:
        await uvicorn.Server(config).serve([listening])
