"""Any event: gather the state, plan, apply the difference, say what changed, tell the status."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import ops

from katonic import kubernetes, masking, relations, wire, workload
from katonic.plan import Container, Invalid, NotYet, Plan, Step
from katonic.relations import Endpoint
from katonic.wire import Databag

logger = logging.getLogger(__name__)
State = TypeVar("State")
Struct = TypeVar("Struct", bound=msgspec.Struct)

_EVENTS = (
    ops.ActionEvent,
    ops.ConfigChangedEvent,
    ops.LeaderElectedEvent,
    ops.RelationEvent,
    ops.SecretChangedEvent,
    ops.SecretRemoveEvent,
    ops.StartEvent,
    ops.UpdateStatusEvent,
    ops.UpgradeCharmEvent,
    ops.WorkloadEvent,
)
"""Not install, stop and remove: nothing can be applied then, so there is nothing to tell."""

_KINDS = "kubernetes-kinds"

_TRANSIENT = (
    NotYet,
    TimeoutError,  # of Pebble's socket, when the machine is busy
    ops.pebble.APIError,
    ops.pebble.ChangeError,
    ops.pebble.ConnectionError,
    ops.pebble.ExecError,
    ops.pebble.TimeoutError,
)


def load_config(charm: ops.CharmBase, cls: type[Struct]) -> Struct:
    """Return the charm's options as a typed value.

    Raises:
        Invalid: An option's value is not allowed; the message names both.
    """
    try:
        return wire.parse(dict(charm.config), cls)
    except wire.WrongValueError as reason:
        raise Invalid(f"config {reason}") from None


def service_host(charm: ops.CharmBase) -> str:
    """Return the name by which the cluster's pods reach the application."""
    return f"{charm.app.name}.{charm.model.name}.svc.cluster.local"


class Reconciler(ops.Object):
    """Runs a charm whose logic is a function from its state to its plan.

    Created last in the charm's `__init__`: what an action of the charm changes is then applied in
    the same dispatch. It gives every charm the actions `show-plan` and `restart`.
    """

    def __init__(
        self, charm: ops.CharmBase, gather: Callable[[], State], plan: Callable[[State], Plan]
    ) -> None:
        super().__init__(charm, "reconciler")
        self._charm, self._gather, self._decide = charm, gather, plan
        self._status: ops.StatusBase | None = None
        self.framework.observe(charm.on["show_plan"].action, self._on_show_plan)
        self.framework.observe(charm.on["restart"].action, self._on_restart)
        for event in charm.on.events().values():
            if issubclass(event.event_type, _EVENTS):
                self.framework.observe(event, self._on_event)
        self.framework.observe(charm.on.collect_unit_status, self._on_collect_status)

    @functools.cached_property
    def plan(self) -> Plan:
        """Return what this unit wants now.

        Raises:
            Invalid: A config value or a far application's data is not allowed.
            NotYet: Something cannot be read now.
        """
        return self._decide(self._gather())

    def _on_event(self, event: ops.EventBase) -> None:
        changes: list[str] = []
        try:
            self._apply(changes)
            self._status = self._missing() or self._awaited() or self.plan.status
            self._status = self._status or ops.ActiveStatus()
        except Invalid as reason:
            changes.append(f"held: {reason}")
            self._status = self._missing() or ops.BlockedStatus(str(reason))
            if "plan" in vars(self):  # the words were all right, what they led to was refused
                self._wake_later()
        except _TRANSIENT as error:
            if isinstance(error, ops.pebble.APIError) and error.code < 500:
                raise  # Pebble understood and refused: a bug of ours
            reason = workload.reason(error)
            changes.append(f"held: {reason}")
            self._status = self._missing() or ops.WaitingStatus(reason)
            self._wake_later()
        changes += self._clean_up(event)
        logger.log(
            logging.INFO if changes else logging.DEBUG,
            "%s: %s",
            event.handle.kind,
            "; ".join(changes) or "nothing to change",
        )

    def _apply(self, changes: list[str]) -> None:
        """Make everything match: what we ask first, what we offer last."""
        plan, charm = self.plan, self._charm
        changes += self._publish(charm.meta.requires, plan.asks)
        charm.unit.set_ports(*plan.ports)
        if plan.resources is not None and charm.unit.is_leader() and not self._leaving:
            changes += self._apply_resources(plan.resources)
        for name, want in self._containers():
            container = charm.unit.get_container(name)
            changes += self._run_once(container, want.steps)
            changes += workload.apply(container, want)
        if charm.unit.is_leader() and not self._leaving:
            for effect in plan.effects:
                where = [charm.unit.get_container(effect.container)] if effect.container else []
                changes += effect.call(*where, *effect.args) or []
        changes += self._publish(charm.meta.provides, plan.offers)

    def _containers(self) -> list[tuple[str, Container]]:
        return [
            (name, self.plan.containers.get(name, Container()))
            for name in self._charm.meta.containers
        ]

    def _apply_resources(self, wanted: Sequence[Any]) -> Iterable[str]:
        """Apply the Kubernetes objects; of which kinds there are some, the leaders remember.

        To look at every kind that there is would cost a call each, and a charm that has never
        had an object would need trust to learn that it has none.
        """
        had = set(self._remembered.get(_KINDS, "").split())
        now = kubernetes.kinds(wanted)
        if not had | now:
            return
        self._remember(_KINDS, had | now)  # before there are any, should it go wrong half-way
        yield from kubernetes.apply(self._charm.app.name, self._charm.model.name, wanted, had)
        self._remember(_KINDS, now)

    @property
    def _remembered(self) -> ops.RelationDataContent:
        """Return what one leader tells the next."""
        peers = self.model.get_relation("peers")
        if peers is None:
            raise NotYet("waiting for the peer relation")
        return peers.data[self._charm.app]

    def _remember(self, key: str, words: Iterable[str]) -> None:
        value = " ".join(sorted(words))
        if self._remembered.get(key, "") != value:
            self._remembered[key] = value

    def _run_once(self, container: ops.Container, steps: Sequence[Step]) -> Iterable[str]:
        """Run what the application needs once: by the leader, the others wait for its word."""
        for step in steps:
            if not step.leader_only:
                continue
            key = f"step-{step.name.replace(' ', '-')}"
            if self._remembered.get(key) == step.key:
                continue
            if not self._charm.unit.is_leader():
                raise NotYet(f"waiting for the leader to {step.name}")
            yield workload.run(container, step)
            self._remembered[key] = step.key

    def _publish(self, endpoints: Iterable[str], wanted: Mapping[str, Any]) -> list[str]:
        """Write every relation's databag; a unit that leaves withdraws nothing from the others."""
        if self._leaving:
            return []
        changes = []
        for endpoint in endpoints:
            for relation in self.model.relations[endpoint]:
                bags = wanted.get(endpoint, ())
                if isinstance(bags, Mapping):
                    bags = bags.get(relation.id, ())
                bags = [bags] if isinstance(bags, Databag) else bags
                changes += relations.write(self._charm, relation, bags)
        return changes

    @functools.cached_property
    def _leaving(self) -> bool:
        """Return whether this unit is being scaled away.

        It then sees relations end that live on for the others: `planned_units` is the new scale
        already, which neither the remote application's name nor leadership tells (findings, A3).
        """
        return int(self._charm.unit.name.rpartition("/")[2]) >= self._charm.app.planned_units()

    def _clean_up(self, event: ops.EventBase) -> list[str]:
        if isinstance(event, ops.SecretRemoveEvent):
            event.remove_revision()
            return [f"removed revision {event.revision} of secret {event.secret.label}"]
        ended = isinstance(event, ops.RelationBrokenEvent)
        if ended and self._charm.unit.is_leader() and not self._leaving:
            return relations.forget(self._charm, event.relation)
        return []

    def _wake_later(self) -> None:
        """Look again soon, where no event will tell that what we wait for is there."""
        for name in self._charm.meta.containers:
            container = self._charm.unit.get_container(name)
            if container.can_connect():
                # A pod that is going away starts nothing any more, and needs no waking.
                with contextlib.suppress(*_TRANSIENT):
                    workload.wake_later(container)
                return

    def _missing(self) -> ops.StatusBase | None:
        """Return the status that names the endpoints which the user has yet to integrate."""
        missing = [
            name
            for name, endpoint in self._charm.meta.requires.items()
            if not endpoint.optional and not self.model.relations[name]
        ]
        return ops.BlockedStatus(f"integrate {', '.join(sorted(missing))}") if missing else None

    def _awaited(self) -> ops.StatusBase | None:
        """Return the status that names the endpoints whose far side has yet to say something."""
        awaited = [
            it.name
            for it in vars(self._charm).values()
            if isinstance(it, Endpoint)
            and it.name in self._charm.meta.requires
            and len(it.all) < len(self.model.relations[it.name])
        ]
        return ops.WaitingStatus(f"waiting for {', '.join(awaited)} data") if awaited else None

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._status is not None:
            event.add_status(self._status)

    def _on_show_plan(self, event: ops.ActionEvent) -> None:
        import yaml

        try:
            event.set_results({"plan": yaml.safe_dump(masking.show(self.plan), sort_keys=False)})
        except (Invalid, NotYet) as reason:
            event.fail(str(reason))

    def _on_restart(self, event: ops.ActionEvent) -> None:
        try:
            for name, want in self._containers():
                workload.restart(self._charm.unit.get_container(name), want)
        except (Invalid, *_TRANSIENT) as error:
            event.fail(workload.reason(error))
