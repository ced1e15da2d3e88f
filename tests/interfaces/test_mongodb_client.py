"""`mongodb_client` with dpcharmlibs-interfaces, the data platform's library, on either side.

The wire is that of `postgresql_client`, where more of it is tested, and the replica set.
"""

import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest
from ops import testing

from interfaces.mongodb_client import Credentials, Provider, Requirer
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

with warnings.catch_warnings():  # its own models make the newest pydantic warn
    warnings.simplefilter("ignore")
    from dpcharmlibs.interfaces import (
        RequirerCommonModel,
        ResourceCreatedEvent,
        ResourceProviderEventHandler,
        ResourceProviderModel,
        ResourceRequestedEvent,
        ResourceRequirerEventHandler,
    )

HOST = "mongodb-0.mongodb-endpoints.lab.svc.cluster.local:27017"
OPTIONS = {"password": "first-password", "serve": True}

heard: list[Any] = []
"""What the library told the charm at the far end, in order."""


class Server(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.clients = Endpoint(self, "database", Requirer)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> tuple[Mapping[str, Any], Mapping[int, Requirer]]:
        return self.config, self.clients.all


def offer(state: tuple[Mapping[str, Any], Mapping[int, Requirer]]) -> Plan:
    config, clients = state
    if not config["serve"]:
        return Plan()
    offers = {
        relation: it.answer(
            [provider(one.database, f"relation-{relation}", config) for one in it.databases]
        )
        for relation, it in clients.items()
    }
    return Plan(offers={"database": offers})


def provider(database: str, user: str, config: Mapping[str, Any]) -> Provider:
    return Provider(
        database=database,
        endpoints=HOST,
        secret_user=Credentials(
            username=user, password=config["password"], uris=url(database, config["password"])
        ),
        replset="mongodb",
        version="7.0.28",
    )


def url(database: str, password: str = "first-password") -> str:
    return f"mongodb://relation-1:{password}@{HOST}/{database}?authSource=admin&replicaSet=mongodb"


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.database = Endpoint(self, "database", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> Provider | None:
        return self.database.one


def ask(_: Provider | None) -> Plan:
    return Plan(asks={"database": Requirer(database="documents", extra_user_roles="dbAdmin")})


class MongoDBModel(ResourceProviderModel):
    """The library's answer, with what MongoDB says besides."""

    replset: str | None = None


class TheirServer(ops.CharmBase):
    """The library's: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.database = ResourceProviderEventHandler(self, "database", RequirerCommonModel)
        framework.observe(self.database.on.resource_requested, self._on_requested)
        framework.observe(self.on.config_changed, self._on_config_changed)

    def _on_requested(self, event: ResourceRequestedEvent[RequirerCommonModel]) -> None:
        self._answer(event.relation, event.request)

    def _on_config_changed(self, _: ops.ConfigChangedEvent) -> None:
        for relation in self.model.relations["database"]:
            for request in self.database.requests(relation):
                self._answer(relation, request)

    def _answer(self, relation: ops.Relation, request: RequirerCommonModel) -> None:
        heard.append(request)
        response = MongoDBModel(
            salt=request.salt,
            request_id=request.request_id,
            resource=request.resource,
            endpoints=HOST,
            username=f"relation-{relation.id}",
            password=str(self.config["password"]),
            tls=False,
            replset="mongodb",
            version="7.0.28",
        )
        self.database.set_response(relation.id, response)


class TheirClient(ops.CharmBase):
    """The library's: a requirer of two databases."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        requests = [
            RequirerCommonModel(resource="documents", extra_user_roles="dbAdmin"),
            RequirerCommonModel(resource="sessions"),
        ]
        self.database = ResourceRequirerEventHandler(self, "database", requests, MongoDBModel)
        for event in (self.database.on.resource_created, self.database.on.authentication_updated):
            framework.observe(event, self._on_news)

    def _on_news(self, event: ResourceCreatedEvent[MongoDBModel]) -> None:
        heard.append((event.handle.kind, event.response))


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def server(charm: type[ops.CharmBase] = Server) -> pair.Side:
    return pair.Side(charm, "provides", "database", "mongodb_client", **OPTIONS)


def client(charm: type[ops.CharmBase] = Client) -> pair.Side:
    return pair.Side(charm, "requires", "database", "mongodb_client")


def joined(provider: type[ops.CharmBase], requirer: type[ops.CharmBase]) -> pair.Pair:
    both = pair.Pair(server(provider), client(requirer))
    both.join()
    return both


def got(both: pair.Pair) -> Provider:
    return both.requirer.see(lambda charm: charm.database.one)


def test_the_library_asks_us_and_gets_each_database():
    joined(Server, TheirClient)
    created = {it.resource: it for kind, it in heard if kind == "resource_created"}
    assert created.keys() == {"documents", "sessions"}
    for name, it in created.items():
        assert (it.username, it.password) == ("relation-1", "first-password")
        assert (it.endpoints, it.replset, it.version) == (HOST, "mongodb", "7.0.28")
        assert it.uris == url(name)


def test_we_hear_which_roles_the_library_asks_for():
    both = joined(Server, TheirClient)
    (asked,) = both.provider.see(lambda charm: charm.clients.all.values())
    assert {it.database: it.roles for it in asked.databases} == {
        "documents": ["dbadmin"],
        "sessions": [],
    }


def test_the_library_reads_a_new_password_from_the_secret():
    both = joined(Server, TheirClient)
    heard.clear()
    both.configure(both.provider, password="second-password")
    assert {kind for kind, _ in heard} == {"authentication_updated"}
    assert sorted(it.uris for _, it in heard) == [
        url("documents", "second-password"),
        url("sessions", "second-password"),
    ]


def test_what_we_withdraw_the_library_no_longer_has():
    both = joined(Server, TheirClient)
    both.configure(both.provider, serve=False)
    assert not both.provider.said
    assert not both.requirer.state.secrets


def test_we_ask_the_library_and_get_the_database():
    both = joined(TheirServer, Client)
    assert {(it.resource, it.extra_user_roles) for it in heard} == {("documents", "dbAdmin")}
    it = got(both)
    assert (it.database, it.endpoints, it.replset) == ("documents", HOST, "mongodb")
    assert (it.username, it.password) == ("relation-1", "first-password")
    assert it.url == url("documents")
    assert it.tls is False
    assert both.requirer.status == ops.ActiveStatus()


def test_we_read_a_new_password_of_the_library():
    both = joined(TheirServer, Client)
    both.configure(both.provider, password="second-password")
    assert got(both).url == url("documents", "second-password")


def test_ours_and_ours_get_on():
    both = joined(Server, Client)
    assert got(both) == provider("documents", "relation-1", OPTIONS)


PAIRS = [(Server, TheirClient), (TheirServer, Client), (Server, Client)]


@pytest.mark.parametrize(("provider", "requirer"), PAIRS)
def test_a_password_travels_in_a_secret_alone(provider, requirer):
    both = joined(provider, requirer)
    assert users(both.requirer)
    for side in (both.provider, both.requirer):
        assert "first-password" not in side.in_the_open


def users(side: pair.Side) -> list[testing.Secret]:
    return [it for it in side.state.secrets if "username" in (it.latest_content or {})]


@pytest.mark.parametrize("requirer", [TheirClient, Client])
def test_the_end_of_the_relation_takes_our_secrets(requirer):
    both = joined(Server, requirer)
    assert users(both.requirer)
    both.part()
    assert not both.provider.state.secrets
    assert not both.requirer.state.secrets


def test_a_client_of_the_older_library_gets_its_database():
    # As data_interfaces v0.59 writes it.
    side = server()
    asked = {"database": "documents", "extra-user-roles": "default"}
    side.hears({**asked, "requested-secrets": '["username", "password", "tls", "tls-ca", "uris"]'})
    secrets = {it.id: it.latest_content for it in side.state.secrets}
    said = {key: secrets.get(value, value) for key, value in side.said.items()}
    assert said == {
        "database": "documents",
        "endpoints": HOST,
        "replset": "mongodb",
        "version": "7.0.28",
        "secret-user": {
            "username": "relation-1",
            "password": "first-password",
            "uris": url("documents"),
        },
    }


def test_while_a_key_is_missing_there_is_no_database():
    side = client()
    side.hears({"database": "documents", "endpoints": HOST})
    assert side.see(lambda charm: charm.database.one) is None
    assert side.status == ops.WaitingStatus("waiting for database data")


def test_a_url_is_safe_with_any_password_and_has_a_replica_set_only_where_there_is_one():
    credentials = Credentials(username="a@b", password="p:/?#")
    it = Provider(database="documents", endpoints="one:27018,two", secret_user=credentials)
    assert it.url == "mongodb://a%40b:p%3A%2F%3F%23@one:27018,two/documents?authSource=admin"
