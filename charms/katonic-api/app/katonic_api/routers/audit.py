"""Who did what."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from .. import audit, pages, rights
from ..answers import answer
from ..audit import Entry
from ..callers import Asking, Parts, lacking, organization_for, project_for
from ..pages import Order, Page
from ..problems import declared
from ..store import Document
from .users import Cursor, Limit

router = APIRouter(prefix="/v1/audit", tags=["audit"])

Text = Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")]


@router.get("", response_model=Page[Entry], responses=declared(403, 404))
async def listed(
    caller: Asking,
    backend: Parts,
    project: Text = None,
    organization: Text = None,
    actor: Text = None,
    action: Text = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return who did what, the latest first, as far as you may see.

    A platform admin sees everything, an admin of organizations what was done in them, a member of
    a project what was done there, if asked for by `project`.
    """
    asked = {"project": project, "organization": organization, "action": action}
    query: Document = {key: it for key, it in asked.items() if it}
    if actor:
        query["$or"] = [{"actor.id": actor}, {"actor.username": actor}]
    if project:
        await project_for(backend, caller, project, "audit.read")
    elif organization:
        await organization_for(backend, caller, organization, "audit.read")
    elif not rights.may(caller.roles(), "audit.read"):
        administered = [
            it for it in caller.administers if rights.may(caller.roles(it), "audit.read")
        ]
        if not administered:
            raise lacking("audit.read")
        query["organization"] = {"$in": administered}
    order = Order("time", descending=True)
    found, following, total = await pages.read(backend.store.audit, query, order, limit, cursor)
    items = [audit.read(it) for it in found]
    return answer(Page[Entry](items=items, next=following, total=total))
