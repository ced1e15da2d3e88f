"""Pods are laid out as Juju 4.0.14 was seen to lay them out (juju-contract.md, section 3)."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.models.core_v1 import (
    ContainerState,
    ContainerStateWaiting,
    ContainerStatus,
    PodCondition,
    PodStatus,
)

from sandbox import layout, pods
from sandbox.charm import Charm
from sandbox.model import Application, Model

HERE = Path(__file__).parent
ABOUT = layout.Controller("controller", "http://10.0.0.1:17070", "agent:1", "charm-base:1")
PLACEMENT = "^x=y,katonic.ai/node-pool=platform,two=2"


def charm(**more: Any) -> Charm:
    return Charm.model_validate(
        {
            "name": "probe",
            "containers": {
                "c1": {"resource": "one", "mounts": [{"storage": "data", "location": "/data"}]},
                "c2": {"resource": "two"},
            },
            "resources": {"one": {"type": "oci-image"}, "two": {"type": "oci-image"}},
            "storage": {"data": {"type": "filesystem", "minimum-size": "10M"}},
            **more,
        }
    )


def deployed(name: str, kind: Charm, units: int = 1, **more: Any) -> tuple[Model, Application]:
    model = Model("golden", "model")
    images = {"one": "docker.io/library/busybox:1.35", "two": "docker.io/library/debian:12"}
    app = model.deploy(name, kind, units, resources=images, **more)
    return model, app


def comparable(found: dict[str, Any], app: Application) -> dict[str, Any]:
    """Put Juju's images, command and ids in the place of ours: in those alone we differ."""
    text = yaml.safe_dump(found)
    for ours, jujus in {
        "agent:1": "ghcr.io/juju/jujud-operator:4.0.14",
        "charm-base:1": "ghcr.io/juju/charm-base:ubuntu-24.04",
        "/opt/agent/hooktool": "/opt/containeragent",
        layout.short_id(app): "ID",
    }.items():
        text = text.replace(ours, jujus)
    return yaml.safe_load(text)


def captured(name: str, model: Model) -> dict[str, Any]:
    """Return what Juju wrote, with its ids and its namespace made ours."""
    found = yaml.safe_load((HERE / f"layout/{name}.yaml").read_text())
    marks = found["metadata"]["annotations"]
    text = yaml.safe_dump(found).replace(marks["app.juju.is/uuid"], "ID")
    text = text.replace(marks["controller.juju.is/id"], ABOUT.uuid)
    text = text.replace(marks["model.juju.is/id"], model.uuid)
    text = text.replace(f"namespace: {found['metadata']['namespace']}", f"namespace: {model.name}")
    return yaml.safe_load(text)


@pytest.mark.parametrize(
    ("name", "kind", "more"),
    [
        ("b", charm(), {"units": 3}),
        (
            "nr5",
            charm(
                **{"charm-user": "non-root"},
                containers={
                    "c1": {
                        "resource": "one",
                        "mounts": [{"storage": "data", "location": "/data"}],
                    },
                    "c2": {"resource": "two", "uid": 10002, "gid": 10003},
                },
            ),
            {"constraints": {"mem": "256M", "cpu-power": "250", "tags": PLACEMENT, "zones": "z1"}},
        ),
    ],
)
def test_a_stateful_set_is_jujus_to_the_field(
    name: str, kind: Charm, more: dict[str, Any]
) -> None:
    model, app = deployed(name, kind, **more)
    rendered = layout.stateful_set(model, app, ABOUT).to_dict()
    assert comparable(rendered, app) == captured(name, model)


def test_trust_alone_gives_an_application_the_cluster() -> None:
    model, app = deployed("b", charm())
    role, _, wide, binding = (thing.to_dict() for thing in layout.access(model, app, ABOUT))
    assert [rule["resources"] for rule in role["rules"]] == [
        ["namespaces"],
        ["pods", "services"],
        ["pods/exec"],
    ]
    assert role["rules"][0]["resourceNames"] == ["golden"]
    assert [rule["verbs"] for rule in wide["rules"]] == [["get", "list"]]
    assert binding["metadata"]["name"] == binding["roleRef"]["name"] == "golden-b"
    model.set_trust("b", True)
    trusted = [thing.to_dict() for thing in layout.access(model, app, ABOUT)]
    assert (
        trusted[0]["rules"]
        == trusted[2]["rules"]
        == [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    )


def test_a_service_has_the_ports_of_all_units_or_jujus_placeholder() -> None:
    model, app = deployed("b", charm(), 2)
    (placeholder,) = layout.service(model, app, ABOUT).to_dict()["spec"]["ports"]
    assert placeholder == {
        "name": "placeholder",
        "port": 65535,
        "protocol": "TCP",
        "targetPort": 65535,
    }
    app.units[0].ports = [("", "8080/tcp"), ("", "icmp")]
    app.units[1].ports = [("", "8080/tcp"), ("prov", "53/udp")]
    ports = layout.service(model, app, ABOUT).to_dict()["spec"]["ports"]
    assert [port["name"] for port in ports] == ["juju-53-udp", "juju-8080-tcp"]


@pytest.mark.parametrize(
    ("tags", "placed"),
    [
        ("node.os=lin|win", {"nodeAffinity": [("os", "In", ["lin", "win"])]}),
        ("^neg=n|m", {"nodeAffinity": [("neg", "NotIn", ["n", "m"])]}),  # codespell:ignore
        (
            "anti-pod.app=aff,anti-pod.topology-key=kubernetes.io/hostname",
            {"podAntiAffinity": [("app", "In", ["aff"])]},
        ),
        ("pod.near=db,pod.topology-key=zone", {"podAffinity": [("near", "In", ["db"])]}),
        ("katonic.ai/node-pool=x", {"nodeAffinity": [("katonic.ai/node-pool", "In", ["x"])]}),
    ],
)
def test_tags_place_pods(tags: str, placed: dict[str, Any]) -> None:
    model, app = deployed("b", charm(), constraints={"tags": tags})
    spec = layout.stateful_set(model, app, ABOUT).to_dict()["spec"]["template"]["spec"]
    found = {}
    for kind, body in spec["affinity"].items():
        required = body["requiredDuringSchedulingIgnoredDuringExecution"]
        term = required["nodeSelectorTerms"][0] if kind == "nodeAffinity" else required[0]
        matches = term.get("labelSelector", term)["matchExpressions"]
        found[kind] = [(m["key"], m["operator"], m["values"]) for m in matches]
        if kind != "nodeAffinity":
            assert term["topologyKey"] in tags
    assert found == placed


def test_no_pod_spec_holds_a_secret() -> None:
    model, app = deployed("b", charm())
    things = layout.objects(model, app, ABOUT, "the-password")
    holders = [t for t in things if "the-password" in yaml.safe_dump(t.to_dict())]
    assert [type(holder).__name__ for holder in holders] == ["Secret"]


def test_a_leaving_unit_keeps_its_pod_until_it_is_removed() -> None:
    model, app = deployed("b", charm(), 2)
    for unit in app.units.values():
        unit.installed = True
    model.scale("b", 1)
    assert layout.pods_wanted(app) == 2
    del app.units[1]
    assert layout.pods_wanted(app) == 1


def test_what_is_to_be_written_changes_with_the_model_alone() -> None:
    model, app = deployed("b", charm())
    before = pods.digest(model)
    app.units[0].state["key"] = "value"
    assert pods.digest(model) == before
    app.units[0].ports.append(("", "80/tcp"))
    assert pods.digest(model) != before


def test_a_pod_that_waits_says_why_in_kubernetes_words() -> None:
    full = "0/1 nodes are available: 1 Insufficient memory."
    unplaced = PodStatus(
        conditions=[PodCondition(status="False", type="PodScheduled", message=full)]
    )
    assert pods.why_not_running(unplaced) == full
    state = ContainerState(waiting=ContainerStateWaiting(reason="ImagePullBackOff"))
    unpulled = ContainerStatus("c1:1", "", "c1", False, 0, state=state)
    assert pods.why_not_running(PodStatus(containerStatuses=[unpulled])) == "c1: ImagePullBackOff"
    assert pods.why_not_running(PodStatus()) == ""


def test_storage_that_is_given_again_is_claimed_by_its_volumes_name() -> None:
    model, app = deployed("b", charm())
    (storage,) = model.storage.values()
    storage.provider_id = "pvc-of-before"
    claim: Any = layout.bound_claim(model, app, ABOUT, storage)
    template: Any = layout.stateful_set(model, app, ABOUT)
    (wanted,) = template.spec.volumeClaimTemplates
    assert claim.metadata.name == f"{wanted.metadata.name}-b-0"
    assert claim.metadata.namespace == "golden"
    assert claim.spec.volumeName == "pvc-of-before"
    assert wanted.spec.volumeName is None
