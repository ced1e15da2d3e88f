"""MongoDB as its charm sees it: how either engine runs, and what it makes for each client."""

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml
from administration import OPERATOR, OWN, PORT, Client, Member, Operator

from interfaces.mongodb_client import Credentials, Provider, Request, Requirer
from katonic import FILES, Config, Container, Databag, File, Service, Step

VERSION = "7.0.28"
METRICS_PORT = 8088
Engine = Literal["mongodb", "ferretdb"]

_LISTENS = ("bash", "-c", f"exec 3<>/dev/tcp/localhost/{PORT}")
_CONFIGURATION, _KEYFILE = f"{FILES}/mongod.conf", f"{FILES}/keyfile"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
"""MongoDB allows more signs, but no dot, and 63 bytes. Source: its manual, "Limits"."""

_SERVERS = {"admin", "config", "local", OWN}
EXTRA_ROLES = {"default": (), "dbadmin": ("dbAdmin",)}
"""The extra roles that reach nothing of another client, and what MongoDB calls them. `default` is
the ecosystem's word for what every client has; its others (admin, backup...) reach everything."""


class Options(Config):
    """The charm's options; `operator_password` is the URI of a secret."""

    engine: Engine
    operator_password: str | None = None


@dataclass(frozen=True)
class Server:
    """What runs.

    Attributes:
        keyfile: What the members of the replica set know each other by, in base64.
        memory: The container's limit in MiB, if it has one.
    """

    engine: Engine
    member: Member
    operator: Operator
    keyfile: str
    memory: int | None


def keyfile() -> str:
    """Return the content of a new keyfile."""
    return base64.b64encode(secrets.token_bytes(96)).decode()


def operator(engine: Engine, password: str, *older: str | None) -> Operator:
    """Return who administers, whose password may be an older one still."""
    roles = ("root",) if engine == "mongodb" else ()
    return Operator(password, [it for it in older if it], roles)


def member(application: str, unit: str, model: str) -> Member:
    """Return how all find a unit, and the replica set that it is of.

    The kubelet writes this name of a pod into the pod's own hosts file too, so that mongod knows
    itself for the member when it starts, whatever DNS says of a pod that is not ready yet.
    """
    service = f"{application}-endpoints.{model}.svc.cluster.local"
    return Member(application, f"{unit.replace('/', '-')}.{service}:{PORT}")


def container(server: Server) -> Container:
    """Return what runs."""
    engine, files = server.engine, {}
    if engine == "ferretdb":
        service = _ferretdb(server.operator.password)
    else:
        service = Service(f"mongod --config {_CONFIGURATION}", ready=_LISTENS, kill_delay=60)
        files[_CONFIGURATION] = _configuration(server.member.replset, server.memory)
        files[_KEYFILE] = File(server.keyfile, 0o600)
    make = ["sh", "-c", _make_directory(engine)]
    directory = Step("make the data directory", make, key=engine)
    return Container(services={engine: service}, files=files, steps=[directory])


def _ferretdb(password: str) -> Service:
    flags = {
        "handler": "sqlite",
        "sqlite-url": f"file:{_data('ferretdb')}/",
        "state-dir": _data("ferretdb"),
        "listen-addr": f":{PORT}",
        "debug-addr": f":{METRICS_PORT}",
        "telemetry": "disable",
        "log-level": "error",
        "test-enable-new-auth": "true",
        "setup-database": "admin",
        "setup-username": OPERATOR,
    }
    return Service(
        " ".join(["ferretdb", *(f"--{name}={it}" for name, it in flags.items())]),
        secrets={"FERRETDB_SETUP_PASSWORD": password},
        ready=_LISTENS,
        kill_delay=30,
    )


def _data(engine: Engine) -> str:
    return f"/data/db/{engine}"


def _make_directory(engine: Engine) -> str:
    """Return a script that makes the engine's directory, but not beside that of the other.

    Whenever a pod starts, the kubelet opens the volume to its fsGroup: it is closed again.
    """
    other: Engine = "ferretdb" if engine == "mongodb" else "mongodb"
    refusal = f"engine={engine}, but the storage has data of {other}: set engine={other}"
    return (
        f"test ! -e {_data(other)} || {{ echo '{refusal}' >&2; exit 1; }}; "
        f"install -d -m 0700 {_data(engine)}"
    )


def _configuration(replset: str, memory: int | None) -> str:
    storage: dict[str, Any] = {"dbPath": _data("mongodb")}
    if memory:
        storage["wiredTiger"] = {"engineConfig": {"cacheSizeGB": cache(memory)}}
    settings = {
        "storage": storage,
        "net": {"port": PORT, "bindIpAll": True},
        "replication": {"replSetName": replset},
        "security": {"authorization": "enabled", "keyFile": _KEYFILE},
    }
    return yaml.safe_dump(settings, sort_keys=False)


def cache(memory: int) -> float:
    """Return the size of WiredTiger's cache in GiB, for so much memory in MiB.

    It is what MongoDB takes by itself where it knows its limit, which it does not of a container
    with version 2 of cgroups. Source: MongoDB's manual, storage.wiredTiger.engineConfig.
    """
    return round(max(0.25, (memory - 1024) / 2048), 3)


def ports(engine: Engine) -> list[int]:
    """Return the ports to open; MongoDB has none for metrics."""
    return [PORT, METRICS_PORT] if engine == "ferretdb" else [PORT]


def users(relation: int, asked: Requirer) -> list[str]:
    """Return the name of the user for each request of a relation; most make one."""
    count = len(asked.databases)
    return [f"relation-{relation}" + (f"-{it}" if it else "") for it in range(count)]


def clients(
    engine: Engine,
    asked: Mapping[int, Requirer],
    applications: Mapping[int, str],
    owners: Mapping[str, str],
) -> tuple[dict[int, list[Client]], list[str]]:
    """Return whom to serve, by relation, and why the others are refused.

    `owners` says to which application a database belongs; who asks first for a new one has it.
    """
    owners = dict(owners) | dict.fromkeys(_SERVERS, "")
    served: dict[int, list[Client]] = {}
    refusals: list[str] = []
    for relation, it in sorted(asked.items()):
        application = applications[relation]
        if reasons := [
            reason for one in it.databases if (reason := _refusal(one, application, owners))
        ]:
            refusals.append(f"{application} asks for {reasons[0]}")
            continue
        owners |= dict.fromkeys((one.database for one in it.databases), application)
        served[relation] = [
            Client(user, one.database, application, _roles(engine, one))
            for user, one in zip(users(relation, it), it.databases, strict=True)
        ]
    return served, refusals


def _roles(engine: Engine, asked: Request) -> tuple[str, ...]:
    if engine == "ferretdb":
        return ()
    return ("readWrite", *(role for it in sorted(set(asked.roles)) for role in EXTRA_ROLES[it]))


def _refusal(asked: Request, application: str, owners: Mapping[str, str]) -> str | None:
    name = asked.database
    if not _NAME.fullmatch(name):
        return f"database={name}; allowed: up to 63 letters, digits, `_` and `-`"
    if (owner := owners.get(name, application)) != application:
        return f"database={name}, which is {owner or 'the server'}'s: ask for another name"
    if refused := sorted(set(asked.roles) - EXTRA_ROLES.keys()):
        return f"extra-user-roles={','.join(refused)}; allowed: {', '.join(EXTRA_ROLES)}"
    return None


def offers(
    server: Server, asked: Mapping[int, Requirer], logins: Mapping[int, Mapping[Client, str]]
) -> dict[int, Databag]:
    """Return what each relation is told, for the passwords of its users."""
    return {
        relation: asked[relation].answer([_provider(server, *it) for it in theirs.items()])
        for relation, theirs in logins.items()
    }


def _provider(server: Server, client: Client, password: str) -> Provider:
    credentials = Credentials(username=client.user, password=password)
    given = Provider(
        database=client.database, endpoints=server.member.host, secret_user=credentials
    )
    if server.engine == "mongodb":
        given = msgspec.structs.replace(given, replset=server.member.replset, version=VERSION)
    credentials = msgspec.structs.replace(credentials, uris=given.url)
    return msgspec.structs.replace(given, secret_user=credentials)
