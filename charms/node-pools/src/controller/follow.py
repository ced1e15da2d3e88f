"""Follows a watcher from a charm's own pod: keeps what it says, and wakes the charm."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import httpx2
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import failures

log = logging.getLogger(__name__)

BELL = ("/charm/bin/pebble", "notify", "katonic.dev/verdict")
_WAIT = 30
_PAUSE = 1.0
"""Seconds between two tries to reach the watcher, or to ring."""


class _Digest(msgspec.Struct):
    digest: str


class Follower:
    """Follows the watcher at a URL.

    /ready       200 while the watcher answers, else why not
    /verdict     the last verdict, while the watcher answers
    /drain, /metrics     the watcher's own
    """

    def __init__(self, client: httpx2.AsyncClient, bell: Sequence[str] = BELL) -> None:
        self._client = client
        self._bell = bell
        self._verdict = b""
        self._trouble = "the watcher has not answered yet"
        self._ring = asyncio.Event()

    @property
    def application(self) -> Starlette:
        """Return it as an ASGI application."""
        answers = (self.ready, self.verdict, self.drain, self.metrics)
        return Starlette(routes=[Route(f"/{it.__name__}", it) for it in answers])

    async def run(self) -> None:
        """Follow, and ring the bell for what is new, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._wake())

    async def ready(self, _: Request) -> Response:
        """Answer whether the watcher answers."""
        return self._refusal() if self._trouble else PlainTextResponse("ok\n")

    async def verdict(self, _: Request) -> Response:
        """Answer with the last verdict."""
        if self._trouble:
            return self._refusal()
        return Response(self._verdict, media_type="application/json")

    async def drain(self, request: Request) -> Response:
        """Pass on what would become of a node's pods."""
        return await self._pass_on("/drain", request)

    async def metrics(self, request: Request) -> Response:
        """Pass on the watcher's metrics."""
        return await self._pass_on("/metrics", request)

    async def _follow(self) -> None:
        digest = ""
        while True:
            try:
                # The first question after a silence is answered at once.
                after = {} if self._trouble else {"after": digest, "wait": str(_WAIT)}
                answer = await self._client.get("/verdict", params=after, timeout=_WAIT + 10)
                if answer.status_code != 200:
                    raise ConnectionError(answer.text)
                said = msgspec.json.decode(answer.content, type=_Digest).digest
            except (httpx2.HTTPError, msgspec.MsgspecError, OSError) as error:
                if not self._trouble:
                    self._ring.set()
                self._hear(f"the watcher does not answer: {failures.line(error)}")
                await asyncio.sleep(_PAUSE)
                continue
            if self._trouble or said != digest:
                self._ring.set()
            digest, self._verdict = said, answer.content
            self._hear("")

    def _hear(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.info("%s", trouble or "the watcher answers")
        self._trouble = trouble

    async def _wake(self) -> None:
        """Ring for each thing that is new; what comes while it rings is rung for once."""
        while True:
            await self._ring.wait()
            self._ring.clear()
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._bell,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )
                said, _ = await process.communicate()
                if process.returncode:
                    raise OSError(said.decode(errors="replace") or process.returncode)
            except OSError as error:
                log.warning("%s: %s", self._bell[0], failures.line(error))
                self._ring.set()
                await asyncio.sleep(_PAUSE)

    async def _pass_on(self, path: str, request: Request) -> Response:
        try:
            answer = await self._client.get(path, params=request.query_params, timeout=10)
        except httpx2.HTTPError as error:
            said = failures.line(error)
            return PlainTextResponse(f"the watcher does not answer: {said}\n", 503)
        kind = answer.headers.get("content-type", "text/plain")
        return Response(answer.content, answer.status_code, media_type=kind)

    def _refusal(self) -> Response:
        return PlainTextResponse(f"{self._trouble}\n", 503)
