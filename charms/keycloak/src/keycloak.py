"""What Keycloak is to its charm: how its server starts."""

from dataclasses import dataclass

from interfaces import ingress, postgresql_client
from katonic import FILES, Container, Databag, Service, Step

PORT, MANAGEMENT = 8080, 9000
BOOTSTRAP = "katonic-bootstrap"
"""The client by which the charm makes itself a lasting one; it is gone afterwards."""

_SCRIPT = f"{FILES}/keycloak.sh"
_KC = "/opt/keycloak/bin/kc.sh"

# Upstream's image is not built for PostgreSQL; one that is says so in a second.
_BUILD = (
    f"{_KC} show-config | grep -q 'kc.db = *postgres (Persisted)' ||"
    f" {_KC} build --db=postgres --health-enabled=true --metrics-enabled=true"
)
_MAKE_CLIENT = (
    f"{_KC} bootstrap-admin service --optimized --no-prompt"
    f" --client-id={BOOTSTRAP} --client-secret:env=BOOTSTRAP_SECRET"
)

# It writes much, of which a person wants the reason alone.
_PREPARE = f"""\
log=$({{ {{ {_BUILD}; }} && {_MAKE_CLIENT}; }} 2>&1) && exit
grep 'ERROR: ' <<<"$log" | grep -v 'For more details' | tail -1 | sed 's/.*ERROR: //' >&2
exit 1
"""

# kc.sh keeps a shell above Java: when that is killed, a Java without a parent holds the ports. So
# it is read, not run, and its Java takes the place of the shell.
_START = """\
java() { exec java "$@"; }
limit=$(cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null)
megabytes=512 # what kc.sh takes where nothing limits it
[[ $limit =~ ^[0-9]{1,14}$ ]] && megabytes=$((limit * 6 / 10 / 1048576))
export JAVA=java JAVA_OPTS_KC_HEAP="-Xms64m -Xmx${megabytes}m"
if address=$(getent ahosts "$HOSTNAME"); then
  export KC_CACHE_EMBEDDED_NETWORK_BIND_ADDRESS=${address%% *}
fi
. "$0"
"""


@dataclass(frozen=True)
class Server:
    """How the server is to run.

    Attributes:
        url: Where everyone finds it.
        behind_gateway: Whether that is the URL of a gateway, not of the service.
        connections: The most connections to the database.
        bootstrap: The secret of the client BOOTSTRAP.
        java: More options for Java.
    """

    url: str
    behind_gateway: bool
    connections: int
    bootstrap: str
    java: str


def gateway(application: str, model: str, unit: int) -> list[Databag]:
    """Return what a gateway has to know to serve the unit."""
    pod = f"{application}-{unit}.{application}-endpoints.{model}.svc.cluster.local"
    return [
        ingress.Requirer(name=application, model=model, port=PORT, strip_prefix=True),
        ingress.RequirerUnit(host=pod),
    ]


def container(server: Server, database: postgresql_client.Provider, key: str) -> Container:
    """Return the server; its database is made ready once for each `key`, by the leader."""
    settings = {
        "HOME": "/tmp",  # noqa: S108 - of the container
        "KC_DB_URL": f"jdbc:postgresql://{database.endpoints}/{database.database}",
        "KC_DB_USERNAME": database.username,
        "KC_DB_POOL_INITIAL_SIZE": "2",
        "KC_DB_POOL_MIN_SIZE": "2",
        "KC_DB_POOL_MAX_SIZE": str(server.connections),
        "KC_HOSTNAME": server.url,
        "KC_HTTP_ENABLED": "true",
    }
    gateway = {"KC_PROXY_HEADERS": "xforwarded"} if server.behind_gateway else {}
    password = {"KC_DB_PASSWORD": database.password}
    return Container(
        services={
            "keycloak": Service(
                command=f"bash -c '. {_SCRIPT}' {_KC} start --optimized",
                environment={**settings, **gateway, "JAVA_OPTS_APPEND": server.java},
                secrets=password,
                ready=f"http://localhost:{MANAGEMENT}/health/ready",
                kill_delay=30,
            )
        },
        files={_SCRIPT: _START},
        steps=[
            Step(
                "prepare the database",
                ["bash", "-c", _PREPARE],
                key=key,
                environment={
                    **settings,
                    **password,
                    "BOOTSTRAP_SECRET": server.bootstrap,
                    # It runs once and briefly: half of the time would go into optimizing it.
                    "JAVA_OPTS_APPEND": "-XX:TieredStopAtLevel=1",
                },
                timeout=600,
                leader_only=True,
            ),
            Step("build keycloak", ["bash", "-c", _BUILD]),
        ],
    )
