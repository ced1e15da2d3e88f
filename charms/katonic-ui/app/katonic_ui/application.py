"""The pages as an ASGI application: what answers which address, and what holds for all of it."""

import contextlib
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from katonic_ui import metrics
from katonic_ui.forward import PREFIX, Decisions
from katonic_ui.pages import (
    account,
    administration,
    experiments,
    files,
    home,
    members,
    organizations,
    project,
    projects,
    sign_in,
)
from katonic_ui.problems import SENTENCES, Away, Problem, SignedOut
from katonic_ui.settings import Settings
from katonic_ui.site import Site
from katonic_ui.visits import action, local, page, show

logger = logging.getLogger(__name__)
_ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_WORD = re.compile(r"[\w.-]{1,64}")


def _routes(site: Site) -> list[Route]:
    def get(path: str, endpoint: Any) -> Route:
        return Route(path, endpoint, methods=["GET"])

    def post(path: str, endpoint: Any) -> Route:
        return Route(path, endpoint, methods=["POST"])

    one, organization = "/projects/{project}", "/administration/organizations/{organization}"
    user = "/administration/users/{user}"
    return [
        get("/", page(home.home)),
        get("/parts/services", page(home.services, used=False)),
        get("/projects", page(projects.listing)),
        post("/projects", action(projects.create)),
        get("/projects/new", page(projects.new)),
        get(one, page(project.overview)),
        get(f"{one}/delete", page(project.ask_delete)),
        post(f"{one}/delete", action(project.delete)),
        get(f"{one}/settings", page(project.settings)),
        post(f"{one}/settings", action(project.update)),
        get(f"{one}/experiments", page(experiments.experiments)),
        post(f"{one}/experiments", action(experiments.create)),
        get(f"{one}/files", page(files.files)),
        get(f"{one}/files/delete", page(files.ask_delete)),
        post(f"{one}/files/delete", action(files.delete)),
        get(f"{one}/content/{{path:path}}", page(files.download)),
        Route(f"{one}/content/{{path:path}}", action(files.upload), methods=["PUT"]),
        get(f"{one}/members", page(members.members)),
        post(f"{one}/members", action(members.invite)),
        post(f"{one}/members/{{user}}", action(members.change)),
        get(f"{one}/members/{{user}}/remove", page(members.ask_remove)),
        post(f"{one}/members/{{user}}/remove", action(members.remove)),
        get("/administration", page(administration.front)),
        get("/administration/users", page(administration.users)),
        post(user, action(administration.update_user)),
        get(f"{user}/deactivate", page(administration.ask_deactivate)),
        get("/administration/organizations", page(organizations.listing)),
        post("/administration/organizations", action(organizations.create)),
        get(organization, page(organizations.organization)),
        post(organization, action(organizations.update)),
        get(f"{organization}/delete", page(organizations.ask_delete)),
        post(f"{organization}/delete", action(organizations.delete)),
        post(f"{organization}/members", action(organizations.add_member)),
        post(f"{organization}/members/{{user}}", action(organizations.change_member)),
        get(f"{organization}/members/{{user}}/remove", page(organizations.ask_remove)),
        post(f"{organization}/members/{{user}}/remove", action(organizations.remove_member)),
        get("/administration/services", page(administration.services)),
        get("/administration/audit", page(administration.audit)),
        get("/account", page(account.account)),
        post("/account/sign-out-everywhere", action(account.sign_out_everywhere)),
        get("/sign-in", sign_in.sign_in),
        get("/session/callback", sign_in.callback),
        post("/sign-out", action(sign_in.sign_out)),
        get("/signed-out", sign_in.signed_out),
        post("/theme", sign_in.theme),
        get("/static/{name}", site.assets.serve),
        get("/ready", _ready),
        Route(f"{PREFIX}{{path:path}}", Decisions().decide, methods=_ANY),
    ]


def application(settings: Settings, **outside: Any) -> "Manners":
    """Return the application; `outside` is what Site takes to reach what is outside."""
    site = Site(settings, **outside)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with site.open():
            yield

    app = Starlette(
        routes=_routes(site),
        lifespan=lifespan,
        exception_handlers={
            SignedOut: _signed_out,
            Problem: _problem,
            Away: _away,
            HTTPException: _nothing,
            Exception: _broken,
        },
    )
    app.state.site = site
    return Manners(app, site)


class Manners:
    """What holds for every answer: its request's id, its headers, and that it is counted."""

    def __init__(self, app: Starlette, site: Site) -> None:
        self.site, openid = site, site.settings.openid
        action = f"'self' {openid.origin}" if openid else "'self'"
        self._app = app
        self._paths: dict[Any, str] = {
            it.endpoint: it.path for it in app.routes if isinstance(it, Route)
        }
        self._headers = {
            "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
            " img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none';"
            f" form-action {action}",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
        }
        if site.settings.secure:
            self._headers["cross-origin-opener-policy"] = "same-origin"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its answer back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = Request(scope).headers.get("x-request-id", "")
        identifier = given if _WORD.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["id"] = identifier

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers["x-request-id"] = identifier
                route = self._paths.get(scope.get("endpoint"), "none")
                labels = (route, scope["method"], str(message["status"]))
                metrics.REQUESTS.labels(*labels).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, answer)


async def _ready(request: Request) -> Response:
    """Answer whether more requests are welcome; a page that says what lacks is one, too."""
    if request.app.state.site.draining:
        return PlainTextResponse("it is about to stop", 503)
    return PlainTextResponse("ready")


async def _signed_out(request: Request, _: Exception) -> Response:
    """Lead to the sign-in; who is in the midst of a page is told, and not carried away."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if "hx-request" in request.headers:
        here = urlsplit(request.headers.get("hx-current-url", "/"))
        asked = here.path + (f"?{here.query}" if here.query else "")
    elif request.method == "GET":
        return Response(status_code=302, headers={"location": _sign_in(asked)})
    else:
        asked = urlsplit(request.headers.get("referer", "/")).path
    text = "Your session has ended. Sign in again to go on."
    return _told(request, 401, "You are signed out", text, [(_sign_in(asked), "Sign in")])


async def _problem(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, Problem)
    metrics.ERRORS.labels(str(reason.status)).inc()
    return _told(request, reason.status, reason.title, reason.detail)


async def _away(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, Away)
    metrics.ERRORS.labels(type(reason).__name__).inc()
    again = request.url.path if request.method == "GET" else "/"
    return _told(request, 503, reason.title, reason.detail, [(again, "Try again")])


async def _nothing(request: Request, reason: Exception) -> Response:
    assert isinstance(reason, HTTPException)
    heading, detail = SENTENCES.get(reason.status_code, SENTENCES[404])
    return _told(request, reason.status_code, heading, detail)


async def _broken(request: Request, reason: Exception) -> Response:
    metrics.ERRORS.labels("500").inc()
    logger.error("request %s: %s %s", request.state.id, request.method, request.url.path)
    return _told(request, 500, *SENTENCES[500])


def _told(
    request: Request,
    status: int,
    heading: str,
    detail: str,
    ways: list[tuple[str, str]] | None = None,
) -> Response:
    """Return an error as a page, or as what stands in a page in the place of a part of it."""
    part = "hx-request" in request.headers
    response = show(
        request.app.state.site,
        request,
        "trouble.html" if part else "error.html",
        status,
        heading=heading,
        detail=detail,
        ways=ways if ways is not None else [] if part else [("/", "Home")],
    )
    if part:
        response.headers["hx-retarget"] = "#notices"
        response.headers["hx-reswap"] = "innerHTML"
    if status == 503:
        response.headers["retry-after"] = "10"
    return response


def _sign_in(asked: str) -> str:
    return f"/sign-in?next={quote(local(asked), safe='')}"
