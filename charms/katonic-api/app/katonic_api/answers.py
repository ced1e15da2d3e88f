"""Answers as bytes with their ETags, made once for as long as they are true."""

import hashlib
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Request
from pydantic import BaseModel
from pymongo.errors import PyMongoError
from starlette.datastructures import Headers, State
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .backend import Backend
from .callers import Caller, identify
from .problems import Problem

JSON = "application/json"
_PREFIX = "/v1/"
_LONGEST = 500
"""Letters of a request's path and query whose answer is kept."""

IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="The ETag of what is to be changed, or *; else 428."),
]
IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="ETags that need no answer but 304."),
]

Made = Callable[[], Coroutine[Any, Any, tuple[BaseModel, int | None]]]
"""Makes an answer: what it says, and the version of the entity that it is about, if of one."""


def answer(body: BaseModel, version: int | None = None, status: int = 200) -> Response:
    """Return an answer with its ETag."""
    content = body.model_dump_json().encode()
    return Response(content, status, {"ETag": _etag(content, version)}, JSON)


async def kept(request: Request, backend: Backend, caller: Caller, make: Made) -> Response:
    """Return the answer to a GET, made anew only if anything has changed since it was made."""

    async def made() -> Kept:
        body, version = await make()
        content = body.model_dump_json().encode()
        return Kept(content, _etag(content, version), request.scope["route"])

    key = _key(request.scope, caller)
    found = await (backend.freshness.get(key, caller.revision, made) if key else made())
    return found.response(request.headers.get("if-none-match"))


@dataclass(frozen=True)
class Kept:
    """An answer as it goes out, and the route that it is of."""

    content: bytes
    etag: str
    route: Any

    def __len__(self) -> int:
        return len(self.content)

    def response(self, known: str | None) -> Response:
        """Return it, or that it is what one who asks knows."""
        if known and (known == "*" or self.etag in _tags(known)):
            return Response(None, 304, {"ETag": self.etag})
        return Response(self.content, 200, {"ETag": self.etag}, JSON)


class Shortcut:
    """Answers what is kept before anything else looks at the request: most of what a page asks.

    What it does not know, and whatever is wrong, is for the application.
    """

    def __init__(self, app: ASGIApp, state: State) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        app = self._app
        if scope["type"] == "http" and scope["method"] == "GET" and _PREFIX in scope["path"]:
            app = await self._kept(scope) or app
        await app(scope, receive, send)

    async def _kept(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        backend: Backend = self._state.backend
        try:
            caller = await identify(backend, headers.get("authorization", ""))
        except (Problem, PyMongoError):
            return None
        found: Kept | None = backend.freshness.known(_key(scope, caller), caller.revision)
        if found is None:
            return None
        scope["route"] = found.route
        return found.response(headers.get("if-none-match"))


def _key(scope: Scope, caller: Caller) -> Hashable:
    """Return what an answer is kept under; None when it is not worth it."""
    path, query = scope["path"], scope["query_string"]
    if len(path) + len(query) > _LONGEST:
        return None
    return path, query, caller.user.id, caller.platform_admin


def check_match(given: str | None, version: int) -> None:
    """Let pass who changes what they have seen.

    Raises:
        Problem: 428, they do not say what they have seen; 412, it is another by now.
    """
    if given is None:
        raise Problem(428, "Send the header If-Match with the ETag of what you change.")
    if given != "*" and all(not it.startswith(f'"{version}-') for it in _tags(given)):
        raise changed()


def changed() -> Problem:
    """Return the answer to who changes what is another by now."""
    return Problem(412, "It has been changed in the meantime: read it again.")


def _etag(content: bytes, version: int | None) -> str:
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f'"{digest}"' if version is None else f'"{version}-{digest}"'


def _tags(given: str) -> list[str]:
    return [it.strip().removeprefix("W/") for it in given.split(",")]
