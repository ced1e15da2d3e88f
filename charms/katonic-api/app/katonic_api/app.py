"""The application: its routes, its errors, its OpenAPI document."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from . import __doc__ as description
from . import __version__, problems
from .answers import Shortcut
from .backend import running
from .edge import Edge
from .problems import ProblemBody, declared
from .routers import (
    audit,
    experiments,
    files,
    me,
    organizations,
    projects,
    services,
    system,
    users,
)
from .settings import Settings

_ROUTERS = (me, organizations, projects, experiments, files, users, services, audit, system)
_HEADERS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("ETag", "What it is now, for If-Match and If-None-Match."),
        ("Retry-After", "Seconds after which to try again."),
    )
}


Lingering = Callable[[asyncio.Event], contextlib.AbstractContextManager[None]]


def create(
    settings: Settings,
    lingering: Lingering = contextlib.nullcontext,
    outside: httpx2.AsyncBaseTransport | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        settings: How it is to run.
        lingering: Entered with what it sets once the server is about to end.
        outside: How other servers are reached; by the network when None.
    """
    leaving = asyncio.Event()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with lingering(leaving):
            async with running(settings, outside) as backend:
                app.state.backend = backend
                yield

    app = FastAPI(
        title="Katonic API",
        version=__version__,
        description=description or "",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.leaving = leaving
    app.add_middleware(Shortcut, state=app.state)
    app.add_middleware(Edge, leaving=leaving)
    for it in _ROUTERS:
        app.include_router(it.router)
    problems.install(app)
    app.openapi = functools.partial(document, app)
    return app


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with what holds for every path."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = made["components"]
    components["schemas"][ProblemBody.__name__] = ProblemBody.model_json_schema(
        ref_template="#/components/schemas/{model}"
    )
    components["schemas"] |= components["schemas"][ProblemBody.__name__].pop("$defs", {})
    components["schemas"].pop("HTTPValidationError", None)
    components["schemas"].pop("ValidationError", None)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/v1/"):
                _complete(method, operation)
    app.openapi_schema = made
    return made


def _complete(method: str, operation: dict[str, Any]) -> None:
    """Declare what every path of the API answers besides."""
    operation["security"] = [{"token": []}]
    answers = operation["responses"]
    if method == "get":
        answers.pop("422", None)
    codes = [401, 403, 405, 422, 503]
    if "requestBody" in operation:
        codes += [400, 411, 413]
    for code, it in declared(*codes).items():
        answers[str(code)] = it
    for code, it in answers.items():
        if code in ("200", "201", "304") and "application/json" in it.get("content", {}):
            it["headers"] = {"ETag": _HEADERS["ETag"]}
        if code == "503":
            it["headers"] = {"Retry-After": _HEADERS["Retry-After"]}
