"""`catalogue`, as version 1 of catalogue-k8s's library writes and reads it.

The library is on Charmhub alone, so the other side is what it writes.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import ops
import pytest

from interfaces.catalogue import Requirer
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

ITEM = {
    "name": "Prometheus",
    "url": "http://foo.bar/lab-prometheus",
    "icon": "chart-line-variant",
    "description": "Prometheus collects metrics.",
}
"""What every version of the library writes, each value as it is."""


class Page(ops.CharmBase):
    """Ours: a provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.tiles = Endpoint(self, "catalogue", Requirer)
        self.reconciler = Reconciler(self, self.gather, show)

    def gather(self) -> Mapping[int, Requirer]:
        return self.tiles.all


def show(_: Mapping[int, Requirer]) -> Plan:
    return Plan()


class Service(ops.CharmBase):
    """Ours: a requirer."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.reconciler = Reconciler(self, self.gather, ask)

    def gather(self) -> str:
        return str(self.config["url"])


def ask(url: str) -> Plan:
    tile = Requirer(name=ITEM["name"], url=url, icon=ITEM["icon"], description=ITEM["description"])
    return Plan(asks={"catalogue": tile} if url else {})


def page() -> pair.Side:
    return pair.Side(Page, "provides", "catalogue", "catalogue")


def service() -> pair.Side:
    return pair.Side(Service, "requires", "catalogue", "catalogue", url=ITEM["url"])


def tiles(side: pair.Side) -> list[Requirer]:
    return list(side.see(lambda charm: charm.tiles.all).values())


def test_we_write_a_tile_as_the_library_does():
    side = service()
    side.hears({})
    assert side.said == ITEM


@pytest.mark.parametrize("more", [{}, {"api_docs": "https://x", "api_endpoints": '{"a": "/b"}'}])
def test_we_read_a_tile_of_the_library(more):
    side = page()
    side.hears(ITEM | more)
    (it,) = tiles(side)
    assert {key: getattr(it, key) for key in ITEM} == ITEM
    assert it.health is None
    assert side.status == ops.ActiveStatus()


def test_a_tile_may_be_without_a_description():
    side = page()  # the library writes "", which Juju takes for nothing
    side.hears({key: it for key, it in ITEM.items() if key != "description"})
    (it,) = tiles(side)
    assert it.description == ""


def test_what_has_no_url_yet_has_no_tile():
    side = page()
    side.hears({key: it for key, it in ITEM.items() if key != "url"})
    assert tiles(side) == []
    assert side.status == ops.ActiveStatus()


def test_ours_and_ours_get_on_and_a_tile_that_is_withdrawn_is_gone():
    both = pair.Pair(page(), service())
    both.join()
    assert [it.url for it in tiles(both.provider)] == [ITEM["url"]]
    both.configure(both.requirer, url="https://mlops.example/prometheus")
    assert [it.url for it in tiles(both.provider)] == ["https://mlops.example/prometheus"]
    both.configure(both.requirer, url="")
    assert tiles(both.provider) == []
