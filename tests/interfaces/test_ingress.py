"""`ingress` version 2, as its page in the central register of interfaces has it.

Its library is on no package registry, so the other side is that page's own JSON.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest

from interfaces.ingress import Ingress, Provider, Requirer, RequirerUnit
from katonic import Endpoint, Plan, Reconciler, wire

sys.path.insert(0, str(Path(__file__).parent))
import pair

APPLICATION = {"name": '"app_name"', "model": '"model_name"', "port": "4242"}
UNIT = {"host": '"hostname"'}
GATEWAY = {"ingress": '{"url": "http://foo.bar:80/model_name-app_name/0"}'}


class Gateway(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.routes = Endpoint(self, "ingress", Requirer)
        self.reconciler = Reconciler(self, self.gather, offer)

    def gather(self) -> tuple[Mapping[str, Any], Mapping[int, Requirer]]:
        return self.config, self.routes.all


def offer(state: tuple[Mapping[str, Any], Mapping[int, Requirer]]) -> Plan:
    config, routes = state
    given = {
        relation: Provider(ingress=Ingress(url=f"{config['url']}/{it.model}-{it.name}"))
        for relation, it in routes.items()
    }
    return Plan(offers={"ingress": given} if config["url"] else {})


class Client(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.ingress = Endpoint(self, "ingress", Provider)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> tuple[Mapping[str, Any], Provider | None]:
        return self.config, self.ingress.one


def ask(state: tuple[Mapping[str, Any], Provider | None]) -> Plan:
    strip = state[0]["strip"] or None
    wanted = Requirer(name="app_name", model="model_name", port=4242, strip_prefix=strip)
    return Plan(asks={"ingress": [wanted, RequirerUnit(host="hostname")]})


def gateway() -> pair.Side:
    return pair.Side(Gateway, "provides", "ingress", "ingress", url="http://foo.bar:80")


def client(*, strip: bool = False) -> pair.Side:
    return pair.Side(Client, "requires", "ingress", "ingress", strip=strip)


def no_secrets(uri: str) -> dict[str, str]:
    raise AssertionError(f"there is no secret in ingress, and so no {uri}")


def test_we_ask_as_the_page_has_it():
    side = client()
    side.hears({})
    assert side.said == APPLICATION
    own = side.relation.local_unit_data
    assert {key: own[key] for key in own.keys() - JUJU} == UNIT


JUJU = {"egress-subnets", "ingress-address", "private-address"}


def test_what_we_ask_beside_the_page_is_spelt_as_in_the_library():
    side = client(strip=True)
    side.hears({})
    assert side.said == {**APPLICATION, "strip-prefix": "true"}


def test_a_follower_says_where_it_is_and_nothing_for_the_application():
    side = client()
    side.state = pair.following(side.state)
    side.hears({})
    assert not side.said
    assert side.relation.local_unit_data["host"] == '"hostname"'


def test_we_read_the_url_that_the_page_has():
    side = client()
    side.hears(GATEWAY)
    it = side.see(lambda charm: charm.ingress.one)
    assert it.url == "http://foo.bar:80/model_name-app_name/0"
    assert (it.hostname, it.path) == ("foo.bar", "/model_name-app_name/0")
    assert side.status == ops.ActiveStatus()


def test_a_url_ends_without_a_slash_and_the_root_has_no_path():
    it = Provider(ingress=Ingress(url="https://mlops.example/"))
    assert (it.url, it.path) == ("https://mlops.example", "")


@pytest.mark.parametrize("databag", [{}, {"ingress": "null"}, {"other": "1"}])
def test_while_there_is_no_url_we_wait(databag):
    side = client()
    side.hears(databag)
    assert side.see(lambda charm: charm.ingress.one) is None
    assert side.status == ops.WaitingStatus("waiting for ingress data")


def test_we_answer_what_the_page_has():
    side = gateway()
    side.hears(APPLICATION)
    assert side.said == {"ingress": '{"url": "http://foo.bar:80/model_name-app_name"}'}


def test_we_read_a_unit_as_the_page_has_it():
    # Juju's own keys stand beside, and are no JSON.
    bag = {**UNIT, "private-address": "10.1.0.7", "ip": '"10.1.0.7"'}
    assert wire.decode(RequirerUnit, bag, no_secrets) == RequirerUnit(
        host="hostname", ip="10.1.0.7"
    )


def test_we_read_all_that_the_library_says_of_an_application():
    more = {
        "strip-prefix": "true",
        "redirect-https": "true",
        "scheme": '"https"',
        "is_port_open": "true",
        "healthcheck_params": '{"path": "/health", "interval": "30s", "timeout": "5s"}',
    }
    assert wire.decode(Requirer, {**APPLICATION, **more}, no_secrets) == Requirer(
        name="app_name",
        model="model_name",
        port=4242,
        scheme="https",
        strip_prefix=True,
        redirect_https=True,
    )


def test_while_an_application_says_only_half_there_is_no_url():
    side = gateway()
    side.hears({"name": '"app_name"', "port": "4242"})
    assert not side.said
    assert side.status == ops.ActiveStatus()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("port", "65535", "port=65535: expected `int` <= 65534; allowed: 1 to 65534"),
        ("port", '"http"', "port=http: expected `int`, got `str`; allowed: 1 to 65534"),
        ("name", "5", "name=5: expected `str`, got `int`"),
        ("scheme", '"ftp"', "scheme=ftp: invalid enum value 'ftp'; allowed: http, https, h2c"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key, value, message):
    side = gateway()
    side.hears({**APPLICATION, key: value})
    assert side.status == ops.BlockedStatus(f"ingress from far: {message}")
    assert not side.said


def test_ours_and_ours_get_on():
    both = pair.Pair(gateway(), client())
    both.join()
    it = both.requirer.see(lambda charm: charm.ingress.one)
    assert it.url == "http://foo.bar:80/model_name-app_name"
    both.configure(both.provider, url="https://foo.bar")
    it = both.requirer.see(lambda charm: charm.ingress.one)
    assert it.url == "https://foo.bar/model_name-app_name"
    both.configure(both.provider, url="")
    assert not both.provider.said
    assert both.requirer.status == ops.WaitingStatus("waiting for ingress data")
