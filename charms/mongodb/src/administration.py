"""Administers a MongoDB or FerretDB on this host, as its operator."""

import base64
import contextlib
import hashlib
import hmac
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from katonic import Invalid, NotYet

if TYPE_CHECKING:
    from pymongo import MongoClient

PORT = 27017
OPERATOR = "operator"
"""The user that people and the charm administer as; the ecosystem's charms call it so too."""

OWN = "katonic"
"""The database whose collection `databases` says to which application each database belongs."""

_MECHANISM = "SCRAM-SHA-256"
_UNAUTHORIZED, _NOT_AUTHENTICATED = 13, 18


@dataclass(frozen=True)
class Operator:
    """Who administers.

    Attributes:
        password: What it is to be.
        older: What it may be still.
        roles: MongoDB's roles in the database `admin`; FerretDB knows none.
    """

    password: str
    older: Sequence[str]
    roles: Sequence[str]


@dataclass(frozen=True)
class Member:
    """The first member of the replica set: the set's name, and "host:port" for all to find it."""

    replset: str
    host: str


@dataclass(frozen=True)
class Client:
    """A user made for one request of a relation.

    Attributes:
        user: Its name.
        database: The one that it reaches.
        application: To whom the database belongs, for as long as it exists.
        roles: MongoDB's roles in the database; FerretDB knows none.
    """

    user: str
    database: str
    application: str
    roles: Sequence[str]


class _WrongPasswordError(Exception):
    """The server does not know this user with this password."""


def knows(password: str) -> bool:
    """Return whether the server answers to the operator with this password."""
    with contextlib.suppress(NotYet, _WrongPasswordError), _connected(password) as server:
        return bool(server.admin.command("connectionStatus"))
    return False


def owners(password: str) -> dict[str, str]:
    """Return to which application each database belongs, "" for none; {} when none can be told."""
    try:
        with _connected(password) as server:
            return dict.fromkeys(server.list_database_names(), "") | _owners(server)
    except (NotYet, _WrongPasswordError):
        return {}


def serve(
    operator: Operator, member: Member, logins: Mapping[Client, str], silent: Collection[int]
) -> list[str]:
    """Give each client, beside its password, its user; drop those of relations that have ended.

    A database is never dropped: it waits for the next relation of its application. The users of
    the `silent` relations, which ask for nothing valid now, stay too.

    Raises:
        NotYet: The server does not answer, or a database has just become another application's.
        Invalid: The operator's password is none of those known.
    """
    try:
        return _align(operator, logins, silent)
    except _WrongPasswordError:
        return [*_let_in(operator, member), *_align(operator, logins, silent)]


def _align(operator: Operator, logins: Mapping[Client, str], silent: Collection[int]) -> list[str]:
    with _connected(operator.password) as server:
        changes = _claim(server, logins)
        said = server.admin.command("usersInfo", 1, showCredentials=True)
        there = {it["user"]: it for it in said["users"]}
        for client, password in logins.items():
            found = there.pop(client.user, None)
            changed = _changed(found or {}, client, password)
            if found is None:
                server.admin.command("createUser", client.user, **changed)
                changes.append(f"made user {client.user}")
            elif changed:
                server.admin.command("updateUser", client.user, **changed)
                changes.append(f"user {client.user}: set {', '.join(changed)}")
        for user in sorted(there):
            relation = re.fullmatch(r"relation-(\d+)(-\d+)?", user)
            if relation and int(relation[1]) not in silent:
                server.admin.command("dropUser", user)
                changes.append(f"dropped user {user}")
        return changes


def _claim(server: "MongoClient", logins: Mapping[Client, str]) -> list[str]:
    """Write down whose each new database is."""
    owners, changes = _owners(server), []
    for client in logins:
        if client.database not in owners:
            owners[client.database] = client.application
            given = {"_id": client.database, "application": client.application}
            server[OWN].databases.insert_one(given)
            changes.append(f"gave database {client.database} to {client.application}")
        if (owner := owners[client.database]) != client.application:
            raise NotYet(f"database {client.database} is {owner}'s: looking again")
    return changes


def _owners(server: "MongoClient") -> dict[str, str]:
    return {it["_id"]: it["application"] for it in server[OWN].databases.find()}


def _changed(found: Mapping[str, Any], client: Client, password: str) -> dict[str, Any]:
    """Return what the user is to have and has not."""
    changed: dict[str, Any] = {}
    if not _verifies(found.get("credentials", {}).get(_MECHANISM), password):
        changed |= {"pwd": password, "mechanisms": [_MECHANISM]}
    there = {(it["role"], it["db"]) for it in found.get("roles", ())}
    if not found or there != {(it, client.database) for it in client.roles}:
        changed["roles"] = [{"role": it, "db": client.database} for it in client.roles]
    return changed


def _verifies(credential: Mapping[str, Any] | None, password: str) -> bool:
    """Return whether the server keeps a digest of this password. Source: RFC 5802."""
    if credential is None:
        return False
    salt, count = base64.b64decode(credential["salt"]), credential["iterationCount"]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, count)
    key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return base64.b64encode(key).decode() == credential["storedKey"]


def _let_in(operator: Operator, member: Member) -> list[str]:
    """Give the operator its password: the server knows an older one, or has no user at all yet."""
    for password in operator.older:
        with contextlib.suppress(_WrongPasswordError), _connected(password) as server:
            wanted = {"pwd": operator.password, "mechanisms": [_MECHANISM]}
            server.admin.command("updateUser", OPERATOR, **wanted)
            return [f"user {OPERATOR}: set its password"]
    return _begin(operator, member)


def _begin(operator: Operator, member: Member) -> list[str]:
    """Make the replica set and the first user, which a server without users lets this host do.

    Source: MongoDB's manual, "Localhost Exception in Self-Managed Deployments".
    """
    from pymongo.errors import OperationFailure

    changes = []
    with _connected() as server:
        if server.admin.command("hello").get("isreplicaset"):  # one that has not been initiated
            members = [{"_id": 0, "host": member.host}]
            initial = {"_id": member.replset, "members": members}
            server.admin.command("replSetInitiate", initial)
            changes.append(f"initiated replica set {member.replset}")
        if not server.admin.command("hello")["isWritablePrimary"]:
            raise NotYet(f"replica set {member.replset} has no primary yet")
        roles = [{"role": it, "db": "admin"} for it in operator.roles]
        wanted = {"pwd": operator.password, "mechanisms": [_MECHANISM], "roles": roles}
        try:
            server.admin.command("createUser", OPERATOR, **wanted)
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            reason = f"the storage has another {OPERATOR}: set operator-password to its password"
            raise Invalid(reason) from error
    return [*changes, f"made user {OPERATOR}"]


@contextlib.contextmanager
def _connected(password: str = "") -> Iterator["MongoClient"]:
    """Yield the server on this host, to the operator if there is a password, else to a stranger.

    Raises:
        NotYet: It does not answer, or refuses what it is asked.
        _WrongPasswordError: It does not know the operator with this password.
    """
    import pymongo  # it costs as much as ops: only who connects pays for it
    from pymongo import errors

    logging.getLogger("pymongo").setLevel(logging.WARNING)  # it tells all that it asks and hears
    login: dict[str, Any] = {"username": OPERATOR, "password": password, "authSource": "admin"}
    try:
        with pymongo.MongoClient(
            "localhost",
            PORT,
            directConnection=True,
            serverMonitoringMode="poll",
            serverSelectionTimeoutMS=2000,
            socketTimeoutMS=10000,
            **(login if password else {}),
        ) as server:
            yield server
    except errors.OperationFailure as error:
        if error.code == _NOT_AUTHENTICATED:
            raise _WrongPasswordError from error
        said = (error.details or {}).get("errmsg") or error
        raise NotYet(f"mongodb refuses: {said}") from error
    except errors.PyMongoError as error:
        raise NotYet(f"mongodb does not answer: {error}") from error
