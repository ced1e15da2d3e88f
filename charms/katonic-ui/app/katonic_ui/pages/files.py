"""A project's files: what lies where, and how it comes and goes."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from katonic_ui.pages.project import base
from katonic_ui.problems import Problem
from katonic_ui.visits import Visit

_PASSED_UP = ("content-type", "content-length")
_PASSED_DOWN = ("content-type", "content-length", "content-range", "accept-ranges", "etag")
_ASKED = ("range", "if-range", "if-none-match")


async def files(visit: Visit) -> Response:
    """Answer with what lies in a folder."""
    prefix = visit.asked("prefix").lstrip("/")
    query = {"prefix": prefix, "cursor": visit.asked("cursor")}
    _, project, (found, away) = await asyncio.gather(
        visit.me, visit.api.get(base(visit)), _listed(visit, query)
    )
    values = {
        "project": project,
        "files": found,
        "prefix": prefix,
        "query": query,
        "folders": _folders(prefix),
    }
    if visit.target == "list" and not away:
        return visit.part("project_files_part.html", **values)
    return await visit.page("project_files.html", part="Files", away=away, **values)


async def download(visit: Visit) -> Response:
    """Answer with a file as it comes, which no browser shows as a page of ours."""
    headers = {it: visit.request.headers[it] for it in _ASKED if it in visit.request.headers}
    coming = visit.api.stream("GET", _content(visit), headers)
    answer = await coming.__aenter__()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            async for chunk in answer.aiter_raw():
                yield chunk
        finally:
            await coming.__aexit__(None, None, None)

    name = visit.request.path_params["path"].rpartition("/")[2]
    passed = {it: answer.headers[it] for it in _PASSED_DOWN if it in answer.headers}
    return StreamingResponse(
        chunks(),
        answer.status_code,
        headers={
            **passed,
            "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
            "content-security-policy": "sandbox; default-src 'none'",
            "cache-control": "private, no-cache",
        },
    )


async def upload(visit: Visit) -> Response:
    """Pass a file on as it comes."""
    headers = {it: visit.request.headers[it] for it in _PASSED_UP if it in visit.request.headers}
    content = visit.request.stream()
    async with visit.api.stream("PUT", _content(visit), headers, content) as answer:
        return Response(status_code=answer.status_code)


async def ask_delete(visit: Visit) -> Response:
    """Ask whether a file is to be deleted."""
    path = visit.asked("path")
    here = f"/projects/{visit.request.path_params['project']}/files"
    return await visit.confirm(
        heading=f"Delete {path.rpartition('/')[2]}?",
        detail=f"/{path} is gone for every member of the project. This cannot be undone.",
        action=f"{here}/delete",
        yes="Delete the file",
        back=_folder(here, path),
        values={"path": path},
    )


async def delete(visit: Visit) -> Response:
    """Delete a file."""
    path = visit.text("path")
    await visit.api.send("DELETE", f"{base(visit)}/files/{quote(path)}")
    here = f"/projects/{visit.request.path_params['project']}/files"
    return visit.go(_folder(here, path), f"/{path} is deleted.")


async def _listed(visit: Visit, query: dict[str, str]) -> tuple[Any, Problem | None]:
    """Return what lies there, or why that cannot be said."""
    try:
        return await visit.api.get(f"{base(visit)}/files", limit=100, **query), None
    except Problem as problem:
        if problem.status != 503:
            raise
        return {"items": [], "next": None, "total": 0}, problem


def _content(visit: Visit) -> str:
    return f"{base(visit)}/files/{quote(visit.request.path_params['path'])}"


def _folder(here: str, path: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{here}?prefix={quote(folder + slash, safe='')}" if slash else here


def _folders(prefix: str) -> list[tuple[str, str]]:
    """Return each folder on the way, with its own prefix."""
    names = [it for it in prefix.split("/") if it]
    return [(name, "/".join(names[: n + 1]) + "/") for n, name in enumerate(names)]
