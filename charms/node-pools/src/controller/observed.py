"""What a cluster says, parsed where it comes in: the few words of each object that matter here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, dataclass_transform

import msgspec

from .pools import GPU, Taint, quantity

MANAGER = "node-pools"
"""The field manager, and the label `app.kubernetes.io/managed-by` of what is made here."""
HELD = "node-pools.katonic.ai/held-partition"
"""A StatefulSet's annotation while its pods are kept from rolling: the partition to give back."""
HOLD = 2**31 - 1
"""The partition that keeps every pod from rolling."""
REVISION = "controller-revision-hash"
"""A pod's label by which its StatefulSet knows from which template it is."""
NAME = "app.kubernetes.io/name"
MANAGED_BY = "app.kubernetes.io/managed-by"


@dataclass(frozen=True)
class Amount:
    """Thousandths of cores, bytes of memory and GPUs."""

    cpu: int = 0
    memory: int = 0
    gpus: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpu + other.cpu, self.memory + other.memory, self.gpus + other.gpus)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.cpu - other.cpu, self.memory - other.memory, self.gpus - other.gpus)

    def __or__(self, other: Amount) -> Amount:
        """Return the larger of each."""
        return Amount(
            max(self.cpu, other.cpu), max(self.memory, other.memory), max(self.gpus, other.gpus)
        )

    def __le__(self, other: Amount) -> bool:
        return self.cpu <= other.cpu and self.memory <= other.memory and self.gpus <= other.gpus

    @classmethod
    def parse(cls, said: Mapping[str, str]) -> Amount:
        """Return what a list of resources says; what it leaves out is 0."""
        cpu, memory, gpus = (quantity(said.get(it, "0")) for it in ("cpu", "memory", GPU))
        return cls(math.ceil(cpu * 1000), math.ceil(memory), math.ceil(gpus))


@dataclass(frozen=True)
class Requirement:
    """One expression of a selector of nodes or pods."""

    key: str
    operator: str
    values: tuple[str, ...]

    def __call__(self, labels: Mapping[str, str]) -> bool:
        """Return whether what has the labels meets it."""
        value = labels.get(self.key)
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        try:
            found, bound = int(value or ""), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return found > bound if self.operator == "Gt" else found < bound


@dataclass(frozen=True)
class Selector:
    """What has all the labels and, where there are terms, meets all of one of them."""

    exact: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[tuple[Requirement, ...], ...] = ()

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Return each label that it asks for by key and value, once."""
        named = [*self.exact.items()]
        for term in self.terms:
            named += [(it.key, value) for it in term if it.operator == "In" for value in it.values]
        return tuple(dict.fromkeys(named))

    def __call__(self, labels: Mapping[str, str]) -> bool:
        """Return whether it selects what has the labels; an empty term never does."""
        if any(labels.get(key) != value for key, value in self.exact.items()):
            return False
        return not self.terms or any(
            term and all(it(labels) for it in term) for term in self.terms
        )


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node; `capacity` is what the machine has, `allocatable` what it has for pods."""

    name: str
    version: str = field(compare=False)
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    ready: bool
    schedulable: bool
    capacity: Amount
    allocatable: Amount


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod.

    Attributes:
        version: Its `resourceVersion`.
        owner: The uid of the object that controls it.
        owner_kind: That object's kind.
        owner_name: That object's name.
        revision: The name of the ControllerRevision that it counts as made from.
        over: It has ended and asks for nothing any more.
        leaving: It is being deleted.
        refusal: Why the scheduler has not found a node for it.
    """

    namespace: str
    name: str
    uid: str
    version: str = field(compare=False)
    owner: str
    owner_kind: str
    owner_name: str
    labels: Mapping[str, str]
    revision: str
    wish: Selector
    tolerations: tuple[Mapping[str, Any], ...]
    requests: Amount
    node: str | None
    over: bool
    leaving: bool
    refusal: str


@dataclass(frozen=True, kw_only=True)
class Template:
    """A StatefulSet or a Deployment, above all the template of its pods.

    Attributes:
        version: Its `resourceVersion`.
        juju: It is an application of Juju's.
        mended: Server-side apply has been here under our name.
        selector: The labels by which it finds its pods.
        labels: The labels that its pods get.
        rolling: Its pods are replaced by a rolling update.
        held: The partition to give back once the pods need not be kept from rolling any more.
        observed: The generation that its controller has seen and whose revision is `update`.
        counts: How many pods its controller has seen, how many of those are from the revision
            `current` and from the revision `update`.
    """

    kind: str
    name: str
    uid: str
    version: str = field(compare=False)
    generation: int
    juju: bool
    mended: bool
    leaving: bool
    replicas: int
    selector: Mapping[str, str]
    labels: Mapping[str, str]
    wish: Selector
    tolerations: tuple[Mapping[str, Any], ...]
    spreading: tuple[Mapping[str, Any], ...]
    rolling: bool
    partition: int
    held: str | None
    observed: int
    current: str
    update: str
    counts: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget; `ours` when it was made here."""

    name: str
    version: str = field(compare=False)
    ours: bool
    owners: frozenset[str]
    maximum_unavailable: int | str | None
    selector: Selector | None


@dataclass(frozen=True)
class Cluster:
    """All of it: nodes and pods of the whole cluster, the rest of one namespace."""

    namespace: str
    nodes: Sequence[Node] = ()
    pods: Sequence[Pod] = ()
    templates: Sequence[Template] = ()
    budgets: Sequence[Budget] = ()


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An object of Kubernetes' API; what is not named here is passed over."""


class _Owner(_Wire):
    uid: str = ""
    kind: str = ""
    name: str = ""
    controller: bool = False


class _ManagedFields(_Wire):
    manager: str = ""
    operation: str = ""


class Metadata(_Wire):
    """The metadata of any object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815 - lightkube reads it by this name
    generation: int = 0
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: list[_Owner] = []
    managed_fields: list[_ManagedFields] = []


class _Condition(_Wire):
    type: str = ""
    status: str = ""
    message: str = ""


class _NodeSpec(_Wire):
    taints: list[Taint] = []
    unschedulable: bool = False


class _NodeStatus(_Wire):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: list[_Condition] = []


class NodeObject(_Wire):
    """A node as it comes in."""

    metadata: Metadata
    spec: _NodeSpec = _NodeSpec()
    status: _NodeStatus = _NodeStatus()

    def parse(self) -> Node:
        """Return what matters of it."""
        return Node(
            name=self.metadata.name,
            version=self.metadata.resourceVersion,
            labels=self.metadata.labels,
            taints=tuple(self.spec.taints),
            ready=any(it.type == "Ready" and it.status == "True" for it in self.status.conditions),
            schedulable=not self.spec.unschedulable,
            capacity=Amount.parse(self.status.capacity),
            allocatable=Amount.parse(self.status.allocatable),
        )


class _Requests(_Wire):
    requests: dict[str, str] = {}


class _Container(_Wire):
    resources: _Requests = _Requests()
    restart_policy: str = ""


class _Expression(_Wire):
    key: str = ""
    operator: str = ""
    values: list[str] = []

    def parse(self) -> Requirement:
        return Requirement(self.key, self.operator, tuple(self.values))


class _Term(_Wire):
    match_expressions: list[_Expression] = []


class _Terms(_Wire):
    node_selector_terms: list[_Term] = []


class _NodeAffinity(_Wire):
    required: _Terms = msgspec.field(
        name="requiredDuringSchedulingIgnoredDuringExecution", default=_Terms()
    )


class _Affinity(_Wire):
    node_affinity: _NodeAffinity = _NodeAffinity()


class _PodSpec(_Wire):
    node_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: _Affinity = _Affinity()
    tolerations: list[dict[str, Any]] = []
    topology_spread_constraints: list[dict[str, Any]] = []
    containers: list[_Container] = []
    init_containers: list[_Container] = []
    overhead: dict[str, str] = {}
    resources: _Requests = _Requests()

    @property
    def wish(self) -> Selector:
        terms = self.affinity.node_affinity.required.node_selector_terms
        return Selector(
            self.node_selector,
            tuple(tuple(it.parse() for it in term.match_expressions) for term in terms),
        )

    @property
    def requests(self) -> Amount:
        """Return what the scheduler reckons with.

        Source: Kubernetes, component-helpers/resource/helpers.go, PodRequests.
        """
        sidecars, starting = Amount(), Amount()
        for it in self.init_containers:
            asked = Amount.parse(it.resources.requests)
            if it.restart_policy == "Always":
                sidecars += asked
                asked = Amount()
            starting |= sidecars + asked
        running = sidecars
        for it in self.containers:
            running += Amount.parse(it.resources.requests)
        total = running | starting
        whole = self.resources.requests
        if whole:
            said = Amount.parse(whole)
            total = Amount(
                said.cpu if "cpu" in whole else total.cpu,
                said.memory if "memory" in whole else total.memory,
                total.gpus,
            )
        return total + Amount.parse(self.overhead)


class _PodStatus(_Wire):
    phase: str = ""
    conditions: list[_Condition] = []


class PodObject(_Wire):
    """A pod as it comes in."""

    metadata: Metadata
    spec: _PodSpec = _PodSpec()
    status: _PodStatus = _PodStatus()

    def parse(self) -> Pod:
        """Return what matters of it."""
        about = self.metadata
        owner = next((it for it in about.owner_references if it.controller), _Owner())
        refused = [
            it.message
            for it in self.status.conditions
            if it.type == "PodScheduled" and it.status == "False"
        ]
        return Pod(
            namespace=about.namespace,
            name=about.name,
            uid=about.uid,
            version=about.resourceVersion,
            owner=owner.uid,
            owner_kind=owner.kind,
            owner_name=owner.name,
            labels=about.labels,
            revision=about.labels.get(REVISION, ""),
            wish=self.spec.wish,
            tolerations=tuple(self.spec.tolerations),
            requests=self.spec.requests,
            node=self.spec.node_name or None,
            over=self.status.phase in ("Succeeded", "Failed"),
            leaving=about.deletion_timestamp is not None,
            refusal=" ".join(refused),
        )


class _PodTemplate(_Wire):
    metadata: Metadata = Metadata()
    spec: _PodSpec = _PodSpec()


class _Selector(_Wire):
    match_labels: dict[str, str] = {}
    match_expressions: list[_Expression] = []

    def parse(self) -> Selector:
        met = tuple(it.parse() for it in self.match_expressions)
        return Selector(self.match_labels, (met,) if met else ())


class _RollingUpdate(_Wire):
    partition: int = 0


class _UpdateStrategy(_Wire):
    type: str = "RollingUpdate"
    rolling_update: _RollingUpdate | None = None


class _TemplateSpec(_Wire):
    replicas: int = 1
    selector: _Selector = _Selector()
    template: _PodTemplate = _PodTemplate()
    update_strategy: _UpdateStrategy = _UpdateStrategy()


class _TemplateStatus(_Wire):
    observed_generation: int = 0
    replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


class TemplateObject(_Wire):
    """A StatefulSet or a Deployment as it comes in."""

    metadata: Metadata
    spec: _TemplateSpec = _TemplateSpec()
    status: _TemplateStatus = _TemplateStatus()

    def parse(self, kind: str) -> Template:
        """Return what matters of it."""
        about, spec, status = self.metadata, self.spec, self.status
        strategy, pod = spec.update_strategy, spec.template.spec
        return Template(
            kind=kind,
            name=about.name,
            uid=about.uid,
            version=about.resourceVersion,
            generation=about.generation,
            juju=kind == "StatefulSet" and about.labels.get(MANAGED_BY) == "juju",
            mended=any(
                it.manager == MANAGER and it.operation == "Apply" for it in about.managed_fields
            ),
            leaving=about.deletion_timestamp is not None,
            replicas=spec.replicas,
            selector=spec.selector.match_labels,
            labels=spec.template.metadata.labels,
            wish=pod.wish,
            tolerations=tuple(pod.tolerations),
            spreading=tuple(pod.topology_spread_constraints),
            rolling=strategy.type == "RollingUpdate",
            partition=strategy.rolling_update.partition if strategy.rolling_update else 0,
            held=about.annotations.get(HELD),
            observed=status.observed_generation,
            current=status.current_revision,
            update=status.update_revision,
            counts=(status.replicas, status.current_replicas, status.updated_replicas),
        )


class _BudgetSpec(_Wire):
    max_unavailable: int | str | None = None
    selector: _Selector | None = None


class BudgetObject(_Wire):
    """A PodDisruptionBudget as it comes in."""

    metadata: Metadata
    spec: _BudgetSpec = _BudgetSpec()

    def parse(self) -> Budget:
        """Return what matters of it."""
        return Budget(
            name=self.metadata.name,
            version=self.metadata.resourceVersion,
            ours=self.metadata.labels.get(MANAGED_BY) == MANAGER,
            owners=frozenset(it.uid for it in self.metadata.owner_references),
            maximum_unavailable=self.spec.max_unavailable,
            selector=self.spec.selector.parse() if self.spec.selector else None,
        )


class RevisionObject(_Wire):
    """A ControllerRevision as it comes in; `data` restores the template that it stands for."""

    metadata: Metadata
    data: dict[str, Any] = {}
