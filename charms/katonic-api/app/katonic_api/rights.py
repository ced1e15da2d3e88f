"""Who may do what: one table, which everything asks."""

from collections.abc import Collection, Mapping
from typing import Literal, get_args

Role = Literal[
    "platform-admin",
    "organization-admin",
    "organization-member",
    "owner",
    "contributor",
    "viewer",
]
"""What a person can be to what is asked for; who is several has the rights of each."""

Verb = Literal[
    "organization.create",
    "organization.read",
    "organization.update",
    "organization.delete",
    "organization.read-members",
    "organization.manage-members",
    "project.create",
    "project.read",
    "project.update",
    "project.set-quota",
    "project.delete",
    "project.read-members",
    "project.manage-members",
    "experiment.read",
    "experiment.create",
    "file.read",
    "file.write",
    "file.delete",
    "user.list",
    "user.read",
    "user.update",
    "audit.read",
]

_PLATFORM, _ADMIN, _MEMBER, _OWNER, _CONTRIBUTOR, _VIEWER = get_args(Role)

RIGHTS: Mapping[Verb, tuple[Role, ...]] = {
    "organization.create": (_PLATFORM,),
    "organization.read": (_PLATFORM, _ADMIN, _MEMBER),
    "organization.update": (_PLATFORM, _ADMIN),
    "organization.delete": (_PLATFORM,),
    "organization.read-members": (_PLATFORM, _ADMIN, _MEMBER),
    "organization.manage-members": (_PLATFORM, _ADMIN),
    "project.create": (_PLATFORM, _ADMIN, _MEMBER),
    "project.read": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR, _VIEWER),
    "project.update": (_PLATFORM, _ADMIN, _OWNER),
    "project.set-quota": (_PLATFORM, _ADMIN),
    "project.delete": (_PLATFORM, _ADMIN, _OWNER),
    "project.read-members": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR, _VIEWER),
    "project.manage-members": (_PLATFORM, _ADMIN, _OWNER),
    "experiment.read": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR, _VIEWER),
    "experiment.create": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR),
    "file.read": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR, _VIEWER),
    "file.write": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR),
    "file.delete": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR),
    "user.list": (_PLATFORM, _ADMIN),
    "user.read": (_PLATFORM, _ADMIN),
    "user.update": (_PLATFORM,),
    "audit.read": (_PLATFORM, _ADMIN, _OWNER, _CONTRIBUTOR, _VIEWER),
}
"""Which roles may do what: those of the project that is meant, of its organization, and of the
platform. A role of another project or organization counts for nothing."""


PLATFORM: tuple[Verb, ...] = (
    "organization.create",
    "user.list",
    "user.read",
    "user.update",
    "audit.read",
)
"""What is asked without a thing that it is done to."""

ORGANIZATION: tuple[Verb, ...] = (
    "organization.read",
    "organization.update",
    "organization.delete",
    "organization.read-members",
    "organization.manage-members",
    "project.create",
    "project.set-quota",
    "user.list",
    "audit.read",
)
"""What is done to an organization."""

PROJECT: tuple[Verb, ...] = (
    "project.read",
    "project.update",
    "project.set-quota",
    "project.delete",
    "project.read-members",
    "project.manage-members",
    "experiment.read",
    "experiment.create",
    "file.read",
    "file.write",
    "file.delete",
    "audit.read",
)
"""What is done to a project."""


def may(roles: Collection[Role], verb: Verb) -> bool:
    """Return whether one of the roles has the right."""
    return not set(roles).isdisjoint(RIGHTS[verb])


def permissions(roles: Collection[Role], scope: Collection[Verb]) -> list[Verb]:
    """Return what of a scope the roles have the right to do."""
    return [it for it in scope if may(roles, it)]
