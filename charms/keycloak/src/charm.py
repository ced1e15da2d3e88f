#!/usr/bin/env python3
"""Keycloak: signs people in, and gives each related application an OIDC client of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import accounts
import admin
import keycloak
import ops
import realm

from interfaces import ingress, oauth, postgresql_client
from katonic import (
    Effect,
    Endpoint,
    Invalid,
    NotYet,
    Plan,
    Reconciler,
    Seed,
    load_config,
    service_host,
)


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        unit: The unit's number.
        service: The URL by which pods reach the application.
        relation: The id of the relation with the database.
        clients: What each relation of `oauth` asks for.
    """

    application: str
    model: str
    unit: int
    service: str
    options: realm.Options
    logins: admin.Logins
    relation: int | None
    database: postgresql_client.Provider | None
    ingress: ingress.Provider | None
    clients: Mapping[int, realm.Client]


def plan(state: State) -> Plan:
    """Return what the unit wants: once it has a database, Keycloak with its realm and clients."""
    name, wanted = state.application, realm.realm(state.options)
    url = state.ingress.url if state.ingress else state.service
    asks = {
        "database": postgresql_client.Requirer(database=name),
        "ingress": keycloak.gateway(name, state.model, state.unit),
        "catalogue": realm.tile(url, state.service, wanted.name),
    }
    if state.database is None:
        return Plan(asks=asks)
    server = keycloak.Server(
        url=url,
        behind_gateway=state.ingress is not None,
        connections=state.options.database_connections,
        bootstrap=state.logins.bootstrap,
        java=state.options.java_options,
    )
    container = keycloak.container(server, state.database, str(state.relation))
    sync = [state.logins, wanted, realm.with_programs(state.clients.values())]
    return Plan(
        containers={"keycloak": container},
        ports=[keycloak.PORT],
        asks=asks,
        effects=[Effect("sync the realm", admin.sync, sync)],
        offers={"oauth": realm.providers(url, state.service, wanted.name, state.clients)},
    )


class KeycloakCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.database = Endpoint(self, "database", postgresql_client.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        self.oauth = Endpoint(self, "oauth", oauth.Requirer)
        framework.observe(self.on["get_admin_password"].action, self._on_get_admin_password)
        framework.observe(self.on["rotate_password"].action, self._on_rotate_password)
        framework.observe(self.on["rotate_client_secret"].action, self._on_rotate_client_secret)
        framework.observe(self.on["add_user"].action, self._on_add_user)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: A secret cannot be read.
        """
        options = load_config(self, realm.Options)
        return State(
            application=self.app.name,
            model=self.model.name,
            unit=int(self.unit.name.rpartition("/")[2]),
            service=f"http://{service_host(self)}:{keycloak.PORT}",
            options=options,
            logins=admin.logins(self.seed),
            relation=next(iter(self.database.all), None),
            database=self.database.one,
            ingress=self.ingress.one,
            clients=realm.clients(self.oauth.all, self.oauth.apps, self.seed, options.managers),
        )

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

    def _on_add_user(self, event: ops.ActionEvent) -> None:
        try:
            logins, options = admin.logins(self.seed), load_config(self, realm.Options)
            event.set_results(accounts.add(logins, options.realm, event.params))
        except (Invalid, NotYet) as reason:
            event.fail(str(reason))


if __name__ == "__main__":
    ops.main(KeycloakCharm)
