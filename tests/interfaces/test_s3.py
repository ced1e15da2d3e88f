"""`s3` with object-storage-charmlib, the data platform's library, on either side."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest
from object_storage import (
    S3Provider,
    S3Requirer,
    StorageConnectionInfoChangedEvent,
    StorageConnectionInfoRequestedEvent,
)

from interfaces.s3 import Keys, Provider, Requirer
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

# The library asks for Juju's version in a way that ops no longer likes.
pytestmark = pytest.mark.filterwarnings("ignore:JujuVersion.from_environ:DeprecationWarning")

URL = "http://minio.lab.svc.cluster.local:9000"
CHAIN = ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",)
OPTIONS = {"key": "first-secret-key", "serve": True, "region": "us-east-1"}

heard: list[Any] = []
"""What the library told the charm at the far end, in order."""


class Server(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.clients = Endpoint(self, "s3", Requirer)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> tuple[Mapping[str, Any], Mapping[int, Requirer]]:
        return self.config, self.clients.all


def offer(state: tuple[Mapping[str, Any], Mapping[int, Requirer]]) -> Plan:
    config, clients = state
    given = {relation: bucket(relation, it, config) for relation, it in clients.items()}
    return Plan(offers={"s3": given} if config["serve"] else {})


def bucket(relation: int, client: Requirer, config: Mapping[str, Any]) -> Provider:
    return Provider(
        bucket=client.bucket or f"relation-{relation}",
        path=client.path,
        secret_extra=Keys(access_key=f"relation-{relation}", secret_key=config["key"]),
        endpoint=URL,
        region=config["region"],
        s3_uri_style="path",
        tls_ca_chain=CHAIN,
    )


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.s3 = Endpoint(self, "s3", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> Provider | None:
        return self.s3.one


def ask(_: Provider | None) -> Plan:
    return Plan(asks={"s3": Requirer(bucket="mlflow", path="artifacts")})


class TheirServer(ops.CharmBase):
    """The library's: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.s3 = S3Provider(self, "s3")
        framework.observe(self.s3.on.storage_connection_info_requested, self._on_requested)
        framework.observe(self.on.config_changed, self._on_config_changed)

    def _on_requested(self, event: StorageConnectionInfoRequestedEvent) -> None:
        heard.append(self.s3.fetch_relation_data([event.relation.id])[event.relation.id])
        self._answer(event.relation)

    def _on_config_changed(self, _: ops.ConfigChangedEvent) -> None:
        for relation in self.s3.relations:
            self._answer(relation)

    def _answer(self, relation: ops.Relation) -> None:
        asked = self.s3.fetch_relation_data([relation.id])[relation.id]
        answer = {
            "bucket": asked["bucket"],
            "access-key": f"relation-{relation.id}",
            "secret-key": self.config["key"],
            "endpoint": URL,
            "region": self.config["region"],
            "s3-uri-style": "path",
            "tls-ca-chain": list(CHAIN),
        }
        self.s3.set_storage_connection_info(relation.id, answer)  # pyright: ignore


class TheirClient(ops.CharmBase):
    """The library's: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.s3 = S3Requirer(self, "s3", bucket="mlflow", path="artifacts")
        framework.observe(self.s3.on.storage_connection_info_changed, self._on_changed)
        framework.observe(self.s3.on.storage_connection_info_gone, self._on_gone)

    def _on_changed(self, event: StorageConnectionInfoChangedEvent) -> None:
        heard.append(self.s3.get_storage_connection_info(event.relation))

    def _on_gone(self, _: ops.EventBase) -> None:
        heard.append("gone")


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    heard.clear()


def server(charm: type[ops.CharmBase] = Server) -> pair.Side:
    return pair.Side(charm, "provides", "s3", "s3", **OPTIONS)


def client(charm: type[ops.CharmBase] = Client) -> pair.Side:
    return pair.Side(charm, "requires", "s3", "s3")


def joined(provider: type[ops.CharmBase], requirer: type[ops.CharmBase]) -> pair.Pair:
    both = pair.Pair(server(provider), client(requirer))
    both.join()
    return both


def got(both: pair.Pair) -> Provider:
    return both.requirer.see(lambda charm: charm.s3.one)


def test_the_library_asks_us_and_gets_its_bucket():
    joined(Server, TheirClient)
    assert heard[-1] == {
        "bucket": "mlflow",
        "path": "artifacts",
        "access-key": "relation-1",
        "secret-key": "first-secret-key",
        "endpoint": URL,
        "region": "us-east-1",
        "s3-uri-style": "path",
        "tls-ca-chain": list(CHAIN),
    }


def test_the_library_takes_us_for_the_wire_with_secrets():
    both = joined(Server, TheirClient)
    assert both.requirer.see(
        lambda charm: charm.s3.is_provider_schema_v0(charm.s3.relations[0]) is False
    )


def test_we_wait_for_the_whole_of_what_the_library_asks_for():
    # Its requested-secrets come first, its bucket only with its first unit.
    side = server()
    side.hears({"requested-secrets": '["access-key", "secret-key"]'})
    assert not side.said


def test_the_library_reads_a_new_key_from_the_secret():
    both = joined(Server, TheirClient)
    heard.clear()
    both.configure(both.provider, key="second-secret-key")
    assert [it["secret-key"] for it in heard] == ["second-secret-key"]


def test_the_library_hears_of_another_region():
    both = joined(Server, TheirClient)
    both.configure(both.provider, region="eu-west-1")
    assert heard[-1]["region"] == "eu-west-1"


def test_what_we_withdraw_the_library_no_longer_has():
    both = joined(Server, TheirClient)
    assert both.requirer.see(lambda charm: charm.s3.get_storage_connection_info()) == heard[-1]
    both.configure(both.provider, serve=False)
    assert not both.provider.said
    assert not both.requirer.state.secrets
    assert both.requirer.see(lambda charm: charm.s3.get_storage_connection_info()) == {}


def test_we_ask_the_library_and_get_our_bucket():
    both = joined(TheirServer, Client)
    assert heard[-1]["bucket"] == "mlflow"
    assert heard[-1]["path"] == "artifacts"
    it = got(both)
    assert (it.bucket, it.endpoint, it.region) == ("mlflow", URL, "us-east-1")
    assert (it.access_key, it.secret_key) == ("relation-1", "first-secret-key")
    assert (it.s3_uri_style, it.tls_ca_chain) == ("path", CHAIN)
    assert both.requirer.status == ops.ActiveStatus()


def test_we_read_a_new_key_of_the_library():
    both = joined(TheirServer, Client)
    both.configure(both.provider, key="second-secret-key")
    assert got(both).secret_key == "second-secret-key"


def test_ours_and_ours_get_on():
    both = joined(Server, Client)
    asked = Requirer(bucket="mlflow", path="artifacts")
    assert got(both) == bucket(pair.RELATION, asked, OPTIONS)


PAIRS = [(Server, TheirClient), (TheirServer, Client), (Server, Client)]


@pytest.mark.parametrize(("provider", "requirer"), PAIRS)
def test_a_key_travels_in_a_secret_alone(provider, requirer):
    both = joined(provider, requirer)
    (secret,) = both.requirer.state.secrets
    assert secret.latest_content == {"access-key": "relation-1", "secret-key": "first-secret-key"}
    for side in (both.provider, both.requirer):
        assert "first-secret-key" not in side.in_the_open


@pytest.mark.parametrize("requirer", [TheirClient, Client])
def test_the_end_of_the_relation_takes_our_secret(requirer):
    both = joined(Server, requirer)
    assert both.requirer.state.secrets
    both.part()
    assert not both.provider.state.secrets
    assert not both.requirer.state.secrets


def test_a_client_that_takes_no_secrets_gets_no_keys():
    side = server()
    side.hears({"bucket": "relation-1"})  # as the library's version 0 asks
    assert not side.said
    assert not side.state.secrets


def test_while_a_key_is_missing_there_is_no_bucket():
    side = client()
    side.hears({"version": "1", "bucket": "mlflow", "endpoint": URL})
    assert side.see(lambda charm: charm.s3.one) is None
    assert side.status == ops.WaitingStatus("waiting for s3 data")


def test_a_wrong_value_is_named():
    side = client()
    side.state = pair.holding(side.state, {"access-key": "a-key", "secret-key": "a-secret"})
    (secret,) = side.state.secrets
    side.hears({"secret-extra": secret.id, "s3-uri-style": "virtual"})
    assert side.status == ops.BlockedStatus(
        "s3 from far: s3-uri-style=virtual: invalid enum value 'virtual'; allowed: path, host"
    )


def test_amazons_libraries_find_all_they_need_in_the_environment():
    assert bucket(1, Requirer(bucket="b"), OPTIONS).environment == {
        "AWS_ACCESS_KEY_ID": "relation-1",
        "AWS_SECRET_ACCESS_KEY": "first-secret-key",
        "AWS_ENDPOINT_URL": URL,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
