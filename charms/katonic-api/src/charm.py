#!/usr/bin/env python3
"""Katonic API: organizations, projects and people of the platform, and what each may do."""

from dataclasses import dataclass
from typing import Annotated, Literal

import api
import msgspec
import ops

from interfaces import catalogue, ingress, k8s_service, katonic_api, mongodb_client, oauth, s3
from katonic import (
    Config,
    Effect,
    Endpoint,
    NotYet,
    Plan,
    Reconciler,
    Seed,
    load_config,
    service_host,
)


class Options(Config):
    """The charm's options."""

    workers: Annotated[int, msgspec.Meta(ge=1, le=32, description="1 to 32")]
    log_level: Literal["debug", "info", "warning", "error"]
    token_leeway: Annotated[int, msgspec.Meta(ge=0, le=120, description="0 to 120")]
    upload_limit: Annotated[int, msgspec.Meta(ge=1, le=1048576, description="1 to 1048576")]
    audit_days: Annotated[int, msgspec.Meta(ge=1, le=36500, description="1 to 36500")]


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        host: The name by which clients reach the application.
        schema: What tells the version of the database that the image wants.
        operator: What the charm proves itself with; None before the leader has made it.
        relation: The id of the relation with the database.
        tiles: The services of the platform, by the name of their application.
    """

    application: str
    model: str
    unit: int
    host: str
    options: Options
    schema: str
    operator: str | None
    relation: int | None
    database: mongodb_client.Provider | None
    oauth: oauth.Provider | None
    ingress: ingress.Provider | None
    experiments: k8s_service.Provider | None
    files: s3.Provider | None
    tiles: dict[str, catalogue.Requirer]


def plan(state: State) -> Plan:
    """Return what the unit wants: once it has a database and an issuer of tokens, the server."""
    name, model = state.application, state.model
    pod = f"{name}-{state.unit}.{name}-endpoints.{model}.svc.cluster.local"
    asks = {
        "database": mongodb_client.Requirer(database=name),
        "oauth": oauth.Requirer(
            scopes="openid profile email groups", grant_types=("client_credentials",)
        ),
        "ingress": [
            ingress.Requirer(name=name, model=model, port=api.PORT, strip_prefix=True),
            ingress.RequirerUnit(host=pod),
        ],
        "experiments": k8s_service.Requirer(),
        "files": s3.Requirer(bucket=name),
    }
    if state.database is None or state.oauth is None:
        return Plan(asks=asks)
    if state.operator is None:
        raise NotYet("waiting for the leader to make the operator's token")
    options = state.options
    server = api.Server(
        audience=name,
        operator=state.operator,
        path=state.ingress.path if state.ingress else "",
        experiments=state.experiments.url if state.experiments else None,
        workers=options.workers,
        log_level=options.log_level,
        leeway=options.token_leeway,
        upload_limit=options.upload_limit * 10**6,
        audit_days=options.audit_days,
    )
    schema = f"{state.schema}-{state.relation}"
    container = api.container(server, state.database, state.oauth, state.files, schema)
    return Plan(
        containers={"katonic-api": container},
        ports=[api.PORT],
        asks=asks,
        # Not a file of the container: a new tile would restart the server.
        effects=[Effect("tell the services", api.tell, (state.operator, state.tiles))],
        offers={
            "api": katonic_api.Provider(url=f"http://{state.host}:{api.PORT}", audience=name),
            "catalogue": catalogue.Provider(),
        },
    )


class KatonicApiCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.database = Endpoint(self, "database", mongodb_client.Provider)
        self.oauth = Endpoint(self, "oauth", oauth.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        self.experiments = Endpoint(self, "experiments", k8s_service.Provider)
        self.files = Endpoint(self, "files", s3.Provider)
        self.catalogue = Endpoint(self, "catalogue", catalogue.Requirer)
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
            options=load_config(self, Options),
            schema=api.schema(self.unit.get_container("katonic-api")),
            operator=self.seed.password("operator") if self.seed.available else None,
            relation=next(iter(self.database.all), None),
            database=self.database.one,
            oauth=self.oauth.one,
            ingress=self.ingress.one,
            experiments=self.experiments.one,
            files=self.files.one,
            tiles={self.catalogue.apps[it]: tile for it, tile in self.catalogue.all.items()},
        )


if __name__ == "__main__":
    ops.main(KatonicApiCharm)
