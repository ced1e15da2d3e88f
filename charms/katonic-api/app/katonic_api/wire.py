"""What requests say and what is answered, as JSON."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from .entities import OrganizationRole, ProjectRole, Quota
from .rights import Verb

NAME = r"^[a-z][a-z0-9-]{1,38}[a-z0-9]$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
Text = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]
Who = Annotated[str, StringConstraints(min_length=1, max_length=254, pattern=r"^[^\x00-\x1f]+$")]


class Frozen(BaseModel):
    """What is on the wire: what is not known is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NewOrganization(Frozen):
    """An organization to be made."""

    name: Name
    description: Text = ""


class OrganizationPatch(Frozen):
    """What of an organization is to be another; what is left out stays."""

    name: Name = Field(default="")
    description: Text = ""


class NewProject(Frozen):
    """A project to be made, whose maker owns it; `organization` is an id."""

    name: Name
    description: Text = ""
    organization: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    quota: Quota = Field(default_factory=Quota)


class ProjectPatch(Frozen):
    """What of a project is to be another; what is left out stays."""

    name: Name = Field(default="")
    description: Text = ""
    quota: Quota = Field(default_factory=Quota)


class NewOrganizationMember(Frozen):
    """A person who is to be a member, by username or e-mail address."""

    user: Who
    role: OrganizationRole


class OrganizationMemberPut(Frozen):
    """What a member of an organization is to be."""

    role: OrganizationRole


class NewProjectMember(Frozen):
    """A person who is to be a member, by username or e-mail address."""

    user: Who
    role: ProjectRole


class ProjectMemberPut(Frozen):
    """What a member of a project is to be."""

    role: ProjectRole


class NewExperiment(Frozen):
    """An experiment to be made."""

    name: Annotated[
        str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,61}[A-Za-z0-9]$")
    ]


class UserPatch(Frozen):
    """Whether a user may sign in."""

    active: bool


class Reference(Frozen):
    """An organization, by id and name."""

    id: str
    name: str


class Person(Frozen):
    """A user, as others see them."""

    id: str
    username: str
    name: str
    email: str


class MyOrganization(Reference):
    """An organization that a user is in."""

    role: OrganizationRole


class UserBody(Person):
    """A user, with those of their organizations that the caller may see."""

    active: bool
    organizations: list[MyOrganization]
    created: datetime
    last_seen: datetime | None


class Me(UserBody):
    """The caller, and what they may do whatever the organization."""

    platform_admin: bool
    permissions: list[Verb]


class OrganizationBody(Reference):
    """An organization; `projects` and `members` are how many there are."""

    description: str
    projects: int
    members: int
    my_role: OrganizationRole | None
    permissions: list[Verb]
    created: datetime
    updated: datetime


class OrganizationMember(Frozen):
    """A member of an organization."""

    user: Person
    role: OrganizationRole


class ProjectBody(Reference):
    """A project; `members` is how many there are."""

    description: str
    organization: Reference
    quota: Quota
    members: int
    my_role: ProjectRole | None
    permissions: list[Verb]
    created: datetime
    updated: datetime
    created_by: str


class ProjectMember(Frozen):
    """A member of a project."""

    user: Person
    role: ProjectRole
