"""One project: what it is, its settings, and its end."""

import asyncio
from typing import Any

from starlette.responses import Response

from katonic_ui.pages import quotas
from katonic_ui.pages.projects import MENDABLE
from katonic_ui.problems import Problem
from katonic_ui.rendering import cores, size
from katonic_ui.visits import Visit


def base(visit: Visit) -> str:
    """Return where the API has the project that the address names."""
    return f"/v1/projects/{visit.request.path_params['project']}"


async def overview(visit: Visit) -> Response:
    """Answer with what the project is."""
    _, project = await asyncio.gather(visit.me, visit.api.get(base(visit)))
    entries = None
    if "audit.read" in project["permissions"]:
        entries = (await visit.api.get("/v1/audit", project=project["id"], limit=10))["items"]
    return await visit.page(
        "project_overview.html", part="Overview", project=project, entries=entries
    )


async def settings(visit: Visit) -> Response:
    """Answer with what can be changed of it."""
    _, (project, etag) = await asyncio.gather(visit.me, visit.api.read(base(visit)))
    values = {"description": project["description"], "quota": quotas.shown(project["quota"])}
    return await _settings(visit, project, etag, values)


async def update(visit: Visit) -> Response:
    """Change it, unless somebody else has done so since the form was shown."""
    values = {"description": visit.text("description"), "quota": quotas.typed(visit)}
    body: dict[str, Any] = {"description": values["description"]}
    try:
        if "cpu" in visit.form:
            body["quota"] = quotas.read(visit)
        await visit.api.send("PATCH", base(visit), body, if_match=visit.text("etag"))
    except Problem as problem:
        if problem.status not in MENDABLE:
            raise
        _, (project, etag) = await asyncio.gather(visit.me, visit.api.read(base(visit)))
        newer = _differences(project, body) if problem.status == 412 else []
        shown = etag if problem.status == 412 else visit.text("etag")
        return await _settings(visit, project, shown, values, problem, newer)
    return visit.go(visit.request.url.path, "The settings are saved.")


async def ask_delete(visit: Visit) -> Response:
    """Ask whether it is to be deleted."""
    return await _ask_delete(visit)


async def delete(visit: Visit) -> Response:
    """Delete it, once its name has been typed."""
    project, etag = await visit.api.read(base(visit))
    if visit.text("confirmed") != project["name"]:
        return await _ask_delete(visit, Problem(422, "What you typed is not the project's name."))
    await visit.api.send("DELETE", base(visit), if_match=etag)
    return visit.go("/projects", f"The project {project['name']} is deleted.")


async def _settings(
    visit: Visit,
    project: Any,
    etag: str,
    values: dict[str, Any],
    problem: Problem | None = None,
    newer: list[tuple[str, str]] | None = None,
) -> Response:
    return await visit.page(
        "project_settings.html",
        problem.status if problem else 200,
        part="Settings",
        project=project,
        etag=etag,
        values=values,
        problem=problem,
        fields=problem.fields if problem else {},
        newer=newer,
    )


async def _ask_delete(visit: Visit, problem: Problem | None = None) -> Response:
    project = await visit.api.get(base(visit))
    here = f"/projects/{project['id']}"
    return await visit.confirm(
        heading=f"Delete {project['name']}?",
        detail="Its members lose it at once, with its files and its name. This cannot be undone.",
        action=f"{here}/delete",
        yes="Delete the project",
        back=f"{here}/settings",
        typed=project["name"],
        problem=problem,
    )


def _differences(project: Any, body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what the project has now that is not what was to be saved."""
    quota, wanted = project["quota"], body.get("quota", project["quota"])
    words = (("cpu", "CPU", cores), ("memory", "Memory", size), ("storage", "Storage", size))
    found = []
    if project["description"] != body["description"]:
        found.append(("Description", project["description"] or "none"))
    for name, label, show in (*words, ("gpus", "GPUs", str)):
        if quota[name] != wanted[name]:
            found.append((label, "no limit" if quota[name] is None else show(quota[name])))
    return found
