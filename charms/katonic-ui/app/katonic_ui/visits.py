"""One request of somebody who is signed in: who it is, what to ask for them, what to show."""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.fernet import InvalidToken
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from katonic_ui.api import Api
from katonic_ui.problems import Problem, SignedOut
from katonic_ui.sessions import Session
from katonic_ui.site import Site

NOTICE = "notice"
_LONGEST_FORM = 64 * 1024


class Visit:
    """One request of somebody who is signed in."""

    def __init__(self, request: Request, site: Site, session: Session, cookie: str) -> None:
        self.request, self.site, self.session, self._cookie = request, site, session, cookie
        self.form: dict[str, str] = {}
        self.api = Api(site.api, session.grant.access_token, request.state.id, self._renew)

    @cached_property
    def me(self) -> "asyncio.Task[Any]":
        """Return what the API says of who is here, asked once."""
        return asyncio.create_task(self.api.get("/v1/me"))

    @property
    def target(self) -> str:
        """Return the element of the page that this answer is for, or "" for the whole of it."""
        return self.request.headers.get("hx-target", "")

    def text(self, name: str) -> str:
        """Return what a form's field holds, without the space around it."""
        return self.form.get(name, "").strip()

    def asked(self, name: str, default: str = "") -> str:
        """Return what the address asks for."""
        return self.request.query_params.get(name, default)

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a whole page."""
        cookie = self.request.cookies.get(cookie_name(self.site, NOTICE), "")
        notice = opened(self.site, cookie).get("text", "") if cookie else ""
        response = show(
            self.site,
            self.request,
            template,
            status,
            me=await self.me,
            csrf=self.session.csrf,
            notice=notice,
            **values,
        )
        if cookie:
            forget(self.site, response, NOTICE)
        return response

    def part(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return a part of a page."""
        values = {"csrf": self.session.csrf, **values}
        return show(self.site, self.request, template, status, **values)

    async def confirm(self, **values: Any) -> Response:
        """Return a question with two answers: in the page's dialog, or as a page of its own."""
        values = {"typed": "", "values": {}, "problem": None, **values}
        status = values["problem"].status if values["problem"] else 200
        if self.target == "dialog":
            return self.part("confirm.html", status, layout="dialog.html", **values)
        return await self.page("confirm.html", status, layout="page.html", **values)

    def go(self, path: str, notice: str = "") -> Response:
        """Return what leads the browser on, where the notice is shown once."""
        response = RedirectResponse(path, 303)
        if notice:
            keep(self.site, response, NOTICE, sealed(self.site, text=notice), 60)
        return response

    def close(self) -> None:
        """Let go of what has been asked for and was not needed in the end."""
        if task := vars(self).get("me"):
            task.cancel()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _renew(self) -> str | None:
        session = await self.site.sessions.renew(self.session, self._cookie)
        if session is None:
            return None
        self.session = session
        return session.grant.access_token


Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def page(handler: Handler, used: bool = True) -> Endpoint:
    """Return what answers somebody who is signed in; `used` counts as their doing."""

    async def endpoint(request: Request) -> Response:
        came = await visit(request, used)
        try:
            return await handler(came)
        finally:
            came.close()

    return endpoint


def action(handler: Handler) -> Endpoint:
    """Return what changes something for somebody who is signed in and meant to."""

    async def endpoint(request: Request) -> Response:
        came = await visit(request)
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            came.form = await _form(request)
        _meant(came)
        try:
            return await handler(came)
        finally:
            came.close()

    return endpoint


async def visit(request: Request, used: bool = True) -> Visit:
    """Return the visit that a request is.

    Raises:
        SignedOut: Nobody is signed in.
        Away: That cannot be known now.
    """
    site: Site = request.app.state.site
    cookie = request.cookies.get(cookie_name(site, "session"), "")
    session = await site.sessions.find(cookie, used) if cookie else None
    if session is None:
        raise SignedOut
    request.state.csrf = session.csrf
    return Visit(request, site, session, cookie)


def show(
    site: Site, request: Request, template: str, status: int = 200, **values: Any
) -> Response:
    """Return a template filled in."""
    known = {"path": request.url.path, "request_id": request.state.id, "theme": theme(request)}
    shown = site.templates.get_template(template).render({**known, **values})
    return HTMLResponse(shown, status, headers={"cache-control": "no-store"})


def theme(request: Request) -> str:
    """Return "light", "dark", or "auto" for what the device says."""
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in ("light", "dark") else "auto"


def cookie_name(site: Site, name: str) -> str:
    """Return a cookie's name; browsers let none but this host set one that begins so."""
    return f"__Host-{name}" if site.settings.secure else name


def keep(site: Site, response: Response, name: str, value: str, seconds: int | None) -> None:
    """Give the browser a cookie that no script sees and no other site brings."""
    response.set_cookie(
        cookie_name(site, name),
        value,
        max_age=seconds,
        path="/",
        secure=site.settings.secure,
        httponly=True,
        samesite="lax",
    )


def forget(site: Site, response: Response, name: str) -> None:
    """Take a cookie away."""
    keep(site, response, name, "", 0)


def sealed(site: Site, **values: str) -> str:
    """Return values as only these pages can read them."""
    return site.seal.encrypt(json.dumps(values).encode()).decode()


def opened(site: Site, text: str, seconds: int = 600) -> dict[str, str]:
    """Return what was sealed within so many seconds; nothing of what was not."""
    try:
        return json.loads(site.seal.decrypt(text, ttl=seconds))
    except (InvalidToken, UnicodeError):
        return {}


def local(path: str) -> str:
    """Return a path of these pages, or "/" for what leads anywhere else."""
    plain = path.startswith("/") and not path.startswith("//") and "\\" not in path
    if not plain or not path.isprintable() or urlsplit(path).netloc:
        return "/"
    return "/" if path.startswith(("/sign-in", "/session/", "/sign-out")) else path


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_FORM:
            raise Problem(413)
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _meant(visit: Visit) -> None:
    """Raise a Problem unless the request comes from these pages: by its origin and its token."""
    headers, site = visit.request.headers, visit.site
    origin, fetched = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    token = visit.form.get("csrf") or headers.get("x-csrf-token", "")
    same = origin in (None, site.settings.origin) and fetched in ("same-origin", "none")
    if not same or not hmac.compare_digest(token.encode(), visit.session.csrf.encode()):
        raise Problem(403, "This form is no longer valid. Open the page again and repeat it.")
