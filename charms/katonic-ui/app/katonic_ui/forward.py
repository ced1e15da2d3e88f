"""The gateway's question: may this request pass, and who makes it?"""

import hashlib
import json
import time
from collections.abc import Mapping
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from katonic_ui import metrics
from katonic_ui.problems import Away, Refused
from katonic_ui.site import Site
from katonic_ui.visits import cookie_name

PREFIX = "/forward-auth"
_KEPT = 3.0
"""Seconds for which a yes is remembered; a sign-out may take as long to be obeyed."""
_MOST = 10_000


class Decisions:
    """What the gateway is told, each yes remembered for a moment."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Mapping[str, str]]] = {}

    async def decide(self, request: Request) -> Response:
        """Answer 200 and who it is, or where to sign in, or that one must."""
        try:
            headers = await self._who(request)
        except Away as reason:
            metrics.DECISIONS.labels("away").inc()
            return _problem(503, reason.title, reason.detail, {"retry-after": "5"})
        if headers is not None:
            metrics.DECISIONS.labels("allowed").inc()
            return Response(headers=dict(headers))
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            metrics.DECISIONS.labels("redirected").inc()
            site: Site = request.app.state.site
            target = quote(_asked(request), safe="")
            return RedirectResponse(f"{site.settings.url}/sign-in?next={target}", 302)
        metrics.DECISIONS.labels("refused").inc()
        text = "Sign in, or send a valid bearer token."
        return _problem(401, "Unauthorized", text, {"www-authenticate": "Bearer"})

    async def _who(self, request: Request) -> Mapping[str, str] | None:
        site: Site = request.app.state.site
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        cookie = request.cookies.get(cookie_name(site, "session"), "")
        if not bearer and not cookie:
            return None
        key = hashlib.sha256(f"{bearer} {'' if bearer else cookie}".encode()).hexdigest()
        until, known = self._known.get(key, (0.0, None))
        if until > time.monotonic():
            return known
        if bearer:
            try:
                found = (await site.provider.identify(bearer)).headers
            except Refused:
                return None
        else:
            session = await site.sessions.find(cookie)
            if session is None:
                return None
            found = session.identity.headers
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = (time.monotonic() + _KEPT, found)
        return found


def _asked(request: Request) -> str:
    """Return the address that was asked for at the gateway, as it was written."""
    path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
    query = request.url.query
    return path.removeprefix(PREFIX) + (f"?{query}" if query else "")


def _problem(status: int, title: str, detail: str, headers: Mapping[str, str]) -> Response:
    body = json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
    return Response(body, status, dict(headers), "application/problem+json")
