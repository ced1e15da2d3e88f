#!/usr/bin/env python3
"""MinIO: a bucket, and a key that reaches it alone, for each relation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import objectstore
import ops
from objectstore import Options, Secrets

from interfaces import ingress
from interfaces.s3 import Requirer
from katonic import (
    Databag,
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
    service_host,
)


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
    tiles = objectstore.tiles(state.host, state.console_url)
    return Plan(
        containers={"minio": objectstore.container(made, state.console_url)},
        ports=[objectstore.PORT, objectstore.CONSOLE_PORT],
        asks={"ingress": state.gateway, "catalogue": tiles},
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
        options, console = load_config(self, Options), self.ingress.one
        made = self._secrets(options)
        unit = int(self.unit.name.rpartition("/")[2])
        return State(
            unit=unit,
            host=service_host(self),
            gateway=objectstore.gateway(self.app.name, self.model.name, unit),
            options=options,
            console_url=console.url if console else None,
            asked=self.s3.all,
            applications=self.s3.apps,
            secrets=made,
            owners=objectstore.owners(made.root) if made and self.s3.all else {},
        )

    def _secrets(self, options: Options) -> Secrets | None:
        given_key = options.encryption_key
        key = given(self, "encryption-key", given_key) if given_key else self.encryption_key.value
        if key is None or not self.seed.available:
            return None
        return objectstore.made(self.app.name, self.seed, key, self.s3.apps)

    def _on_rotate_key(self, event: ops.ActionEvent) -> None:
        client, apps = event.params.get("client", ""), self.s3.apps
        chosen = self.s3.named(client)
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
        try:
            if made := self._secrets(load_config(self, Options)):
                keys = msgspec.to_builtins(made.root)
                event.set_results({**keys, "encryption-key": made.encryption_key})
            else:
                event.fail("the leader has not made it yet: try again")
        except Invalid as reason:
            event.fail(str(reason))


if __name__ == "__main__":
    ops.main(MinioCharm)
