"""What the charm wants, how its objects stand in Kubernetes, and what its actions do."""

import dataclasses
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import ops
import pytest
import yaml
from lightkube.models.core_v1 import NodeSpec, Taint
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Node
from ops import testing

from katonic import NotYet
from tests import kubernetes_in_memory
from tests.kubernetes_in_memory import Cluster

ROOT = Path(__file__).parents[1]
METADATA = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())
DEFAULT = METADATA["config"]["options"]["pools"]["default"]


def load(name: str, folder: str = "src") -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{folder}/{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(ROOT / "src"))
metrics, pools, program = (
    importlib.import_module(f"controller.{it}") for it in ("metrics", "pools", "__main__")
)
Drain = importlib.import_module("controller.drain").Drain
Verdict = importlib.import_module("controller.verdict").Verdict
OWN = ("deployment", "labels", "tables", "follower")
for own in OWN:
    sys.modules[own] = load(own)
deployment, labels, tables, follower = (sys.modules[it] for it in OWN)
charm, world = load("charm"), load("world", "tests")
for own in OWN:
    del sys.modules[own]

POOLS = pools.parse(DEFAULT)
IMAGE = deployment.Image("registry.example/node-pools:1", ("pull",))
CONTROLLER = deployment.Controller("node-pools", "lab", IMAGE, POOLS)
VERDICT = msgspec.convert(world.VERDICT, Verdict)
STATE = charm.State(CONTROLLER, VERDICT)


def telling(level: str, message: str) -> Any:
    verdict = msgspec.structs.replace(VERDICT, level=level, message=message)
    return dataclasses.replace(STATE, verdict=verdict)


@pytest.mark.parametrize(
    ("level", "status"),
    [
        ("active", ops.ActiveStatus("16 of 16 applications on their pool")),
        ("waiting", ops.WaitingStatus("16 of 16 applications on their pool")),
        ("blocked", ops.BlockedStatus("16 of 16 applications on their pool")),
    ],
)
def test_the_status_is_what_the_controller_says(level, status):
    assert charm.plan(telling(level, "16 of 16 applications on their pool")).status == status


def test_who_makes_pods_is_told_each_pool_and_what_is_free_there():
    (said,) = charm.plan(STATE).offers.values()
    assert [it.name for it in said.pools] == ["platform", "compute", "gpu-v100"]
    place = said.placement("v100")
    assert place.pod["nodeSelector"] == {"katonic.ai/node-pool": "gpu-v100"}
    assert place.pod["tolerations"][0]["value"] == "katonic-v100"
    (gpu,) = (it for it in said.pools if it.gpu_type)
    assert (gpu.nodes, gpu.free.cpu, gpu.free.memory, gpu.free.gpus) == (1, 6, 28 * 2**30, 1)


def test_while_the_controller_is_silent_what_was_offered_is_held():
    plan = charm.plan(dataclasses.replace(STATE, verdict=None))
    (effect,) = plan.effects
    with pytest.raises(NotYet):
        effect.call(*effect.args)


def made(controller: Any = CONTROLLER) -> dict[str, Any]:
    """Return each object as Kubernetes gets it, by kind; the names of all are the controller's."""
    return {type(it).__name__: it.to_dict() for it in deployment.objects(controller)}


def rules(role: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (group, resource, verb)
        for it in role["rules"]
        for group in it["apiGroups"]
        for resource in it["resources"]
        for verb in it["verbs"]
    }


def test_the_controller_may_see_nodes_and_pods_everywhere_and_change_none_there():
    seen = {("", it, verb) for it in ("nodes", "pods") for verb in ("get", "list", "watch")}
    assert rules(made()["ClusterRole"]) == seen


def test_the_controller_may_change_in_its_namespace_what_it_mends_and_nothing_else():
    writes = {it for it in rules(made()["Role"]) if it[2] not in ("get", "list", "watch")}
    assert writes == {
        ("", "pods", "patch"),
        ("apps", "statefulsets", "patch"),
        ("apps", "deployments", "patch"),
        ("policy", "poddisruptionbudgets", "create"),
        ("policy", "poddisruptionbudgets", "patch"),
        ("policy", "poddisruptionbudgets", "delete"),
    }
    assert not {it for it in rules(made()["Role"]) if "secrets" in it[1]}


def test_the_rights_are_those_of_an_account_of_its_own():
    objects = made()
    account = objects["ServiceAccount"]["metadata"]["name"]
    assert account == "node-pools-controller"
    assert objects["Deployment"]["spec"]["template"]["spec"]["serviceAccountName"] == account
    for kind, role in (("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")):
        assert objects[kind]["roleRef"]["kind"] == role
        assert objects[kind]["roleRef"]["name"] == objects[role]["metadata"]["name"]
        assert objects[kind]["subjects"] == [
            {"kind": "ServiceAccount", "name": account, "namespace": "lab"}
        ]


def test_two_models_have_cluster_roles_of_two_names():
    other = dataclasses.replace(CONTROLLER, model="home")
    for kind in ("ClusterRole", "ClusterRoleBinding"):
        assert made()[kind]["metadata"]["name"] != made(other)[kind]["metadata"]["name"]


def pod(controller: Any = CONTROLLER) -> dict[str, Any]:
    return made(controller)["Deployment"]["spec"]["template"]["spec"]


def test_the_controller_runs_without_any_privilege():
    (container,) = pod()["containers"]
    assert pod()["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10004,
        "runAsGroup": 10004,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert {"cpu", "memory"} == container["resources"]["requests"].keys()
    assert {"cpu", "memory"} == container["resources"]["limits"].keys()


def test_the_controller_runs_the_units_own_image_and_reads_the_pools_from_a_file():
    (container,) = pod()["containers"]
    assert container["image"] == "registry.example/node-pools:1"
    assert pod()["imagePullSecrets"] == [{"name": "pull"}]
    (mount,), (volume,) = container["volumeMounts"], pod()["volumes"]
    file = container["command"][container["command"].index("--pools") + 1]
    directory, _, name = file.rpartition("/")
    assert mount["mountPath"] == directory
    assert mount["name"] == volume["name"]
    objects = made()
    assert volume["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert pools.load(objects["ConfigMap"]["data"][name]) == POOLS


def test_its_service_finds_it_where_the_follower_asks():
    objects = made()
    template = objects["Deployment"]["spec"]["template"]
    assert objects["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    (port,) = objects["Service"]["spec"]["ports"]
    url = f"http://{objects['Service']['metadata']['name']}.lab.svc.cluster.local:{port['port']}"
    (service,) = charm.plan(STATE).containers["node-pools"].services.values()
    assert url in service.command
    # Juju's own service selects by the application's name: the controller must not be behind it.
    assert template["metadata"]["labels"]["app.kubernetes.io/name"] != "node-pools"


def test_the_program_takes_the_command_lines_that_it_is_given():
    (container,) = pod()["containers"]
    (service,) = charm.plan(STATE).containers["node-pools"].services.values()
    watch = program.parse(container["command"][3:])
    follow = program.parse(service.command.split()[3:])
    assert container["command"][:3] == service.command.split()[:3]
    assert (watch.role, watch.namespace, watch.listen) == ("watch", "lab", deployment.PORT)
    assert (follow.role, follow.listen) == ("follow", deployment.PORT)


def test_the_world_speaks_as_the_controller_does():
    for said, kind in ((world.VERDICT, Verdict), (world.DRAIN, Drain)):
        assert json.loads(msgspec.json.encode(msgspec.convert(said, kind))) == said


def test_it_is_probed_where_it_answers():
    (container,) = pod()["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": deployment.PORT}
    assert container["ports"][0]["containerPort"] == deployment.PORT


def test_other_pools_start_it_anew_and_the_same_do_not():
    def marks(controller: Any) -> Any:
        return made(controller)["Deployment"]["spec"]["template"]["metadata"]["annotations"]

    other = dataclasses.replace(CONTROLLER, pools=POOLS[:2])
    assert marks(CONTROLLER) == marks(dataclasses.replace(CONTROLLER))
    assert marks(CONTROLLER) != marks(other)


def test_it_prefers_the_platform_and_takes_no_place_on_another_tainted_pool():
    (preferred,) = pod()["affinity"]["nodeAffinity"].values()
    (wish,) = preferred[0]["preference"]["matchExpressions"]
    assert (wish["key"], wish["values"]) == ("katonic.ai/node-pool", ["platform"])
    tolerated = {(it["key"], it.get("value", "")) for it in pod()["tolerations"]}
    assert tolerated == {("katonic.ai/node-pool", "platform")}


def test_where_no_pool_is_called_platform_it_prefers_none():
    other = dataclasses.replace(CONTROLLER, pools=POOLS[1:2])
    assert not pod(other)["affinity"]["nodeAffinity"].get(
        "preferredDuringSchedulingIgnoredDuringExecution"
    )


def node(name: str, *taints: str, **said: str) -> Node:
    parts = [re.fullmatch(r"(.*?)(?:=(.*))?:(\w+)", it) for it in taints]
    return Node(
        metadata=ObjectMeta(name=name, labels=said, resourceVersion="7"),
        spec=NodeSpec(taints=[Taint(it[3], it[1], value=it[2]) for it in parts if it]),
    )


SMALL = pools.parse("""
- {name: one, label: pool=one, taint: "pool=one:NoSchedule"}
- {name: two, label: pool=two, taint: "pool=two:NoSchedule"}
- {name: open, label: pool=open}
- {name: disks, label: disk=yes, taint: "disks:NoSchedule"}
""")
ONE, TWO, OPEN, DISKS = SMALL


def changed(node: Node, pool: Any) -> str:
    return str(labels.change(node, pool, SMALL))


def test_a_new_node_gets_label_and_taint():
    assert changed(node("n1"), ONE) == "n1: gets label pool=one, gets taint pool=one:NoSchedule"


def test_a_node_that_is_right_stays_as_it_is():
    assert changed(node("n1", "pool=one:NoSchedule", pool="one"), ONE) == "n1: nothing to change"


def test_a_node_that_was_of_another_pool_loses_what_made_it_so():
    moved = node("n1", "disks:NoSchedule", "pool=two:NoSchedule", disk="yes", pool="two")
    assert changed(moved, OPEN) == (
        "n1: loses label disk=yes, gets label pool=open, was two, loses taint disks:NoSchedule, "
        "loses taint pool=two:NoSchedule"
    )


def test_the_taints_of_others_stay():
    gone = "node.kubernetes.io/unschedulable:NoSchedule"
    change = labels.change(node("n1", gone, "pool=x:NoSchedule"), ONE, SMALL)
    assert [str(it) for it in change.taints] == [gone, "pool=one:NoSchedule"]


def test_a_table_has_every_pool_and_every_pod():
    shown = tables.table(VERDICT)
    for word in (
        "platform",
        "gpu-v100",
        "at least 1, at most 3",
        "28Gi",
        "mlflow-0 on n1",
        "1 of 1",
    ):
        assert word in shown
    assert shown.splitlines()[0] == "active: 1 of 1 applications on their pool"


def test_a_table_begins_with_every_trouble():
    lines = [("blocked", "storage: 2 nodes of at least 3"), ("waiting", "mlflow: waits")]
    troubles = [{"level": level, "text": text} for level, text in lines]
    verdict = msgspec.convert({**world.VERDICT, "troubles": troubles}, Verdict)
    assert tables.table(verdict).splitlines()[:2] == [": ".join(it) for it in lines]


def test_alerts_and_dashboard_ask_for_metrics_that_there_are():
    known = set(re.findall(r"# HELP (\w+)", metrics.text(None, {}, {})))
    assert "node_pools_misplaced_pods" in known
    texts = [*ROOT.glob("src/prometheus_alert_rules/*"), *ROOT.glob("src/grafana_dashboards/*")]
    assert len(texts) == 2
    for path in texts:
        asked = set(re.findall(r"\bnode_pools_\w+", path.read_text()))
        assert asked
        assert asked <= known, path.name


def test_every_alert_says_what_is_the_matter_and_how_bad_it_is():
    (path,) = ROOT.glob("src/prometheus_alert_rules/*.rules")
    (group,) = yaml.safe_load(path.read_text())["groups"]
    assert len(group["rules"]) == 5
    for it in group["rules"]:
        assert it["labels"]["severity"] in ("warning", "critical")
        assert it["annotations"].keys() == {"summary", "description"}
        assert it["for"]


def test_the_dashboard_is_one_and_its_panels_do_not_overlap():
    (path,) = ROOT.glob("src/grafana_dashboards/*.json")
    panels = json.loads(path.read_text())["panels"]
    cells = [
        (x, y)
        for it in (panel["gridPos"] for panel in panels)
        for x in range(it["x"], it["x"] + it["w"])
        for y in range(it["y"], it["y"] + it["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({it["id"] for it in panels}) == len(panels)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.deployed("lab", "node-pools", {"node-pools": "registry.example/node-pools:1"}, 1)
    cluster.add_node("n1", {"kind": "small"})
    cluster.add_node("n2", {"kind": "small", "katonic.ai/node-pool": "platform"})
    cluster.add_node("n3", {"kind": "large"})
    with kubernetes_in_memory.serve(cluster):
        yield cluster


@pytest.fixture
def ctx(cluster: Cluster) -> testing.Context:
    parts = {key: METADATA[key] for key in ("config", "actions")}
    meta = {key: it for key, it in METADATA.items() if key not in parts}
    return testing.Context(charm.NodePoolsCharm, meta=meta, **parts)


@pytest.fixture
def state(tmp_path: Path) -> testing.State:
    files = testing.Mount(location="/charm/container", source=tmp_path)
    return testing.State(
        leader=True,
        planned_units=1,
        model=testing.Model("lab", type="kubernetes"),
        relations={
            testing.Relation("node-pools", id=1, remote_app_name="serving"),
            testing.PeerRelation("peers", id=2),
        },
        containers={testing.Container("node-pools", can_connect=True, mounts={"files": files})},
    )


def test_it_runs_the_controller_and_tells_what_that_says(ctx, state, cluster):
    with world.serve():
        out = ctx.run(ctx.on.config_changed(), state)
    assert out.unit_status == ops.ActiveStatus("1 of 1 applications on their pool")
    spec = cluster.applied["Deployment node-pools-controller"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["image"] == "registry.example/node-pools:1"
    assert "gpu-v100" in out.get_relation(1).local_app_data["pools"]


def test_before_the_controller_answers_it_says_what_it_waits_for_and_heals(ctx, state, cluster):
    with world.serve(None):
        out = ctx.run(ctx.on.config_changed(), state)
    waiting = ops.WaitingStatus("the watcher does not answer: connection refused")
    assert out.unit_status == waiting
    assert cluster.applied, "what would answer has to be there first"
    assert not out.get_relation(1).local_app_data
    with world.serve():
        healed = ctx.run(ctx.on.update_status(), out)
    assert isinstance(healed.unit_status, ops.ActiveStatus)
    with world.serve(None):
        away = ctx.run(ctx.on.update_status(), healed)
    assert away.unit_status == waiting
    assert away.get_relation(1).local_app_data == healed.get_relation(1).local_app_data


def test_a_controller_of_another_version_is_replaced_before_it_is_understood(ctx, state, cluster):
    with world.serve({"level": "splendid"}):
        out = ctx.run(ctx.on.config_changed(), state)
    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "Deployment node-pools-controller" in cluster.applied


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("- colour: platform", ["pools", "colour=platform", "name, label"]),
        ("platform: {}", ["pools", "list"]),
        ("- {name: a, label: x=y, taint: abc}", ["pools: a: taint=abc", "KEY[=VALUE]:EFFECT"]),
        ("- name: [", ["pools: not YAML"]),
        ("- name: |\n    a\n    b\n  label: x=y", ["name=a b"]),
    ],
)
def test_a_wrong_word_in_pools_is_named_in_a_line_and_what_runs_goes_on(
    ctx, state, cluster, option, words
):
    with world.serve():
        before = ctx.run(ctx.on.config_changed(), state)
        objects = json.dumps(cluster.applied, sort_keys=True)
        bad = dataclasses.replace(before, config={"pools": option})
        out = ctx.run(ctx.on.config_changed(), bad)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message.startswith("config pools: ")
    assert "\n" not in out.unit_status.message
    assert not [it for it in words if it not in out.unit_status.message]
    assert json.dumps(cluster.applied, sort_keys=True) == objects
    assert out.get_relation(1).local_app_data == before.get_relation(1).local_app_data
    services = out.get_container("node-pools").service_statuses
    assert ops.pebble.ServiceStatus.ACTIVE in services.values()


def act(ctx: testing.Context, state: testing.State, name: str, **params: Any) -> dict[str, Any]:
    words = {key.replace("_", "-"): value for key, value in params.items()}
    with world.serve():
        ctx.run(ctx.on.action(name, params=words), state)
    return dict(ctx.action_results or {})


def labelled(cluster: Cluster, name: str) -> tuple[Any, Any]:
    node = cluster.find("Node", name)
    assert node
    return node["metadata"]["labels"].get("katonic.ai/node-pool"), node["spec"]["taints"]


TAINT = {"key": "katonic.ai/node-pool", "value": "platform", "effect": "NoSchedule"}


def test_a_dry_run_shows_each_node_and_changes_none(ctx, state, cluster):
    before = json.dumps(list(cluster.objects.values()))
    shown = act(ctx, state, "label-nodes", selector="kind=small", pool="platform", dry_run=True)
    assert shown["nodes"].splitlines() == [
        "n1: gets label katonic.ai/node-pool=platform, "
        "gets taint katonic.ai/node-pool=platform:NoSchedule",
        "n2: gets taint katonic.ai/node-pool=platform:NoSchedule",
    ]
    assert shown["dry-run"] == "true"
    nodes = [it for it in cluster.objects.values() if it["kind"] == "Node"]
    assert [it for it in json.loads(before) if it["kind"] == "Node"] == nodes


def test_nodes_become_a_pools_and_others_stay(ctx, state, cluster):
    act(ctx, state, "label-nodes", selector="kind=small", pool="platform", dry_run=False)
    assert labelled(cluster, "n1") == labelled(cluster, "n2") == ("platform", [TAINT])
    assert labelled(cluster, "n3") == (None, [])
    act(ctx, state, "label-nodes", node="n2", pool="compute", dry_run=False)
    assert labelled(cluster, "n2") == ("compute", [])
    assert labelled(cluster, "n1") == ("platform", [TAINT])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"node": "n1", "pool": "plat"}, "pool=plat: no such pool; allowed: platform, compute"),
        ({"node": "nx", "pool": "compute"}, "node=nx: no such node; there are: n1, n2, n3"),
        ({"selector": "kind=big", "pool": "compute"}, "selector=kind=big: no node has"),
        ({"selector": "a b", "pool": "compute"}, "selector=a b: expected KEY=VALUE or KEY"),
        ({"pool": "compute"}, "node= selector=: give one of them"),
        ({"node": "n1", "selector": "kind", "pool": "compute"}, "give one of them"),
    ],
)
def test_a_node_or_a_pool_that_is_not_there_is_named(ctx, state, words, says):
    with pytest.raises(testing.ActionFailed) as failure:
        act(ctx, state, "label-nodes", **words)
    assert says in failure.value.message
    assert "\n" not in failure.value.message


def test_without_trust_no_node_is_labelled_and_the_command_is_named(ctx, state, cluster):
    cluster.refuses = 403
    with pytest.raises(testing.ActionFailed, match="juju trust node-pools --scope=cluster"):
        act(ctx, state, "label-nodes", node="n1", pool="compute", dry_run=False)


def test_show_pools_shows_a_table_and_the_same_as_json(ctx, state):
    told = json.loads(act(ctx, state, "show-pools", format="json")["json"])
    shown = act(ctx, state, "show-pools")
    assert told["applications"][0]["name"] == "mlflow"
    assert all(it["name"] in shown["table"] for it in told["pools"])
    assert shown.keys() == {"table"}


def test_drain_check_names_what_fits_and_what_does_not(ctx, state):
    shown = act(ctx, state, "drain-check", node="n1")
    assert shown["message"] == "1 of 2 pods would not fit elsewhere: mlflow-0"
    assert shown["pods"].splitlines() == [
        "lab/mlflow-0: no other node takes it",
        "lab/notes-0: fits on n2",
    ]
    with pytest.raises(testing.ActionFailed, match="there is no node nowhere"):
        act(ctx, state, "drain-check", node="nowhere")


@pytest.mark.parametrize(
    ("action", "words"), [("show-pools", {}), ("drain-check", {"node": "n1"})]
)
def test_without_a_controller_an_action_says_so(ctx, state, action, words):
    with world.serve(None), pytest.raises(testing.ActionFailed, match=r"controller|watcher"):
        ctx.run(ctx.on.action(action, params=words), state)


def test_nobody_learns_of_pools_from_words_that_are_wrong(ctx, state):
    bad = dataclasses.replace(state, config={"pools": "- colour: platform"})
    with pytest.raises(testing.ActionFailed, match="colour=platform"):
        act(ctx, bad, "label-nodes", node="n1", pool="compute")
