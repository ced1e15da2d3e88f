"""What the server is to its charm: how it starts, and how it hears of the platform's services."""

import base64
import hashlib
import json
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ops

from interfaces import catalogue, mongodb_client, oauth, s3
from katonic import FILES, Container, NotYet, Service, Step

PORT = 8080
_HOME = "/opt/katonic-api"
_PYTHON = f"{_HOME}/bin/python"
_URL = f"http://localhost:{PORT}"
_AUTHORITIES = {
    name: f"{FILES}/{name}-authorities.pem" for name in ("database", "issuer", "files")
}
_ADDRESSING = {"path": "path", "host": "virtual", None: "auto"}
_STOP = 30
"""Seconds that the server may take to end; it needs 21 when requests are under way."""


@dataclass(frozen=True)
class Server:
    """How the server is to run.

    Attributes:
        audience: Whom tokens must be for.
        operator: What the charm proves itself with.
        path: Under which a gateway serves it, "" when there is none.
        experiments: MLflow's URL, if there is one.
        leeway: Seconds by which the issuer's clock may differ.
        upload_limit: Bytes of a file at most.
        audit_days: Days for which audit entries are kept.
    """

    audience: str
    operator: str
    path: str
    experiments: str | None
    workers: int
    log_level: str
    leeway: int
    upload_limit: int
    audit_days: int


def schema(container: ops.Container) -> str:
    """Return what tells the image's migrations from others, or "" when they cannot be seen."""
    try:
        with container.pull(f"{_HOME}/app/katonic_api/migrations.py") as file:
            return hashlib.sha256(file.read().encode()).hexdigest()[:16]
    except ops.pebble.Error:
        return ""


def container(
    server: Server,
    database: mongodb_client.Provider,
    issuer: oauth.Provider,
    files: s3.Provider | None,
    schema: str,
) -> Container:
    """Return the server, and the migration of its database, which runs once for each `schema`."""
    tls = database.secret_tls
    authorities = {
        "database": (tls.tls_ca,) if database.tls and tls and tls.tls_ca else (),
        "issuer": issuer.ca_chain or (),
        "files": (files.tls_ca_chain if files else None) or (),
    }
    trusted = {name: "\n".join(map(_pem, it)) for name, it in authorities.items() if it}
    environment = {
        **_environment(server, issuer, files),
        **{
            variable: _AUTHORITIES[name]
            for name, variable in (
                ("database", "KATONIC_DATABASE_AUTHORITIES"),
                ("issuer", "KATONIC_AUTHORITIES"),
                ("files", "AWS_CA_BUNDLE"),
            )
            if name in trusted
        },
        "KATONIC_DATABASE": database.database,
    }
    secrets = {
        "KATONIC_DATABASE_URL": database.url,
        "KATONIC_CLIENT_SECRET": issuer.client_secret,
        "KATONIC_OPERATOR_TOKEN": server.operator,
        **({} if files is None else files.environment),
    }
    return Container(
        services={
            "katonic-api": Service(
                command=f"{_PYTHON} -m katonic_api serve",
                environment=environment,
                secrets=secrets,
                ready=f"{_URL}/ready",
                kill_delay=_STOP,
            )
        },
        files={_AUTHORITIES[name]: it for name, it in trusted.items()},
        steps=[
            Step(
                "migrate the database",
                [_PYTHON, "-m", "katonic_api", "migrate"],
                key=schema,
                environment={**environment, **secrets},
                leader_only=True,
            )
        ],
    )


def tell(operator: str, tiles: Mapping[str, catalogue.Requirer]) -> list[str]:
    """Have the servers know these services, and return what is new to them.

    Raises:
        NotYet: The server does not take it now.
    """
    wanted = [
        {
            "name": name,
            "title": it.name,
            "description": it.description,
            "icon": it.icon,
            "url": it.url,
            "health": it.health,
        }
        for name, it in sorted(tiles.items())
    ]
    if _ask("GET", operator)["items"] == wanted:
        return []
    _ask("PUT", operator, {"items": wanted})
    return [f"told the services: {', '.join(sorted(tiles)) or 'none'}"]


def _ask(method: str, operator: str, body: Any = None) -> Any:
    request = urllib.request.Request(  # noqa: S310 - localhost
        f"{_URL}/operator/services",
        json.dumps(body).encode() if body else None,
        {"Authorization": f"Bearer {operator}", "Content-Type": "application/json"},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")
    except OSError as error:
        raise NotYet(f"the server does not take its services: {error}") from None


def _environment(
    server: Server, issuer: oauth.Provider, files: s3.Provider | None
) -> dict[str, str]:
    variables = {
        "HOME": "/tmp",  # noqa: S108 - of the container
        "PYTHONPATH": f"{_HOME}/app",
        "KATONIC_ISSUER": issuer.issuer_url,
        "KATONIC_JWKS_URL": issuer.jwks_endpoint,
        "KATONIC_TOKEN_URL": issuer.token_endpoint,
        "KATONIC_CLIENT_ID": issuer.client_id,
        "KATONIC_AUDIENCE": server.audience,
        "KATONIC_EXPERIMENTS_URL": server.experiments,
        "KATONIC_ROOT_PATH": server.path,
        "KATONIC_WORKERS": str(server.workers),
        "KATONIC_LOG_LEVEL": server.log_level,
        "KATONIC_LEEWAY": str(server.leeway),
        "KATONIC_UPLOAD_LIMIT": str(server.upload_limit),
        "KATONIC_AUDIT_DAYS": str(server.audit_days),
        "KATONIC_BUCKET": files.bucket if files else None,
        "KATONIC_BUCKET_FOLDER": files.path if files else None,
        "KATONIC_BUCKET_STYLE": _ADDRESSING[files.s3_uri_style] if files else None,
    }
    return {name: it for name, it in variables.items() if it}


def _pem(certificate: str) -> str:
    """Return a certificate as PEM; some wires have them so, or that in base64."""
    if certificate.startswith("-----BEGIN"):
        return certificate
    return base64.b64decode(certificate).decode()
