"""`oauth` with charmlibs-interfaces-oauth, the identity platform's library, on either side."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import ops
import pytest
from charmlibs.interfaces.oauth import (
    ClientConfig,
    ClientCreatedEvent,
    OAuthProvider,
    OAuthRequirer,
)

from interfaces.oauth import ClientSecret, Provider, Requirer
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

ISSUER = "https://mlops.example/auth/realms/katonic"
BACK = "https://mlops.example/mlflow/callback"
OPTIONS = {"secret": "first-client-secret", "serve": True, "groups": "groups"}
DISCOVERY = {
    "issuer_url": ISSUER,
    "authorization_endpoint": f"{ISSUER}/auth",
    "token_endpoint": f"{ISSUER}/token",
    "introspection_endpoint": f"{ISSUER}/introspect",
    "userinfo_endpoint": f"{ISSUER}/userinfo",
    "jwks_endpoint": f"{ISSUER}/certs",
}

heard: list[Any] = []
"""What the library told the charm at the far end, in order."""


class Server(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.clients = Endpoint(self, "oauth", Requirer)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> tuple[Mapping[str, Any], Mapping[int, Requirer]]:
        return self.config, self.clients.all


def offer(state: tuple[Mapping[str, Any], Mapping[int, Requirer]]) -> Plan:
    config, clients = state
    given = {relation: registered(relation, it, config) for relation, it in clients.items()}
    return Plan(offers={"oauth": given} if config["serve"] else {})


def registered(relation: int, client: Requirer, config: Mapping[str, Any]) -> Provider:
    return Provider(
        **DISCOVERY,
        scopes=client.scopes,
        client_id=f"client-{relation}",
        client_secret_id=ClientSecret(secret=config["secret"]),
        groups=config["groups"],
        ca_chain=("a certificate",),
    )


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.oauth = Endpoint(self, "oauth", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> tuple[Mapping[str, Any], Provider | None]:
        return self.config, self.oauth.one


def ask(state: tuple[Mapping[str, Any], Provider | None]) -> Plan:
    wanted = Requirer(
        scopes="openid email",
        grant_types=("authorization_code", "refresh_token"),
        redirect_uri=BACK,
        audience=("mlflow",),
    )
    if more := state[0].get("more"):
        wanted = msgspec.structs.replace(wanted, redirect_uri=(BACK, more))
    return Plan(asks={"oauth": wanted})


class TheirServer(ops.CharmBase):
    """The library's: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.oauth = OAuthProvider(self)
        for event in (self.on.oauth_relation_created, self.on.config_changed):
            framework.observe(event, self._on_news)
        framework.observe(self.oauth.on.client_created, self._on_client)
        framework.observe(self.oauth.on.client_changed, self._on_client)

    def _on_news(self, _: ops.EventBase) -> None:
        self.oauth.set_provider_info_in_relation_data(
            **DISCOVERY, scope="openid email", groups="groups", jwt_access_token=True
        )
        for relation in self.model.relations["oauth"]:
            if self.oauth.get_client_secret(relation):
                self._give(relation.id)

    def _on_client(self, event: ClientCreatedEvent) -> None:
        heard.append((event.handle.kind, event.to_client_config()))
        self._give(event.relation_id)

    def _give(self, relation: int) -> None:
        secret = str(self.config["secret"])
        self.oauth.set_client_credentials_in_relation_data(relation, f"client-{relation}", secret)


class TheirClient(ops.CharmBase):
    """The library's: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        grants = ["authorization_code", "refresh_token"]
        config = ClientConfig(BACK, "openid email", grants, audience=["mlflow"])
        self.oauth = OAuthRequirer(self, config)
        for event in (self.oauth.on.oauth_info_changed, self.on.secret_changed):
            framework.observe(event, self._on_news)
        framework.observe(self.oauth.on.oauth_info_removed, self._on_removed)

    def _on_news(self, _: ops.EventBase) -> None:
        heard.append(self.oauth.get_provider_info())

    def _on_removed(self, _: ops.EventBase) -> None:
        heard.append("removed")


class TheirClientOfTwo(TheirClient):
    """The library's: a requirer to which people come back by two ways."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        uris = [BACK, f"{BACK}/too"]
        self.oauth.update_client_config(ClientConfig(uris, "openid", ["authorization_code"]))


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def server(charm: type[ops.CharmBase] = Server) -> pair.Side:
    return pair.Side(charm, "provides", "oauth", "oauth", **OPTIONS)


def client(charm: type[ops.CharmBase] = Client) -> pair.Side:
    return pair.Side(charm, "requires", "oauth", "oauth", more="")


def joined(provider: type[ops.CharmBase], requirer: type[ops.CharmBase]) -> pair.Pair:
    both = pair.Pair(server(provider), client(requirer))
    both.join()
    return both


def got(both: pair.Pair) -> Provider:
    return both.requirer.see(lambda charm: charm.oauth.one)


def asked(both: pair.Pair) -> Requirer:
    return both.provider.see(lambda charm: charm.clients.all[pair.RELATION])


def test_the_library_asks_us_and_gets_its_client():
    both = joined(Server, TheirClient)
    it = heard[-1]
    assert {key: getattr(it, key) for key in DISCOVERY} == DISCOVERY
    assert (it.client_id, it.client_secret) == ("client-1", "first-client-secret")
    assert (it.scope, it.groups, it.ca_chain) == ("openid email", "groups", ["a certificate"])
    assert it.jwt_access_token is True
    assert both.requirer.see(lambda charm: charm.oauth.is_client_created())


def test_we_hear_what_client_the_library_asks_for():
    it = asked(joined(Server, TheirClient))
    assert (it.scopes, it.audience) == ("openid email", ("mlflow",))
    assert it.grant_types == ("authorization_code", "refresh_token")
    assert it.redirect_uris == (BACK,)
    assert it.token_endpoint_auth_method == "client_secret_basic"


def test_we_hear_of_every_way_back_that_the_library_asks_for():
    assert asked(joined(Server, TheirClientOfTwo)).redirect_uris == (BACK, f"{BACK}/too")


def test_the_library_reads_a_new_client_secret():
    both = joined(Server, TheirClient)
    heard.clear()
    both.configure(both.provider, secret="second-client-secret")
    assert [it.client_secret for it in heard] == ["second-client-secret"]


def test_the_library_hears_of_another_claim():
    both = joined(Server, TheirClient)
    both.configure(both.provider, groups="roles")
    assert heard[-1].groups == "roles"


def test_what_we_withdraw_the_library_no_longer_has():
    both = joined(Server, TheirClient)
    assert both.requirer.see(lambda charm: charm.oauth.get_provider_info()) == heard[-1]
    both.configure(both.provider, serve=False)
    assert not both.provider.said
    assert not both.requirer.state.secrets
    assert both.requirer.see(lambda charm: charm.oauth.get_provider_info()) is None


def test_we_ask_the_library_and_get_our_client():
    both = joined(TheirServer, Client)
    assert heard[0] == (
        "client_created",
        ClientConfig(BACK, "openid email", ["authorization_code", "refresh_token"], ["mlflow"]),
    )
    it = got(both)
    assert {key: getattr(it, key) for key in DISCOVERY} == DISCOVERY
    assert (it.client_id, it.client_secret) == ("client-1", "first-client-secret")
    assert (it.scopes, it.groups, it.jwt_access_token) == ("openid email", "groups", "True")
    assert both.requirer.status == ops.ActiveStatus()


def test_the_library_hears_of_every_way_back_that_we_ask_for():
    both = joined(TheirServer, Client)
    both.configure(both.requirer, more=f"{BACK}/too")
    kind, config = heard[-1]
    assert kind == "client_changed"
    assert config.redirect_uris == [BACK, f"{BACK}/too"]


def test_we_read_a_new_client_secret_of_the_library():
    both = joined(TheirServer, Client)
    both.configure(both.provider, secret="second-client-secret")
    assert got(both).client_secret == "second-client-secret"


def test_ours_and_ours_get_on():
    both = joined(Server, Client)
    assert got(both) == registered(pair.RELATION, asked(both), OPTIONS)


PAIRS = [(Server, TheirClient), (TheirServer, Client), (Server, Client)]


@pytest.mark.parametrize(("provider", "requirer"), PAIRS)
def test_a_client_secret_travels_in_a_secret_alone(provider, requirer):
    both = joined(provider, requirer)
    (secret,) = both.requirer.state.secrets
    assert secret.latest_content == {"secret": "first-client-secret"}
    for side in (both.provider, both.requirer):
        assert "first-client-secret" not in side.in_the_open


@pytest.mark.parametrize("requirer", [TheirClient, Client])
def test_the_end_of_the_relation_takes_our_secret(requirer):
    both = joined(Server, requirer)
    assert both.requirer.state.secrets
    both.part()
    assert not both.provider.state.secrets
    assert not both.requirer.state.secrets


def test_while_a_client_is_not_registered_there_is_none():
    # The library's provider says where it is before it has a client for us.
    side = client()
    side.hears({**DISCOVERY, "scope": "openid"})
    assert side.see(lambda charm: charm.oauth.one) is None
    assert side.status == ops.WaitingStatus("waiting for oauth data")


def test_while_a_client_says_only_half_there_is_nothing_to_register():
    side = server()
    side.hears({"scope": "openid"})
    assert not side.said


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("grant_types", '["implicit"]', "authorization_code, refresh_token, client_credentials"),
        ("token_endpoint_auth_method", "none", "client_secret_basic, client_secret_post"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, allowed):
    side = server()
    side.hears({"scope": "openid", "grant_types": '["refresh_token"]', key: value})
    assert isinstance(side.status, ops.BlockedStatus)
    assert side.status.message.startswith(f"oauth from far: {key}=")
    assert f"; allowed: {allowed}" in side.status.message
