"""Organizations and their members."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Request
from starlette.responses import Response

from .. import pages, rights
from ..answers import IfMatch, IfNoneMatch, answer, changed, check_match, kept
from ..backend import Backend
from ..callers import Asking, Caller, Parts, find_person, lacking, organization_for
from ..changes import Change, Stale
from ..entities import DEFAULT, Membership, Organization, OrganizationRole, Project, User
from ..once import Key, Once, identifier
from ..pages import Order, Page
from ..problems import Problem, declared, not_found
from ..wire import (
    NewOrganization,
    NewOrganizationMember,
    OrganizationBody,
    OrganizationMember,
    OrganizationMemberPut,
    OrganizationPatch,
)
from .projects import without_member
from .users import Cursor, Limit, Search, person, search

router = APIRouter(prefix="/v1/organizations", tags=["organizations"], route_class=Once)

OrganizationSort = Literal["name", "-name", "updated", "-updated", "created", "-created"]


async def _bodies(
    backend: Backend, caller: Caller, organizations: Sequence[Organization]
) -> list[OrganizationBody]:
    ids = [it.id for it in organizations]
    projects = await _count(backend, Project, "organization", ids)
    members = await _count(backend, User, "organizations.id", ids)
    return [
        OrganizationBody(
            id=it.id,
            name=it.name,
            description=it.description,
            projects=projects.get(it.id, 0),
            members=members.get(it.id, 0),
            my_role=caller.user.role_in(it.id),
            permissions=rights.permissions(caller.roles(it.id), rights.ORGANIZATION),
            created=it.created,
            updated=it.updated,
        )
        for it in organizations
    ]


async def _count(
    backend: Backend, kind: type[Project | User], field: str, organizations: Sequence[str]
) -> dict[str, int]:
    """Return how many there are in each of the organizations."""
    within = {"$match": {field: {"$in": list(organizations)}}}
    apart = [{"$unwind": "$organizations"}, within] if "." in field else []
    group = {"$group": {"_id": f"${field}", "count": {"$sum": 1}}}
    found = await backend.store.of(kind).aggregate([within, *apart, group])
    return {it["_id"]: it["count"] async for it in found}


async def _body(backend: Backend, caller: Caller, organization: Organization) -> OrganizationBody:
    (body,) = await _bodies(backend, caller, [organization])
    return body


@router.get("", response_model=Page[OrganizationBody], responses={304: {}})
async def listed(
    request: Request,
    caller: Asking,
    backend: Parts,
    q: Search = None,
    sort: OrganizationSort = "name",
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the organizations that you are in, or all of them to a platform admin."""

    async def make() -> tuple[Page[OrganizationBody], None]:
        query = search(q, "name", "description")
        if not rights.may(caller.roles(), "organization.read"):
            query = {**query, "_id": {"$in": [it.id for it in caller.user.organizations]}}
        collection, order = backend.store.of(Organization), Order.parse(sort)
        found, following, total = await pages.read(collection, query, order, limit, cursor)
        organizations = [Organization.model_validate(it) for it in found]
        items = await _bodies(backend, caller, organizations)
        return Page[OrganizationBody](items=items, next=following, total=total), None

    return await kept(request, backend, caller, make)


@router.post("", status_code=201, response_model=OrganizationBody, responses=declared(403, 409))
async def create(
    request: Request, caller: Asking, backend: Parts, new: NewOrganization, key: Key = None
) -> Response:
    """Make an organization."""
    if not rights.may(caller.roles(), "organization.create"):
        raise lacking("organization.create")
    made = Organization(id=identifier(request), name=new.name, description=new.description)
    change = Change(None, made, caller.user, "organization.create")
    try:
        organization = await backend.changes.make(change)
    except Stale:  # made by the same request before, whose server went away
        organization = await organization_for(backend, caller, made.id, "organization.read")
    body = await _body(backend, caller, organization)
    return answer(body, organization.version, status=201)


@router.get(
    "/{organization_id}",
    response_model=OrganizationBody,
    responses={304: {}, **declared(404)},
)
async def read(
    request: Request,
    caller: Asking,
    backend: Parts,
    organization_id: str,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return an organization."""

    async def make() -> tuple[OrganizationBody, int]:
        organization = await organization_for(
            backend, caller, organization_id, "organization.read"
        )
        return await _body(backend, caller, organization), organization.version

    return await kept(request, backend, caller, make)


@router.patch(
    "/{organization_id}",
    response_model=OrganizationBody,
    responses=declared(403, 404, 409, 412, 428),
)
async def patch(
    caller: Asking,
    backend: Parts,
    organization_id: str,
    change: OrganizationPatch,
    if_match: IfMatch = None,
) -> Response:
    """Give an organization another name or description."""
    before = await organization_for(backend, caller, organization_id, "organization.update")
    check_match(if_match, before.version)
    given = change.model_dump(include=change.model_fields_set)
    if "name" in given and before.id == DEFAULT and given["name"] != DEFAULT:
        raise Problem(409, "The default organization keeps its name.")
    try:
        after = await backend.changes.make(
            Change(before, before.having(**given), caller.user, "organization.update", given)
        )
    except Stale:
        raise changed() from None
    return answer(await _body(backend, caller, after), after.version)


@router.delete("/{organization_id}", status_code=204, responses=declared(403, 404, 409, 412, 428))
async def delete(
    caller: Asking, backend: Parts, organization_id: str, if_match: IfMatch = None
) -> Response:
    """Delete an organization that has no projects; its members are members of it no more."""
    before = await organization_for(backend, caller, organization_id, "organization.delete")
    check_match(if_match, before.version)
    if before.id == DEFAULT:
        raise Problem(409, "The default organization stays.")
    if await backend.store.of(Project).find_one({"organization": before.id}):
        raise Problem(409, "It still has projects: delete them first.")
    try:
        await backend.changes.make(Change(before, None, caller.user, "organization.delete"))
    except Stale:
        raise changed() from None
    for user in await backend.store.search(User, {"organizations.id": before.id}):
        await _give_role(backend, caller, before, user.id, None)
    return Response(status_code=204)


@router.get(
    "/{organization_id}/members",
    response_model=Page[OrganizationMember],
    responses=declared(403, 404),
)
async def members(
    caller: Asking,
    backend: Parts,
    organization_id: str,
    q: Search = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return the members of an organization, by username."""
    await organization_for(backend, caller, organization_id, "organization.read-members")
    query = {**search(q, "username", "email", "name"), "organizations.id": organization_id}
    found, following, total = await pages.read(
        backend.store.of(User), query, Order("username"), limit, cursor
    )
    users = [User.model_validate(it) for it in found]
    items = [_member(it, organization_id) for it in users]
    return answer(Page[OrganizationMember](items=items, next=following, total=total))


@router.post(
    "/{organization_id}/members",
    status_code=201,
    response_model=OrganizationMember,
    responses=declared(403, 404, 409),
)
async def add_member(
    caller: Asking,
    backend: Parts,
    organization_id: str,
    new: NewOrganizationMember,
    key: Key = None,
) -> Response:
    """Make a person a member of an organization, by username or e-mail address."""
    organization = await organization_for(
        backend, caller, organization_id, "organization.manage-members"
    )
    user = await find_person(backend, new.user, caller.user)
    if user.role_in(organization.id):
        raise Problem(409, f"{user.username} is a member already.")
    user = await _give_role(backend, caller, organization, user.id, new.role)
    return answer(_member(user, organization.id), status=201)


@router.put(
    "/{organization_id}/members/{user_id}",
    response_model=OrganizationMember,
    responses=declared(403, 404),
)
async def put_member(
    caller: Asking,
    backend: Parts,
    organization_id: str,
    user_id: str,
    member: OrganizationMemberPut,
) -> Response:
    """Make a user a member of an organization, or give a member another role."""
    organization = await organization_for(
        backend, caller, organization_id, "organization.manage-members"
    )
    user = await _give_role(backend, caller, organization, user_id, member.role)
    return answer(_member(user, organization.id))


@router.delete(
    "/{organization_id}/members/{user_id}",
    status_code=204,
    responses=declared(403, 404, 409),
)
async def delete_member(
    caller: Asking, backend: Parts, organization_id: str, user_id: str
) -> Response:
    """Have a user no more in an organization, nor in its projects."""
    organization = await organization_for(
        backend, caller, organization_id, "organization.manage-members"
    )
    user = await backend.store.find(User, user_id)
    if user is None or user.role_in(organization.id) is None:
        raise not_found("member")
    query = {"organization": organization.id, "members.user": user_id}
    for project in await backend.store.search(Project, query):
        await without_member(backend, caller, project.id, user)
    await _give_role(backend, caller, organization, user_id, None)
    return Response(status_code=204)


async def _give_role(
    backend: Backend,
    caller: Caller,
    organization: Organization,
    user_id: str,
    role: OrganizationRole | None,
) -> User:
    """Return the user, with the role in the organization; None is none."""

    def revise(user: User) -> Change[User] | None:
        if user.role_in(organization.id) == role:
            return None
        others = tuple(it for it in user.organizations if it.id != organization.id)
        mine = (Membership(id=organization.id, role=role),) if role else ()
        return Change(
            user,
            user.having(organizations=(*others, *mine)),
            caller.user,
            "organization.set-member" if role else "organization.remove-member",
            {"organization": organization.name, **({"role": role} if role else {})},
            organization.id,
        )

    return await backend.changes.revise(User, user_id, revise)


def _member(user: User, organization: str) -> OrganizationMember:
    return OrganizationMember(user=person(user), role=user.role_in(organization) or "member")
