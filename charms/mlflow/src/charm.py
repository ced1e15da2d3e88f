#!/usr/bin/env python3
"""MLflow: experiment tracking and model registry, on PostgreSQL and S3."""

import secrets
from dataclasses import dataclass
from typing import Annotated

import msgspec
import ops
import tracking

from interfaces import ingress, k8s_service, postgresql_client, s3
from katonic import (
    Config,
    Endpoint,
    NotYet,
    Plan,
    Reconciler,
    StoredSecret,
    load_config,
    service_host,
)


class Options(Config):
    """The charm's options."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=64, description="1 to 64")]
    database_connections: Annotated[int, msgspec.Meta(ge=2, le=100, description="2 to 100")]
    hosts: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^([\w.*-]+(:[\d*]+)?(, *|$))*$",
            description="names with or without a port, separated by commas",
        ),
    ]
    jobs: bool


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        unit: The unit's number.
        host: The name by which clients reach the application.
        addresses: The IP addresses of the unit and of the application.
        version: MLflow's, "" while it cannot be seen.
        passphrase: What the secrets in MLflow's database are encrypted with; None before the
            leader has made it.
        relation: The id of the relation with the database.
    """

    application: str
    model: str
    unit: int
    host: str
    addresses: tuple[str, ...]
    options: Options
    version: str
    passphrase: str | None
    relation: int | None
    database: postgresql_client.Provider | None
    artifacts: s3.Provider | None
    ingress: ingress.Provider | None


def plan(state: State) -> Plan:
    """Return what the unit wants: once it has a database and a bucket, MLflow."""
    name, model = state.application, state.model
    pod = f"{name}-{state.unit}.{name}-endpoints.{model}.svc.cluster.local"
    asks = {
        "database": postgresql_client.Requirer(database=name),
        "artifacts": s3.Requirer(bucket=name),
        "ingress": [
            # The pages of MLflow name everything relative to themselves.
            ingress.Requirer(name=name, model=model, port=tracking.PORT, strip_prefix=True),
            ingress.RequirerUnit(host=pod),
        ],
        "catalogue": tracking.tiles(state.host, state.ingress),
    }
    if state.database is None or state.artifacts is None:
        return Plan(asks=asks)
    if state.passphrase is None:
        raise NotYet("waiting for the leader to make the passphrase")
    server = tracking.Server(
        workers=state.options.workers,
        connections=state.options.database_connections,
        hosts=tracking.hosts(state.host, state.addresses, state.options.hosts),
        url=state.ingress.url if state.ingress else None,
        jobs=state.options.jobs,
        periodic=state.unit == 0,
        passphrase=state.passphrase,
    )
    schema = f"{state.version}-{state.relation}"
    return Plan(
        containers={"mlflow": tracking.container(server, state.database, state.artifacts, schema)},
        ports=[tracking.PORT],
        asks=asks,
        offers={"tracking": k8s_service.Provider(name=state.host, port=tracking.PORT)},
    )


class MlflowCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.passphrase = StoredSecret(self, "passphrase", lambda: secrets.token_urlsafe(32))
        self.database = Endpoint(self, "database", postgresql_client.Provider)
        self.artifacts = Endpoint(self, "artifacts", s3.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: A secret cannot be read.
        """
        return State(
            application=self.app.name,
            model=self.model.name,
            unit=int(self.unit.name.rpartition("/")[2]),
            host=service_host(self),
            addresses=self._addresses(),
            options=load_config(self, Options),
            version=tracking.version(self.unit.get_container("mlflow")),
            passphrase=self.passphrase.value,
            relation=next(iter(self.database.all), None),
            database=self.database.one,
            artifacts=self.artifacts.one,
            ingress=self.ingress.one,
        )

    def _addresses(self) -> tuple[str, ...]:
        binding = self.model.get_binding("peers")
        network = binding.network if binding else None
        found = (network.bind_address, network.ingress_address) if network else ()
        return tuple(sorted({str(it) for it in found if it}))


if __name__ == "__main__":
    ops.main(MlflowCharm)
