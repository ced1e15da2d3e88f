"""The pools of a cluster's nodes, for who makes pods: our own, as no one has one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import msgspec

from katonic import Databag

GPU = "nvidia.com/gpu"
"""The resource by which a container asks for GPUs."""


class UnknownPoolError(LookupError):
    """There is no such pool; the message names those that there are."""


class Toleration(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A toleration, as it stands in a pod's spec."""

    key: str
    operator: Literal["Equal", "Exists"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str | None = None


class Free(msgspec.Struct, frozen=True, kw_only=True):
    """What is left for pods: whole cores, memory in bytes but whole GiB, and GPUs."""

    cpu: int
    memory: int
    gpus: int


class Pool(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """One pool of nodes.

    Attributes:
        selector: The labels of its nodes.
        tolerations: What lets pods onto them.
        nodes: How many it has now.
        free: What is left on those that take pods, all of them together.
        gpu_type: Which GPUs its nodes have; None where they have none.
    """

    name: str
    selector: Mapping[str, str]
    tolerations: tuple[Toleration, ...] = ()
    nodes: int
    free: Free
    gpu_type: str | None = None


@dataclass(frozen=True)
class Placement:
    """What puts a pod on a pool.

    Attributes:
        pod: Fields of the pod's spec: `nodeSelector` and `tolerations`.
        limits: What one container of it has among its resources' limits.
    """

    pod: Mapping[str, Any]
    limits: Mapping[str, str]


class Requirer(Databag):
    """Who wants to know: it has nothing to say, as everyone is told the same."""

    wire: ClassVar[Literal["raw", "json"]] = "json"


class Provider(Databag):
    """All pools of the cluster."""

    wire: ClassVar[Literal["raw", "json"]] = "json"

    pools: tuple[Pool, ...]

    def placement(self, name: str, gpus: int = 1) -> Placement:
        """Return what puts a pod on the pool of a name, or of a GPU type, with so many GPUs there.

        Raises:
            UnknownPoolError: There is no such pool.
        """
        for it in self.pools:
            if name in (it.name, it.gpu_type):
                tolerations = [msgspec.to_builtins(that) for that in it.tolerations]
                pod = {"nodeSelector": dict(it.selector), "tolerations": tolerations}
                return Placement(pod, {GPU: str(gpus)} if it.gpu_type else {})
        known = ", ".join(it.name for it in self.pools)
        types = ", ".join(it.gpu_type for it in self.pools if it.gpu_type)
        raise UnknownPoolError(f"pool={name}: no such pool; pools: {known}; GPU types: {types}")


def _example(name: str, taint: Toleration | None = None, gpu_type: str | None = None) -> Pool:
    return Pool(
        name=name,
        selector={"katonic.ai/node-pool": name},
        tolerations=(taint,) if taint else (),
        nodes=1 if gpu_type else 2,
        free=Free(cpu=6, memory=24 * 2**30, gpus=1 if gpu_type else 0),
        gpu_type=gpu_type,
    )


EXAMPLES = [
    Requirer(),
    Provider(
        pools=(
            _example("compute"),
            _example(
                "deployment",
                Toleration(
                    key="katonic.ai/node-pool",
                    operator="Equal",
                    value="deployment",
                    effect="NoSchedule",
                ),
            ),
            _example(
                "gpu-v100",
                Toleration(
                    key="nvidia.com/gpu",
                    operator="Equal",
                    value="katonic-v100",
                    effect="NoSchedule",
                ),
                "v100",
            ),
        )
    ),
]
