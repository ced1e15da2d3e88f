# ruff: noqa: S106 - the passwords of EXAMPLES
"""A PostgreSQL database with a role of its own: the data platform's `postgresql_client`."""

from collections.abc import Sequence
from urllib.parse import quote

from katonic import Databag, Secret


class Credentials(Secret):
    """Who may use the database; `uris` are libpq's, the password in them."""

    username: str
    password: str
    uris: str | None = None
    read_only_uris: str | None = None


class Tls(Secret):
    """Whether the server speaks TLS ("true" or "false", in any case) and who signed it (PEM)."""

    tls: str
    tls_ca: str | None = None


class Requirer(Databag):
    """What a client asks for.

    Attributes:
        database: The name of the database.
        requested_secrets: What must travel in a Juju secret and never in the open.
        extra_user_roles: More roles for the user, separated by commas.
    """

    database: str
    requested_secrets: tuple[str, ...] = ("username", "password", "tls", "tls-ca", "uris")
    extra_user_roles: str | None = None

    @property
    def roles(self) -> list[str]:
        """Return the extra roles, in lower case."""
        names = (self.extra_user_roles or "").lower().split(",")
        return [name.strip() for name in names if name.strip()]

    @property
    def databases(self) -> list["Requirer"]:
        """Return each database that this relation asks for; the older wire asks for one."""
        return [self]

    def answer(self, databases: Sequence["Provider"]) -> Databag:
        """Return the databag that gives the client the databases, in the order it asked."""
        (only,) = databases
        return only


class Provider(Databag):
    """What a client gets.

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
    def host(self) -> str:
        """Return the name of the first endpoint."""
        return self.endpoints.split(",")[0].rpartition(":")[0] or self.endpoints

    @property
    def port(self) -> int:
        """Return the port of the first endpoint."""
        port = self.endpoints.split(",")[0].rpartition(":")[2]
        return int(port) if port.isdigit() else 5432

    @property
    def username(self) -> str:
        """Return the role to log in as."""
        return self.secret_user.username

    @property
    def password(self) -> str:
        """Return the role's password."""
        return self.secret_user.password

    @property
    def uris(self) -> str:
        """Return libpq's URI, which holds the password."""
        return self.secret_user.uris or self.url("postgresql")

    @property
    def tls(self) -> bool:
        """Return whether the server speaks TLS."""
        return self.secret_tls is not None and self.secret_tls.tls.lower() == "true"

    def url(self, scheme: str) -> str:
        """Return the database's URL for a driver ("postgresql+psycopg2"), the password in it."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"{scheme}://{login}@{self.endpoints}/{quote(self.database, safe='')}"


EXAMPLES = [
    Requirer(database="mlflow", extra_user_roles="charmed_read"),
    Provider(
        database="mlflow",
        endpoints="postgresql.katonic.svc.cluster.local:5432",
        secret_user=Credentials(
            username="relation-7",
            password="n0-0ne-kn0ws-this",
            uris="postgresql://relation-7:n0-0ne-kn0ws-this@postgresql.katonic.svc.cluster.local:5432/mlflow",
        ),
        secret_tls=Tls(tls="False"),
        version="16.4",
    ),
]
