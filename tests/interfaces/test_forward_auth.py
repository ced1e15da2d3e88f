"""`forward_auth` with charmlibs-interfaces-forward-auth on either side."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest
from charmlibs.interfaces.forward_auth import (
    AuthConfigChangedEvent,
    ForwardAuthConfig,
    ForwardAuthProvider,
    ForwardAuthRequirer,
    ForwardAuthRequirerConfig,
    InvalidForwardAuthConfigEvent,
)

from interfaces.forward_auth import Provider, Requirer
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

URL = "http://ui.lab.svc.cluster.local:8080/forward-auth"
HEADERS = ("x-katonic-user", "x-katonic-email")
OPTIONS = {"url": URL, "apps": "mlflow,files"}

heard: list[Any] = []
"""What the library told the charm at the far end, in order."""


class Decider(ops.CharmBase):
    """Ours: a provider, willing to protect the applications of its option `apps`."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.gateway = Endpoint(self, "forward-auth", Requirer)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> Mapping[str, Any]:
        return self.config


def offer(config: Mapping[str, Any]) -> Plan:
    apps = tuple(config["apps"].split(","))
    given = Provider(decisions_address=config["url"], app_names=apps, headers=HEADERS)
    return Plan(offers={"forward-auth": given} if config["url"] else {})


class Gateway(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.decider = Endpoint(self, "forward-auth", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> Provider | None:
        return self.decider.one


def ask(_: Provider | None) -> Plan:
    return Plan(asks={"forward-auth": Requirer(ingress_app_names=("mlflow", "files"))})


class TheirDecider(ops.CharmBase):
    """The library's: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.auth = ForwardAuthProvider(self, forward_auth_config=self._config)
        on = self.auth.on
        framework.observe(on.forward_auth_proxy_set, self._on_set)
        framework.observe(on.invalid_forward_auth_config, self._on_invalid)
        framework.observe(self.on.config_changed, self._on_config_changed)

    @property
    def _config(self) -> ForwardAuthConfig:
        apps, url = str(self.config["apps"]).split(","), str(self.config["url"])
        return ForwardAuthConfig(decisions_address=url, app_names=apps, headers=list(HEADERS))

    def _on_set(self, _: ops.EventBase) -> None:
        heard.append("set")

    def _on_invalid(self, event: InvalidForwardAuthConfigEvent) -> None:
        heard.append(event.error)

    def _on_config_changed(self, _: ops.ConfigChangedEvent) -> None:
        self.auth.update_forward_auth_config(self._config)


class TheirGateway(ops.CharmBase):
    """The library's: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.auth = ForwardAuthRequirer(self)
        framework.observe(self.auth.on.auth_config_changed, self._on_changed)
        framework.observe(self.auth.on.auth_config_removed, self._on_removed)
        framework.observe(self.on["forward-auth"].relation_created, self._on_created)

    def _on_created(self, _: ops.RelationCreatedEvent) -> None:
        names = ForwardAuthRequirerConfig(["mlflow", "files"])
        self.auth.update_requirer_relation_data(names)

    def _on_removed(self, _: ops.EventBase) -> None:
        heard.append("removed")

    def _on_changed(self, event: AuthConfigChangedEvent) -> None:
        heard.append((event.decisions_address, tuple(event.app_names), tuple(event.headers)))


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def decider(charm: type[ops.CharmBase] = Decider) -> pair.Side:
    return pair.Side(charm, "provides", "forward-auth", "forward_auth", **OPTIONS)


def gateway(charm: type[ops.CharmBase] = Gateway) -> pair.Side:
    return pair.Side(charm, "requires", "forward-auth", "forward_auth")


def joined(provider: type[ops.CharmBase], requirer: type[ops.CharmBase]) -> pair.Pair:
    both = pair.Pair(decider(provider), gateway(requirer))
    both.join()
    return both


def test_the_library_s_gateway_hears_whom_to_ask_and_for_whom():
    joined(Decider, TheirGateway)
    assert heard[-1] == (URL, ("mlflow", "files"), HEADERS)


def test_we_hear_what_the_library_s_gateway_can_protect():
    both = joined(Decider, TheirGateway)
    (asked,) = both.provider.see(lambda charm: charm.gateway.all.values())
    assert asked.ingress_app_names == ("mlflow", "files")


def test_the_library_s_gateway_protects_whom_we_name():
    both = joined(Decider, TheirGateway)
    protected = [
        both.requirer.see(lambda charm, name=name: charm.auth.is_protected_app(name))
        for name in ("mlflow", "keycloak")
    ]
    assert protected == [True, False]


def test_the_library_s_gateway_hears_of_a_change():
    both = joined(Decider, TheirGateway)
    both.configure(both.provider, apps="mlflow")
    assert heard[-1] == (URL, ("mlflow",), HEADERS)


def test_what_we_withdraw_the_library_s_gateway_no_longer_has():
    both = joined(Decider, TheirGateway)
    both.configure(both.provider, url="")
    assert not both.provider.said
    assert both.requirer.see(lambda charm: charm.auth.is_ready()) is False


def test_the_end_of_the_relation_ends_the_library_s_protection():
    both = joined(Decider, TheirGateway)
    both.part()
    assert heard[-1] == "removed"


def test_we_ask_the_library_and_hear_whom_to_ask_and_for_whom():
    both = joined(TheirDecider, Gateway)
    it = both.requirer.see(lambda charm: charm.decider.one)
    assert it == Provider(decisions_address=URL, app_names=("mlflow", "files"), headers=HEADERS)
    assert heard[-1] == "set"
    assert both.requirer.status == ops.ActiveStatus()


def test_the_library_hears_of_an_application_that_we_cannot_protect():
    both = joined(TheirDecider, Gateway)
    both.configure(both.provider, apps="mlflow,keycloak")
    both.provider.run(
        both.provider.context.on.relation_changed(both.provider.relation, remote_unit=0)
    )
    assert heard[-1] == "keycloak is not related via ingress"


def test_ours_and_ours_get_on():
    both = joined(Decider, Gateway)
    it = both.requirer.see(lambda charm: charm.decider.one)
    assert (it.decisions_address, it.app_names, it.headers) == (URL, ("mlflow", "files"), HEADERS)


def test_until_it_is_said_whom_to_ask_we_wait():
    side = gateway()
    side.hears({"app_names": '["mlflow"]'})
    assert side.see(lambda charm: charm.decider.one) is None
    assert side.status == ops.WaitingStatus("waiting for forward-auth data")
