#!/usr/bin/env python3
"""A client of everything: what it is given, it tells by an action."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import ops

from interfaces import (
    forward_auth,
    ingress,
    mongodb_client,
    node_pools,
    oauth,
    postgresql_client,
    s3,
)
from katonic import FILES, Config, Container, Endpoint, Plan, Reconciler, Service, load_config


class Options(Config, frozen=True):
    """The charm's options."""

    database: str
    bucket: str
    fail: bool
    serve: bool
    port: int
    scheme: Literal["http", "https", "h2c"]
    strip_prefix: bool
    host: str
    note: str


@dataclass(frozen=True)
class State:
    """What the client knows."""

    name: str
    model: str
    unit: int
    options: Options
    asked: Mapping[int, forward_auth.Requirer]


def box(options: Options) -> Container:
    """Return what runs: a server of what it was asked, or nothing but sleep."""
    if not options.serve:
        return Container(services={"sleep": Service("sleep infinity")})
    echo = Path(__file__).with_name("echo.py").read_text()
    server = Service(
        f"python3 {FILES}/echo.py {options.port}", ready=f"http://localhost:{options.port}/"
    )
    return Container(services={"echo": server}, files={f"{FILES}/echo.py": echo})


def routed(state: State) -> list[ingress.Requirer | ingress.RequirerUnit]:
    """Return what the gateway is asked for."""
    name, options = state.name, state.options
    pod = f"{name}-{state.unit}.{name}-endpoints.{state.model}.svc.cluster.local"
    wanted = ingress.Requirer(
        name=name,
        model=state.model,
        port=options.port,
        scheme=options.scheme,
        strip_prefix=options.strip_prefix,
    )
    return [wanted, ingress.RequirerUnit(host=options.host or pod)]


def decider(state: State, asked: forward_auth.Requirer) -> forward_auth.Provider:
    """Return who decides at the edge: this very server."""
    address = f"{state.name}.{state.model}.svc.cluster.local:{state.options.port}"
    return forward_auth.Provider(
        decisions_address=f"http://{address}/decide",
        app_names=asked.ingress_app_names,
        headers=("x-katonic-user", "x-katonic-asked"),
    )


def plan(state: State) -> Plan:
    """Return what the client wants: something of everyone."""
    return Plan(
        containers={"box": box(state.options)},
        ports=[state.options.port] if state.options.serve else [],
        resources=notes(state) if state.options.note else [],
        asks={
            "database": postgresql_client.Requirer(database=state.options.database),
            "documents": mongodb_client.Requirer(database=state.options.database),
            "s3": s3.Requirer(bucket=state.options.bucket),
            "oauth": oauth.Requirer(
                scopes="openid profile email",
                grant_types=("authorization_code", "client_credentials", "refresh_token"),
                redirect_uri=f"https://{state.name}.example/callback",
            ),
            "ingress": routed(state),
        },
        offers={"decisions": {key: decider(state, it) for key, it in state.asked.items()}},
    )


def notes(state: State) -> list[object]:
    """Return the ConfigMap that the option `note` asks for."""
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    return [
        ConfigMap(
            metadata=ObjectMeta(name=f"{state.name}-note"), data={"note": state.options.note}
        )
    ]


class ClientCharm(ops.CharmBase):
    """The client."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.database = Endpoint(self, "database", postgresql_client.Provider)
        self.documents = Endpoint(self, "documents", mongodb_client.Provider)
        self.s3 = Endpoint(self, "s3", s3.Provider)
        self.oauth = Endpoint(self, "oauth", oauth.Provider)
        self.node_pools = Endpoint(self, "node-pools", node_pools.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        self.decisions = Endpoint(self, "decisions", forward_auth.Requirer)
        framework.observe(self.on["credentials"].action, self._on_credentials)
        self.reconciler = Reconciler(self, self.gather, plan)
        framework.observe(self.on.config_changed, self._on_config_changed)

    def gather(self) -> State:
        """Return what the client knows."""
        unit = int(self.unit.name.rpartition("/")[2])
        options, asked = load_config(self, Options), self.decisions.all
        return State(self.app.name, self.model.name, unit, options, asked)

    def _on_credentials(self, event: ops.ActionEvent) -> None:
        database, store, client = self.database.one, self.s3.one, self.oauth.one
        pools, documents = self.node_pools.one, self.documents.one
        event.set_results(
            {
                "database-uri": database.url("postgresql") if database else "",
                "documents-uri": documents.url if documents else "",
                "s3-endpoint": (store.endpoint or "") if store else "",
                "s3-bucket": (store.bucket or "") if store else "",
                "s3-access-key": store.access_key if store else "",
                "s3-secret-key": store.secret_key if store else "",
                "client-id": client.client_id if client else "",
                "client-secret": client.client_secret if client else "",
                "token-endpoint": client.token_endpoint if client else "",
                "url": self.ingress.one.url if self.ingress.one else "",
                "node-pools": msgspec.json.encode(pools).decode() if pools else "",
            }
        )

    def _on_config_changed(self, event: ops.ConfigChangedEvent) -> None:
        if self.config["fail"]:
            for relation in self.model.relations["database"]:
                relation.data[self.app]["written-before-failing"] = "yes"
            raise RuntimeError("the option fail is set")


if __name__ == "__main__":
    ops.main(ClientCharm)
