"""How one gets in and out."""

import secrets
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from katonic_ui import metrics
from katonic_ui.problems import Away, Problem, Refused
from katonic_ui.site import Site
from katonic_ui.visits import (
    Visit,
    cookie_name,
    forget,
    keep,
    local,
    opened,
    sealed,
    show,
)

_PENDING = 600
"""Seconds in which one signs in once one has been sent to do so."""


async def sign_in(request: Request) -> Response:
    """Lead to who signs people in, and remember where they wanted to go."""
    site: Site = request.app.state.site
    provider, target = site.provider, local(request.query_params.get("next", "/"))
    cookie = request.cookies.get(cookie_name(site, "session"), "")
    if cookie and await site.sessions.find(cookie):
        return RedirectResponse(target, 302)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    response = RedirectResponse(provider.sign_in_url(state, nonce, verifier), 302)
    value = sealed(site, state=state, nonce=nonce, verifier=verifier, next=target)
    keep(site, response, _pending(state), value, _PENDING)
    return response


async def callback(request: Request) -> Response:
    """Let in who comes back with a code that this browser has been sent for."""
    site: Site = request.app.state.site
    provider, asked = site.provider, request.query_params
    name = _pending(asked.get("state", ""))
    began = opened(site, request.cookies.get(cookie_name(site, name), ""), _PENDING)
    if not began or not secrets.compare_digest(began["state"].encode(), asked["state"].encode()):
        return _failed(request, 400, "This sign-in is over", _OVER, "expired")
    if "code" not in asked:
        words = asked.get("error_description") or "You have not been let in."
        return _failed(request, 403, "You are not signed in", words, "refused", began["next"])
    try:
        grant = await provider.exchange(asked["code"], began["nonce"], began["verifier"])
    except Refused:
        return _failed(request, 400, "This sign-in is over", _OVER, "refused", began["next"])
    except Away:
        metrics.SIGN_INS.labels("away").inc()
        raise
    if before := request.cookies.get(cookie_name(site, "session")):
        await site.sessions.end(before)
    response = RedirectResponse(began["next"], 302)
    keep(site, response, "session", await site.sessions.start(grant), None)
    forget(site, response, name)
    metrics.SIGN_INS.labels("done").inc()
    return response


async def sign_out(visit: Visit) -> Response:
    """End this browser's session, here and where people are signed in."""
    site = visit.site
    await site.sessions.end(visit.request.cookies[cookie_name(site, "session")])
    url = site.provider.sign_out_url(visit.session.grant.id_token)
    response = RedirectResponse(url, 303)
    forget(site, response, "session")
    return response


async def signed_out(request: Request) -> Response:
    """Answer that nobody is signed in any more."""
    return show(request.app.state.site, request, "signed_out.html")


async def theme(request: Request) -> Response:
    """Remember light or dark, and lead back; it is nobody's secret and needs no session."""
    site: Site = request.app.state.site
    if request.headers.get("origin") not in (None, site.settings.origin):
        raise Problem(403)
    chosen = (await request.body()).decode(errors="replace").rpartition("theme=")[2][:5]
    referrer = request.headers.get("referer", "")
    back = referrer.removeprefix(site.settings.origin) if referrer else "/"
    response = RedirectResponse(local(back), 303)
    response.set_cookie(
        "theme", chosen, max_age=31536000, secure=site.settings.secure, samesite="lax"
    )
    return response


_OVER = "It took too long, or it has been used already. Nothing is wrong with your account."


def _pending(state: str) -> str:
    """Return the name of a sign-in's cookie: one for each, as there may be several at a time."""
    return f"sign-in-{state[:8]}" if state.replace("-", "").replace("_", "").isalnum() else "none"


def _failed(
    request: Request, status: int, heading: str, detail: str, outcome: str, target: str = "/"
) -> Response:
    metrics.SIGN_INS.labels(outcome).inc()
    ways = [(f"/sign-in?next={quote(target, safe='')}", "Sign in again")]
    return show(
        request.app.state.site,
        request,
        "error.html",
        status,
        heading=heading,
        detail=detail,
        ways=ways,
    )
