"""Events: what a unit is told, in which order, and how a hook sees it in its environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sandbox.model import Model, Relation, Secret, Unit

VERSION = "4.0.14"


@dataclass(frozen=True)
class Event:
    """One thing that a unit is told; the fields that do not concern `kind` are empty.

    Kinds are Juju's hook names without the name of endpoint, container or storage ("install",
    "relation-changed", "pebble-ready", "storage-attached"), and "action", which is `juju exec`
    too (action "juju-exec").
    """

    kind: str
    relation_id: int | None = None
    endpoint: str = ""
    remote_app: str = ""
    remote_unit: str = ""
    departing_unit: str = ""
    workload: str = ""
    notice_id: str = ""
    notice_type: str = ""
    notice_key: str = ""
    check_name: str = ""
    storage_id: str = ""
    secret_id: str = ""
    secret_label: str = ""
    secret_revision: int | None = None
    action: str = ""
    task: str = ""


def due(model: Model, unit: Unit, now: float) -> list[Event]:
    """Return what may be told to a unit now, in the order Juju prefers; any choice is legal."""
    if unit.running:
        return [unit.running]
    if not unit.up:
        return []
    found = [_action(model, unit.tasks[0])] if unit.tasks and unit.installed else []
    if unit.failed:
        ready = unit.retry_at is not None and now >= unit.retry_at
        return found + [unit.failed] * ready
    if unit.stopping:
        return [Event("stop")] if unit.started else []
    if unit.stopped:
        return [Event("remove")]
    if not unit.installed:
        return [Event("install")]
    if unit.upgrading:
        return [*found, Event("upgrade-charm")]
    if unit.started:
        return found + (_removal(model, unit) or list(_running(model, unit, now)))
    created = [e for e in _relations(model, unit) if e.kind == "relation-created"]
    if created:
        return found + created
    pebble = [said[0] for said in unit.pebble.values() if said]
    attached = list(_attached(model, unit))
    if _elected(model, unit):
        return [*found, Event("leader-elected"), *attached, *pebble]
    last = Event("start" if unit.config is not None else "config-changed")
    return [*found, *attached, last, *pebble]


def _running(model: Model, unit: Unit, now: float) -> Iterator[Event]:
    """Yield what is due to a unit that has started and lives."""
    for number, membership in unit.relations.items():
        for member, version in membership.members.items():
            if version < 0 and member in model.relations[number].units:
                yield _relation(model.relations[number], unit, "changed", member)
                return
    if _elected(model, unit):
        yield Event("leader-elected")
    if unit.config != model.applications[unit.application].config_version:
        yield Event("config-changed")
    yield from _attached(model, unit)
    yield from _relations(model, unit)
    yield from _secrets(model, unit, now)
    yield from (said[0] for said in unit.pebble.values() if said)
    if now >= unit.update_at:
        yield Event("update-status")


def _removal(model: Model, unit: Unit) -> list[Event]:
    """Return what is due to a unit on its way out; empty when it stays."""
    if unit.life == "alive":
        return []
    detaching = [_storage(name, "detaching") for name, told in unit.storage.items() if told]
    return detaching or list(_relations(model, unit)) or [Event("stop")]


def _elected(model: Model, unit: Unit) -> bool:
    return model.is_leader(unit.name) and not unit.chosen


def _attached(model: Model, unit: Unit) -> Iterator[Event]:
    for name, told in unit.storage.items():
        if not told and model.storage[name].attached:
            yield _storage(name, "attached")


def _storage(name: str, what: str) -> Event:
    return Event(f"storage-{what}", storage_id=name)


def _action(model: Model, task: str) -> Event:
    return Event("action", action=model.tasks[task].name, task=task)


def _relation(relation: Relation, unit: Unit, what: str, remote: str = "") -> Event:
    event = Event(f"relation-{what}", relation_id=relation.id, remote_unit=remote)
    application = unit.application
    endpoint, remote_app = relation.ends[application].name, relation.remote(application)
    return replace(event, endpoint=endpoint, remote_app=remote_app)


def _relations(model: Model, unit: Unit) -> Iterator[Event]:
    """Yield what is due of each relation; what must come before another, comes alone."""
    for relation in model.relations.values():
        if unit.application not in relation.ends:
            continue
        seen = unit.relations.get(relation.id)
        ends = "dying" in (relation.life, unit.life)
        if seen is None:
            if not ends:
                yield _relation(relation, unit, "created")
            continue
        remote = relation.remote(unit.application)
        there = [u for u in relation.units if u.rpartition("/")[0] == remote and u != unit.name]
        gone = [member for member in seen.members if ends or member not in there]
        if gone:
            for member in gone:
                leaver = unit.name if unit.life == "dying" else member
                event = _relation(relation, unit, "departed", member)
                yield replace(event, departing_unit=leaver)
        elif ends:
            others = model.applications[unit.application].units.values()
            stays = relation.peer and any(other.life == "alive" for other in others)
            if relation.life == "dying" or not stays:
                yield _relation(relation, unit, "broken")
        elif relation.versions.get(remote, 0) > seen.bag:
            yield _relation(relation, unit, "changed")
        else:
            for member in there:
                if member not in seen.members:
                    yield _relation(relation, unit, "joined", member)
                elif relation.versions.get(member, 0) > seen.members[member]:
                    yield _relation(relation, unit, "changed", member)


def _secrets(model: Model, unit: Unit, now: float) -> Iterator[Event]:
    for secret in model.secrets.values():
        if model.manages(unit.name, secret):
            for revision in model.unused(secret):
                if not secret.revisions[revision].told:
                    yield _secret(secret, "remove", secret.label, revision)
            if secret.expires is not None and now >= secret.expires and not secret.expiry_told:
                yield _secret(secret, "expired", secret.label, secret.latest)
            if secret.rotates is not None and now >= secret.rotates:
                yield _secret(secret, "rotate", secret.label)
        elif consumer := secret.consumers.get(unit.name):
            own = secret.label if secret.owner == unit.application else ""
            if max(consumer.told, consumer.revision) < secret.latest:
                yield _secret(secret, "changed", consumer.label or own)


def _secret(secret: Secret, what: str, label: str, revision: int | None = None) -> Event:
    event = Event(f"secret-{what}", secret_id=secret.id, secret_label=label)
    return replace(event, secret_revision=revision)


def tell(model: Model, unit: Unit, event: Event) -> None:
    """Record that a unit is being told an event, so that it is not due again."""
    relation = model.relations.get(-1 if event.relation_id is None else event.relation_id)
    secret = model.secrets.get(event.secret_id)
    match event.kind:
        case "leader-elected":
            unit.chosen = True
        case "config-changed":
            unit.config = model.applications[unit.application].config_version
        case "storage-attached":
            unit.storage[event.storage_id] = True
        case "storage-detaching":
            unit.storage[event.storage_id] = False
        case "relation-created" if relation:
            model.enter(unit, relation)
        case "relation-joined" if relation:
            unit.relations[relation.id].members[event.remote_unit] = -1
        case "relation-changed" if relation and event.remote_unit:
            version = relation.versions.get(event.remote_unit, 0)
            unit.relations[relation.id].members[event.remote_unit] = version
        case "relation-changed" if relation:
            unit.relations[relation.id].bag = relation.versions.get(event.remote_app, 0)
        case "relation-departed" if relation:
            del unit.relations[relation.id].members[event.remote_unit]
        case "secret-changed" if secret:
            secret.consumers[unit.name].told = secret.latest
        case "secret-remove" if secret and event.secret_revision is not None:
            secret.revisions[event.secret_revision].told = True
        case "secret-expired" if secret:
            secret.expiry_told = True
        case "secret-rotate" if secret:
            secret.rotates = model.next_rotation(secret)
        case _ if event.workload:
            unit.pebble[event.workload].remove(event)


def hook_name(event: Event) -> str:
    """Return the name of the hook (or action) that an event runs."""
    if event.kind == "action":
        return event.action
    prefix = event.endpoint or event.workload or event.storage_id.rpartition("/")[0]
    return f"{prefix}-{event.kind}" if prefix else event.kind


def environment(model: Model, unit: Unit, event: Event) -> dict[str, str]:
    """Return the variables that Juju sets for a hook, Kubernetes' own left out."""
    name, tag = hook_name(event), f"unit-{unit.name.replace('/', '-')}"
    charm = f"/var/lib/juju/agents/{tag}/charm"
    variables = {
        "CHARM_DIR": charm,
        "JUJU_CHARM_DIR": charm,
        "JUJU_CONTEXT_ID": f"{unit.name}-{name}-{model.random.getrandbits(128):032x}",
        "JUJU_AGENT_SOCKET_ADDRESS": f"/var/lib/juju/agents/{tag}/agent.socket",
        "JUJU_AGENT_SOCKET_NETWORK": "unix",
        "JUJU_HOOK_NAME": name,
        "JUJU_DISPATCH_PATH": f"hooks/{name}",
        "JUJU_UNIT_NAME": unit.name,
        "JUJU_MODEL_NAME": model.name,
        "JUJU_MODEL_UUID": model.uuid,
        "JUJU_VERSION": VERSION,
        "JUJU_API_ADDRESSES": model.api_address,
        "CLOUD_API_VERSION": "1.34.0",
        "JUJU_CHARM_NO_PROXY": "127.0.0.1,localhost,::1",
        **dict.fromkeys(_EMPTY, ""),
        "APT_LISTCHANGES_FRONTEND": "none",
        "DEBIAN_FRONTEND": "noninteractive",
        "LANG": "C.UTF-8",
        "TERM": "tmux-256color",
        "PATH": f"/var/lib/juju/tools/{tag}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
        ":/sbin:/bin:/charm/bin",
    }
    if event.relation_id is not None:
        variables["JUJU_RELATION"] = event.endpoint
        variables["JUJU_RELATION_ID"] = f"{event.endpoint}:{event.relation_id}"
        variables["JUJU_REMOTE_APP"] = event.remote_app
        variables["JUJU_REMOTE_UNIT"] = event.remote_unit
        if event.departing_unit:
            variables["JUJU_DEPARTING_UNIT"] = event.departing_unit
    if event.workload:
        variables["JUJU_WORKLOAD_NAME"] = event.workload
    if event.notice_id:
        variables["JUJU_NOTICE_ID"] = event.notice_id
        variables["JUJU_NOTICE_TYPE"] = event.notice_type
        variables["JUJU_NOTICE_KEY"] = event.notice_key
    if event.check_name:
        variables["JUJU_PEBBLE_CHECK_NAME"] = event.check_name
    if event.storage_id:
        variables["JUJU_STORAGE_ID"] = event.storage_id
        variables["JUJU_STORAGE_KIND"] = "filesystem"
        variables["JUJU_STORAGE_LOCATION"] = model.storage[event.storage_id].location
    if event.secret_id:
        prefix = "secret:" if event.kind == "secret-changed" else ""
        variables["JUJU_SECRET_ID"] = prefix + event.secret_id
        variables["JUJU_SECRET_LABEL"] = event.secret_label
    if event.secret_revision is not None:
        variables["JUJU_SECRET_REVISION"] = str(event.secret_revision)
    if event.kind == "action":
        variables["JUJU_ACTION_NAME"] = event.action
        variables["JUJU_ACTION_UUID"] = event.task
        variables["JUJU_ACTION_TAG"] = f"action-{event.task}"
        variables["JUJU_HOOK_NAME"] = ""
        variables["JUJU_DISPATCH_PATH"] = f"actions/{event.action}"
    if event.action == "juju-exec":
        del variables["JUJU_DISPATCH_PATH"]
    return variables


_EMPTY = (
    "JUJU_MACHINE_ID",
    "JUJU_PRINCIPAL_UNIT",
    "JUJU_AVAILABILITY_ZONE",
    "JUJU_CHARM_HTTP_PROXY",
    "JUJU_CHARM_HTTPS_PROXY",
    "JUJU_CHARM_FTP_PROXY",
    "JUJU_CHARM_TRACE_CONFIG_HTTP",
    "JUJU_CHARM_TRACE_CONFIG_GRPC",
    "JUJU_CHARM_TRACE_CONFIG_CA_CERT",
)
