"""`katonic_api`, our own: nobody else speaks it, so both sides are ours."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops

from interfaces.katonic_api import Provider
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

URL = "http://katonic-api.lab.svc.cluster.local:8080"


class Server(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> Mapping[str, Any]:
        return self.config


def offer(config: Mapping[str, Any]) -> Plan:
    given = Provider(url=URL, audience=config["audience"])
    return Plan(offers={"api": given} if config["audience"] else {})


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.api = Endpoint(self, "api", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> Provider | None:
        return self.api.one


def ask(_: Provider | None) -> Plan:
    return Plan()


def joined() -> pair.Pair:
    provider = pair.Side(Server, "provides", "api", "katonic_api", audience="katonic-api")
    both = pair.Pair(provider, pair.Side(Client, "requires", "api", "katonic_api"))
    both.join()
    return both


def got(both: pair.Pair) -> Provider | None:
    return both.requirer.see(lambda charm: charm.api.one)


def test_a_client_is_told_where_the_api_is_and_whom_its_tokens_are_for():
    both = joined()
    assert both.provider.said == {"url": URL, "audience": "katonic-api"}
    assert got(both) == Provider(url=URL, audience="katonic-api")
    assert both.requirer.status == ops.ActiveStatus()


def test_another_audience_arrives():
    both = joined()
    both.configure(both.provider, audience="another")
    assert got(both) == Provider(url=URL, audience="another")


def test_what_is_withdrawn_is_waited_for():
    both = joined()
    both.configure(both.provider, audience="")
    assert got(both) is None
    assert both.requirer.status == ops.WaitingStatus("waiting for api data")
