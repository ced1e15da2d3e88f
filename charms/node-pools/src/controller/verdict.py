"""What the watcher says about a cluster: the truth in one line, and all that it stands on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from . import placement
from .observed import Amount, Cluster, Node, Pod, Template
from .pools import Pool, Toleration

Level = Literal["active", "waiting", "blocked"]

_GIB = 2**30


class Resources(msgspec.Struct, frozen=True):
    """Cores, bytes of memory and GPUs."""

    cpu: float
    memory: int
    gpus: int


class Trouble(msgspec.Struct, frozen=True):
    """One thing that is not as it should be, in a line."""

    level: Level
    text: str


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """A pool and how it stands.

    Attributes:
        applications: Those of the namespace that ask for the pool.
        pods: How many stand on its nodes, whoever's they are.
        requested: What those ask for.
        allocatable: What its nodes have for pods.
        free: What is left on its ready, schedulable nodes, in whole cores, GiB and GPUs.
    """

    name: str
    selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    nodes: tuple[str, ...]
    ready_nodes: int
    minimum_nodes: int
    maximum_nodes: int | None
    applications: tuple[str, ...]
    pods: int
    requested: Resources
    allocatable: Resources
    free: Resources
    gpu_type: str | None


class PodPlace(msgspec.Struct, frozen=True):
    """A pod of an application and where it is."""

    name: str
    node: str | None
    place: Literal["placed", "pending", "outside"]


class Application(msgspec.Struct, frozen=True):
    """An application, the pools that it asks for, and its pods."""

    name: str
    pools: tuple[str, ...]
    replicas: int
    placed: int
    pods: tuple[PodPlace, ...]


class Verdict(msgspec.Struct, frozen=True):
    """The whole of it; `digest` differs when what a charm has to act on differs."""

    level: Level
    message: str
    digest: str
    troubles: tuple[Trouble, ...]
    pools: tuple[PoolState, ...]
    applications: tuple[Application, ...]


def judge(
    cluster: Cluster,
    pools: Sequence[Pool],
    refused: Mapping[str, str] | None = None,
    silent: str = "",
) -> Verdict:
    """Return what is to be said of the cluster.

    Args:
        cluster: What is seen of it.
        pools: The pools that there should be.
        refused: Why a template could not be mended, by its name.
        silent: Why Kubernetes does not answer; "" while it does.
    """
    nodes = {it.name: it for it in cluster.nodes}
    owned = _pods_by_owner(cluster)
    subjects = [
        _subject(it, owned.get(_owner(it), ()), nodes, pools)
        for it in sorted(cluster.templates, key=lambda it: (it.name, it.kind))
        if not it.leaving and (it.juju or placement.asked(it.wish, pools))
    ]
    standing = _pods_by_node(cluster)
    states = tuple(_state(it, cluster.nodes, standing, subjects) for it in pools)
    troubles = [
        *_asking(subjects, states, pools),
        *_nodes(cluster.nodes, states, pools),
        *_outside(subjects),
        *_pending(subjects),
        *_unmended(subjects, pools, refused or {}),
        *[Trouble("waiting", f"kubernetes: {silent}") for _ in range(bool(silent))],
    ]
    troubles.sort(key=lambda it: it.level != "blocked")
    settled = sum(bool(it.pools) and it.placed >= it.template.replicas for it in subjects)
    level, message = "active", f"{settled} of {len(subjects)} applications on their pool"
    if troubles:
        level, message = troubles[0].level, troubles[0].text
    if len(troubles) > 1:
        message += f" (and {len(troubles) - 1} more: run show-pools)"
    applications = tuple(
        Application(
            it.template.name,
            tuple(pool.name for pool in it.pools),
            it.template.replicas,
            it.placed,
            it.places,
        )
        for it in subjects
    )
    waking = (level, message, troubles, [_waking(it) for it in states])
    digest = hashlib.sha256(msgspec.json.encode(waking)).hexdigest()
    return Verdict(level, message, digest, tuple(troubles), states, applications)


@dataclass(frozen=True)
class _Subject:
    """A template of which something is said, and where its pods are."""

    template: Template
    pools: tuple[Pool, ...]
    places: tuple[PodPlace, ...]
    refusals: tuple[str, ...]

    @property
    def names(self) -> str:
        return " or ".join(it.name for it in self.pools)

    @property
    def placed(self) -> int:
        return min(sum(it.place == "placed" for it in self.places), self.template.replicas)


def _pods_by_owner(cluster: Cluster) -> dict[str, list[Pod]]:
    """Return the pods of the namespace by what `_owner` says of their template."""
    found: dict[str, list[Pod]] = {}
    for it in cluster.pods:
        if it.namespace == cluster.namespace:
            of_deployment = it.owner_kind == "ReplicaSet"
            key = it.owner_name.rpartition("-")[0] if of_deployment else it.owner
            found.setdefault(key, []).append(it)
    return found


def _owner(template: Template) -> str:
    return template.name if template.kind == "Deployment" else template.uid


def _pods_by_node(cluster: Cluster) -> dict[str, list[Pod]]:
    found: dict[str, list[Pod]] = {}
    for it in cluster.pods:
        if it.node and not it.over:
            found.setdefault(it.node, []).append(it)
    return found


def _subject(
    template: Template, pods: Sequence[Pod], nodes: Mapping[str, Node], pools: Sequence[Pool]
) -> _Subject:
    here = placement.asked(template.wish, pools)

    def place(pod: Pod) -> Literal["placed", "pending", "outside"]:
        if not pod.node or pod.node not in nodes:
            return "pending"
        labels = nodes[pod.node].labels
        if here and not any(labels.get(it.key) == it.value for it in here):
            return "outside"
        return "placed"

    staying = sorted((it for it in pods if not it.leaving and not it.over), key=lambda it: it.name)
    return _Subject(
        template,
        here,
        tuple(PodPlace(it.name, it.node, place(it)) for it in staying),
        tuple(it.refusal for it in staying if it.refusal),
    )


def _members(pool: Pool, nodes: Sequence[Node]) -> list[Node]:
    return [it for it in nodes if it.labels.get(pool.key) == pool.value]


def _state(
    pool: Pool,
    nodes: Sequence[Node],
    standing: Mapping[str, Sequence[Pod]],
    subjects: Sequence[_Subject],
) -> PoolState:
    members = sorted(_members(pool, nodes), key=lambda it: it.name)
    requested, allocatable, free, pods = Amount(), Amount(), Amount(), 0
    for it in members:
        here = Amount()
        for pod in standing.get(it.name, ()):
            here += pod.requests
            pods += 1
        requested += here
        allocatable += it.allocatable
        if it.ready and it.schedulable:
            free += (it.allocatable - here) | Amount()
    return PoolState(
        name=pool.name,
        selector=pool.selector,
        tolerations=pool.tolerations,
        nodes=tuple(it.name for it in members),
        ready_nodes=sum(it.ready for it in members),
        minimum_nodes=pool.minimum_nodes,
        maximum_nodes=pool.maximum_nodes,
        applications=tuple(it.template.name for it in subjects if pool in it.pools),
        pods=pods,
        requested=_resources(requested),
        allocatable=_resources(allocatable),
        free=Resources(free.cpu // 1000, free.memory // _GIB * _GIB, free.gpus),
        gpu_type=pool.gpu_type,
    )


def _resources(amount: Amount) -> Resources:
    return Resources(amount.cpu / 1000, amount.memory, amount.gpus)


def _waking(state: PoolState) -> PoolState:
    """Return of a pool what a charm acts on: all but what each pod of the cluster changes."""
    return msgspec.structs.replace(state, pods=0, requested=_resources(Amount()))


def _asking(
    subjects: Sequence[_Subject], states: Sequence[PoolState], pools: Sequence[Pool]
) -> Iterator[Trouble]:
    """Yield what is wrong with what applications ask for."""
    names = ", ".join(it.name for it in pools)
    usual = next((it for it in pools if not it.taint), pools[0])
    strange = {it.template.uid: placement.unknown(it.template.wish, pools) for it in subjects}
    for it in subjects:
        for label in strange[it.template.uid]:
            text = f"{it.template.name}: asks for {label}, which no pool has; pools: {names}"
            yield Trouble("blocked", text)
    for it in subjects:
        if not it.pools and not strange[it.template.uid]:
            remedy = f"deploy it with --constraints tags={usual.label}"
            yield Trouble("blocked", f"{it.template.name}: has no pool; {remedy}")
    empty = {it.name for it in states if not it.nodes}
    for it in subjects:
        if it.pools and empty.issuperset(pool.name for pool in it.pools):
            yield Trouble("blocked", f"{it.template.name}: pool {it.names} has no node")


def _nodes(
    nodes: Sequence[Node], states: Sequence[PoolState], pools: Sequence[Pool]
) -> Iterator[Trouble]:
    """Yield what is wrong with the nodes."""
    for it in states:
        if len(it.nodes) < it.minimum_nodes:
            text = f"{it.name}: {_count(len(it.nodes))} of at least {it.minimum_nodes}"
            yield Trouble("blocked", text)
        if it.maximum_nodes is not None and len(it.nodes) > it.maximum_nodes:
            text = f"{it.name}: {_count(len(it.nodes))} of at most {it.maximum_nodes}"
            yield Trouble("blocked", text)
    every = sorted(nodes, key=lambda it: it.name)
    for pool in pools:
        for it in _members(pool, every):
            for text in _lacks(it, pool):
                yield Trouble("blocked", f"{pool.name}: node {it.name} has {text}")
    run = "run label-nodes"
    for it in every:
        tainted = [pool for pool in pools if pool.taint in it.taints]
        labelled = [pool for pool in pools if it.labels.get(pool.key) == pool.value]
        if tainted and not any(pool in labelled for pool in tainted):
            pool = tainted[0]
            said = f"has the taint of {pool.name} and not its label {pool.label}; {run}"
            yield Trouble("blocked", f"node {it.name}: {said}")
        for pool in labelled:
            if pool.taint and pool not in tainted:
                said = f"has the label of {pool.name} and not its taint {pool.taint}; {run}"
                yield Trouble("blocked", f"node {it.name}: {said}")
            if not it.ready:
                yield Trouble("waiting", f"{pool.name}: node {it.name} is not ready")


def _lacks(node: Node, pool: Pool) -> Iterator[str]:
    has = node.capacity
    if has.cpu < pool.cpu * 1000:
        yield f"{has.cpu / 1000:g} CPU of at least {pool.cpu:g}"
    if has.memory < pool.memory:
        yield f"{_giga(has.memory)} memory of at least {_giga(pool.memory)}"
    if has.gpus < pool.gpus:
        yield f"{has.gpus} GPUs of at least {pool.gpus}"


def _giga(amount: int) -> str:
    """Return bytes in G, rounded down to a tenth, so that too little never looks like enough."""
    return f"{math.floor(amount / 1e8) / 10:g}G"


def _count(nodes: int) -> str:
    return f"{nodes} node{'' if nodes == 1 else 's'}"


def _outside(subjects: Sequence[_Subject]) -> Iterator[Trouble]:
    for it in subjects:
        for pod in it.places:
            if pod.place == "outside":
                where = f"{pod.name} on {pod.node}"
                yield Trouble("blocked", f"{it.template.name} runs outside {it.names}: {where}")


def _pending(subjects: Sequence[_Subject]) -> Iterator[Trouble]:
    for it in subjects:
        total = it.template.replicas
        outside = sum(pod.place == "outside" for pod in it.places)
        if it.pools and (waiting := total - it.placed - outside) > 0:
            text = f"{it.template.name}: {waiting} of {total} pods wait for a node of {it.names}"
            # The scheduler ends its first clause, "0/6 nodes are available: ...", with a period.
            why = "".join(f": {said.split('. ')[0].rstrip('.')}" for said in it.refusals[:1])
            yield Trouble("waiting", text + why)


def _unmended(
    subjects: Sequence[_Subject], pools: Sequence[Pool], refused: Mapping[str, str]
) -> Iterator[Trouble]:
    for it in subjects:
        name, wanted = it.template.name, placement.words(it.template, pools)
        if name in refused:
            yield Trouble("waiting", f"{name}: {refused[name]}")
        elif wanted and (it.template.held is not None or placement.due(it.template, wanted)):
            tainted = " or ".join(pool.name for pool in it.pools if pool.taint)
            gets = f"the tolerations of {tainted}" if tainted else "the spreading of its pods"
            yield Trouble("waiting", f"{name}: gets {gets}")
