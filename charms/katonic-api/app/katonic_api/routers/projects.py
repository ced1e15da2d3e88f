"""Projects and their members."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from .. import leftovers, pages, rights
from ..answers import IfMatch, IfNoneMatch, answer, changed, check_match, kept
from ..backend import Backend
from ..callers import Asking, Caller, Parts, find_person, project_for, require
from ..changes import Change, Stale
from ..entities import Member, Organization, Project, ProjectRole, Quota, User
from ..once import Key, Once, identifier
from ..pages import Order, Page
from ..problems import Problem, declared, not_found
from ..wire import (
    NewProject,
    NewProjectMember,
    ProjectBody,
    ProjectMember,
    ProjectMemberPut,
    ProjectPatch,
    Reference,
)
from .users import Cursor, Limit, Search, person, search

router = APIRouter(prefix="/v1/projects", tags=["projects"], route_class=Once)

ProjectSort = Literal["name", "-name", "updated", "-updated", "created", "-created"]
Within = Annotated[str | None, Query(max_length=100, description="An organization's id.")]


async def _bodies(
    backend: Backend, caller: Caller, projects: Sequence[Project]
) -> list[ProjectBody]:
    organizations = await backend.store.named(Organization, {it.organization for it in projects})
    return [
        ProjectBody(
            id=it.id,
            name=it.name,
            description=it.description,
            organization=Reference(id=it.organization, name=organizations[it.organization].name),
            quota=it.quota,
            members=len(it.members),
            my_role=it.role_of(caller.user.id),
            permissions=rights.permissions(caller.roles(project=it), rights.PROJECT),
            created=it.created,
            updated=it.updated,
            created_by=it.created_by,
        )
        for it in projects
        if it.organization in organizations
    ]


async def _body(backend: Backend, caller: Caller, project: Project) -> ProjectBody:
    bodies = await _bodies(backend, caller, [project])
    if not bodies:
        raise not_found("project")
    return bodies[0]


@router.get("", response_model=Page[ProjectBody], responses={304: {}})
async def listed(
    request: Request,
    caller: Asking,
    backend: Parts,
    organization: Within = None,
    q: Search = None,
    sort: ProjectSort = "name",
    limit: Limit = 50,
    cursor: Cursor = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the projects that you may see."""

    async def make() -> tuple[Page[ProjectBody], None]:
        parts = [search(q, "name", "description"), {"organization": organization}]
        query = {"$and": [it for it in (parts if organization else parts[:1]) if it]}
        if not rights.may(caller.roles(), "project.read"):
            mine = {"members.user": caller.user.id}
            administered = {"organization": {"$in": caller.administers}}
            query["$and"].append({"$or": [mine, administered]} if caller.administers else mine)
        found, following, total = await pages.read(
            backend.store.of(Project),
            query if query["$and"] else {},
            Order.parse(sort),
            limit,
            cursor,
        )
        items = await _bodies(backend, caller, [Project.model_validate(it) for it in found])
        return Page[ProjectBody](items=items, next=following, total=total), None

    return await kept(request, backend, caller, make)


@router.post("", status_code=201, response_model=ProjectBody, responses=declared(403, 404, 409))
async def create(
    request: Request, caller: Asking, backend: Parts, new: NewProject, key: Key = None
) -> Response:
    """Make a project, which is yours then."""
    organization = await backend.store.find(Organization, new.organization)
    if organization is None:
        raise not_found("organization")
    roles = caller.roles(organization.id)
    require(roles, "project.create", "organization.read", "organization")
    if new.quota != Quota():
        require(roles, "project.set-quota", "organization.read", "organization")
    made = Project(
        id=identifier(request),
        name=new.name,
        description=new.description,
        organization=organization.id,
        quota=new.quota,
        members=(Member(user=caller.user.id, role="owner"),),
        created_by=caller.user.id,
    )
    try:
        project = await backend.changes.make(Change(None, made, caller.user, "project.create"))
    except Stale:  # made by the same request before, whose server went away
        project = await project_for(backend, caller, made.id, "project.read")
    body = await _body(backend, caller, project)
    return answer(body, project.version, status=201)


@router.get("/{project_id}", response_model=ProjectBody, responses={304: {}, **declared(404)})
async def read(
    request: Request,
    caller: Asking,
    backend: Parts,
    project_id: str,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return a project."""

    async def make() -> tuple[ProjectBody, int]:
        project = await project_for(backend, caller, project_id, "project.read")
        return await _body(backend, caller, project), project.version

    return await kept(request, backend, caller, make)


@router.patch(
    "/{project_id}",
    response_model=ProjectBody,
    responses=declared(403, 404, 409, 412, 428),
)
async def patch(
    caller: Asking,
    backend: Parts,
    project_id: str,
    change: ProjectPatch,
    if_match: IfMatch = None,
) -> Response:
    """Give a project another name, description or quota."""
    before = await project_for(backend, caller, project_id, "project.read")
    if "quota" in change.model_fields_set:
        require(caller.roles(project=before), "project.set-quota", "project.read")
    if change.model_fields_set != {"quota"}:
        require(caller.roles(project=before), "project.update", "project.read")
    check_match(if_match, before.version)
    given: dict[str, Any] = {it: getattr(change, it) for it in change.model_fields_set}
    try:
        after = await backend.changes.make(
            Change(
                before,
                before.having(**given),
                caller.user,
                "project.update",
                change.model_dump(include=change.model_fields_set),
            )
        )
    except Stale:
        raise changed() from None
    return answer(await _body(backend, caller, after), after.version)


@router.delete("/{project_id}", status_code=204, responses=declared(403, 404, 412, 428))
async def delete(
    caller: Asking, backend: Parts, project_id: str, if_match: IfMatch = None
) -> Response:
    """Delete a project with its files and experiments."""
    before = await project_for(backend, caller, project_id, "project.delete")
    check_match(if_match, before.version)
    organization = await backend.store.find(Organization, before.organization)
    if organization:
        await leftovers.note(backend.store, before, organization)
    try:
        await backend.changes.make(Change(before, None, caller.user, "project.delete"))
    except Stale:
        raise changed() from None
    return Response(status_code=204)


@router.get(
    "/{project_id}/members",
    response_model=Page[ProjectMember],
    responses=declared(403, 404),
)
async def members(
    caller: Asking, backend: Parts, project_id: str, limit: Limit = 50, cursor: Cursor = None
) -> Response:
    """Return the members of a project, by username."""
    project = await project_for(backend, caller, project_id, "project.read-members")
    users = await backend.store.named(User, {it.user for it in project.members})
    known = [it for it in project.members if it.user in users]
    known.sort(key=lambda it: users[it.user].username)
    part, following = pages.cut(known, limit, cursor)
    items = [ProjectMember(user=person(users[it.user]), role=it.role) for it in part]
    return answer(Page[ProjectMember](items=items, next=following, total=len(known)))


@router.post(
    "/{project_id}/members",
    status_code=201,
    response_model=ProjectMember,
    responses=declared(403, 404, 409),
)
async def add_member(
    caller: Asking, backend: Parts, project_id: str, new: NewProjectMember, key: Key = None
) -> Response:
    """Make a person a member of a project, by username or e-mail address."""
    await project_for(backend, caller, project_id, "project.manage-members")
    user = await find_person(backend, new.user, caller.user)

    def revise(project: Project) -> Change[Project]:
        if project.role_of(user.id):
            raise Problem(409, f"{user.username} is a member already.")
        member = Member(user=user.id, role=new.role)
        return _with_members(caller, project, user, (*project.members, member), new.role)

    await backend.changes.revise(Project, project_id, revise)
    return answer(ProjectMember(user=person(user), role=new.role), status=201)


@router.put(
    "/{project_id}/members/{user_id}",
    response_model=ProjectMember,
    responses=declared(403, 404, 409),
)
async def put_member(
    caller: Asking, backend: Parts, project_id: str, user_id: str, member: ProjectMemberPut
) -> Response:
    """Give a member of a project another role."""
    await project_for(backend, caller, project_id, "project.manage-members")
    user = await _member(backend, user_id)

    def revise(project: Project) -> Change[Project] | None:
        if project.role_of(user_id) == member.role:
            return None
        members = tuple(
            Member(user=user_id, role=member.role) if it.user == user_id else it
            for it in project.members
        )
        return _with_members(caller, project, user, members, member.role)

    await backend.changes.revise(Project, project_id, revise)
    return answer(ProjectMember(user=person(user), role=member.role))


@router.delete(
    "/{project_id}/members/{user_id}", status_code=204, responses=declared(403, 404, 409)
)
async def delete_member(caller: Asking, backend: Parts, project_id: str, user_id: str) -> Response:
    """Have a member no more in a project; oneself may always go."""
    verb = "project.read" if user_id == caller.user.id else "project.manage-members"
    await project_for(backend, caller, project_id, verb)
    await without_member(backend, caller, project_id, await _member(backend, user_id))
    return Response(status_code=204)


async def without_member(backend: Backend, caller: Caller, project_id: str, user: User) -> None:
    """Have a user no more in a project.

    Raises:
        Problem: 404, they are not in it; 409, they are its last owner.
    """

    def revise(project: Project) -> Change[Project]:
        members = tuple(it for it in project.members if it.user != user.id)
        return _with_members(caller, project, user, members, None)

    await backend.changes.revise(Project, project_id, revise)


async def _member(backend: Backend, user_id: str) -> User:
    user = await backend.store.find(User, user_id)
    if user is None:
        raise not_found("member")
    return user


def _with_members(
    caller: Caller,
    project: Project,
    user: User,
    members: tuple[Member, ...],
    role: ProjectRole | None,
) -> Change[Project]:
    """Return the change that gives a project these members, of whom the user's role is another.

    Raises:
        Problem: 404, the user is and was no member; 409, no owner is left.
    """
    before = project.role_of(user.id)
    if before is None and all(it.user != user.id for it in members):
        raise not_found("member")
    if all(it.role != "owner" for it in members):
        raise Problem(409, f"{user.username} is the last owner of {project.name}.")
    action = "remove-member" if role is None else "set-member" if before else "add-member"
    details = {"user": user.username, "role": role, "before": before}
    return Change(
        project,
        project.having(members=members),
        caller.user,
        f"project.{action}",
        {key: it for key, it in details.items() if it},
    )
