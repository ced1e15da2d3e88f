"""`k8s-service`, as version 0 of mlops-libs' k8s_service_info writes and reads it.

The library is on Charmhub alone, so the other side is what it writes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest

from interfaces.k8s_service import Provider
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

SERVICE = {"svc_name": "mlflow.lab.svc.cluster.local", "svc_port": "5000"}
"""What the library writes, and what it asks for by these keys."""


class Server(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> Mapping[str, Any]:
        return self.config


def offer(config: Mapping[str, Any]) -> Plan:
    given = Provider(name=SERVICE["svc_name"], port=config["port"])
    return Plan(offers={"k8s-service": given} if config["port"] else {})


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.service = Endpoint(self, "k8s-service", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> Provider | None:
        return self.service.one


def ask(_: Provider | None) -> Plan:
    return Plan()


def server() -> pair.Side:
    return pair.Side(Server, "provides", "k8s-service", "k8s-service", port=5000)


def client() -> pair.Side:
    return pair.Side(Client, "requires", "k8s-service", "k8s-service")


def url(side: pair.Side) -> str | None:
    return side.see(lambda charm: charm.service.one and charm.service.one.url)


def test_we_write_as_the_library_does():
    side = server()
    side.hears({})
    assert side.said == SERVICE


def test_we_read_what_the_library_writes():
    side = client()
    side.hears(SERVICE)
    assert url(side) == "http://mlflow.lab.svc.cluster.local:5000"
    assert side.status == ops.ActiveStatus()


@pytest.mark.parametrize("missing", SERVICE)
def test_while_a_key_is_missing_we_wait(missing):
    side = client()
    side.hears({key: it for key, it in SERVICE.items() if key != missing})
    assert url(side) is None
    assert side.status == ops.WaitingStatus("waiting for k8s-service data")


@pytest.mark.parametrize("port", ["http", "0", "65536"])
def test_a_port_that_there_is_not_is_named(port):
    side = client()
    side.hears(SERVICE | {"svc_port": port})
    assert isinstance(side.status, ops.BlockedStatus)
    assert f"k8s-service from far: svc_port={port}: " in side.status.message
    assert "allowed: 1 to 65535" in side.status.message


def test_ours_and_ours_get_on_and_what_is_withdrawn_is_gone():
    both = pair.Pair(server(), client())
    both.join()
    assert url(both.requirer) == "http://mlflow.lab.svc.cluster.local:5000"
    both.configure(both.provider, port=5001)
    assert url(both.requirer) == "http://mlflow.lab.svc.cluster.local:5001"
    both.configure(both.provider, port=0)
    assert not both.provider.said
    assert url(both.requirer) is None
