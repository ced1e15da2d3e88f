"""Objects of Kubernetes' API as it writes them: nodes of pools, and applications of Juju's."""

import uuid
from typing import Any

NAMESPACE = "lab"
JUJU = {"app.kubernetes.io/managed-by": "juju"}

POOLS = """
- name: platform
  label: katonic.ai/node-pool=platform
  taint: katonic.ai/node-pool=platform:NoSchedule
  minimum-nodes: 1
  maximum-nodes: 3
  cpu: 4
  memory: 16G
- name: compute
  label: katonic.ai/node-pool=compute
- name: storage
  label: node-role.kubernetes.io/storage-node=ceph
  taint: node.kubernetes.io/storage-node:NoSchedule
- name: gpu
  types: [v100, A30]
  label: katonic.ai/node-pool=gpu-{type}
  taint: nvidia.com/gpu=katonic-{type}:NoSchedule
  gpus: 1
"""
PLATFORM = {
    "key": "katonic.ai/node-pool",
    "operator": "Equal",
    "value": "platform",
    "effect": "NoSchedule",
}
STORAGE = {
    "key": "node.kubernetes.io/storage-node",
    "operator": "Exists",
    "effect": "NoSchedule",
}
LABELS = {
    "platform": {"katonic.ai/node-pool": "platform"},
    "compute": {"katonic.ai/node-pool": "compute"},
    "storage": {"node-role.kubernetes.io/storage-node": "ceph"},
    "gpu-v100": {"katonic.ai/node-pool": "gpu-v100"},
    "gpu-A30": {"katonic.ai/node-pool": "gpu-A30"},
}
TAINTS = {
    "platform": {"key": "katonic.ai/node-pool", "value": "platform", "effect": "NoSchedule"},
    "storage": {"key": "node.kubernetes.io/storage-node", "effect": "NoSchedule"},
    "gpu-v100": {"key": "nvidia.com/gpu", "value": "katonic-v100", "effect": "NoSchedule"},
    "gpu-A30": {"key": "nvidia.com/gpu", "value": "katonic-A30", "effect": "NoSchedule"},
}
NO_NODE = (
    "0/6 nodes are available: 1 Insufficient memory, 5 node(s) didn't match Pod's node affinity. "
    "preemption: 0/6 nodes are available: 6 Preemption is not helpful for scheduling."
)


def uid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def node(name: str, pool: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return a node of a pool, or of none; `changes`: labels, taints, ready, cpu, memory, gpus."""
    labels = changes.get("labels", LABELS[pool] if pool else {})
    taints = changes.get("taints", [TAINTS[pool]] if pool in TAINTS else [])
    amounts = {"cpu": str(changes.get("cpu", 8)), "memory": changes.get("memory", "32Gi")}
    if gpus := changes.get("gpus", 0):
        amounts["nvidia.com/gpu"] = str(gpus)
    spec: dict[str, Any] = {"taints": taints} if taints else {}
    if changes.get("cordoned"):
        spec["unschedulable"] = True
    ready = "True" if changes.get("ready", True) else "False"
    return {
        "metadata": {"name": name, "uid": uid(name), "labels": labels, "resourceVersion": "1"},
        "spec": spec,
        "status": {
            "capacity": amounts,
            "allocatable": amounts,
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": ready},
            ],
        },
    }


def affinity(*expressions: tuple[str, str, list[str]]) -> dict[str, Any]:
    """Return the required node affinity of one term."""
    terms = [{"key": key, "operator": operator, "values": it} for key, operator, it in expressions]
    required = {"nodeSelectorTerms": [{"matchExpressions": terms}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def asks(*pools: str) -> dict[str, Any]:
    """Return a pod's spec that asks for pools, as Juju writes the constraint `tags`."""
    wanted: dict[str, list[str]] = {}
    for pool in pools:
        ((key, value),) = LABELS[pool].items()
        wanted.setdefault(key, []).append(value)
    return {"affinity": affinity(*((key, "In", it) for key, it in wanted.items()))}


def pod(
    name: str, on: str | None, spec: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return a pod; `more`: namespace, labels, owner ("KIND NAME"), phase, leaving, why, ..."""
    requests = more.get("requests", {"cpu": "100m", "memory": "64Mi"})
    kind, _, owner = more.get("owner", "").partition(" ")
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": more.get("namespace", NAMESPACE),
        "uid": more.get("uid", uid(name)),
        "resourceVersion": "1",
        "labels": more.get("labels", {}),
    }
    if owner:
        about = {"kind": kind, "name": owner, "uid": uid(owner), "controller": True}
        metadata["ownerReferences"] = [about]
    if more.get("leaving"):
        metadata["deletionTimestamp"] = "2026-11-25T12:00:00Z"
    conditions = []
    if why := more.get("why"):
        conditions = [{"type": "PodScheduled", "status": "False", "message": why}]
    return {
        "metadata": metadata,
        "spec": {
            "containers": [{"name": "main", "resources": {"requests": requests}}],
            **({"nodeName": on} if on else {}),
            **(spec or {}),
        },
        "status": {
            "phase": more.get("phase", "Running" if on else "Pending"),
            "conditions": conditions,
        },
    }


def statefulset(name: str, spec: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a StatefulSet as Juju writes it; `more`: replicas, labels, annotations, partition,
    status, generation, managed."""
    labels = {"app.kubernetes.io/name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid(name),
            "resourceVersion": "1",
            "generation": more.get("generation", 1),
            "labels": more.get("labels", {**JUJU, **labels}),
            "annotations": more.get("annotations", {}),
            "managedFields": [
                {"manager": "juju", "operation": "Update"},
                *({"manager": it, "operation": "Apply"} for it in more.get("managed", ())),
            ],
        },
        "spec": {
            "replicas": more.get("replicas", 1),
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "serviceName": f"{name}-endpoints",
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [{"name": "charm", "image": "charm-base", "resources": {}}],
                    **(spec or {}),
                },
            },
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"partition": more.get("partition", 0)},
            },
        },
        "status": more.get("status", {"replicas": 0}),
    }


def deployment(name: str, spec: dict[str, Any], replicas: int = 1) -> dict[str, Any]:
    """Return a Deployment that is not Juju's."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid(name),
            "resourceVersion": "1",
            "generation": 1,
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [], **spec}},
            "strategy": {"type": "RollingUpdate"},
        },
    }


def budget(name: str, owner: str | None, **more: Any) -> dict[str, Any]:
    """Return a PodDisruptionBudget of the pods of an application; `more`: labels, selects."""
    selects = more.get("selects", name)
    owners = [{"kind": "StatefulSet", "name": name, "uid": uid(owner)}] if owner else []
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "resourceVersion": "1",
            "labels": more.get("labels", {"app.kubernetes.io/managed-by": "node-pools"}),
            "ownerReferences": owners,
        },
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {"app.kubernetes.io/name": selects}},
        },
    }
