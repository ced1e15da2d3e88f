"""Where one arrives: one's projects, the services, and what has happened."""

import asyncio
from typing import Any

from starlette.responses import Response

from katonic_ui.problems import Away, Problem
from katonic_ui.visits import Visit

_LOOKED_AT, _SHOWN, _ENTRIES = 50, 6, 10


async def home(visit: Visit) -> Response:
    """Answer with the page."""
    api = visit.api
    me, projects, services = await asyncio.gather(
        visit.me, api.get("/v1/projects", sort="-updated", limit=_LOOKED_AT), services_of(visit)
    )
    mine = [it for it in projects["items"] if it["my_role"]][:_SHOWN]
    entries = await _entries(visit, me, mine)
    return await visit.page(
        "home.html", projects=mine, total=projects["total"], entries=entries, **services
    )


async def services(visit: Visit) -> Response:
    """Answer with the tiles, for which the page asks again and again."""
    return visit.part("services_part.html", **await services_of(visit))


async def services_of(visit: Visit) -> dict[str, Any]:
    """Return the services, or what is the trouble with them: no reason to show nothing at all."""
    try:
        found = await visit.api.get("/v1/services", limit=200)
    except (Problem, Away) as reason:
        return {"services": [], "services_away": reason.detail}
    return {"services": found["items"], "services_away": ""}


async def _entries(visit: Visit, me: Any, projects: list[Any]) -> list[Any]:
    """Return the latest of the audit log that this person may see."""
    admin = "audit.read" in me["permissions"]
    if admin or any(it["role"] == "admin" for it in me["organizations"]):
        return (await visit.api.get("/v1/audit", limit=_ENTRIES))["items"]
    readable = [it["id"] for it in projects if "audit.read" in it["permissions"]]
    asked = (visit.api.get("/v1/audit", project=it, limit=_ENTRIES) for it in readable)
    found = [entry for it in await asyncio.gather(*asked) for entry in it["items"]]
    return sorted(found, key=lambda it: it["time"], reverse=True)[:_ENTRIES]
