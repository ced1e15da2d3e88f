#!/usr/bin/env python3
"""Keycloak: signs people in, and gives each related application an OIDC client of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import admin
import keycloak
import ops
import realm

from interfaces import ingress, oauth, postgresql_client
from katonic import Effect, Endpoint, NotYet, Plan, Reconciler, Seed, load_config, service_host


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        unit: The unit's number.
        host: The name by which pods reach the application.
        logins: How the charm and the administrator sign in; None before the leader made the seed.
        relation: The id of the relation with the database.
        clients: What each relation of `oauth` asks for.
    """

    application: str
    model: str
    unit: int
    host: str
    options: realm.Options
    logins: admin.Logins | None
    relation: int | None
    database: postgresql_client.Provider | None
    ingress: ingress.Provider | None
    clients: Mapping[int, realm.Client]


def plan(state: State) -> Plan:
    """Return what the unit wants: once it has a database, Keycloak with its realm and clients."""
    name, model = state.application, state.model
    wanted = realm.realm(state.options)
    asks = {
        "database": postgresql_client.Requirer(database=name),
        "ingress": [
            ingress.Requirer(name=name, model=model, port=keycloak.PORT, strip_prefix=True),
            ingress.RequirerUnit(
                host=f"{name}-{state.unit}.{name}-endpoints.{model}.svc.cluster.local"
            ),
        ],
    }
    if state.database is None:
        return Plan(asks=asks)
    if state.logins is None:
        raise NotYet("waiting for the leader to make the seed")
    url = state.ingress.url if state.ingress else f"http://{state.host}:{keycloak.PORT}"
    server = keycloak.Server(
        url=url,
        behind_gateway=state.ingress is not None,
        connections=state.options.database_connections,
        bootstrap=state.logins.bootstrap,
        java=state.options.java_options,
    )
    clients = state.clients
    sync = Effect("sync the realm", admin.sync, [state.logins, wanted, [*clients.values()]])
    return Plan(
        containers={
            "keycloak": keycloak.container(server, state.database, key=str(state.relation))
        },
        ports=[keycloak.PORT],
        asks=asks,
        effects=[sync],
        offers={
            "oauth": {key: realm.provider(url, wanted.name, it) for key, it in clients.items()}
        },
    )


class KeycloakCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.database = Endpoint(self, "database", postgresql_client.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        self.oauth = Endpoint(self, "oauth", oauth.Requirer)
        on, observe = self.on, framework.observe
        observe(on["get_admin_password"].action, self._on_get_admin_password)
        observe(on["rotate_password"].action, self._on_rotate_password)
        observe(on["rotate_client_secret"].action, self._on_rotate_client_secret)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: A secret cannot be read.
        """
        known = self.seed.available
        names = ("administrator", "client", "bootstrap")
        return State(
            application=self.app.name,
            model=self.model.name,
            unit=int(self.unit.name.rpartition("/")[2]),
            host=service_host(self),
            options=load_config(self, realm.Options),
            logins=admin.Logins(*map(self.seed.password, names)) if known else None,
            relation=next(iter(self.database.all), None),
            database=self.database.one,
            ingress=self.ingress.one,
            clients={key: self._client(key, it) for key, it in self.oauth.all.items() if known},
        )

    def _client(self, relation: int, asked: oauth.Requirer) -> realm.Client:
        name, secret = self.oauth.apps[relation], self.seed.password("oauth", relation)
        return realm.client(name, relation, asked, secret)

    def _on_get_admin_password(self, event: ops.ActionEvent) -> None:
        if self.seed.available:
            password = self.seed.password("administrator")
            event.set_results({"username": admin.ADMINISTRATOR, "password": password})
        else:
            event.fail("there is none yet: wait for the leader")

    def _on_rotate_password(self, event: ops.ActionEvent) -> None:
        if self.unit.is_leader():
            self.seed.rotate("administrator")
            event.set_results({"rotated": admin.ADMINISTRATOR})
        else:
            event.fail(f"run it on the leader: juju run {self.app.name}/leader rotate-password")

    def _on_rotate_client_secret(self, event: ops.ActionEvent) -> None:
        client, apps = event.params.get("client", ""), self.oauth.apps
        chosen = self.oauth.named(client)
        if not self.unit.is_leader():
            event.fail(f"run on the leader: juju run {self.app.name}/leader rotate-client-secret")
        elif not chosen:
            event.fail(f"client={client}: no relation; allowed: {', '.join(apps.values())}")
        else:
            for it in chosen:
                self.seed.rotate("oauth", it)
            event.set_results({"rotated": ", ".join(f"{apps[it]}-{it}" for it in chosen)})


if __name__ == "__main__":
    ops.main(KeycloakCharm)
