"""Who asks, and what they may do to what they ask for."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from . import rights
from .backend import Backend
from .changes import Change, Stale
from .entities import DEFAULT, Membership, Organization, Project, User
from .problems import Problem, Unavailable, not_found
from .rights import Role, Verb
from .tokens import Claims


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        revision: The platform's when they asked, by which answers are kept.
    """

    user: User
    platform_admin: bool
    revision: str

    def roles(
        self, organization: str | None = None, project: Project | None = None
    ) -> tuple[Role, ...]:
        """Return what they are to an organization, or to a project and its organization."""
        found: list[Role] = ["platform-admin"] if self.platform_admin else []
        match self.user.role_in(project.organization if project else organization or ""):
            case "admin":
                found.append("organization-admin")
            case "member":
                found.append("organization-member")
        if project and (role := project.role_of(self.user.id)):
            found.append(role)
        return tuple(found)

    @property
    def administers(self) -> list[str]:
        """Return the ids of the organizations that they are an admin of."""
        return [it.id for it in self.user.organizations if it.role == "admin"]


async def backend_of(request: Request) -> Backend:
    """Return the server's parts."""
    return request.app.state.backend


async def caller_of(request: Request) -> Caller:
    """Return who asks."""
    return await identify(request.app.state.backend, request.headers.get("authorization", ""))


async def identify(backend: Backend, authorization: str) -> Caller:
    """Return who asks, by their bearer token; the first time makes them a user.

    Raises:
        Problem: 401, the token lacks or is no good; 403, they are deactivated.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Problem(401, "Send a bearer token.", {"WWW-Authenticate": "Bearer"})
    claims = await backend.tokens.verify(token)
    revision = await backend.freshness.revision()
    user = await backend.freshness.get(
        ("user", claims.id), revision, lambda: backend.store.find(User, claims.id)
    )
    if user is None or _as_told(user, claims) is not user:
        user = await _welcome(backend, claims)
    if not user.active:
        raise Problem(403, "Your account is deactivated: ask an administrator of the platform.")
    backend.presence.note(user.id)
    return Caller(user, claims.platform_admin, revision)


Asking = Annotated[Caller, Depends(caller_of)]
Parts = Annotated[Backend, Depends(backend_of)]


def require(roles: Collection[Role], verb: Verb, seen_by: Verb, kind: str = "project") -> None:
    """Let pass who has the right.

    Raises:
        Problem: 404, they may not even see it; 403, and which right they lack.
    """
    if not rights.may(roles, seen_by):
        raise not_found(kind)
    if not rights.may(roles, verb):
        raise lacking(verb)


def lacking(verb: Verb) -> Problem:
    """Return the answer to who lacks a right."""
    return Problem(403, f"You lack the right {verb}.")


async def project_for(backend: Backend, caller: Caller, identifier: str, verb: Verb) -> Project:
    """Return a project as it is now, if the caller has a right to it.

    Raises:
        Problem: 404, there is none that they may see; 403, they lack the right.
    """
    project = await backend.store.find(Project, identifier)
    if project is None:
        raise not_found("project")
    require(caller.roles(project=project), verb, "project.read")
    return project


async def organization_for(
    backend: Backend, caller: Caller, identifier: str, verb: Verb
) -> Organization:
    """Return an organization as it is now, if the caller has a right to it.

    Raises:
        Problem: 404, there is none that they may see; 403, they lack the right.
    """
    organization = await backend.store.find(Organization, identifier)
    if organization is None:
        raise not_found("organization")
    require(caller.roles(identifier), verb, "organization.read", "organization")
    return organization


async def find_person(backend: Backend, who: str, actor: User) -> User:
    """Return a user by username or e-mail address; who has but an account is made known.

    Raises:
        Problem: 404, nobody has such an account.
        Unavailable: Nobody here, and Keycloak does not answer.
    """
    who = who.casefold()
    try:
        account = await backend.people.find(who)
    except Unavailable:
        known = [
            *await backend.store.search(User, {"username": who}),
            *await backend.store.search(User, {"email": who}),
        ]
        if not known:
            raise
        return known[0]
    if account is None:
        raise Problem(404, f"Nobody has an account with the name or e-mail address {who}.")
    if user := await backend.store.find(User, account.id):
        return user
    user = User(
        id=account.id,
        username=account.username,
        email=account.email,
        name=account.name,
        active=account.enabled,
        joined=False,
    )
    try:
        return await backend.changes.make(Change(None, user, actor, "user.create"))
    except Stale:
        return await find_person(backend, who, actor)


async def _welcome(backend: Backend, claims: Claims) -> User:
    """Return the user, made or brought up to date with what their token says."""
    for _ in range(5):
        user = await backend.store.find(User, claims.id)
        told = _as_told(user, claims)
        if user and told is user:
            return user
        action = "user.update" if user and user.joined else "user.sign-in"
        try:
            return await backend.changes.make(Change(user, told, told, action))
        except Stale:
            continue
    raise Unavailable("Somebody else is changing your account. Try again soon.")


def _as_told(user: User | None, claims: Claims) -> User:
    """Return the user as the token tells of them; the same object when it is nothing new.

    A token without a name or an e-mail address, as its scopes do not ask for them, tells of none.
    """
    if user is None:
        user = User(id=claims.id, username=claims.username, joined=False)
    said = {"username": claims.username, "email": claims.email, "name": claims.name}
    changes: dict[str, object] = {
        key: it for key, it in said.items() if it and getattr(user, key) != it
    }
    if not user.joined:
        others = tuple(it for it in user.organizations if it.id != DEFAULT)
        joined = (Membership(id=DEFAULT, role="member"), *others)
        changes |= {"joined": True, "organizations": joined}
    return user.having(**changes) if changes else user
