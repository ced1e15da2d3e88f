#!/usr/bin/env python3
"""The platform's pages, and who may pass its gateway."""

from collections.abc import Mapping
from dataclasses import dataclass

import ops
import ui

from interfaces import forward_auth, ingress, katonic_api, mongodb_client, oauth
from katonic import (
    Endpoint,
    NotYet,
    Plan,
    Reconciler,
    StoredSecret,
    load_config,
    service_host,
)


@dataclass(frozen=True)
class State:
    """What the charm knows.

    Attributes:
        unit: The unit's number.
        host: The name by which pods reach the application.
        keys: What encrypts sessions; None before the leader has made it.
        gateways: What each gateway can protect, by its relation.
    """

    application: str
    model: str
    unit: int
    host: str
    options: ui.Options
    keys: tuple[str, ...] | None
    sessions: mongodb_client.Provider | None
    oauth: oauth.Provider | None
    api: katonic_api.Provider | None
    ingress: ingress.Provider | None
    gateways: Mapping[int, forward_auth.Requirer]


def plan(state: State) -> Plan:
    """Return what the unit wants: the pages, which tell people what they lack."""
    name, model = state.application, state.model
    if state.keys is None:
        raise NotYet("waiting for the leader to make the session key")
    inside = f"http://{state.host}:{ui.PORT}"
    url = state.ingress.url if state.ingress else inside
    pages = ui.Pages(url, state.options, state.keys, state.sessions, state.oauth, state.api)
    pod = f"{name}-{state.unit}.{name}-endpoints.{model}.svc.cluster.local"
    return Plan(
        containers={"katonic-ui": ui.container(pages)},
        ports=[ui.PORT, ui.METRICS_PORT],
        asks={
            "sessions": mongodb_client.Requirer(database=name),
            "oauth": ui.client(url, state.api),
            "api": katonic_api.Requirer(),
            "ingress": [
                ingress.Requirer(name=name, model=model, port=ui.PORT),
                ingress.RequirerUnit(host=pod),
            ],
        },
        offers={
            "forward-auth": {
                key: ui.decisions(inside, it.ingress_app_names)
                for key, it in state.gateways.items()
            }
        },
    )


class KatonicUiCharm(ops.CharmBase):
    """The charm."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.key = StoredSecret(self, "session-key", ui.new_key)
        self.sessions = Endpoint(self, "sessions", mongodb_client.Provider)
        self.oauth = Endpoint(self, "oauth", oauth.Provider)
        self.api = Endpoint(self, "api", katonic_api.Provider)
        self.ingress = Endpoint(self, "ingress", ingress.Provider)
        self.gateways = Endpoint(self, "forward-auth", forward_auth.Requirer)
        framework.observe(self.on["rotate_session_key"].action, self._on_rotate_session_key)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        """Return what the charm knows.

        Raises:
            Invalid: An option or a relation says what is not allowed.
            NotYet: A secret cannot be read.
        """
        content = self.key.read()
        return State(
            application=self.app.name,
            model=self.model.name,
            unit=int(self.unit.name.rpartition("/")[2]),
            host=service_host(self),
            options=ui.checked(load_config(self, ui.Options)),
            keys=ui.keys(content) if content else None,
            sessions=self.sessions.one,
            oauth=self.oauth.one,
            api=self.api.one,
            ingress=self.ingress.one,
            gateways=self.gateways.all,
        )

    def _on_rotate_session_key(self, event: ops.ActionEvent) -> None:
        if self.unit.is_leader():
            self.key.write(ui.rotated(self.key.read()))
            event.set_results({"rotated": "session-key"})
        else:
            event.fail(f"run it on the leader: juju run {self.app.name}/leader rotate-session-key")


if __name__ == "__main__":
    ops.main(KatonicUiCharm)
