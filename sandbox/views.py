"""What `juju` shows of a model: Juju's own JSON, key for key (juju-contract.md, section 5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from sandbox.charm import Charm
from sandbox.events import VERSION
from sandbox.model import Application, Model, ModelError, Secret, Status, Storage, Task, Unit

CONTROLLER, CLOUD = "sandbox", "sandbox"
SETTINGS: dict[str, Any] = {
    "agent-version": VERSION,
    "automatically-retry-hooks": True,
    "default-base": "",
    "development": False,
    "logging-config": "<root>=INFO",
    "max-action-results-age": "336h",
    "mode": "requires-prompts",
    "no-proxy": "127.0.0.1,localhost,::1",
    "resource-tags": {},
    "test-mode": False,
    "update-status-hook-interval": "5m",
}


def status(model: Model, applications: str = "") -> dict[str, Any]:
    """Return `juju status --format json`, of some applications or units when they are named."""
    wanted = [name.partition("/")[0] for name in applications.split(",") if name]
    now = model.clock()
    shown = {n: a for n, a in sorted(model.applications.items()) if not wanted or n in wanted}
    answer: dict[str, Any] = {
        "model": {
            "name": model.name,
            "type": "caas",
            "controller": CONTROLLER,
            "cloud": CLOUD,
            "version": VERSION,
            "model-status": {"current": "available", "since": _date(now)},
        },
        "machines": {},
        "applications": {name: _application(model, app) for name, app in shown.items()},
    }
    if model.storage:
        answer["storage"] = storage(model)
    return answer | {"controller": {"timestamp": f"{datetime.fromtimestamp(now, UTC):%H:%M:%SZ}"}}


def _application(model: Model, app: Application) -> dict[str, Any]:
    relations: dict[str, list[dict[str, str]]] = {}
    for relation in model.relations.values():
        if end := relation.ends.get(app.name):
            about = {"related-application": relation.remote(app.name), "interface": end.interface}
            relations.setdefault(end.name, []).append({**about, "scope": end.scope})
    return {
        "charm": _charm(app.charm),
        "base": {"name": "ubuntu", "channel": "24.04"},
        "charm-origin": "local",
        "charm-name": app.charm.name,
        "charm-rev": app.charm.revision,
        "scale": app.scale,
        **_given({"provider-id": app.provider_id, "address": app.address}),
        "exposed": app.exposed,
        "life": app.life,
        "application-status": _status(model.application_status(app)),
        **_given({"relations": dict(sorted(relations.items()))}),
        **_given({"units": {u.name: _unit(model, u) for _, u in sorted(app.units.items())}}),
        **_given({"version": app.version}),
        "endpoint-bindings": _bindings(app),
    }


def _unit(model: Model, unit: Unit) -> dict[str, Any]:
    agent = _status(unit.agent)
    if unit.agent.current != "allocating":
        agent["version"] = VERSION
    return {
        "workload-status": _status(model.unit_status(unit)),
        "juju-status": agent,
        **_given(
            {
                "leader": model.is_leader(unit.name) and unit.chosen,
                "open-ports": sorted({port for _, port in unit.ports}),
                "address": unit.address,
                "provider-id": unit.provider_id,
            }
        ),
    }


def storage(model: Model) -> dict[str, Any]:
    """Return `juju storage --format json`."""
    return {
        "storage": {it.id: _storage(it) for it in model.storage.values()},
        "filesystems": {it.id.rpartition("/")[2]: _volume(it) for it in model.storage.values()},
    }


def _storage(storage: Storage) -> dict[str, Any]:
    about = _storage_life(storage) | {"persistent": False}
    if storage.unit:
        place = {"location": storage.location, "life": "alive"}
        about["attachments"] = {"units": {storage.unit: place}}
    return {"kind": "filesystem", **about}


def _volume(storage: Storage) -> dict[str, Any]:
    about: dict[str, Any] = {"provider-id": storage.provider_id, "storage": storage.id}
    if storage.unit:
        mount = {"mount-point": storage.location, "read-only": False, "life": "alive"}
        place = {"location": storage.location, "life": "alive"}
        about["attachments"] = {
            "containers": {storage.unit: mount},
            "units": {storage.unit: place},
        }
    return {**about, "pool": storage.pool, "size": storage.size, **_storage_life(storage)}


def _storage_life(storage: Storage) -> dict[str, Any]:
    current = "attached" if storage.attached else "pending" if storage.unit else "detached"
    return {"life": "alive", "status": {"current": current, "since": _date(storage.since)}}


def relations(model: Model) -> list[list[str]]:
    """Return the rows of `juju status --relations`: provider, requirer, interface, type."""
    rows = []
    for relation in model.relations.values():
        ends = [
            (end.role == "requirer", f"{app}:{end.name}") for app, end in relation.ends.items()
        ]
        provider, requirer = min(ends)[1], max(ends)[1]
        interface = next(iter(relation.ends.values())).interface
        rows.append([provider, requirer, interface, "peer" if relation.peer else "regular"])
    return sorted(rows)


def leader(model: Model, unit: str) -> str:
    """Return the name of the unit that `app/leader` means, any other name as it is."""
    name, _, number = unit.rpartition("/")
    if number != "leader":
        return unit
    found = model.application(name).leader
    if found is None:
        raise ModelError(f'could not determine leader for "{name}"')
    return f"{name}/{found}"


def show_unit(model: Model, unit: str) -> dict[str, Any]:
    """Return `juju show-unit UNIT --format json`."""
    unit = leader(model, unit)
    found = model.find(unit)
    app = model.applications[found.application]
    relations = []
    for relation in model.relations.values():
        if app.name not in relation.ends:
            continue
        remote = relation.remote(app.name)
        about: dict[str, Any] = {
            "relation-id": relation.id,
            "endpoint": relation.ends[app.name].name,
            "related-endpoint": relation.ends[remote].name,
            "application-data": relation.bags.get(remote, {}),
            "local-unit": {"in-scope": False, "data": None},
        }
        if relation.peer:
            about["local-unit"] = {
                "in-scope": unit in relation.units,
                "data": relation.bags.get(unit, {}),
            }
        others = [u for u in relation.units if u.rpartition("/")[0] == remote and u != unit]
        if others:
            about["related-units"] = {
                other: {"in-scope": True, "data": relation.bags.get(other, {})} for other in others
            }
        relations.append(about)
    about = {
        **_given({"workload-version": app.version}),
        "opened-ports": sorted({port for _, port in found.ports}),
        "charm": _charm(app.charm),
        "leader": model.is_leader(unit),
        "life": found.life,
        **_given({"relation-info": relations}),
        **_given({"provider-id": found.provider_id, "address": found.address}),
    }
    return {unit: about}


def show_application(model: Model, application: str) -> dict[str, Any]:
    """Return `juju show-application APP --format json`."""
    app = model.application(application)
    about = {
        "charm": app.charm.name,
        "base": "ubuntu@24.04",
        "constraints": {"arch": "amd64", **app.constraints},
        "principal": True,
        "exposed": app.exposed,
        "remote": False,
        "life": app.life,
        "endpoint-bindings": _bindings(app),
    }
    return {application: about}


def config(model: Model, application: str) -> dict[str, Any]:
    """Return `juju config APP --format json`."""
    app = model.applications.get(application)
    if app is None:
        raise LookupError(f"application {application} not found (not found)")
    settings = {}
    for name, option in sorted(app.charm.options.items()):
        source = "user" if name in app.config else "unset" if option.default is None else "default"
        about: dict[str, Any] = {"description": option.description, "source": source}
        about["type"] = option.type
        if option.default is not None:
            about["default"] = option.default
        if source != "unset":
            about["value"] = app.settings()[name]
        settings[name] = dict(sorted(about.items()))
    trust = {
        "default": False,
        "description": "Does this application have access to trusted credentials",
        "source": "user" if app.trust else "default",
        "type": "bool",
        "value": app.trust,
    }
    return {
        "application": application,
        "application-config": {"trust": trust},
        "charm": app.charm.name,
        "settings": settings,
    }


def secrets(model: Model, owner: str = "") -> dict[str, Any]:
    """Return `juju secrets --format json`."""
    wanted = owner.removeprefix("application-").removeprefix("unit-")
    return {
        secret.id: _secret(model, secret)
        for secret in model.secrets.values()
        if not wanted or wanted in (secret.owner, secret.owner.replace("/", "-"))
    }


def show_secret(
    model: Model, name: str, reveal: str = "", revisions: str = "", revision: str = ""
) -> dict[str, Any]:
    """Return `juju show-secret NAME --format json`; its content only when it is to be revealed."""
    bare = name.rpartition("/")[2].removeprefix("secret:")
    secret = model.secrets.get(bare) or model.user_secret(name)
    about = _secret(model, secret)
    access = []
    for relation, target in secret.grants:
        kind = "unit" if "/" in target else "application"
        scope = f"model-{model.uuid}" if relation is None else f"relation-{relation}"
        tag = f"{kind}-{target.replace('/', '-')}"
        access.append({"target": tag, "scope": scope, "role": "view"})
    if access:
        about["access"] = access
    if revisions:
        about["revisions"] = [
            {
                "revision": number,
                "backend": f"{model.name}-local",
                "created": _instant(r.created),
                "updated": _instant(r.created),
            }
            for number, r in sorted(secret.revisions.items())
        ]
    if reveal:
        number = int(revision or secret.latest)
        if number not in secret.revisions:
            raise LookupError(f"secret revision {number} not found")
        content = secret.revisions[number].content
        plain = "".join(f"{key}={value}" for key, value in sorted(content.items()))
        about["checksum"] = hashlib.sha256(plain.encode()).hexdigest()
        about["content"] = {"Data": content}
    return {secret.id: about}


def _secret(model: Model, secret: Secret) -> dict[str, Any]:
    label = {"label": secret.label} if secret.owner else {"name": secret.label}
    return {
        "revision": secret.latest,
        "rotation": secret.rotate,
        "owner": secret.owner or model.name,
        **_given({"description": secret.description}),
        **_given(label),
        "created": _instant(secret.created),
        "updated": _instant(secret.updated),
        **_given({"expires": _instant(secret.expires), "rotates": _instant(secret.rotates)}),
    }


def status_log(model: Model, unit: str, limit: str = "20") -> list[dict[str, Any]]:
    """Return `juju show-status-log UNIT --format json`."""
    said = model.find(unit).history[-int(limit) :]
    return [
        {
            "status": status.current,
            **_given({"message": status.message, "data": status.data}),
            "since": _instant(status.since, "seconds"),
            "type": kind,
        }
        for kind, status in said
    ]


def resources(model: Model, application: str) -> dict[str, Any]:
    """Return `juju resources APP --format json`."""
    app = model.application(application)
    listed = [
        {
            "applicationId": application,
            "name": name,
            "type": spec.type,
            "path": spec.filename,
            "description": spec.description,
            "origin": "upload",
            "used": name in app.resources,
            "value": app.resources.get(name, ""),
        }
        for name, spec in sorted(app.charm.resources.items())
    ]
    return {"resources": listed}


def actions(model: Model, application: str, schema: str = "") -> dict[str, Any]:
    """Return `juju actions APP --format json`, with --schema the parameters' schemas."""
    found = sorted(model.application(application).charm.actions.items())
    if not schema:
        return {name: action.description for name, action in found}
    return {
        name: {
            "additionalProperties": action.additional_properties,
            "description": action.description,
            "properties": action.params,
            **_given({"required": list(action.required)}),
            "title": name,
            "type": "object",
        }
        for name, action in found
    }


def model_config(model: Model) -> dict[str, Any]:
    """Return `juju model-config --format json`."""
    values = {name: {"Value": value, "Source": "default"} for name, value in SETTINGS.items()}
    for name, value in model.settings.items():
        plain: Any = {"true": True, "false": False}.get(value, value)
        values[name] = {"Value": plain, "Source": "model"}
    return dict(sorted(values.items()))


def constraints(model: Model, application: str = "") -> dict[str, str]:
    """Return the constraints of an application, or of the model."""
    if not application:
        return model.constraints
    return {"arch": "amd64", **model.application(application).constraints}


def show_model(model: Model, controller: str) -> dict[str, Any]:
    """Return a model as `juju models` and `juju show-model` describe it."""
    return {
        "name": f"admin/{model.name}",
        "short-name": model.name,
        "model-uuid": model.uuid,
        "model-type": "caas",
        "controller-uuid": controller,
        "controller-name": CONTROLLER,
        "is-controller": False,
        "cloud": CLOUD,
        "type": "kubernetes",
        "life": "alive",
        "status": {"current": "available", "since": "just now"},
        "users": {
            "admin": {"display-name": "admin", "access": "admin", "last-connection": "just now"}
        },
        "secret-backends": {
            f"{model.name}-local": {"num-secrets": len(model.secrets), "status": "active"}
        },
        "agent-version": VERSION,
        "credential": {
            "name": CLOUD,
            "owner": "admin",
            "cloud": CLOUD,
            "validity-check": "valid",
        },
        "units": sum(len(app.units) for app in model.applications.values()),
    }


def show_task(task: Task) -> dict[str, Any]:
    """Return a task as `juju run --format json` shows it, and whether it has ended."""
    timing = {"enqueued": _go_time(task.enqueued)}
    if task.started is not None:
        timing["started"] = _go_time(task.started)
    about = {
        "id": task.id,
        **_given({"log": [f"{_go_time(at)} {text}" for at, text in task.log]}),
        **_given({"message": task.message}),
        **_given({"results": task.results}),
        "status": task.status,
        "timing": timing,
        "unit": task.unit,
    }
    return {"task": about, "operation": task.operation, "ended": ended(task)}


def ended(task: Task) -> bool:
    """Return whether nothing more will come of a task."""
    return task.completed is not None or task.status in ("error", "cancelled")


def _charm(charm: Charm) -> str:
    return f"local:{charm.name}-{charm.revision}"


def _bindings(app: Application) -> dict[str, str]:
    return dict.fromkeys(["", *sorted({"juju-info", *app.charm.endpoints})], "alpha")


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _status(status: Status) -> dict[str, Any]:
    about = {"current": status.current, **_given({"message": status.message})}
    return about | (_given({"since": _date(status.since)}) if status.since else {})


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%d %b %Y %H:%M:%SZ}"


def _instant(seconds: float | None, precision: str = "microseconds") -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision)[:-6] + "Z"


def _go_time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S.%f} +0000 UTC"


def whole(model: Model) -> Any:
    """Return the whole model, from which a bundle's changes are found."""
    return json.loads(model.to_json())


VIEWS: dict[str, Callable[..., Any]] = {
    "model": whole,
    "status": status,
    "relations": relations,
    "storage": storage,
    "show-unit": show_unit,
    "show-application": show_application,
    "config": config,
    "secrets": secrets,
    "show-secret": show_secret,
    "status-log": status_log,
    "resources": resources,
    "actions": actions,
    "model-config": model_config,
    "constraints": constraints,
}
