"""`postgresql_client` with dpcharmlibs-interfaces, the data platform's library, on either side."""

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest
from ops import testing

from interfaces.postgresql_client import Credentials, Provider, Requirer, Tls
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

ENDPOINTS = "postgresql.lab.svc.cluster.local:5432"
OPTIONS = {"password": "first-password", "serve": True, "endpoints": ENDPOINTS}

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
    return Plan(
        offers={
            "database": {
                relation: client.answer(
                    [
                        provider(it.database, f"relation-{relation}", config)
                        for it in client.databases
                    ]
                )
                for relation, client in clients.items()
            }
        }
    )


def provider(database: str, role: str, config: Mapping[str, Any]) -> Provider:
    password, endpoints = config["password"], config["endpoints"]
    uris = f"postgresql://{role}:{password}@{endpoints}/{database}"
    return Provider(
        database=database,
        endpoints=endpoints,
        read_only_endpoints=f"replicas.{endpoints}",
        secret_user=Credentials(username=role, password=password, uris=uris),
        secret_tls=Tls(tls="False"),
        version="16.4",
    )


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.database = Endpoint(self, "database", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> Provider | None:
        return self.database.one


def ask(_: Provider | None) -> Plan:
    return Plan(asks={"database": Requirer(database="mlflow", extra_user_roles="Charmed_Read")})


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
        response = ResourceProviderModel(
            salt=request.salt,
            request_id=request.request_id,
            resource=request.resource,
            endpoints=str(self.config["endpoints"]),
            username=f"relation-{relation.id}",
            password=str(self.config["password"]),
            tls=False,
            version="16.4",
        )
        self.database.set_response(relation.id, response)


class TheirClient(ops.CharmBase):
    """The library's: a requirer of two databases."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        requests = [
            RequirerCommonModel(resource="mlflow", extra_user_roles="Charmed_Read"),
            RequirerCommonModel(resource="files"),
        ]
        self.database = ResourceRequirerEventHandler(
            self, "database", requests, ResourceProviderModel
        )
        for event in (
            self.database.on.resource_created,
            self.database.on.authentication_updated,
            self.database.on.endpoints_changed,
        ):
            framework.observe(event, self._on_news)

    def _on_news(self, event: ResourceCreatedEvent[ResourceProviderModel]) -> None:
        heard.append((event.handle.kind, event.response))


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def server(charm: type[ops.CharmBase] = Server) -> pair.Side:
    return pair.Side(charm, "provides", "database", "postgresql_client", **OPTIONS)


def client(charm: type[ops.CharmBase] = Client) -> pair.Side:
    return pair.Side(charm, "requires", "database", "postgresql_client")


def joined(provider: type[ops.CharmBase], requirer: type[ops.CharmBase]) -> pair.Pair:
    both = pair.Pair(server(provider), client(requirer))
    both.join()
    return both


def got(both: pair.Pair) -> Provider:
    return both.requirer.see(lambda charm: charm.database.one)


def test_the_library_asks_us_and_gets_each_database():
    joined(Server, TheirClient)
    created = [it for kind, it in heard if kind == "resource_created"]
    assert sorted(it.resource for it in created) == ["files", "mlflow"]
    for it in created:
        assert (it.username, it.password) == ("relation-1", "first-password")
        assert it.endpoints == ENDPOINTS
        assert it.read_only_endpoints == f"replicas.{ENDPOINTS}"
        assert it.uris == f"postgresql://relation-1:first-password@{ENDPOINTS}/{it.resource}"
        assert it.version == "16.4"
        assert it.tls is False


def test_we_hear_which_roles_the_library_asks_for():
    both = joined(Server, TheirClient)
    (asked,) = both.provider.see(lambda charm: charm.clients.all.values())
    assert {it.database: it.roles for it in asked.databases} == {
        "mlflow": ["charmed_read"],
        "files": [],
    }


def test_the_library_reads_a_new_password_from_the_secret():
    both = joined(Server, TheirClient)
    heard.clear()
    both.configure(both.provider, password="second-password")
    assert {kind for kind, _ in heard} == {"authentication_updated"}
    assert sorted(it.resource for _, it in heard) == ["files", "mlflow"]
    assert {it.password for _, it in heard} == {"second-password"}


def test_the_library_hears_of_another_primary():
    both = joined(Server, TheirClient)
    heard.clear()
    both.configure(both.provider, endpoints="replica:5432")
    assert {it.endpoints for kind, it in heard if kind == "endpoints_changed"} == {"replica:5432"}


def given(side: pair.Side) -> list[str]:
    """Return the databases that the library has for its charm."""
    return side.see(
        lambda charm: [
            it.resource
            for it in charm.database.interface.build_model(
                pair.RELATION, component=charm.database.relations[0].app
            ).requests
        ]
    )


def test_what_we_withdraw_the_library_no_longer_has():
    both = joined(Server, TheirClient)
    assert sorted(given(both.requirer)) == ["files", "mlflow"]
    both.configure(both.provider, serve=False)
    assert not both.provider.said
    assert not both.requirer.state.secrets
    assert given(both.requirer) == []


def test_we_ask_the_library_and_get_the_database():
    both = joined(TheirServer, Client)
    assert {(it.resource, it.extra_user_roles) for it in heard} == {("mlflow", "Charmed_Read")}
    it = got(both)
    assert (it.database, it.endpoints, it.version) == ("mlflow", ENDPOINTS, "16.4")
    assert (it.host, it.port) == ("postgresql.lab.svc.cluster.local", 5432)
    assert (it.username, it.password) == ("relation-1", "first-password")
    assert it.uris == f"postgresql://relation-1:first-password@{ENDPOINTS}/mlflow"
    assert it.tls is False
    assert both.requirer.status == ops.ActiveStatus()


def test_we_read_a_new_password_of_the_library():
    both = joined(TheirServer, Client)
    both.configure(both.provider, password="second-password")
    assert got(both).password == "second-password"


def test_ours_and_ours_get_on():
    both = joined(Server, Client)
    assert got(both) == provider("mlflow", "relation-1", OPTIONS)


PAIRS = [(Server, TheirClient), (TheirServer, Client), (Server, Client)]


@pytest.mark.parametrize(("provider", "requirer"), PAIRS)
def test_a_password_travels_in_a_secret_alone(provider, requirer):
    both = joined(provider, requirer)
    assert "first-password" in {it.latest_content["password"] for it in users(both.requirer)}
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
    side.hears(
        {
            "database": "mlflow",
            "extra-user-roles": "admin,charmed_read",
            "requested-secrets": '["username", "password", "tls", "tls-ca", "uris"]',
        }
    )
    secrets = {it.id: it.latest_content for it in side.state.secrets}
    said = {key: secrets.get(value, value) for key, value in side.said.items()}
    assert said == {
        "database": "mlflow",
        "endpoints": ENDPOINTS,
        "read-only-endpoints": f"replicas.{ENDPOINTS}",
        "version": "16.4",
        "secret-user": {
            "username": "relation-1",
            "password": "first-password",
            "uris": f"postgresql://relation-1:first-password@{ENDPOINTS}/mlflow",
        },
        "secret-tls": {"tls": "False"},
    }


@pytest.mark.parametrize(
    "databag",
    [
        {"database": "mlflow"},
        {"requested-secrets": '["username", "password"]'},
        {"database": "mlflow", "requested-secrets": "[]", "entity-type": "USER"},
        {"database": "mlf*", "requested-secrets": "[]"},
    ],
    ids=["takes no secrets", "not yet", "a role alone", "a prefix"],
)
def test_what_we_do_not_serve_gets_no_answer(databag):
    side = server()
    side.hears(databag)
    assert not side.said
    assert side.status == ops.ActiveStatus()


def test_of_several_requests_we_answer_those_for_databases():
    asked = """[
        {"resource": "", "entity-type": "USER", "request-id": "a", "salt": "s"},
        {"resource": "mlflow", "entity-type": null, "request-id": "b", "salt": "s"},
        {"resource": "mlf*", "request-id": "c", "salt": "s"}
    ]"""
    side = server()
    side.hears({"version": "v1", "requests": asked})
    assert [it["request-id"] for it in json.loads(side.said["requests"])] == ["b"]
    assert json.loads(side.said["data"]).keys() == {"b"}


def test_a_request_that_cannot_be_read_is_named():
    side = server()
    side.hears({"version": "v1", "requests": '"mlflow"'})
    assert isinstance(side.status, ops.BlockedStatus)
    assert "database from far: requests=mlflow: expected `array" in side.status.message


def test_while_a_key_is_missing_there_is_no_database():
    side = client()
    side.hears({"database": "mlflow", "endpoints": ENDPOINTS})
    assert side.see(lambda charm: charm.database.one) is None
    assert side.status == ops.WaitingStatus("waiting for database data")


def test_a_url_is_safe_with_any_password():
    it = Provider(
        database="ml/flow",
        endpoints="one:5433,two",
        secret_user=Credentials(username="a@b", password="p:/?#"),
    )
    assert it.url("postgresql+psycopg2") == (
        "postgresql+psycopg2://a%40b:p%3A%2F%3F%23@one:5433,two/ml%2Fflow"
    )
    assert (it.host, it.port) == ("one", 5433)
