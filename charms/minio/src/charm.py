#!/usr/bin/env python3
"""MinIO: a bucket, and a key that reaches it alone, for each relation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import objectstore
import ops
from objectstore import Secrets

from interfaces import ingress
from interfaces.s3 import Keys, Requirer
from katonic import (
    Config,
    Databag,
    Effect,
    Endpoint,
    Invalid,
    NotYet,
    Plan,
    Reconciler,
    Seed,
    StoredSecret,
    load_config,
    service_host,
)


class Options(Config):
    """The charm's options."""

    versioning: bool


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        gateway: What the gateway has to know to serve the console.
        console_url: Where the gateway serves the console.
        asked: What each relation asks for, and in `applications` who does.
        secrets: None before the leader has made them.
        owners: To which application each bucket belongs.
    """

    unit: int
    host: str
    gateway: Sequence[Databag]
    options: Options
    console_url: str | None
    asked: Mapping[int, Requirer]
    applications: Mapping[int, str]
    secrets: Secrets | None
    owners: Mapping[str, str]


def plan(state: State) -> Plan:
    """Return what the unit wants: MinIO, and a bucket for each request that is allowed."""
    if state.unit:
        raise Invalid("scale this application to 1: several units come later")
    if state.secrets is None:
        raise NotYet("waiting for the leader to make the secrets")
    made = state.secrets
    clients, refusals = objectstore.clients(
        state.asked, state.applications, made.clients, state.owners
    )
    silent = state.applications.keys() - clients.keys()
    served = [made.root, [*clients.values()], silent, state.options.versioning]
    offers = {
        relation: objectstore.provider(state.host, it, state.asked[relation].path)
        for relation, it in clients.items()
    }
    return Plan(
        containers={"minio": objectstore.container(made, state.console_url)},
        ports=[objectstore.PORT, objectstore.CONSOLE_PORT],
        asks={"ingress": state.gateway},
        effects=[Effect("serve clients", objectstore.serve, served)],
        offers={"s3": offers},
        status=ops.BlockedStatus("; ".join(refusals)) if refusals else None,
    )


class MinioCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.seed = Seed(self)
        self.encryption_key = StoredSecret(self, "encryption-key", objectstore.encryption_key)
        self.s3 = Endpoint(self, "s3", Requirer)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        framework.observe(self.on["rotate_key"].action, self._on_rotate_key)
        framework.observe(self.on["get_root_key"].action, self._on_get_root_key)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: A secret cannot be read.
        """
        made, console = self._secrets(), self.ingress.one
        unit = int(self.unit.name.rpartition("/")[2])
        return State(
            unit=unit,
            host=service_host(self),
            gateway=objectstore.gateway(self.app.name, self.model.name, unit),
            options=load_config(self, Options),
            console_url=console.url if console else None,
            asked=self.s3.all,
            applications=self.s3.apps,
            secrets=made,
            owners=objectstore.owners(made.root) if made and self.s3.all else {},
        )

    def _secrets(self) -> Secrets | None:
        key = self.encryption_key.value
        if not self.seed.available or key is None:
            return None
        clients = {it: objectstore.keys(it, self.seed.password("s3", it)) for it in self.s3.apps}
        root = Keys(access_key=f"{self.app.name}-root", secret_key=self.seed.password("root"))
        return Secrets(root, key, clients)

    def _on_rotate_key(self, event: ops.ActionEvent) -> None:
        client, apps = event.params.get("client", ""), self.s3.apps
        chosen = [it for it, app in apps.items() if client in ("", app, str(it))]
        if not self.unit.is_leader():
            event.fail(f"run it on the leader: juju run {self.app.name}/leader rotate-key")
        elif event.params.get("root", False):
            self.seed.rotate("root")
            event.set_results({"rotated": "root"})
        elif not chosen:
            event.fail(f"client={client}: asks for no bucket; allowed: {', '.join(apps.values())}")
        else:
            for relation in chosen:
                self.seed.rotate("s3", relation)
            event.set_results({"rotated": ", ".join(apps[it] for it in chosen)})

    def _on_get_root_key(self, event: ops.ActionEvent) -> None:
        if made := self._secrets():
            event.set_results(msgspec.to_builtins(made.root))
        else:
            event.fail("the leader has not made it yet: try again")


if __name__ == "__main__":
    ops.main(MinioCharm)
