"""A project's members: who they are, who comes and who goes."""

import asyncio

from starlette.responses import Response

from katonic_ui.pages.project import base
from katonic_ui.pages.projects import MENDABLE
from katonic_ui.problems import Problem
from katonic_ui.visits import Visit


async def members(visit: Visit) -> Response:
    """Answer with who they are."""
    return await _members(visit)


async def invite(visit: Visit) -> Response:
    """Make somebody a member."""
    user, role = visit.text("user"), visit.text("role")
    try:
        await visit.api.send("POST", f"{base(visit)}/members", {"user": user, "role": role})
    except Problem as problem:
        if problem.status not in (*MENDABLE, 404):
            raise
        return await _members(visit, problem, user)
    return visit.go(visit.request.url.path, f"{user} is a member now, as {role}.")


async def change(visit: Visit) -> Response:
    """Give a member another role."""
    try:
        await visit.api.send("PUT", _member(visit), {"role": visit.text("role")})
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _members(visit, problem)
    return visit.go(_here(visit), f"The role is {visit.text('role')} now.")


async def ask_remove(visit: Visit) -> Response:
    """Ask whether somebody is to go."""
    found = await visit.api.get(f"{base(visit)}/members", limit=200)
    wanted = visit.request.path_params["user"]
    user = next((it["user"] for it in found["items"] if it["user"]["id"] == wanted), None)
    if user is None:
        raise Problem(404)
    return await visit.confirm(
        heading=f"Remove {user['username']}?",
        detail="They lose the project at once. What they have made in it stays.",
        action=visit.request.url.path,
        yes="Remove",
        back=_here(visit),
    )


async def remove(visit: Visit) -> Response:
    """Let a member go."""
    try:
        await visit.api.send("DELETE", _member(visit))
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        return await _members(visit, problem)
    if visit.request.path_params["user"] == visit.session.identity.id:
        return visit.go("/projects", "You have left the project.")
    return visit.go(_here(visit), "The member is removed.")


async def _members(visit: Visit, problem: Problem | None = None, user: str = "") -> Response:
    _, project, found = await asyncio.gather(
        visit.me, visit.api.get(base(visit)), visit.api.get(f"{base(visit)}/members", limit=200)
    )
    return await visit.page(
        "project_members.html",
        problem.status if problem else 200,
        part="Members",
        path=_here(visit),
        project=project,
        members=found["items"],
        problem=problem,
        fields=problem.fields if problem else {},
        user=user,
    )


def _here(visit: Visit) -> str:
    return f"/projects/{visit.request.path_params['project']}/members"


def _member(visit: Visit) -> str:
    return f"{base(visit)}/members/{visit.request.path_params['user']}"
