"""What administrators see: users, services and the audit log."""

import asyncio

from starlette.responses import Response

from katonic_ui.pages.home import services_of
from katonic_ui.problems import Problem
from katonic_ui.visits import Visit

_USERS = "/administration/users"


async def users(visit: Visit) -> Response:
    """Answer with the users who have signed in."""
    query = {it: visit.asked(it) for it in ("q", "active", "cursor")}
    me, found = await asyncio.gather(visit.me, visit.api.get("/v1/users", limit=50, **query))
    values = {
        "users": found,
        "query": query,
        "own": me["id"],
        "may_update": "user.update" in me["permissions"],
    }
    if visit.target == "list":
        return visit.part("users_part.html", **values)
    return await visit.page("users.html", part="Users", **values)


async def ask_deactivate(visit: Visit) -> Response:
    """Ask whether a user is to be locked out."""
    identifier = visit.request.path_params["user"]
    user = await visit.api.get(f"/v1/users/{identifier}")
    return await visit.confirm(
        heading=f"Deactivate {user['username']}?",
        detail="They are signed out, and cannot sign in until you reactivate them. What is theirs"
        " stays.",
        action=f"{_USERS}/{identifier}",
        yes="Deactivate",
        back=_USERS,
        values={"active": "false"},
    )


async def update_user(visit: Visit) -> Response:
    """Lock a user out, or let them in again."""
    active = visit.text("active") == "true"
    identifier = visit.request.path_params["user"]
    user = await visit.api.send("PATCH", f"/v1/users/{identifier}", {"active": active})
    if not active:
        await visit.site.sessions.end_all(identifier)
    done = "reactivated" if active else "deactivated"
    return visit.go(_USERS, f"{user['username']} is {done}.")


async def services(visit: Visit) -> Response:
    """Answer with how the services are."""
    _, found = await asyncio.gather(visit.me, services_of(visit))
    return await visit.page("services.html", part="Services", **found)


async def audit(visit: Visit) -> Response:
    """Answer with what has been done."""
    query = {it: visit.asked(it) for it in ("actor", "action", "organization", "cursor")}
    _, found = await asyncio.gather(visit.me, visit.api.get("/v1/audit", limit=50, **query))
    return await visit.page("audit.html", part="Audit", audit=found, query=query)


async def front(visit: Visit) -> Response:
    """Lead to the first of the pages that this person may see."""
    me = await visit.me
    able = "user.list" in me["permissions"]
    if not able and not any(it["role"] == "admin" for it in me["organizations"]):
        raise Problem(403)
    return visit.go(_USERS)
