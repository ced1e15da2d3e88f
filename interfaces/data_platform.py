"""The data platform's databases: what is the same on the wire of each of them."""

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import quote

import msgspec

from katonic import Databag, Secret


class Credentials(Secret):
    """Who may use the database; `uris` are its client library's, the password in them."""

    username: str
    password: str
    uris: str | None = None
    read_only_uris: str | None = None


class Tls(Secret):
    """Whether the server speaks TLS ("True" or "False") and who signed its certificate (PEM)."""

    tls: str
    tls_ca: str | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One database that a client asks for.

    Attributes:
        database: Its name.
        extra_user_roles: More roles for the user, separated by commas.
        entity_type: "USER" or "GROUP" for a client that wants a role and no database.
        request_id: What tells it from the others of its relation; empty on the older wire.
        salt: What its client made the request_id with.
    """

    database: str = msgspec.field(name="resource")
    extra_user_roles: str | None = None
    entity_type: str | None = None
    request_id: str = ""
    salt: str = ""

    @property
    def roles(self) -> list[str]:
        """Return the extra roles, in lower case."""
        names = (self.extra_user_roles or "").lower().split(",")
        return [name.strip() for name in names if name.strip()]


class Requirer(Databag):
    """What a client asks for: one database on the wire that all speak, more on the newer one.

    Attributes:
        database: The name of the database.
        requested_secrets: What must travel in a Juju secret and never in the open.
        extra_user_roles: More roles for the user, separated by commas.
        requests: What is asked for on the newer wire, in the place of all of the above.
        version: "v1" on the newer wire.
    """

    database: str | None = None
    requested_secrets: tuple[str, ...] = (
        "username",
        "password",
        "tls",
        "tls-ca",
        "uris",
        "read-only-uris",
    )
    extra_user_roles: str | None = None
    requests: tuple[Request, ...] | None = None
    version: Literal["v0", "v1"] | None = None

    @classmethod
    def complete(cls, raw: Mapping[str, str]) -> bool:
        """Return whether it asks for a database, and can take secrets.

        Who asks for a role alone, or for all databases of a prefix, gets no answer.
        """
        if "requests" in raw:
            return True
        named = "database" in raw and "entity-type" not in raw
        return named and "requested-secrets" in raw and not raw["database"].endswith("*")

    @property
    def databases(self) -> list[Request]:
        """Return each database that is asked for, neither roles alone nor prefixes."""
        if self.requests is None:
            roles = self.extra_user_roles
            return [Request(database=self.database or "", extra_user_roles=roles)]
        asked = self.requests
        return [it for it in asked if not it.entity_type and not it.database.endswith("*")]

    def answer(self, databases: Sequence["Provider"]) -> Databag:
        """Return what gives the client its `databases`, in their order."""
        if self.requests is None:
            (only,) = databases
            return only
        asked = self.databases
        return Answers(
            requests=tuple(_answer(*it) for it in zip(asked, databases, strict=True)),
            data={it.request_id: it for it in asked},
        )


class Provider(Databag):
    """What a client gets, whatever the kind of database.

    Attributes:
        database: The name of the database, which may be another than was asked for.
        endpoints: "host:port" of the primary, separated by commas when there are several.
        read_only_endpoints: The same, of the replicas.
        version: The server's.
    """

    database: str
    endpoints: str
    secret_user: Credentials
    secret_tls: Tls | None = None
    read_only_endpoints: str | None = None
    version: str | None = None

    @property
    def username(self) -> str:
        """Return who to log in as."""
        return self.secret_user.username

    @property
    def password(self) -> str:
        """Return the user's password."""
        return self.secret_user.password

    @property
    def tls(self) -> bool:
        """Return whether the server speaks TLS."""
        return self.secret_tls is not None and self.secret_tls.tls.lower() == "true"

    @property
    def location(self) -> str:
        """Return what all URLs of the database have after their scheme, the password in it."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"{login}@{self.endpoints}/{quote(self.database, safe='')}"


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One database that a client gets on the newer wire; `replset` is MongoDB's."""

    request_id: str
    salt: str
    resource: str
    endpoints: str
    secret_user: Credentials
    secret_tls: Tls | None = None
    read_only_endpoints: str | None = None
    version: str | None = None
    replset: str | None = None


class Answers(Databag):
    """What a client gets on the newer wire.

    Attributes:
        requests: The databases, in the order in which they were asked for.
        data: What was asked for, by request_id: without it the client's library reads nothing.
    """

    requests: tuple[Answer, ...]
    data: dict[str, Request]
    version: str = "v1"


def _answer(request: Request, provider: Provider) -> Answer:
    given = {it.name: getattr(provider, it.name) for it in msgspec.structs.fields(provider)}
    if tls := provider.secret_tls:  # here it is JSON, where the older wire has Python's own words
        given["secret_tls"] = msgspec.structs.replace(tls, tls=tls.tls.lower())
    resource = given.pop("database")
    return Answer(request_id=request.request_id, salt=request.salt, resource=resource, **given)
