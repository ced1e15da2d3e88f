#!/usr/bin/env python3
"""MongoDB: a database and a user of its own for each relation."""

from collections.abc import Mapping
from dataclasses import dataclass

import administration
import mongodb
import ops
from administration import OPERATOR

from interfaces.mongodb_client import Requirer
from katonic import (
    Effect,
    Endpoint,
    Invalid,
    NotYet,
    Plan,
    Reconciler,
    Seed,
    StoredSecret,
    given,
    load_config,
    memory_limit,
)


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        unit: The unit's number.
        server: What runs; None before the leader has made the secrets.
        asked: What each relation asks for, and in `applications` who does.
        passwords: Of each user.
        owners: To which application each database belongs.
    """

    unit: int
    server: mongodb.Server | None
    asked: Mapping[int, Requirer]
    applications: Mapping[int, str]
    passwords: Mapping[str, str]
    owners: Mapping[str, str]


def plan(state: State) -> Plan:
    """Return what the unit wants: MongoDB, and a database for each request that is allowed."""
    if state.unit:
        raise Invalid("scale this application to 1: replication comes later")
    if state.server is None:
        raise NotYet("waiting for the leader to make the secrets")
    server, asked = state.server, state.asked
    clients, refusals = mongodb.clients(server.engine, asked, state.applications, state.owners)
    logins = {
        relation: {it: state.passwords[it.user] for it in theirs}
        for relation, theirs in clients.items()
    }
    everyone = {client: it for theirs in logins.values() for client, it in theirs.items()}
    silent = sorted(state.applications.keys() - clients.keys())
    served = [server.operator, server.member, everyone, silent]
    return Plan(
        containers={"mongodb": mongodb.container(server)},
        ports=mongodb.ports(server.engine),
        effects=[Effect("serve clients", administration.serve, served)],
        offers={"database": mongodb.offers(server, asked, logins)},
        status=ops.BlockedStatus("; ".join(refusals)) if refusals else None,
    )


class MongodbCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.keyfile = StoredSecret(self, "keyfile", mongodb.keyfile)
        self.database = Endpoint(self, "database", Requirer)
        observe = framework.observe
        observe(self.on["rotate_password"].action, self._on_rotate_password)
        observe(self.on["get_operator_password"].action, self._on_get_operator_password)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: Pebble does not answer, or a secret cannot be read.
        """
        server, asked = self._server(), self.database.all
        users = [
            it for relation, theirs in asked.items() for it in mongodb.users(relation, theirs)
        ]
        return State(
            unit=int(self.unit.name.rpartition("/")[2]),
            server=server,
            asked=asked,
            applications=self.database.apps,
            passwords={it: self.seed.password(it) for it in users} if server else {},
            owners=administration.owners(server.operator.password) if server and asked else {},
        )

    def _server(self) -> mongodb.Server | None:
        options = load_config(self, mongodb.Options)
        memory = memory_limit(self.unit.get_container("mongodb"))
        keyfile, uri = self.keyfile.value, options.operator_password
        if keyfile is None or not self.seed.available:
            return None
        older = self.seed.previous(OPERATOR), uri and given(self, "operator-password", uri)
        operator = mongodb.operator(options.engine, self.seed.password(OPERATOR), *older)
        member = mongodb.member(self.app.name, self.unit.name, self.model.name)
        return mongodb.Server(options.engine, member, operator, keyfile, memory)

    def _on_rotate_password(self, event: ops.ActionEvent) -> None:
        client, apps = event.params.get("client", ""), self.database.apps
        chosen = [it for it in self.database.named(client) if it in self.database.all]
        if not self.unit.is_leader():
            event.fail(f"run it on the leader: juju run {self.app.name}/leader rotate-password")
        elif event.params.get("operator", False):
            if not administration.knows(self.seed.password(OPERATOR)):
                event.fail("mongodb does not know the present one yet: wait for active")
                return
            self.seed.rotate(OPERATOR)
            event.set_results({"rotated": OPERATOR})
        elif not chosen:
            names = ", ".join(sorted(set(apps.values())))
            event.fail(f"client={client}: asks for no database; allowed: {names}")
        else:
            for relation in chosen:
                for user in mongodb.users(relation, self.database.all[relation]):
                    self.seed.rotate(user)
            event.set_results({"rotated": ", ".join(apps[it] for it in chosen)})

    def _on_get_operator_password(self, event: ops.ActionEvent) -> None:
        if not self.seed.available:
            event.fail("there is none yet: wait for the leader")
            return
        event.set_results({"username": OPERATOR, "password": self.seed.password(OPERATOR)})


if __name__ == "__main__":
    ops.main(MongodbCharm)
