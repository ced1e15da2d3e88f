"""`node_pools`, which no library of the ecosystem speaks: both sides are ours."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import ops
import pytest
from lightkube.models.core_v1 import PodSpec, ResourceRequirements

from interfaces.node_pools import EXAMPLES, Provider, Requirer, UnknownPoolError
from katonic import Endpoint, Plan, Reconciler

sys.path.insert(0, str(Path(__file__).parent))
import pair

(EXAMPLE,) = (it for it in EXAMPLES if isinstance(it, Provider))
POOLS = EXAMPLE.pools


class Nodes(ops.CharmBase):
    """A provider."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.clients = Endpoint(self, "node-pools", Requirer)
        self.reconciler = Reconciler(self, lambda: self.config, offer)


def offer(config: Mapping[str, Any]) -> Plan:
    known = tuple(it for it in POOLS if it.name in config["pools"].split())
    return Plan(offers={"node-pools": Provider(pools=known)} if known else {})


class Maker(ops.CharmBase):
    """A requirer, who makes pods."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.pools = Endpoint(self, "node-pools", Provider)
        self.reconciler = Reconciler(self, lambda: None, lambda _: Plan())


def nodes(pools: str = "compute deployment gpu-v100") -> pair.Side:
    return pair.Side(Nodes, "provides", "node-pools", "node_pools", pools=pools)


def maker() -> pair.Side:
    return pair.Side(Maker, "requires", "node-pools", "node_pools")


def test_what_is_said_is_read():
    both = pair.Pair(nodes(), maker())
    both.join()
    assert both.requirer.see(lambda charm: charm.pools.one) == EXAMPLE
    assert both.requirer.status == both.provider.status == ops.ActiveStatus()


def test_a_change_of_the_pools_arrives():
    both = pair.Pair(nodes("compute"), maker())
    both.join()
    both.configure(both.provider, pools="compute gpu-v100")
    seen = both.requirer.see(lambda charm: charm.pools.one)
    assert [it.name for it in seen.pools] == ["compute", "gpu-v100"]
    both.part()
    assert both.requirer.see(lambda charm: charm.pools.one) is None


def test_nothing_is_asked_and_everyone_is_told():
    both = pair.Pair(nodes(), maker())
    both.join()
    assert not both.requirer.said
    assert both.provider.see(lambda charm: charm.clients.all) == {pair.RELATION: Requirer()}


def test_while_there_are_no_pools_we_wait():
    side = maker()
    side.hears({})
    assert side.status == ops.WaitingStatus("waiting for node-pools data")


def test_the_wire_is_as_its_page_has_it():
    side = nodes("gpu-v100")
    side.hears({})
    (pool,) = json.loads(side.said["pools"])
    assert pool == {
        "name": "gpu-v100",
        "selector": {"katonic.ai/node-pool": "gpu-v100"},
        "tolerations": [
            {
                "key": "nvidia.com/gpu",
                "operator": "Equal",
                "value": "katonic-v100",
                "effect": "NoSchedule",
            }
        ],
        "nodes": 1,
        "free": {"cpu": 6, "memory": 24 * 2**30, "gpus": 1},
        "gpu-type": "v100",
    }


def test_a_wrong_value_is_named():
    side = maker()
    bad = [{**msgspec.to_builtins(POOLS[0]), "nodes": "many"}]
    side.hears({"pools": json.dumps(bad)})
    assert isinstance(side.status, ops.BlockedStatus)
    assert "node-pools from far: pools=" in side.status.message


def test_a_key_of_a_later_version_is_passed_over():
    side = maker()
    side.hears({"pools": json.dumps([{**msgspec.to_builtins(POOLS[0]), "price": 3}])})
    assert side.see(lambda charm: charm.pools.one).pools == POOLS[:1]


@pytest.mark.parametrize("name", ["gpu-v100", "v100"])
def test_a_pod_finds_its_gpu_by_the_pools_name_or_the_type(name):
    place = EXAMPLE.placement(name, gpus=2)
    spec = msgspec.convert({"containers": [], **place.pod}, PodSpec)
    assert spec.nodeSelector == {"katonic.ai/node-pool": "gpu-v100"}
    (toleration,) = spec.tolerations or []
    assert (toleration.key, toleration.operator) == ("nvidia.com/gpu", "Equal")
    assert (toleration.value, toleration.effect) == ("katonic-v100", "NoSchedule")
    assert ResourceRequirements(limits=dict(place.limits)).limits == {"nvidia.com/gpu": "2"}


def test_a_pod_of_a_pool_without_taint_and_gpu_needs_its_label_alone():
    place = EXAMPLE.placement("compute")
    assert place.pod == {"nodeSelector": {"katonic.ai/node-pool": "compute"}, "tolerations": []}
    assert place.limits == {}


def test_a_pool_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(UnknownPoolError) as told:
        EXAMPLE.placement("h100")
    assert str(told.value) == (
        "pool=h100: no such pool; pools: compute, deployment, gpu-v100; GPU types: v100"
    )
