"""Every pod stands on its pool, in any order, whatever Juju rewrites; what does not is named."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jubilant
import msgspec
import pytest
import yaml
from deployed import (
    APPLICATIONS,
    BINARY,
    ON_SANDBOX,
    ROOT,
    Platform,
    charm_path,
    eventually,
    image,
    kubectl_command,
)

from interfaces.node_pools import Provider

PLATFORM = "katonic.ai/node-pool=platform"
DEPLOYMENT = "katonic.ai/node-pool=deployment"
COMPUTE = "katonic.ai/node-pool=compute"
STORAGE = "node-role.kubernetes.io/storage-node=ceph"
SCRATCH = "pools"
OPTIONS = yaml.safe_load((ROOT / "bundle/overlays/sandbox.yaml").read_text())["applications"][
    "node-pools"
]["options"]

on_the_sandbox = pytest.mark.skipif(not ON_SANDBOX, reason="changes the nodes of the cluster")


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Return what kubectl prints."""
    done = subprocess.run(
        [*kubectl_command(), *words], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(*words: str) -> list[dict[str, Any]]:
    """Return the objects that kubectl gets."""
    return json.loads(kubectl("get", *words, "-o", "json"))["items"]


def has_label(node: Mapping[str, Any], label: str) -> bool:
    """Return whether a node has a label, given as key=value."""
    key, _, value = label.partition("=")
    return node["metadata"]["labels"].get(key) == value


def pool_labels() -> dict[str, str]:
    """Return the label of the pool that bundle.yaml pins each application to."""
    applications = yaml.safe_load((ROOT / "bundle.yaml").read_text())["applications"]
    return {
        name: word.removeprefix("tags=")
        for name, it in applications.items()
        for word in it["constraints"].split()
        if word.startswith("tags=")
    }


@dataclass(frozen=True)
class Model:
    """A model of the cluster, with node-pools or still without."""

    juju: jubilant.Juju

    @property
    def name(self) -> str:
        """Return the model's name, which is its namespace's."""
        assert self.juju.model
        return self.juju.model

    def deploy(self, name: str, label: str | None) -> str:
        """Deploy the tests' client on the nodes of a label."""
        constraints = {"tags": label} if label else None
        charm = charm_path(ROOT / "tests/charms/client")
        resources = {"box-image": image("charm-base", "ubuntu:24.04")}
        self.juju.deploy(charm, name, resources=resources, constraints=constraints)
        return name

    def deploy_node_pools(self) -> None:
        """Deploy node-pools as the bundle of the sandbox has it."""
        resources = {"node-pools-image": image("node-pools", "ghcr.io/katonic/node-pools:1.0.0")}
        self.juju.deploy(
            charm_path(ROOT / "charms/node-pools"),
            "node-pools",
            trust=True,
            resources=resources,
            config=OPTIONS,
            constraints={"tags": COMPUTE},
        )

    def pod(self, name: str) -> dict[str, Any]:
        """Return a pod."""
        return json.loads(kubectl("get", "pod", name, "-n", self.name, "-o", "json"))

    def node_of(self, pod: str) -> dict[str, Any] | None:
        """Return the node that a pod is on, None while it is on none."""
        name = self.pod(pod)["spec"].get("nodeName")
        return json.loads(kubectl("get", "node", name, "-o", "json")) if name else None

    def is_ready_on(self, pod: str, label: str) -> bool:
        """Return whether a pod is ready on a node of the label."""
        node = self.node_of(pod)
        conditions = self.pod(pod)["status"].get("conditions", [])
        ready = {"Ready": "True"}.items() <= {
            it["type"]: it["status"] for it in conditions
        }.items()
        return bool(node and has_label(node, label) and ready)

    def template(self, application: str) -> dict[str, Any]:
        """Return the spec of an application's pod template."""
        found = kubectl("get", "statefulset", application, "-n", self.name, "-o", "json")
        return json.loads(found)["spec"]["template"]["spec"]

    def said(self) -> tuple[str, str]:
        """Return the status of node-pools and its message."""
        now = self.juju.status().apps["node-pools"].app_status
        return now.current, now.message

    def says(self, status: str, *words: str) -> None:
        """Wait until node-pools says all of this."""
        seen: tuple[str, str] = ("", "")

        def holds() -> bool:
            nonlocal seen
            seen = self.said()
            return seen[0] == status and all(it in seen[1] for it in words)

        try:
            eventually(holds)
        except AssertionError:
            raise AssertionError(f"node-pools says {seen}, not {(status, *words)}") from None


@pytest.fixture(scope="module")
def scratch(platform: Platform) -> Iterator[Model]:
    """Yield a model into which node-pools came last, and its controller died as it began.

    `runs` stands on a pool without a taint before anybody looks after pools, `waits` and `stores`
    are let onto theirs.
    """
    jubilant.Juju(cli_binary=BINARY).add_model(SCRATCH)
    model = Model(jubilant.Juju(model=SCRATCH, cli_binary=BINARY, wait_timeout=300))
    model.deploy("runs", COMPUTE)
    model.deploy("waits", PLATFORM)
    model.deploy("stores", STORAGE)
    model.juju.add_unit("waits")
    eventually(lambda: model.is_ready_on("runs-0", COMPUTE))
    before = model.pod("runs-0")["metadata"]["uid"]
    eventually(lambda: model.pod("waits-1")["status"]["phase"] == "Pending")
    assert model.node_of("waits-0") is None
    model.deploy_node_pools()
    controller = ("-n", SCRATCH, "-l", "app.kubernetes.io/name=node-pools-controller")
    eventually(lambda: listed("pods", *controller))
    kubectl("delete", "pod", *controller, "--now")
    model.says("active", "4 of 4 applications on their pool")
    assert model.pod("runs-0")["metadata"]["uid"] == before, "what stood on its pool was restarted"
    yield model
    model.juju.destroy_model(SCRATCH, destroy_storage=True, force=True)


def test_every_pod_of_every_application_is_on_its_pool(platform: Platform) -> None:
    nodes = {it["metadata"]["name"]: it for it in listed("nodes")}
    labels = pool_labels()
    assert labels.keys() == APPLICATIONS
    standing = {
        it["metadata"]["labels"]["app.kubernetes.io/name"]: it["spec"]["nodeName"]
        for it in platform.pods()
    }
    assert standing.keys() >= APPLICATIONS
    assert not [it for it in APPLICATIONS if not has_label(nodes[standing[it]], labels[it])]


def test_show_pools_and_the_status_tell_the_same(platform: Platform) -> None:
    shown = platform.juju.run("node-pools/0", "show-pools").results
    told = json.loads(
        platform.juju.run("node-pools/0", "show-pools", {"format": "json"}).results["json"]
    )
    for application in told["applications"]:
        assert application["name"] in shown["table"]
        assert application["placed"] == application["replicas"]
    count = len(told["applications"])
    status = platform.juju.status().apps["node-pools"].app_status
    assert (status.current, status.message) == (
        "active",
        f"{count} of {count} applications on their pool",
    )


def test_nothing_else_is_on_platform_deployment_and_storage_nodes(platform: Platform) -> None:
    closed = {
        it["metadata"]["name"]: label
        for it in listed("nodes")
        for label in (PLATFORM, DEPLOYMENT, STORAGE)
        if has_label(it, label)
    }
    assert len(closed) >= 4
    made = ("istio-ingress-gateway", "istio-ingress-istiod", "node-pools-controller")
    labels = pool_labels() | dict.fromkeys(made, PLATFORM)
    for pod in listed("pods", "-A"):
        node = pod["spec"].get("nodeName")
        if node in closed and pod["metadata"]["namespace"] == platform.juju.model:
            application = pod["metadata"]["labels"]["app.kubernetes.io/name"]
            assert labels.get(application) == closed[node], pod["metadata"]["name"]
        elif node in closed:
            # Another model may have its platform here: then its pods name the pool themselves.
            assert closed[node] in named_pools(pod), pod["metadata"]["name"]


def named_pools(pod: dict[str, Any]) -> set[str]:
    """Return the labels that a pod requires or prefers of its node, as key=value."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution", [])
    terms = [*required.get("nodeSelectorTerms", []), *(it["preference"] for it in preferred)]
    return {f"{key}={value}" for key, value in pod["spec"].get("nodeSelector", {}).items()} | {
        f"{it['key']}={value}"
        for term in terms
        for it in term.get("matchExpressions", [])
        if it["operator"] == "In"
        for value in it["values"]
    }


def test_in_the_worst_order_everything_reaches_its_pool(scratch: Model) -> None:
    assert scratch.is_ready_on("waits-0", PLATFORM)
    assert scratch.is_ready_on("waits-1", PLATFORM)
    assert scratch.is_ready_on("stores-0", STORAGE)


def test_two_units_stand_on_two_nodes_and_a_budget_keeps_one(scratch: Model) -> None:
    homes = {scratch.pod(f"waits-{number}")["spec"]["nodeName"] for number in range(2)}
    assert len(homes) == 2
    budgets = {it["metadata"]["name"]: it for it in listed("pdb", "-n", SCRATCH)}
    assert set(budgets) == {"waits"}
    assert budgets["waits"]["spec"]["maxUnavailable"] == 1
    assert budgets["waits"]["status"]["disruptionsAllowed"] == 1


def asks_for(spec: Mapping[str, Any], key: str) -> bool:
    return any(it["key"] == key for it in spec.get("tolerations", []))


@pytest.mark.skipif(not ON_SANDBOX, reason="packs no second version of a charm")
def test_what_juju_rewrites_holds(scratch: Model) -> None:
    scratch.juju.config("waits", {"database": "another"})
    scratch.juju.refresh("waits", path=charm_path(ROOT / "tests/charms/client"))
    scratch.juju.add_unit("waits")
    eventually(lambda: all(scratch.is_ready_on(f"waits-{it}", PLATFORM) for it in range(3)))
    template = scratch.template("waits")
    assert asks_for(template, "katonic.ai/node-pool")
    spread = {it["topologyKey"] for it in template["topologySpreadConstraints"]}
    assert spread == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert listed("pdb", "-n", SCRATCH)
    scratch.juju.remove_unit("waits", num_units=2)
    eventually(lambda: not listed("pdb", "-n", SCRATCH))
    scratch.says("active", "4 of 4")


def test_a_stateful_set_that_is_made_anew_is_mended(scratch: Model) -> None:
    kubectl("delete", "statefulset", "stores", "-n", SCRATCH)
    eventually(lambda: asks_for(scratch.template("stores"), "node.kubernetes.io/storage-node"))
    eventually(lambda: scratch.is_ready_on("stores-0", STORAGE))


@contextlib.contextmanager
def fake_node(name: str, label: str = "", taint: str = "", cpu: str = "8") -> Iterator[None]:
    """Have a node that kwok plays."""
    key, _, value = label.partition("=")
    taint_key, _, rest = taint.partition("=")
    taint_key = taint_key.partition(":")[0]
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, **({key: value} if key else {})},
        },
        "spec": {
            "taints": [{"key": taint_key, "value": rest.partition(":")[0], "effect": "NoSchedule"}]
            if taint
            else []
        },
        "status": {
            kind: {"cpu": cpu, "memory": "32Gi", "pods": "110"}
            for kind in ("capacity", "allocatable")
        },
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(body))
    try:
        yield
    finally:
        kubectl("delete", "node", name)


@on_the_sandbox
def test_a_pool_without_a_node_is_named_and_a_node_heals_it(scratch: Model) -> None:
    label = "katonic.ai/node-pool=gpu-A30"
    scratch.deploy("lonely", label)
    scratch.says("blocked", "lonely: pool gpu-A30 has no node")
    scratch.juju.remove_application("lonely")
    scratch.says("active", "4 of 4")


@on_the_sandbox
def test_too_few_nodes_of_a_pool_are_counted_and_a_node_heals_it(scratch: Model) -> None:
    pools = yaml.safe_load(OPTIONS["pools"])
    for it in pools:
        if it["name"] == "storage":
            it["minimum-nodes"] = 3
    scratch.juju.config("node-pools", {"pools": yaml.safe_dump(pools)})
    taint = "node.kubernetes.io/storage-node:NoSchedule"
    with fake_node("storage-a", STORAGE, taint):
        scratch.says("blocked", "storage: 2 nodes of at least 3")
        with fake_node("storage-b", STORAGE, taint):
            scratch.says("active", "4 of 4")
    scratch.says("blocked", "storage: 1 node of at least 3")
    scratch.juju.config("node-pools", {"pools": OPTIONS["pools"]})
    scratch.says("active", "4 of 4")


@on_the_sandbox
def test_a_node_below_its_pools_minimum_is_named(scratch: Model) -> None:
    with fake_node("weak", COMPUTE, cpu="1"):
        scratch.says("blocked", "compute: node weak has 1 CPU of at least 2")
    scratch.says("active", "4 of 4")


@on_the_sandbox
def test_a_node_with_the_taint_and_no_label_is_named_and_labelled(scratch: Model) -> None:
    taint = "katonic.ai/node-pool=deployment:NoSchedule"
    with fake_node("half", taint=taint):
        scratch.says(
            "blocked", f"node half: has the taint of deployment and not its label {DEPLOYMENT}"
        )
        run = scratch.juju.run
        run("node-pools/0", "label-nodes", {"node": "half", "pool": "deployment"})
        (half,) = (it for it in listed("nodes") if it["metadata"]["name"] == "half")
        assert not has_label(half, DEPLOYMENT), "a dry run changed the node"
        words = {"node": "half", "pool": "deployment", "dry-run": False}
        run("node-pools/0", "label-nodes", words)
        (half,) = (it for it in listed("nodes") if it["metadata"]["name"] == "half")
        assert has_label(half, DEPLOYMENT)
        scratch.says("active", "4 of 4")
    scratch.says("active", "4 of 4")


def test_an_application_with_no_pool_is_named(scratch: Model) -> None:
    scratch.deploy("anywhere", None)
    scratch.says("blocked", "anywhere: has no pool")
    scratch.juju.remove_application("anywhere")
    scratch.says("active", "4 of 4")


def test_a_pool_misspelled_in_config_is_named_and_what_runs_stays(scratch: Model) -> None:
    wrong = OPTIONS["pools"].replace("node-pool=platform", "node-pool=platforms")
    before = scratch.pod("waits-0")["metadata"]["uid"]
    scratch.juju.config("node-pools", {"pools": wrong})
    scratch.says("blocked", f"waits: asks for {PLATFORM}, which no pool has")
    scratch.juju.config("node-pools", {"pools": "- naem: platform"})
    scratch.says("blocked", "pools", "naem")
    scratch.juju.config("node-pools", {"pools": OPTIONS["pools"]})
    scratch.says("active", "4 of 4")
    assert scratch.pod("waits-0")["metadata"]["uid"] == before


def test_the_controller_has_the_least_rights(platform: Platform) -> None:
    who = f"--as=system:serviceaccount:{platform.juju.model}:node-pools-controller"

    def may(*words: str, everywhere: bool = False) -> bool:
        where = ["-A"] if everywhere else ["-n", str(platform.juju.model)]
        asked = [*kubectl_command(), "auth", "can-i", *words, *where, who]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    assert may("watch", "nodes")
    assert may("list", "pods", everywhere=True)
    assert may("patch", "statefulsets")
    assert not may("get", "secrets")
    assert not may("create", "pods")
    assert not may("delete", "pods")
    assert not may("patch", "nodes")
    assert not may("patch", "pods", everywhere=True)
    assert not may("*", "*")


@on_the_sandbox
def test_while_node_pools_is_away_what_is_placed_comes_back_where_it_was(scratch: Model) -> None:
    controller = ("deployment", "node-pools-controller", "-n", SCRATCH)
    scratch.juju.cli("scale-application", "node-pools", "0")
    eventually(
        lambda: not listed("pods", "-n", SCRATCH, "-l", "app.kubernetes.io/name=node-pools")
    )
    kubectl("scale", *controller, "--replicas=0")
    kubectl("delete", "pod", "waits-0", "-n", SCRATCH)
    scratch.deploy("meanwhile", PLATFORM)
    eventually(lambda: scratch.is_ready_on("waits-0", PLATFORM))
    eventually(lambda: scratch.pod("meanwhile-0")["status"]["phase"] == "Pending")
    assert scratch.node_of("meanwhile-0") is None
    scratch.juju.cli("scale-application", "node-pools", "1")
    eventually(lambda: scratch.is_ready_on("meanwhile-0", PLATFORM))
    scratch.juju.remove_application("meanwhile")
    scratch.says("active", "4 of 4")


@on_the_sandbox
def test_a_pod_made_from_the_pool_map_lands_on_the_gpu_that_it_asks_for(scratch: Model) -> None:
    scratch.juju.integrate("runs:node-pools", "node-pools:node-pools")
    told = eventually(lambda: scratch.juju.run("runs/0", "credentials").results["node-pools"])
    pools = msgspec.json.decode(told, type=Provider)
    asked = {gpu: pools.placement(gpu) for gpu in ("v100", "A100", "A30")}
    for gpu, placement in asked.items():
        make_pod(f"needs-{gpu.lower()}", placement.pod, placement.limits)
    make_pod("needs-none", {}, {})
    eventually(lambda: scratch.node_of("needs-none"))
    assert home_of(scratch, "needs-v100") == "gpu-v100-1"
    assert home_of(scratch, "needs-a100") == "gpu-a100-1"
    assert has_label(scratch.node_of("needs-none") or {}, COMPUTE)
    assert scratch.node_of("needs-a30") is None, "no node has one"
    kubectl("delete", "pod", "-n", SCRATCH, "-l", "made-by=tests", "--now")
    scratch.juju.remove_relation("runs:node-pools", "node-pools:node-pools")


def make_pod(name: str, scheduling: Mapping[str, Any], limits: Mapping[str, str]) -> None:
    """Make a pod that stands wherever the scheduler puts it."""
    container = {
        "name": "sleep",
        "image": image("charm-base", "ubuntu:24.04"),
        "command": ["sleep", "infinity"],
        "resources": {"limits": dict(limits)},
    }
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": SCRATCH, "labels": {"made-by": "tests"}},
        "spec": {**scheduling, "containers": [container]},
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(body))


def home_of(scratch: Model, pod: str) -> str:
    """Return the name of the node that a pod comes to be on."""
    return eventually(lambda: scratch.node_of(pod))["metadata"]["name"]


def test_a_drain_check_names_what_would_not_fit(platform: Platform) -> None:
    (storage,) = (it for it in listed("nodes") if has_label(it, STORAGE))
    name = storage["metadata"]["name"]
    told = platform.juju.run("node-pools/0", "drain-check", {"node": name}).results
    assert "mlflow-minio-0" in json.dumps(told)
    with pytest.raises(jubilant.TaskError, match="nowhere"):
        platform.juju.run("node-pools/0", "drain-check", {"node": "nowhere"})
