"""Organizations, which own projects, and who is in them."""

import asyncio
import secrets
from typing import Any

from starlette.responses import Response

from katonic_ui.pages.projects import MENDABLE
from katonic_ui.problems import Problem
from katonic_ui.visits import Visit

_HERE = "/administration/organizations"


async def listing(visit: Visit) -> Response:
    """Answer with those that this person sees."""
    return await _listing(visit, {"name": "", "description": ""})


async def create(visit: Visit) -> Response:
    """Create one, and lead to it."""
    body = {"name": visit.text("name"), "description": visit.text("description")}
    try:
        once = visit.text("once") or None
        made = await visit.api.send("POST", "/v1/organizations", body, idempotency_key=once)
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _listing(visit, body, problem)
    return visit.go(f"{_HERE}/{made['id']}", f"The organization {made['name']} is there.")


async def organization(visit: Visit) -> Response:
    """Answer with one of them."""
    return await _organization(visit)


async def update(visit: Visit) -> Response:
    """Change it, unless somebody else has done so since the form was shown."""
    values = {"description": visit.text("description")}
    try:
        await visit.api.send("PATCH", _base(visit), values, if_match=visit.text("etag"))
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _organization(visit, problem, values=values)
    return visit.go(_here(visit), "The settings are saved.")


async def ask_delete(visit: Visit) -> Response:
    """Ask whether it is to be deleted."""
    found = await visit.api.get(_base(visit))
    return await visit.confirm(
        heading=f"Delete {found['name']}?",
        detail="Its members lose it. This cannot be undone.",
        action=f"{_here(visit)}/delete",
        yes="Delete the organization",
        back=_here(visit),
    )


async def delete(visit: Visit) -> Response:
    """Delete it."""
    found, etag = await visit.api.read(_base(visit))
    try:
        await visit.api.send("DELETE", _base(visit), if_match=etag)
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _organization(visit, problem)
    return visit.go(_HERE, f"The organization {found['name']} is deleted.")


async def add_member(visit: Visit) -> Response:
    """Make somebody a member."""
    wanted, role = visit.text("user"), visit.text("role")
    try:
        await visit.api.send("POST", f"{_base(visit)}/members", {"user": wanted, "role": role})
    except Problem as problem:
        if problem.status not in (*MENDABLE, 404):
            raise
        return await _organization(visit, problem, user=wanted)
    return visit.go(_here(visit), f"{wanted} is a member now, as {role}.")


async def change_member(visit: Visit) -> Response:
    """Give a member another role."""
    try:
        await visit.api.send("PUT", _member(visit), {"role": visit.text("role")})
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _organization(visit, problem)
    return visit.go(_here(visit), f"The role is {visit.text('role')} now.")


async def ask_remove(visit: Visit) -> Response:
    """Ask whether somebody is to go."""
    found = await visit.api.get(f"{_base(visit)}/members", limit=200)
    wanted = visit.request.path_params["user"]
    user = next((it["user"] for it in found["items"] if it["user"]["id"] == wanted), None)
    if user is None:
        raise Problem(404)
    return await visit.confirm(
        heading=f"Remove {user['username']}?",
        detail="They lose the organization at once, and no project of their own.",
        action=visit.request.url.path,
        yes="Remove",
        back=_here(visit),
    )


async def remove_member(visit: Visit) -> Response:
    """Let a member go."""
    try:
        await visit.api.send("DELETE", _member(visit))
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _organization(visit, problem)
    return visit.go(_here(visit), "The member is removed.")


async def _listing(
    visit: Visit, values: dict[str, str], problem: Problem | None = None
) -> Response:
    query = {"cursor": visit.asked("cursor")}
    _, found = await asyncio.gather(visit.me, visit.api.get("/v1/organizations", **query))
    return await visit.page(
        "organizations.html",
        problem.status if problem else 200,
        part="Organizations",
        path=_HERE,
        organizations=found,
        query=query,
        values={**values, "once": secrets.token_hex(16)},
        problem=problem,
        fields=problem.fields if problem else {},
    )


async def _organization(
    visit: Visit,
    problem: Problem | None = None,
    values: dict[str, Any] | None = None,
    user: str = "",
) -> Response:
    _, (found, etag), members = await asyncio.gather(
        visit.me,
        visit.api.read(_base(visit)),
        visit.api.get(f"{_base(visit)}/members", limit=200),
    )
    conflict = problem is not None and problem.status == 412
    return await visit.page(
        "organization.html",
        problem.status if problem else 200,
        part=found["name"],
        organization=found,
        members=members["items"],
        etag=etag,
        values=values or {"description": found["description"]},
        newer=[("Description", found["description"] or "none")] if conflict else [],
        problem=problem,
        fields=problem.fields if problem else {},
        user=user,
    )


def _here(visit: Visit) -> str:
    return f"{_HERE}/{visit.request.path_params['organization']}"


def _base(visit: Visit) -> str:
    return f"/v1/organizations/{visit.request.path_params['organization']}"


def _member(visit: Visit) -> str:
    return f"{_base(visit)}/members/{visit.request.path_params['user']}"
