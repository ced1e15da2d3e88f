"""What MLflow is to its charm: how its server starts, and how its database is upgraded."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import ops

from interfaces import catalogue, ingress, postgresql_client, s3
from katonic import FILES, Container, Service, Step

PORT = 5000
_HOME = "/opt/mlflow"
_AUTHORITIES = f"{FILES}/s3-authorities.pem"

_UPGRADE = """
import os, sys, sqlalchemy
from mlflow.db import upgrade
uri = os.environ["MLFLOW_BACKEND_STORE_URI"]
try:  # MLflow itself would try for 100 seconds before it says why
    sqlalchemy.create_engine(uri).connect().close()
except sqlalchemy.exc.OperationalError as error:
    sys.exit(str(error.orig).splitlines()[0])
upgrade.callback(uri)
"""
"""`mlflow db upgrade`, which also makes an empty database's tables, but its argv holds no URI."""

_SITE = """\
# Each process but the first ends with its parent: workers that outlive a killed server would keep
# its port, and answer in the place of the next.
import ctypes, os, signal
if "KATONIC_CHILD" in os.environ:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, prctl(2)
os.environ["KATONIC_CHILD"] = "yes"
"""

_DISTRIBUTION = f"{FILES}/python/katonic_store-1.dist-info"
_PLUGIN = {
    f"{FILES}/python/proxied_store.py": (Path(__file__).parent / "proxied_store.py").read_text(),
    f"{_DISTRIBUTION}/METADATA": "Metadata-Version: 2.1\nName: katonic-store\nVersion: 1\n",
    f"{_DISTRIBUTION}/entry_points.txt": "[mlflow.artifact_repository]\n"
    "s3 = proxied_store:ProxiedArtifactRepository\n",
}
"""MLflow finds its plugins by the entry points of what is installed (mlflow.org, "Plugins")."""


@dataclass(frozen=True)
class Server:
    """How the server is to run.

    Attributes:
        workers: Its processes.
        connections: The most connections to the database of each.
        hosts: What a request may name as its host: MLflow refuses any other with 403.
        url: Where browsers find it behind the gateway, if there is one.
        jobs: Whether it runs background jobs, and `periodic` whether periodic ones too.
        passphrase: What encrypts the secrets in its database.
    """

    workers: int
    connections: int
    hosts: Sequence[str]
    url: str | None
    jobs: bool
    periodic: bool
    passphrase: str


def version(container: ops.Container) -> str:
    """Return the version of MLflow in the container, or "" when it cannot be seen."""
    try:
        (python,) = container.list_files(f"{_HOME}/lib", pattern="python3.*")
        (found,) = container.list_files(
            f"{python.path}/site-packages", pattern="mlflow-[0-9]*.dist-info"
        )
    except (ops.pebble.Error, ValueError):
        return ""
    return found.name.removeprefix("mlflow-").removesuffix(".dist-info")


def hosts(service: str, addresses: Sequence[str], more: str) -> list[str]:
    """Return every host that a request may name: the service's, the addresses', the user's."""
    name, model, *_ = service.split(".")
    names = [name, f"{name}.{model}", f"{name}.{model}.svc", service, *addresses]
    known = [f"[{it}]" if ":" in it else it for it in names]
    ported = [f"{it}:{PORT}" for it in known]
    return [*known, *ported, *(it.strip() for it in more.split(",") if it.strip())]


def tiles(service: str, gateway: ingress.Provider | None) -> list[catalogue.Requirer]:
    """Return the tile on the platform's page: none while no browser finds MLflow."""
    if gateway is None:
        return []
    return [
        catalogue.Requirer(
            name="Experiments",
            description="Track runs, compare their metrics, and register models.",
            url=f"{gateway.url}/",  # what the page names is relative to it
            icon="flask",
            health=f"http://{service}:{PORT}/health",
        )
    ]


def container(
    server: Server,
    database: postgresql_client.Provider,
    artifacts: s3.Provider,
    schema: str,
) -> Container:
    """Return the server, and the upgrade of its database, which runs once for each `schema`."""
    # A bare postgresql:// is psycopg 3 to SQLAlchemy 2.1.
    uri = {"MLFLOW_BACKEND_STORE_URI": database.url("postgresql+psycopg2")}
    authorities = "\n".join(map(_pem, artifacts.tls_ca_chain or ()))
    return Container(
        services={
            "mlflow": Service(
                command=f"{_HOME}/bin/mlflow server",
                environment=_environment(server, artifacts),
                secrets={
                    **uri,
                    **artifacts.environment,
                    "MLFLOW_CRYPTO_KEK_PASSPHRASE": server.passphrase,
                },
                ready=f"http://localhost:{PORT}/health",
            )
        },
        files={
            f"{FILES}/python/sitecustomize.py": _SITE,
            **_PLUGIN,
            **({_AUTHORITIES: authorities} if authorities else {}),
        },
        steps=[
            Step(
                "upgrade the database",
                [f"{_HOME}/bin/python", "-c", _UPGRADE],
                key=schema,
                environment={**uri, **_PROCESS},
                leader_only=True,
            )
        ],
    )


_LOCAL = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*")
_ADDRESSING = {"path": "path", "host": "virtual", None: "auto"}
_PROCESS = {"HOME": "/tmp", "MLFLOW_DISABLE_TELEMETRY": "true"}  # noqa: S108 - of the container


def _environment(server: Server, artifacts: s3.Provider) -> dict[str, str]:
    gateway = urlsplit(server.url or "")
    reached = [*server.hosts, *filter(None, [gateway.netloc])]
    origins = [f"{scheme}://{it}" for scheme in ("http", "https") for it in reached]
    destination = f"s3://{artifacts.bucket}/{artifacts.path or ''}".rstrip("/")
    return {
        **_PROCESS,
        "PYTHONPATH": f"{FILES}/python",
        "MLFLOW_HOST": "0.0.0.0",  # noqa: S104 - a pod's
        "MLFLOW_PORT": str(PORT),
        "MLFLOW_WORKERS": str(server.workers),
        "MLFLOW_ARTIFACTS_DESTINATION": destination,
        "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": _ADDRESSING[artifacts.s3_uri_style],
        "MLFLOW_EXPOSE_PROMETHEUS": "/tmp/metrics",  # noqa: S108
        "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*reached, *_LOCAL]),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(origins),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": str(server.jobs).lower(),
        "MLFLOW_SERVER_JOB_ENABLE_PERIODIC_TASKS": str(server.periodic).lower(),
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": str(server.connections - 1),
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",  # 0 means 10 to MLflow
        **({"AWS_CA_BUNDLE": _AUTHORITIES} if artifacts.tls_ca_chain else {}),
    }


def _pem(certificate: str) -> str:
    """Return a certificate as PEM; the wire has them so, or that in base64."""
    if certificate.startswith("-----BEGIN"):
        return certificate
    return base64.b64decode(certificate).decode()
