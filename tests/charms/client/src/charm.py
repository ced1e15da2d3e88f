#!/usr/bin/env python3
"""A client of everything: what it is given, it tells by an action."""

from dataclasses import dataclass

import msgspec
import ops

from interfaces import node_pools, oauth, postgresql_client, s3
from katonic import Config, Container, Endpoint, Plan, Reconciler, Service, load_config


class Options(Config, frozen=True):
    """The charm's options."""

    database: str
    bucket: str
    fail: bool
    note: str


@dataclass(frozen=True)
class State:
    """What the client knows."""

    name: str
    options: Options


def plan(state: State) -> Plan:
    """Return what the client wants: its sleep, and something of everyone."""
    return Plan(
        containers={"box": Container(services={"sleep": Service("sleep infinity")})},
        resources=notes(state) if state.options.note else [],
        asks={
            "database": postgresql_client.Requirer(database=state.options.database),
            "s3": s3.Requirer(bucket=state.options.bucket),
            "oauth": oauth.Requirer(
                scopes="openid profile email",
                grant_types=("authorization_code", "client_credentials", "refresh_token"),
                redirect_uri=f"https://{state.name}.example/callback",
            ),
        },
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
        self.s3 = Endpoint(self, "s3", s3.Provider)
        self.oauth = Endpoint(self, "oauth", oauth.Provider)
        self.node_pools = Endpoint(self, "node-pools", node_pools.Provider)
        framework.observe(self.on["credentials"].action, self._on_credentials)
        self.reconciler = Reconciler(self, self.gather, plan)
        framework.observe(self.on.config_changed, self._on_config_changed)

    def gather(self) -> State:
        """Return what the client knows."""
        return State(self.app.name, load_config(self, Options))

    def _on_credentials(self, event: ops.ActionEvent) -> None:
        database, store, client = self.database.one, self.s3.one, self.oauth.one
        pools = self.node_pools.one
        event.set_results(
            {
                "database-uri": database.url("postgresql") if database else "",
                "s3-endpoint": (store.endpoint or "") if store else "",
                "s3-bucket": (store.bucket or "") if store else "",
                "s3-access-key": store.access_key if store else "",
                "s3-secret-key": store.secret_key if store else "",
                "client-id": client.client_id if client else "",
                "client-secret": client.client_secret if client else "",
                "token-endpoint": client.token_endpoint if client else "",
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
