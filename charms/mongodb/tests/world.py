"""What the charm meets outside of Juju: a MongoDB in memory, that pymongo seems to talk to."""

import base64
import contextlib
import dataclasses
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

from ops import testing
from pymongo import errors

EXECS = [testing.Exec(["sh", "-c"]), testing.Exec(["bash", "-c"])]
_OPEN = {"hello"}
_FIRST = {"replSetInitiate", "createUser"}
"""What a server without users lets anyone on its host do."""


@dataclasses.dataclass
class Server:
    """What one MongoDB has, and who it lets do what.

    Attributes:
        users: As MongoDB keeps them, by name.
        databases: The documents of each collection, by database and collection.
        members: The hosts of the replica set; None before it is initiated.
        elected: Whether one of them is primary as soon as it is.
    """

    users: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    databases: dict[str, dict[str, list[Any]]] = dataclasses.field(default_factory=dict)
    members: list[str] | None = None
    elected: bool = True
    answers: bool = True

    def command(self, user: str, name: str, value: Any, **more: Any) -> dict[str, Any]:
        if not user and name not in _OPEN and (self.users or name not in _FIRST):
            raise refusal(f"command {name} requires authentication", 13)
        return getattr(self, f"_{name}")(value, **more) or {"ok": 1}

    def lets_in(self, user: str, password: str) -> bool:
        known = self.users.get(user, {"credentials": {}})["credentials"]
        return known == credentials(password) != {}

    def _hello(self, _: Any) -> dict[str, Any]:
        primary = self.members is not None and self.elected
        return {"isWritablePrimary": primary} | (
            {"isreplicaset": True} if self.members is None else {}
        )

    def _replSetInitiate(self, config: Mapping[str, Any]) -> None:  # noqa: N802 - MongoDB's name
        self.members = [it["host"] for it in config["members"]]

    def _connectionStatus(self, _: Any) -> None: ...  # noqa: N802

    def _usersInfo(self, _: Any, *, showCredentials: bool) -> dict[str, Any]:  # noqa: N802, N803
        assert showCredentials
        return {"users": [{"user": name, **it} for name, it in self.users.items()]}

    def _createUser(  # noqa: N802
        self, user: str, *, pwd: str, roles: Any, mechanisms: list[str]
    ) -> None:
        assert mechanisms == ["SCRAM-SHA-256"]
        self.users[user] = {"credentials": credentials(pwd), "roles": roles}

    def _updateUser(  # noqa: N802
        self, user: str, *, pwd: str = "", roles: Any = None, mechanisms: Any = None
    ) -> None:
        if pwd:
            self.users[user]["credentials"] = credentials(pwd)
        if roles is not None:
            self.users[user]["roles"] = roles

    def _dropUser(self, user: str) -> None:  # noqa: N802
        del self.users[user]


def refusal(text: str, code: int) -> errors.OperationFailure:
    return errors.OperationFailure(text, code, {"errmsg": text})


def credentials(password: str) -> dict[str, Any]:
    """Return what MongoDB keeps of a password; its salts are random, these are the password's."""
    salt = hashlib.sha256(password.encode()).digest()[:28]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 15000)
    key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    shown = {"salt": base64.b64encode(salt).decode(), "storedKey": base64.b64encode(key).decode()}
    return {"SCRAM-SHA-256": {"iterationCount": 15000, **shown}}


server = Server()


class MongoClient:
    """The part of pymongo's client that the charm uses, of the one server here."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        assert (host, port, options["directConnection"]) == ("localhost", 27017, True)
        self.user, self.password = options.get("username", ""), options.get("password", "")

    def __enter__(self) -> "MongoClient":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __getitem__(self, name: str) -> "Database":
        return Database(self, name)

    @property
    def admin(self) -> "Database":
        return self["admin"]

    def list_database_names(self) -> list[str]:
        self.authenticate()
        return ["admin", "config", "local", *server.databases]

    def authenticate(self) -> None:
        if not server.answers:
            raise errors.ServerSelectionTimeoutError("localhost:27017: Connection refused")
        if self.user and not server.lets_in(self.user, self.password):
            raise refusal("Authentication failed.", 18)


@dataclasses.dataclass
class Database:
    """A database of the server."""

    client: MongoClient
    name: str

    def command(self, name: str, value: Any = 1, **more: Any) -> dict[str, Any]:
        self.client.authenticate()
        return server.command(self.client.user, name, value, **more)

    def __getattr__(self, name: str) -> "Collection":
        self.client.authenticate()
        return Collection(self.name, name)


@dataclasses.dataclass
class Collection:
    """A collection of a database."""

    database: str
    name: str

    def find(self) -> list[Any]:
        return list(server.databases.get(self.database, {}).get(self.name, []))

    def insert_one(self, document: Any) -> None:
        server.databases.setdefault(self.database, {}).setdefault(self.name, []).append(document)


@contextlib.contextmanager
def serve() -> Iterator[None]:
    """Play a MongoDB without data for as long as the context lasts."""
    global server
    server = Server()
    with mock.patch("pymongo.MongoClient", MongoClient):
        yield
