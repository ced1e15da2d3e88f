"""The people who have ever signed in, or were made members of something."""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from .. import pages, rights
from ..answers import answer
from ..backend import Backend
from ..callers import Asking, Caller, Parts, lacking
from ..changes import Change
from ..entities import Organization, User
from ..pages import Order, Page
from ..problems import Problem, declared, not_found
from ..store import Document
from ..wire import MyOrganization, Person, UserBody, UserPatch

router = APIRouter(prefix="/v1/users", tags=["users"])

Limit = Annotated[int, Query(ge=1, le=pages.MOST, description="How many items at most.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="The `next` of a page.")]
Search = Annotated[
    str | None, Query(max_length=100, pattern=r"^[^\x00]*$", description="What a name contains.")
]
UserSort = Literal["username", "-username", "created", "-created"]


def search(text: str | None, *fields: str) -> Document:
    """Return the query for what has the text in one of the fields."""
    if not text:
        return {}
    pattern = {"$regex": re.escape(text), "$options": "i"}
    return {"$or": [{it: pattern} for it in fields]}


def person(user: User) -> Person:
    """Return a user as others see them."""
    return Person(id=user.id, username=user.username, name=user.name, email=user.email)


async def bodies(
    backend: Backend, users: Sequence[User], visible: Collection[str] | None = None
) -> list[UserBody]:
    """Return users with their organizations; `visible` are those that the caller may see."""
    ids = {it.id for user in users for it in user.organizations}
    seen = await backend.presence.of([it.id for it in users])
    organizations = await backend.store.named(
        Organization, ids if visible is None else ids.intersection(visible)
    )
    return [
        UserBody(
            **person(user).model_dump(),
            active=user.active,
            organizations=[
                MyOrganization(id=it.id, name=organizations[it.id].name, role=it.role)
                for it in user.organizations
                if it.id in organizations
            ],
            created=user.created,
            last_seen=seen.get(user.id),
        )
        for user in users
    ]


@router.get("", response_model=Page[UserBody], responses=declared(403))
async def listed(
    caller: Asking,
    backend: Parts,
    q: Search = None,
    active: bool | None = None,
    sort: UserSort = "username",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Return all users to a platform admin, to who administers organizations those of them."""
    administers = _administers(caller, "user.list")
    query = search(q, "username", "email", "name")
    if active is not None:
        query = {**query, "active": active}
    if administers is not None:
        query = {**query, "organizations.id": {"$in": administers}}
    order = Order.parse(sort)
    collection = backend.store.of(User)
    found, following, total = await pages.read(collection, query, order, limit, cursor)
    users = [User.model_validate(it) for it in found]
    items = await bodies(backend, users, administers)
    return answer(Page[UserBody](items=items, next=following, total=total))


@router.get("/{user_id}", response_model=UserBody, responses=declared(403, 404))
async def read(caller: Asking, backend: Parts, user_id: str) -> Response:
    """Return a user: oneself, or one whom an admin may see."""
    administers = None if user_id == caller.user.id else _administers(caller, "user.read")
    user = await backend.store.find(User, user_id)
    if user is None or not (administers is None or any(user.role_in(it) for it in administers)):
        raise not_found("user")
    (body,) = await bodies(backend, [user], administers)
    return answer(body)


@router.patch("/{user_id}", response_model=UserBody, responses=declared(403, 404, 409))
async def patch(
    request: Request, caller: Asking, backend: Parts, user_id: str, change: UserPatch
) -> Response:
    """Let a user sign in, or not any more, which also ends all of their sessions."""
    if not rights.may(caller.roles(), "user.update"):
        raise lacking("user.update")
    if user_id == caller.user.id:
        raise Problem(409, "You cannot deactivate yourself.")
    if await backend.store.find(User, user_id) is None:
        raise not_found("user")
    action = "user.activate" if change.active else "user.deactivate"

    def revise(user: User) -> Change[User] | None:
        after = user.having(active=change.active)
        return None if user.active == change.active else Change(user, after, caller.user, action)

    # Who is let in goes through Keycloak first, who is kept out is kept out here first.
    if change.active:
        await backend.people.enable(user_id, True)
    user = await backend.changes.revise(User, user_id, revise)
    if not change.active:
        await backend.people.enable(user_id, False)
    (body,) = await bodies(backend, [user])
    return answer(body)


def _administers(caller: Caller, verb: rights.Verb) -> list[str] | None:
    """Return the organizations whose users the caller may list or read, None for all.

    Raises:
        Problem: 403, of none.
    """
    if rights.may(caller.roles(), verb):
        return None
    found = [it for it in caller.administers if rights.may(caller.roles(it), verb)]
    if not found:
        raise lacking(verb)
    return found
