# ruff: noqa: S106 - the passwords of EXAMPLES
"""A PostgreSQL database with a role of its own: the data platform's `postgresql_client`."""

from interfaces import data_platform
from interfaces.data_platform import Credentials, Request, Requirer, Tls

__all__ = ["EXAMPLES", "Credentials", "Provider", "Request", "Requirer", "Tls"]


class Provider(data_platform.Provider):
    """What a client gets."""

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
    def uris(self) -> str:
        """Return libpq's URI, which holds the password."""
        return self.secret_user.uris or self.url("postgresql")

    def url(self, scheme: str) -> str:
        """Return the database's URL for a driver ("postgresql+psycopg2"), the password in it."""
        return f"{scheme}://{self.location}"


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
    Requirer(
        version="v1",
        requests=(
            Request(database="mlflow", request_id="0b1e5b1c7c7d9a52", salt="b1Qx0fL7hJ2kPz9T"),
        ),
    ),
]
