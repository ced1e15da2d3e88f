#!/usr/bin/env python3
"""PostgreSQL: a database and a role of its own for each relation."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
import ops
import postgresql

from interfaces.postgresql_client import Requirer
from katonic import (
    Config,
    Effect,
    Endpoint,
    Invalid,
    NotYet,
    Plan,
    Reconciler,
    Seed,
    load_config,
    memory_limit,
    service_host,
)


class Options(Config):
    """The charm's options."""

    max_connections: Annotated[int, msgspec.Meta(ge=20, le=5000, description="20 to 5000")]
    memory: Annotated[int, msgspec.Meta(ge=128, description="MiB, 128 or more")] | None = None


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        unit: The unit's number.
        host: The name by which clients reach the application.
        memory: How much there is to share out, in MiB.
        asked: What each relation asks for.
        applications: Who is at the far end of each relation.
        passwords: Of each role; None before the leader has made the seed.
        owners: To which application each database belongs.
    """

    unit: int
    host: str
    options: Options
    memory: int
    asked: Mapping[int, Requirer]
    applications: Mapping[int, str]
    passwords: Mapping[str, str] | None
    owners: Mapping[str, str]


def plan(state: State) -> Plan:
    """Return what the unit wants: PostgreSQL, and a database for each request that is allowed."""
    if state.unit:
        raise Invalid("scale this application to 1: replication comes later")
    if state.passwords is None:
        raise NotYet("waiting for the leader to make the seed")
    clients, refusals = postgresql.clients(state.asked, state.applications, state.owners)
    logins = {it: state.passwords[it.role] for theirs in clients.values() for it in theirs}
    offers = {
        relation: state.asked[relation].answer(
            [postgresql.provider(state.host, it, logins[it]) for it in theirs]
        )
        for relation, theirs in clients.items()
    }
    silent = sorted(state.applications.keys() - clients.keys())
    return Plan(
        containers={
            "postgresql": postgresql.container(state.options.max_connections, state.memory)
        },
        ports=[postgresql.PORT],
        effects=[Effect("serve clients", postgresql.serve, [logins, silent], "postgresql")],
        offers={"database": offers},
        status=ops.BlockedStatus("; ".join(refusals)) if refusals else None,
    )


class PostgresqlCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.database = Endpoint(self, "database", Requirer)
        framework.observe(self.on["rotate_password"].action, self._on_rotate_password)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: Pebble does not answer, or a secret cannot be read.
        """
        options = load_config(self, Options)
        container = self.unit.get_container("postgresql")
        asked = self.database.all
        roles = [role for relation, it in asked.items() for role in postgresql.roles(relation, it)]
        return State(
            unit=int(self.unit.name.rpartition("/")[2]),
            host=service_host(self),
            options=options,
            memory=options.memory or memory_limit(container) or postgresql.MEMORY,
            asked=asked,
            applications=self.database.apps,
            passwords={it: self.seed.password(it) for it in roles}
            if self.seed.available
            else None,
            owners=postgresql.owners(container) if asked else {},
        )

    def _on_rotate_password(self, event: ops.ActionEvent) -> None:
        client, apps = event.params.get("client", ""), self.database.apps
        chosen = [it for it in self.database.named(client) if it in self.database.all]
        if not self.unit.is_leader():
            event.fail(f"run it on the leader: juju run {self.app.name}/leader rotate-password")
            return
        if not chosen:
            names = ", ".join(sorted(set(apps.values())))
            event.fail(f"client={client}: asks for no database; allowed: {names}")
            return
        for relation in chosen:
            for role in postgresql.roles(relation, self.database.all[relation]):
                self.seed.rotate(role)
        event.set_results({"rotated": ", ".join(apps[it] for it in chosen)})


if __name__ == "__main__":
    ops.main(PostgresqlCharm)
