"""The files of projects."""

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from .. import audit
from ..answers import answer
from ..callers import Asking, Parts, project_for
from ..changes import Change
from ..entities import Project, User
from ..files import File, WrongPathError, check, check_folder
from ..pages import Page
from ..problems import Problem, declared
from .users import Cursor, Limit

router = APIRouter(prefix="/v1/projects/{project_id}/files", tags=["files"])

Prefix = Annotated[str, Query(max_length=1000, description="A folder; nothing is the topmost.")]
FilePath = Annotated[str, Path(description="Names of folders and of the file, with slashes.")]
Span = Annotated[
    str | None, Header(alias="Range", pattern=r"^bytes=(\d+-\d*|-\d+)$", max_length=50)
]
BYTES = "application/octet-stream"
_CONTENT = {BYTES: {"schema": {"type": "string", "format": "binary"}}}


@router.get("", response_model=Page[File], responses=declared(403, 404))
async def listed(
    caller: Asking,
    backend: Parts,
    project_id: str,
    prefix: Prefix = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return the files and folders in a folder of a project."""
    await project_for(backend, caller, project_id, "file.read")
    try:
        folder = check_folder(prefix)
    except WrongPathError as error:
        raise Problem(422, str(error)) from None
    items, following = await backend.files.listed(project_id, folder, limit, cursor)
    return answer(Page[File](items=items, next=following))


@router.put(
    "/{path:path}",
    status_code=201,
    response_model=File,
    responses=declared(403, 404, 411, 413, 507),
    openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
)
async def write(
    request: Request, caller: Asking, backend: Parts, project_id: str, path: FilePath
) -> Response:
    """Keep a file, in the place of another of the same path."""
    project = await project_for(backend, caller, project_id, "file.write")
    path, size = _checked(path), request.headers.get("content-length", "")
    if not size.isdecimal():
        raise Problem(411, "Send the header Content-Length.")
    if int(size) > backend.settings.upload_limit:
        megabytes = backend.settings.upload_limit // 10**6
        raise Problem(413, f"A file has at most {megabytes} megabytes here.")
    details = {"path": path, "size": int(size)}
    written = ""

    async def before() -> None:
        nonlocal written
        written = await audit.write(backend.store, _change(project, caller.user, "write", details))

    try:
        file = await backend.files.write(project_id, path, _whole(request, int(size)), before)
    except Problem:
        if written:
            await audit.take_back(backend.store, written)
        raise
    return answer(file, status=201)


@router.get(
    "/{path:path}",
    response_class=StreamingResponse,
    responses={
        200: {"content": _CONTENT, "description": "The file."},
        206: {"content": _CONTENT, "description": "The range of it that was asked for."},
        **declared(403, 404, 416),
    },
)
async def read(
    caller: Asking, backend: Parts, project_id: str, path: FilePath, span: Span = None
) -> Response:
    """Return what is in a file."""
    await project_for(backend, caller, project_id, "file.read")
    path = _checked(path)
    status, headers, content = await backend.files.read(project_id, path, span)
    name = quote(path.rpartition("/")[2], safe="")
    return StreamingResponse(
        content,
        status,
        {
            **headers,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        },
        BYTES,
    )


@router.delete("/{path:path}", status_code=204, responses=declared(403, 404))
async def delete(caller: Asking, backend: Parts, project_id: str, path: FilePath) -> Response:
    """Delete a file."""
    project = await project_for(backend, caller, project_id, "file.delete")
    path = _checked(path)
    size = await backend.files.size(project_id, path)
    details = {"path": path, "size": size}
    written = await audit.write(backend.store, _change(project, caller.user, "delete", details))
    try:
        await backend.files.delete(project_id, path)
    except Problem:
        await audit.take_back(backend.store, written)
        raise
    return Response(status_code=204)


def _checked(path: str) -> str:
    try:
        return check(path)
    except WrongPathError as error:
        raise Problem(422, str(error)) from None


def _change(
    project: Project, user: User, what: str, details: dict[str, object]
) -> Change[Project]:
    return Change(project, project, user, f"file.{what}", details)


async def _whole(request: Request, size: int) -> AsyncIterator[bytes]:
    """Yield the content, which must be as long as was said."""
    come = 0
    async for it in request.stream():
        come += len(it)
        yield it
    if come != size:
        raise Problem(400, "Less of the file came than Content-Length says.")
