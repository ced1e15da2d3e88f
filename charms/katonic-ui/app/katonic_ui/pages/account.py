"""Oneself: who one is, and where one is signed in."""

import asyncio

from starlette.responses import Response

from katonic_ui.visits import Visit, forget


async def account(visit: Visit) -> Response:
    """Answer with who is here."""
    _, count = await asyncio.gather(visit.me, visit.site.sessions.count(visit.session.identity.id))
    return await visit.page(
        "account.html", account_url=visit.site.provider.account_url, sessions=count
    )


async def sign_out_everywhere(visit: Visit) -> Response:
    """End every session, here and where people are signed in."""
    await visit.api.send("POST", "/v1/me/sign-out-everywhere")
    await visit.site.sessions.end_all(visit.session.identity.id)
    response = visit.go("/signed-out")
    forget(visit.site, response, "session")
    return response
