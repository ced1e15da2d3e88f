# ruff: noqa: S106 - the passwords of EXAMPLES
"""A MongoDB database with a user of its own: the data platform's `mongodb_client`."""

from interfaces import data_platform
from interfaces.data_platform import Credentials, Request, Requirer, Tls

__all__ = ["EXAMPLES", "Credentials", "Provider", "Request", "Requirer", "Tls"]


class Provider(data_platform.Provider):
    """What a client gets.

    Attributes:
        replset: The name of the replica set; None for a server that is in none.
    """

    replset: str | None = None

    @property
    def url(self) -> str:
        """Return the URI for MongoDB's own libraries, which holds the password."""
        replset = f"&replicaSet={self.replset}" if self.replset else ""
        made = f"mongodb://{self.location}?authSource=admin{replset}"
        return self.secret_user.uris or made


EXAMPLES = [
    Requirer(database="katonic-api"),
    Provider(
        database="katonic-api",
        endpoints="mongodb-0.mongodb-endpoints.katonic.svc.cluster.local:27017",
        secret_user=Credentials(
            username="relation-7",
            password="n0-0ne-kn0ws-this",
            uris="mongodb://relation-7:n0-0ne-kn0ws-this@mongodb-0.mongodb-endpoints.katonic.svc"
            ".cluster.local:27017/katonic-api?authSource=admin&replicaSet=mongodb",
        ),
        secret_tls=Tls(tls="False"),
        replset="mongodb",
        version="7.0.24",
    ),
    Requirer(
        version="v1",
        requests=(
            Request(
                database="katonic-api", request_id="5c0f4e3a9d1b7762", salt="Qm3vT8sYw1kLr5Zx"
            ),
        ),
    ),
]
