"""What is kept: organizations, projects and users, as their documents in the database."""

from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["organization", "project", "user"]
OrganizationRole = Literal["admin", "member"]
ProjectRole = Literal["owner", "contributor", "viewer"]

DEFAULT = "default"
"""The organization, by id and by name, that everyone is in from their first sign-in."""


def now() -> datetime:
    """Return the time as the database keeps it, in whole milliseconds."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


class Stored(BaseModel):
    """An entity.

    Attributes:
        version: How many changes have made it what it is.
        change: The last of them.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore")
    kind: ClassVar[Kind]

    id: str = Field(validation_alias="_id", serialization_alias="_id")
    version: int = 0
    change: str = ""
    created: datetime = Field(default_factory=now)
    updated: datetime = Field(default_factory=now)

    @property
    def title(self) -> str:
        """Return what a person calls it."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """Return it as the database keeps it."""
        return self.model_dump(by_alias=True)

    def having(self, **changes: Any) -> Self:
        """Return it with other values."""
        return self.model_copy(update=changes)


class Organization(Stored):
    """People and projects that belong together; nobody outside sees them."""

    kind = "organization"

    name: str
    description: str = ""

    @property
    def title(self) -> str:
        """Return its name."""
        return self.name


class Membership(BaseModel):
    """What a user is in an organization."""

    model_config = ConfigDict(frozen=True)

    id: str
    role: OrganizationRole


class User(Stored):
    """A person, or a program with an account.

    Attributes:
        id: What the claim `sub` of their tokens says.
        active: Whether they may sign in.
        joined: Whether they ever have; before, somebody made them a member of a project.
    """

    kind = "user"

    username: str
    email: str = ""
    name: str = ""
    active: bool = True
    joined: bool = True
    organizations: tuple[Membership, ...] = ()

    @property
    def title(self) -> str:
        """Return the name that they sign in with."""
        return self.username

    def role_in(self, organization: str) -> OrganizationRole | None:
        """Return what they are in an organization."""
        return next((it.role for it in self.organizations if it.id == organization), None)


class Quota(BaseModel):
    """What a project may use at most; None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpu: float | None = Field(default=None, gt=0, le=1_000_000, description="Cores.")
    memory: int | None = Field(default=None, ge=1, lt=2**53, description="Bytes.")
    gpus: int | None = Field(default=None, ge=0, le=1_000_000)
    storage: int | None = Field(default=None, ge=1, lt=2**53, description="Bytes.")


class Member(BaseModel):
    """What a user is in a project."""

    model_config = ConfigDict(frozen=True)

    user: str
    role: ProjectRole


class Project(Stored):
    """Experiments, files and the people who work on them."""

    kind = "project"

    name: str
    description: str = ""
    organization: str
    quota: Quota = Field(default_factory=Quota)
    members: tuple[Member, ...] = ()
    created_by: str

    @property
    def title(self) -> str:
        """Return its name."""
        return self.name

    def role_of(self, user: str) -> ProjectRole | None:
        """Return what a user is in it."""
        return next((it.role for it in self.members if it.user == user), None)
