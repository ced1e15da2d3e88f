import importlib
import sys
from decimal import Decimal
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
pools = importlib.import_module("controller.pools")
POOLS = importlib.import_module("kubernetes_objects").POOLS


def test_a_pool_has_what_its_entry_says():
    platform = pools.parse(POOLS)[0]
    assert platform == pools.Pool(
        name="platform",
        key="katonic.ai/node-pool",
        value="platform",
        taint=pools.Taint("katonic.ai/node-pool", "NoSchedule", "platform"),
        minimum_nodes=1,
        maximum_nodes=3,
        cpu=4,
        memory=16_000_000_000,
    )


def test_a_taint_with_a_value_is_tolerated_by_its_value_and_one_without_by_its_key():
    platform, compute, storage, *_ = pools.parse(POOLS)
    equal = pools.Toleration("katonic.ai/node-pool", "Equal", "NoSchedule", "platform")
    assert platform.tolerations == (equal,)
    assert compute.tolerations == ()
    exists = pools.Toleration("node.kubernetes.io/storage-node", "Exists", "NoSchedule")
    assert storage.tolerations == (exists,)
    assert str(storage.taint) == "node.kubernetes.io/storage-node:NoSchedule"


def test_each_type_is_a_pool_of_its_own():
    v100, a30 = pools.parse(POOLS)[3:]
    assert (v100.name, a30.name) == ("gpu-v100", "gpu-A30")
    assert (v100.label, a30.label) == (
        "katonic.ai/node-pool=gpu-v100",
        "katonic.ai/node-pool=gpu-A30",
    )
    assert str(a30.taint) == "nvidia.com/gpu=katonic-A30:NoSchedule"
    assert (v100.gpu_type, a30.gpu_type) == ("v100", "A30")


def test_what_is_written_to_the_file_is_read_from_it():
    parsed = pools.parse(POOLS)
    assert pools.load(pools.dump(parsed)) == parsed


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("", "pools: expected a list of pools, each with a name and a label"),
        ("name: a", "pools: expected a list of pools, each with a name and a label"),
        ("- a", "pools: entry 1: expected keys and values: name, label, ..."),
        ("- [", "pools: not YAML: "),
        ("- label: a=b", "pools: entry 1: name=: expected letters, digits and dashes"),
        ("- name: a", "pools: a: label=: expected KEY=VALUE"),
        ("- {name: a, label: b}", "pools: a: label=b: expected KEY=VALUE"),
        ("- {name: a, label: a=b=c}", "pools: a: label=a=b=c: expected KEY=VALUE"),
        (
            "- {name: platform, label: a=b, taint: abc}",
            "pools: platform: taint=abc: expected KEY[=VALUE]:EFFECT",
        ),
        ("- {name: a, label: a=b, taint: 'a:Never'}", "pools: a: taint=a:Never: expected KEY"),
        ("- {name: a, label: a=b, colour: red}", "pools: a: colour=red: expected one of the keys"),
        ("- {name: a, label: a=b, cpu: -1}", "pools: a: cpu=-1: expected a number of CPUs"),
        ("- {name: a, label: a=b, cpu: yes}", "pools: a: cpu=True: expected a number of CPUs"),
        ("- {name: a, label: a=b, memory: 16X}", "pools: a: memory=16X: expected a Kubernetes"),
        ("- {name: a, label: a=b, gpus: 0.5}", "pools: a: gpus=0.5: expected a whole number"),
        ("- {name: a, label: a=b, types: []}", "pools: a: types=[]: expected a list of types"),
        (
            "- {name: a, label: 'a=b-{type}'}",
            "pools: a: label=a=b-{type}: expected types beside it, of which {type} is one",
        ),
        (
            "- {name: a, label: a=b, minimum-nodes: 3, maximum-nodes: 2}",
            "pools: a: minimum-nodes=3: expected at most maximum-nodes=2",
        ),
        (
            "- {name: a, label: a=b}\n- {name: a, label: a=c}",
            "pools: a: name=a: expected a name that no other pool has",
        ),
        (
            "- {name: a, label: a=b}\n- {name: b, label: a=b}",
            "pools: b: label=a=b: expected another than a has",
        ),
        ("- {name: a, label: a=b, types: [x, y]}", "pools: a-y: label=a=b: expected another"),
    ],
)
def test_a_wrong_word_is_told_in_one_line(option, line):
    with pytest.raises(pools.WrongPoolsError) as caught:
        pools.parse(option)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_of_pools_is_told_in_one_line():
    with pytest.raises(pools.WrongPoolsError, match=r"^pools: "):
        pools.load('[{"name": 1}]')


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("4", 4),
        ("0.5", Decimal("0.5")),
        (".5", Decimal("0.5")),
        ("250m", Decimal("0.25")),
        ("1500u", Decimal("0.0015")),
        ("16G", 16 * 10**9),
        ("16Gi", 16 * 2**30),
        ("1.5Ki", 1536),
        ("1e3", 1000),
        ("12E", 12 * 10**18),
        ("12E1", 120),
        ("-1", -1),
    ],
)
def test_a_quantity_is_what_kubernetes_takes_it_for(text, number):
    assert pools.quantity(text) == number


@pytest.mark.parametrize("text", ["", "x", "1 G", "1GiB", "G", "1.2.3"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match=r"^.*$"):
        pools.quantity(text)
