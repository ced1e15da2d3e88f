"""PostgreSQL as its charm sees it: how it runs, and what it makes for each client."""

import base64
import functools
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import ops

from interfaces.postgresql_client import Credentials, Provider, Request, Requirer
from katonic import FILES, Container, NotYet, Service, Step

VERSION = "15"
PORT = 5432
MEMORY = 1024
"""What a server without a limit takes to be its own, in MiB."""

_BIN = f"/usr/lib/postgresql/{VERSION}/bin"
_DATA = f"/var/lib/postgresql/data/{VERSION}"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,56}")
"""PostgreSQL cuts names at 63 bytes, and a database's owner is called `owner_` and its name."""

EXTRA_ROLES = ("charmed_dml", "charmed_read", "createdb")
"""The extra roles that reach nothing of another client. Who owns a database has the first two in
there already; `createdb` adds databases of its own. The others that Charmed PostgreSQL knows
(admin, charmed_admin, charmed_stats, superuser...) reach every database."""

_SQL = Path(__file__).with_name("clients.sql")
_SESSION = {
    "PGHOST": FILES,
    "PGUSER": "postgres",
    "PGDATABASE": "postgres",
    "PGCONNECT_TIMEOUT": "5",
    # A client may set what it likes on its database, to be met by the administrator in there.
    "PGOPTIONS": "-c search_path= -c role=none -c default_transaction_read_only=off"
    " -c statement_timeout=20s -c log_min_error_statement=panic -c client_min_messages=error",
}


@dataclass(frozen=True)
class Client:
    """A role that logs in, made for one request of a relation.

    Attributes:
        role: Its name.
        database: What it works in; a role that cannot log in owns it, and stays with it.
        application: To whom the database belongs, for as long as it exists.
        createdb: Whether it may make further databases.
    """

    role: str
    database: str
    application: str
    createdb: bool = False


def container(max_connections: int, memory: int) -> Container:
    """Return what runs for so many connections and so much memory, in MiB."""
    files = {
        f"{FILES}/postgresql.conf": _configuration(max_connections, memory),
        f"{FILES}/pg_hba.conf": _AUTHENTICATION,
        f"{FILES}/postgresql.sh": _WRAPPER,
    }
    service = Service(
        f"bash {FILES}/postgresql.sh",
        ready=[f"{_BIN}/pg_isready", "--quiet", f"--host={FILES}"],
        kill_delay=60,
    )
    return Container(
        services={"postgresql": service},
        files=files,
        steps=[Step("initialise the data", ["sh", "-c", _INITIALISE])],
    )


_INITIALISE = f"""
set -e
test ! -e {_DATA} || exit 0
rm -rf {_DATA}.new
{_BIN}/initdb --pgdata={_DATA}.new --username=postgres --data-checksums --encoding=UTF8 \\
    --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256
mv {_DATA}.new {_DATA}
"""
"""Under another name until it is whole: a pod may be killed in the middle."""

_WRAPPER = f"""\
# To PostgreSQL, the SIGTERM by which Pebble stops a service means to wait until the last client
# has gone; SIGINT means now. Should this shell be killed, the server must not outlive it.
# Whenever a pod starts, the kubelet opens the volume to its fsGroup, which PostgreSQL refuses.
chmod 0700 {_DATA}
setpriv --pdeathsig INT {_BIN}/postgres -D {_DATA} -c config_file={FILES}/postgresql.conf &
trap "kill -INT $!" TERM
wait $!
wait $!
"""

_AUTHENTICATION = """\
local all postgres     peer
host  all postgres all reject
host  all all      all scram-sha-256
"""


def _configuration(max_connections: int, memory: int) -> str:
    settings = {
        "hba_file": f"'{FILES}/pg_hba.conf'",
        "listen_addresses": "'*'",
        "port": PORT,
        "unix_socket_directories": f"'{FILES}'",
        "unix_socket_permissions": "0700",
        "password_encryption": "'scram-sha-256'",
        "max_connections": max_connections,
        # A container's /dev/shm is 64 MiB, which parallel queries outgrow.
        "dynamic_shared_memory_type": "sysv",
        "tcp_keepalives_idle": "60s",
        "tcp_keepalives_interval": "10s",
        "tcp_keepalives_count": 6,
        "log_line_prefix": "'%m [%p] %q%u@%d '",
        "log_statement": "'none'",
        "log_timezone": "'UTC'",
        "timezone": "'UTC'",
        **tune(max_connections, memory),
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def tune(max_connections: int, memory: int) -> dict[str, str]:
    """Return the settings that share out so much memory, in MiB.

    Source of the shares: PostgreSQL 15's manual, 20.4.1 and 20.7.2, and PGTune for work_mem:
    what the shared buffers leave, for each connection three times (a query sorts more than once).
    """
    buffers = memory // 4
    return {
        "shared_buffers": f"{buffers}MB",
        "effective_cache_size": f"{memory * 3 // 4}MB",
        "maintenance_work_mem": f"{min(max(memory // 16, 16), 2048)}MB",
        "work_mem": f"{max((memory - buffers) * 1024 // (max_connections * 3), 512)}kB",
    }


def roles(relation: int, asked: Requirer) -> list[str]:
    """Return the name of the role for each request of a relation; most make one."""
    count = len(asked.databases)
    return [f"relation_id_{relation}" + (f"_{it}" if it else "") for it in range(count)]


def clients(
    asked: Mapping[int, Requirer], applications: Mapping[int, str], owners: Mapping[str, str]
) -> tuple[dict[int, list[Client]], list[str]]:
    """Return whom to serve, by relation, and why the others are refused.

    `owners` says to which application a database belongs; who asks first for a new one has it.
    """
    owners = dict(owners)
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
            Client(role, one.database, application, "createdb" in one.roles)
            for role, one in zip(roles(relation, it), it.databases, strict=True)
        ]
    return served, refusals


def _refusal(asked: Request, application: str, owners: Mapping[str, str]) -> str | None:
    name = asked.database
    if not _NAME.fullmatch(name):
        return f"database={name}; allowed: up to 57 letters, digits, `_`, `-` and `.`"
    if (owner := owners.get(name, application)) != application:
        return f"database={name}, which is {owner or 'the server'}'s: ask for another name"
    if refused := sorted(set(asked.roles) - set(EXTRA_ROLES)):
        return f"extra-user-roles={','.join(refused)}; allowed: {', '.join(EXTRA_ROLES)}"
    return None


def provider(host: str, client: Client, password: str) -> Provider:
    """Return what a client is told."""
    login = f"{client.role}:{password}"  # neither holds what a URI must quote
    return Provider(
        database=client.database,
        endpoints=f"{host}:{PORT}",
        secret_user=Credentials(
            username=client.role,
            password=password,
            uris=f"postgresql://{login}@{host}:{PORT}/{client.database}",
        ),
        version=VERSION,
    )


def owners(container: ops.Container) -> dict[str, str]:
    """Return to which application each database belongs, "" for none; {} when none can be told."""
    try:
        return dict(_ask(container, _OWNERS))
    except ops.pebble.Error:
        return {}


_OWNERS = """
SELECT json_build_array(substr(rolname, 7), shobj_description(oid, 'pg_authid'))
  FROM pg_roles WHERE starts_with(rolname, 'owner_')
UNION ALL
SELECT json_build_array(datname, '')
  FROM pg_database JOIN pg_roles ON datdba = pg_roles.oid WHERE rolname <> 'owner_' || datname;
"""


def serve(
    container: ops.Container, logins: Mapping[Client, str], silent: Sequence[int]
) -> list[str]:
    """Give each client, beside its password, its role and database; drop all other roles.

    A database is never dropped: it waits for the next relation of its application. The roles of
    the `silent` relations, which ask for nothing valid now, stay too.

    Raises:
        NotYet: PostgreSQL refuses, or a database has just become another application's.
    """
    wanted = [
        {**asdict(client), "verifier": verifier(client.role, password)}
        for client, password in logins.items()
    ]
    script = f"""
\\set clients {_quoted(json.dumps(wanted))}
\\set silent {_quoted(json.dumps(silent))}
{_SQL.read_text()}"""
    try:
        said = _ask(container, script)
        for role_name, owner, database in (it for it in said if len(it) == 3):
            # What a client made in its own name, not its database's owner's, holds its role.
            _ask(
                container,
                f'REASSIGN OWNED BY "{role_name}" TO "{owner}"; DROP OWNED BY "{role_name}";',
                database,
            )
        again = _ask(container, script) if any(len(it) == 3 for it in said) else []
    except ops.pebble.ExecError as error:
        first = (error.stderr or str(error)).strip().partition("\n")[0]
        raise NotYet(f"postgresql refuses: {first.rpartition('ERROR:  ')[2]}") from error
    return [it[0] for it in [*said, *again] if len(it) == 1]


@functools.cache
def verifier(role: str, password: str) -> str:
    """Return what the server keeps to verify a password, and cannot log in with.

    Format: RFC 5803. The salt is the password's own, so that equal passwords have equal
    verifiers; those given here are random, and no two are alike.
    """
    salt = hashlib.sha256(f"{role}/{password}".encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    shown = [base64.b64encode(it).decode() for it in (salt, stored, server)]
    return f"SCRAM-SHA-256$4096:{shown[0]}${shown[1]}:{shown[2]}"


def _quoted(text: str) -> str:
    """Return a text as an argument of psql's own commands."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _ask(container: ops.Container, sql: str, database: str = "postgres") -> list[list[str]]:
    """Return what the administrator's script prints: a JSON list on each line."""
    process = container.exec(
        [f"{_BIN}/psql", "-qtAX", "-v", "ON_ERROR_STOP=1"],
        stdin=sql,
        environment={**_SESSION, "PGDATABASE": database},
        timeout=30,
    )
    return [json.loads(line) for line in process.wait_output()[0].splitlines() if line]
