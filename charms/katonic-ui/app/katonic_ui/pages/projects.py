"""The list of projects, and the making of a new one."""

import asyncio
import secrets

from starlette.responses import Response

from katonic_ui.pages import quotas
from katonic_ui.problems import Problem
from katonic_ui.visits import Visit

MENDABLE = (400, 409, 412, 422)
"""What the API says no to that one can put right in the same form."""


async def listing(visit: Visit) -> Response:
    """Answer with the projects that this person sees."""
    names = ("q", "organization", "sort", "cursor")
    query = {it: visit.asked(it, "-updated" if it == "sort" else "") for it in names}
    projects = await visit.api.get("/v1/projects", limit=25, **query)
    if visit.target == "list":
        return visit.part("projects_part.html", projects=projects, query=query)
    return await visit.page("projects.html", projects=projects, query=query)


async def new(visit: Visit) -> Response:
    """Answer with the form of a new project."""
    values = {"name": "", "description": "", "organization": "", "quota": quotas.NONE}
    return await _form(visit, {**values, "once": secrets.token_hex(16)})


async def create(visit: Visit) -> Response:
    """Create a project, and lead to it."""
    fields = ("name", "description", "organization", "once")
    values = {it: visit.text(it) for it in fields}
    body: dict[str, object] = {it: values[it] for it in ("name", "description", "organization")}
    try:
        if any(quotas.typed(visit).values()):
            body["quota"] = quotas.read(visit)
        made = await visit.api.send(
            "POST", "/v1/projects", body, idempotency_key=values["once"] or None
        )
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        again = {**values, "once": secrets.token_hex(16), "quota": quotas.typed(visit)}
        return await _form(visit, again, problem)
    return visit.go(f"/projects/{made['id']}", f"The project {made['name']} is there.")


async def _form(
    visit: Visit, values: dict[str, object], problem: Problem | None = None
) -> Response:
    _, organizations = await asyncio.gather(
        visit.me, visit.api.get("/v1/organizations", limit=200)
    )
    able = [it for it in organizations["items"] if "project.create" in it["permissions"]]
    return await visit.page(
        "project_new.html",
        problem.status if problem else 200,
        organizations=able,
        may_set_quota=any("project.set-quota" in it["permissions"] for it in able),
        values=values,
        problem=problem,
        fields=problem.fields if problem else {},
    )
