"""Hook tools: what a hook may ask and say, in Juju's formats, texts and exit codes.

Errors are `ERROR <text>` on stderr: code 2 for a call that is wrong in itself, 1 for what the
model refuses or does not have.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml

from sandbox import events
from sandbox.events import Event
from sandbox.model import (
    ROTATIONS,
    CommitError,
    Model,
    ModelError,
    Relation,
    SecretChange,
    Status,
    Task,
    Unit,
    Writes,
)

STATUSES = ("maintenance", "blocked", "waiting", "active")
_RESERVED = ("stdout", "stdout-encoding", "stderr", "stderr-encoding")
_ACTION_KEY = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SECRET_KEY = re.compile(r"[a-z][a-z0-9-]+[a-z0-9]")
_SECRET_URI = re.compile(r"(secret:)?(//[0-9a-f-]{36}/)?([0-9a-v]{20})")

_FLAGS = {
    "close-port": "endpoints= format=",
    "config-get": "all format=",
    "credential-get": "format=",
    "action-get": "format=",
    "goal-state": "format=",
    "is-leader": "format=",
    "juju-log": "debug log-level= format=",
    "juju-reboot": "now",
    "network-get": "relation= format= ingress-address bind-address egress-subnets primary-address",
    "open-port": "endpoints= format=",
    "opened-ports": "endpoints format=",
    "relation-get": "relation= app format=",
    "relation-ids": "format=",
    "relation-list": "relation= app format=",
    "relation-model-get": "relation= format=",
    "relation-set": "relation= app file= format=",
    "secret-add": "label= description= rotate= expire= owner= file=",
    "secret-get": "label= peek refresh format=",
    "secret-grant": "relation= unit=",
    "secret-ids": "format=",
    "secret-info-get": "label= format=",
    "secret-remove": "revision=",
    "secret-revoke": "relation= app= unit=",
    "secret-set": "label= description= rotate= expire= owner= file=",
    "state-delete": "",
    "state-get": "strict format=",
    "state-set": "file=",
    "status-get": "include-data application format=",
    "status-set": "application",
    "storage-get": "storage= format=",
    "storage-list": "format=",
    "unit-get": "format=",
    **dict.fromkeys(("action-fail", "action-log", "action-set", "application-version-set"), ""),
    **dict.fromkeys(("resource-get", "storage-add"), ""),
}
"""The flags of each tool; those that take a value end with "="."""
_TAKES = {
    tool: {it.rstrip("="): it.endswith("=") for it in flags.split()}
    for tool, flags in _FLAGS.items()
}
"""Of each tool and flag, whether it takes a value."""
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)
_SHORT = {"r": "relation", "a": "all", "l": "log-level", "s": "storage", "o": "output"}
_YAML = ("secret-get", "secret-info-get", "goal-state")
_WRITERS = ("close-port", "open-port", "juju-log", "relation-set")
"""These take --format for old times' sake and print nothing."""


@dataclass(frozen=True)
class Result:
    """What a hook tool leaves behind."""

    code: int
    stdout: str = ""
    stderr: str = ""


class _UsageError(Exception):
    """A call that is wrong in itself."""


@dataclass(frozen=True)
class _Call:
    flags: Mapping[str, str]
    words: tuple[str, ...]
    stdin: str
    spelling: Mapping[str, str]

    def word(self, number: int, default: str = "") -> str:
        return self.words[number] if len(self.words) > number else default


class HookContext:
    """One run of a hook or an action: it begins the event; `finish` ends it.

    `read_file` reads what `--file PATH` and `key#file=PATH` name where the caller has not.
    """

    def __init__(
        self,
        model: Model,
        unit: str,
        event: Event,
        read_file: Callable[[str], str] | None = None,
    ) -> None:
        model.begin(unit, event)
        self.model, self.event, self.read_file = model, event, read_file
        self.unit: Unit = model.find(unit)
        self.application = model.applications[self.unit.application]
        self.environment = events.environment(model, self.unit, event)
        self.task: Task | None = model.tasks.get(event.task)
        self.writes = Writes()
        self.failure: str | None = None
        self._status = self.unit.workload
        self._application_status = model.application_status(self.application)

    def run(self, argv: list[str], stdin: str = "") -> Result:
        """Run a hook tool; `argv[0]` is its name."""
        name = argv[0]
        if name not in _FLAGS:
            return Result(127, "", f"{name}: command not found\n")
        try:
            call = _parse(argv, stdin)
            value = getattr(self, f"_{name.replace('-', '_')}")(call)
        except _UsageError as error:
            return Result(2, "", f"ERROR {error}\n")
        except ModelError as error:
            return Result(1, "", f"ERROR {error}\n")
        if "format" not in _TAKES[name] or name in _WRITERS:
            return Result(0, value or "")
        default = "yaml" if name in _YAML else "smart"
        return Result(0, _format(value, call.flags.get("format") or default))

    def commit(self) -> None:
        """Keep what the hook has written, all or nothing; raises CommitError."""
        self.model.commit(self.unit.name, self.writes)

    def finish(self, code: int, stdout: str = "", stderr: str = "") -> str:
        """End the hook: keep its writes if it succeeded. Returns why they were refused, or "".

        Nothing is left to end for a unit that was removed by force meanwhile.
        """
        if self.unit not in self.model.units():
            return ""
        error = refusal = f"exit status {code}" if code else ""
        if not code:
            try:
                self.commit()
            except CommitError as reason:
                error = refusal = str(reason)
        if self.task:
            self._finish_task(self.task, code, error, stdout, stderr)
            error = ""
        elif not code and refusal:
            self.model.write_log(self.unit.name, "ERROR", "juju.worker.uniter", refusal)
        self.model.finish(self.unit.name, error)
        return "" if code else refusal

    def _finish_task(self, task: Task, code: int, error: str, stdout: str, stderr: str) -> None:
        failed = self.failure is not None or (error and self.event.action != "juju-exec")
        task.status = "failed" if failed or (error and not code) else "completed"
        task.message = self.failure or error if task.status == "failed" else ""
        task.results["return-code"] = code
        task.results |= {k: v for k, v in (("stdout", stdout), ("stderr", stderr)) if v}
        task.completed = self.model.clock()

    # --- leadership, configuration, status ------------------------------------------------------

    @property
    def _leads(self) -> bool:
        return self.model.is_leader(self.unit.name)

    def _is_leader(self, call: _Call) -> bool:
        return self._leads

    def _config_get(self, call: _Call) -> Any:
        settings = self.application.settings()
        if call.words:
            return settings.get(call.words[0])
        return {k: v for k, v in settings.items() if v is not None or "all" in call.flags}

    def _status_get(self, call: _Call) -> Any:
        whole, application = "include-data" in call.flags, "application" in call.flags
        if application and not self._leads:
            raise ModelError("finding application status: this unit is not the leader")
        status = self._application_status if application else self._status
        if whole and application:
            units = {u.name: _status(u.workload) for u in self.application.units.values()}
            return {"application-status": _status(status) | {"units": units}}
        if whole:
            return _status(status)
        return {"status": status.current} if call.flags.get("format") else status.current

    def _status_set(self, call: _Call) -> None:
        if not call.words:
            raise _UsageError("invalid args, require <status> [message]")
        status, message = call.words[0], " ".join(call.words[1:])
        if status not in STATUSES:
            expected = f"expected one of [{' '.join(STATUSES)}]"
            raise _UsageError(f'invalid status "{status}", {expected}')
        application = "application" in call.flags
        if application and not self._leads:
            raise ModelError("this unit is not the leader")
        self.model.set_status(self.unit.name, status, message, application=application)

    def _application_version_set(self, call: _Call) -> None:
        if not call.words:
            raise _UsageError("no version specified")
        self.application.version = call.words[0]

    def _goal_state(self, call: _Call) -> dict[str, Any]:
        relations: dict[str, dict[str, Any]] = {}
        for relation in self.model.relations.values():
            if relation.peer or self.application.name not in relation.ends:
                continue
            remote = relation.remote(self.application.name)
            entry = relations.setdefault(relation.ends[self.application.name].name, {})
            joined = any(u.startswith(f"{remote}/") for u in relation.units)
            entry[remote] = _goal("joined" if joined else "joining", relation.since)
            entry |= self._goals(remote)
        return {"units": self._goals(self.application.name), "relations": relations}

    def _goals(self, application: str) -> dict[str, Any]:
        found = self.model.applications.get(application)
        units = found.units.values() if found else ()
        shown = ((u, self.model.unit_status(u)) for u in units)
        return {
            u.name: _goal("dying" if u.life == "dying" else s.current, s.since) for u, s in shown
        }

    # --- relations ------------------------------------------------------------------------------

    def _relation(self, call: _Call) -> Relation:
        text = call.flags.get("relation")
        if text is None:
            if self.event.relation_id is None:
                raise _UsageError("no relation id specified")
            number = self.event.relation_id
        else:
            where = f'invalid value "{text}" for option {call.spelling["relation"]}: '
            digits = text.rpartition(":")[2]
            if not digits.isdigit():
                raise _UsageError(f"{where}invalid relation id")
            number = int(digits)
            if number not in self.unit.relations:
                raise _UsageError(f"{where}relation not found")
        if number not in self.model.relations:
            raise ModelError("relation not found")
        return self.model.relations[number]

    def _relation_ids(self, call: _Call) -> list[str]:
        endpoint = call.word(0, self.event.endpoint)
        if not endpoint:
            raise _UsageError("no endpoint name specified")
        seen, mine = sorted(self.unit.relations), self.application.name
        fits = (n for n in seen if self.model.relations[n].ends[mine].name == endpoint)
        return [f"{endpoint}:{number}" for number in fits]

    def _relation_list(self, call: _Call) -> Any:
        relation = self._relation(call)
        if "app" in call.flags:
            return relation.remote(self.application.name)
        return sorted(self.unit.relations[relation.id].members, key=_by_number)

    def _relation_get(self, call: _Call) -> Any:
        relation, key = self._relation(call), call.word(0, "-")
        default = self.event.remote_unit or ("app" in call.flags and self.event.remote_app) or ""
        bag = call.word(1, default)
        if not bag:
            raise _UsageError("no unit or application specified")
        if "app" in call.flags:
            bag = bag.partition("/")[0]
            if bag not in relation.ends:
                raise ModelError(f'getting application "{bag}" not found')
        elif bag not in relation.bags or "/" not in bag:
            raise ModelError("relation unit not found")
        pending = self.writes.relations.get((relation.id, bag), {})
        data = {k: v for k, v in {**relation.bags[bag], **pending}.items() if v}
        return dict(sorted(data.items())) if key == "-" else data.get(key)

    def _relation_set(self, call: _Call) -> None:
        relation, changes = self._relation(call), self._pairs(call)
        if "app" in call.flags and not self._leads:
            raise ModelError("cannot write relation settings")
        bag = self.application.name if "app" in call.flags else self.unit.name
        self.writes.relations.setdefault((relation.id, bag), {}).update(changes)

    def _relation_model_get(self, call: _Call) -> dict[str, str]:
        self._relation(call)
        return {"uuid": self.model.uuid}

    def _pairs(self, call: _Call) -> dict[str, str]:
        pairs = dict(self._file(call))
        for word in call.words:
            key, equals, value = word.partition("=")
            if not equals or not key:
                raise _UsageError(f'expected "key=value", got "{word}"')
            pairs[key] = value
        return pairs

    def _file(self, call: _Call) -> dict[str, str]:
        path = call.flags.get("file")
        if path is None:
            return {}
        content = yaml.load(self._read(path, call.stdin), yaml.CBaseLoader) or {}  # noqa: S506
        if not isinstance(content, dict):
            raise _UsageError("expected a map of keys and values")
        return {str(key): str(value) for key, value in content.items()}

    def _read(self, path: str, stdin: str) -> str:
        if path in ("-", "/dev/stdin"):
            return stdin
        if self.read_file is None:
            raise _UsageError(f"open {path}: no such file or directory")
        return self.read_file(path)

    def _network_get(self, call: _Call) -> Any:
        if not call.words:
            raise _UsageError("no arguments specified")
        if call.words[0] not in (*self.application.charm.endpoints, "juju-info"):
            raise ModelError(f'no network config found for binding "{call.words[0]}"')
        bind, ingress = self.unit.address, self.application.address
        asked = {
            "bind-address": bind,
            "primary-address": bind,
            "ingress-address": ingress,
            "egress-subnets": [f"{ingress}/32"],
        }
        if wanted := {name: value for name, value in asked.items() if name in call.flags}:
            return wanted if len(wanted) > 1 else next(iter(wanted.values()))
        card = f'placeholder for "{self.unit.name}" cloud container'
        address = {"hostname": bind, "value": bind, "cidr": "0.0.0.0/0"}
        interface = {"mac-address": "", "interface-name": card, "addresses": [address]}
        if call.flags.get("format") != "json":  # the names of old, beside the new ones
            address["address"] = bind
            interface |= {"macaddress": "", "interfacename": card}
        return {
            "bind-addresses": [interface],
            "egress-subnets": [f"{ingress}/32"],
            "ingress-addresses": [ingress],
        }

    def _unit_get(self, call: _Call) -> str:
        if call.word(0) == "private-address":
            raise ModelError("private address not found")
        if call.word(0) != "public-address":
            raise _UsageError(f'unknown setting "{call.word(0)}"')
        return self.application.address

    # --- secrets --------------------------------------------------------------------------------

    def _secret_add(self, call: _Call) -> str:
        owner = call.flags.get("owner", "application")
        change = self._secret_change("add", call)
        if owner not in ("application", "unit"):
            raise _UsageError(f'secret owner "{owner}" not valid')
        change.content = self._content(call)
        if not change.content:
            raise _UsageError("missing secret value or filename")
        if owner == "application" and not self._leads:
            raise ModelError("this unit is not the leader")
        change.id = self.model.new_id()
        change.owner = self.application.name if owner == "application" else self.unit.name
        self.writes.secrets.append(change)
        return f"secret://{self.model.uuid}/{change.id}\n"

    def _secret_change(self, verb: Any, call: _Call) -> SecretChange:
        rotate, expire = call.flags.get("rotate"), call.flags.get("expire")
        if rotate is not None and rotate not in ROTATIONS:
            raise _UsageError(f'rotate policy "{rotate}" not valid')
        return SecretChange(
            verb,
            "",
            label=call.flags.get("label"),
            description=call.flags.get("description"),
            rotate=rotate,
            expires=None if expire is None else _expiry(expire, self.model.clock()),
        )

    def _content(self, call: _Call, skip: int = 0) -> dict[str, str]:
        content = self._file(call)
        for word in call.words[skip:]:
            key, equals, value = word.partition("=")
            if not equals:
                raise _UsageError(f'key value "{word}" not valid')
            key, _, how = key.partition("#")
            if how == "base64":
                value = base64.b64decode(value).decode()
            elif how == "file":
                value = self._read(value, call.stdin)
            content[key] = value
        for key in content:
            if not _SECRET_KEY.fullmatch(key):
                raise _UsageError(f'key "{key}" not valid')
        return dict(sorted(content.items()))

    def _pending(self, secret_id: str = "", label: str = "") -> SecretChange | None:
        for change in self.writes.secrets:
            if change.verb == "add" and (change.id == secret_id or (label == change.label != "")):
                return change
        return None

    def _secret_get(self, call: _Call) -> Any:
        label, peek, refresh = (call.flags.get(f) for f in ("label", "peek", "refresh"))
        if peek is not None and refresh is not None:
            raise _UsageError("specify one of --peek or --refresh but not both")
        if not call.words and not label:
            raise _UsageError("require either a secret URI or label")
        secret_id = _secret_id(call.words[0]) if call.words else ""
        added = self._pending(secret_id, "" if secret_id else label or "")
        if added:
            content = added.content or {}
        else:
            if not secret_id:
                found = self.model.labelled(self.unit.name, label or "")
                if found is None or found.id in self._relabelled(label):
                    raise ModelError(f'secret URI for consumer label "{label}" not found')
                secret_id, label = found.id, ""
            content = self.model.read_secret(
                self.unit.name,
                secret_id,
                label or "",
                peek=peek is not None,
                refresh=refresh is not None,
            )
        if key := call.word(1):
            if key not in content:
                raise ModelError(f'secret key value "{key}" not found')
            return content[key]
        return dict(sorted(content.items()))

    def _relabelled(self, label: str | None) -> set[str]:
        return {
            c.id for c in self.writes.secrets if c.verb == "set" and c.label not in (None, label)
        }

    def _managed(self, call: _Call) -> str | None:
        """Return the id of a secret that this unit may manage; None when there is none such."""
        secret_id = _secret_id(call.word(0))
        if self._pending(secret_id):
            return secret_id
        secret = self.model.secrets.get(secret_id)
        if secret and not self.model.manages(self.unit.name, secret):
            raise ModelError(f'"{self.unit.name}" is not allowed to manage this secret')
        return secret_id if secret else None

    def _secret_set(self, call: _Call) -> None:
        secret_id, change = self._managed(call), self._secret_change("set", call)
        change.content = self._content(call, 1) or None
        if secret_id is None:
            return
        change.id = secret_id
        for earlier in self.writes.secrets:
            if earlier.id == secret_id and earlier.verb in ("add", "set"):
                for name in ("content", "label", "description", "rotate", "expires"):
                    if getattr(change, name) is not None:
                        setattr(earlier, name, getattr(change, name))
                return
        self.writes.secrets.append(change)

    def _secret_remove(self, call: _Call) -> None:
        secret_id, revision = self._managed(call), call.flags.get("revision")
        if secret_id is None:
            return
        if self._pending(secret_id):
            kept = [c for c in self.writes.secrets if c.id != secret_id]
            self.writes.secrets = self.writes.secrets if revision else kept
            return
        number = int(revision) if revision else None
        self.writes.secrets.append(SecretChange("remove", secret_id, revision=number))

    def _secret_grant(self, call: _Call) -> None:
        relation, secret_id = self._relation(call), self._managed(call)
        remote, unit = relation.remote(self.application.name), call.flags.get("unit", "")
        if unit and unit.partition("/")[0] != remote:
            what = f'unit "{unit}" in relation to application "{remote}"'
            raise _UsageError(f"cannot specify {what}")
        if secret_id:
            change = SecretChange("grant", secret_id, relation=relation.id, target=unit or remote)
            self.writes.secrets.append(change)

    def _secret_revoke(self, call: _Call) -> None:
        relation = self._relation(call) if "relation" in call.flags else None
        target = call.flags.get("unit") or call.flags.get("app") or ""
        if relation is None and not target:
            raise _UsageError("missing relation or application or unit")
        if secret_id := self._managed(call):
            change = SecretChange("revoke", secret_id, target=target)
            change.relation = relation.id if relation else None
            self.writes.secrets.append(change)

    def _secret_ids(self, call: _Call) -> list[str] | None:
        kept = [s for s in self.model.secrets.values() if self.model.manages(self.unit.name, s)]
        added = [c.id for c in self.writes.secrets if c.verb == "add"]
        return [s.id for s in kept] + added or None

    def _secret_info_get(self, call: _Call) -> dict[str, Any]:
        label = call.flags.get("label", "")
        secret_id = _secret_id(call.words[0]) if call.words else ""
        if added := self._pending(secret_id, "" if secret_id else label):
            owner = "unit" if added.owner == self.unit.name else "application"
            return {added.id: _filled(revision=1, label=added.label, owner=owner)}
        for secret in self.model.secrets.values():
            named = secret.id == secret_id or (not secret_id and secret.label == label)
            if named and self.model.manages(self.unit.name, secret):
                break
        else:
            raise ModelError(f'secret "{secret_id or label}" not found')
        return {
            secret.id: _filled(
                revision=secret.latest,
                label=secret.label,
                owner="unit" if secret.owner == self.unit.name else "application",
                description=secret.description,
                rotation=secret.rotate,
                expiry=secret.expires and _rfc3339(secret.expires),
                rotates=secret.rotates and _rfc3339(secret.rotates),
                access=[
                    {"target": _tag(target), "scope": self._scope(relation), "role": "view"}
                    for relation, target in secret.grants
                ],
            )
        }

    def _scope(self, relation: int | None) -> str:
        ends = str(self.model.relations[relation]).split() if relation is not None else []
        return "relation-" + "#".join(end.replace(":", ".") for end in ends)

    # --- state, ports, storage, resources -------------------------------------------------------

    def _state_get(self, call: _Call) -> Any:
        state = {**self.unit.state, **self.writes.state}
        if call.words:
            return state.get(call.words[0])
        return {k: v for k, v in sorted(state.items()) if v is not None}

    def _state_set(self, call: _Call) -> None:
        self.writes.state |= self._pairs(call)

    def _state_delete(self, call: _Call) -> None:
        self.writes.state[call.word(0)] = None

    def _open_port(self, call: _Call) -> None:
        self._port(call, opened=True)

    def _close_port(self, call: _Call) -> None:
        self._port(call, opened=False)

    def _port(self, call: _Call, *, opened: bool) -> None:
        number, _, protocol = (call.word(0) or "").partition("/")
        protocol, first = (protocol or "tcp").lower(), number.partition("-")[0]
        if not number:
            raise _UsageError("no port or range specified")
        if number == "icmp":
            port = "icmp"
        elif protocol not in ("tcp", "udp"):
            expected = 'expected "tcp", "udp", or "icmp"'
            raise _UsageError(f'invalid protocol "{protocol}", {expected}')
        elif not first.isdigit() or int(first) > 65535:
            last = number.partition("-")[2] or first
            bounds = "port range bounds must be between 0 and 65535"
            raise _UsageError(f"{bounds}, got {first}-{last}")
        elif "-" in number:
            raise ModelError(
                "port ranges are not supported for k8s applications, please specify a single port"
            )
        else:
            port = f"{number}/{protocol}"
        for endpoint in call.flags.get("endpoints", "").split(","):
            self.writes.ports[endpoint, port] = opened

    def _opened_ports(self, call: _Call) -> list[str]:
        now = dict.fromkeys(self.unit.ports, True) | self.writes.ports
        ports: dict[str, list[str]] = {}
        for (endpoint, port), opened in now.items():
            if opened:
                ports.setdefault(port, []).append(endpoint or "*")
        ordered = sorted(ports, key=_by_port)
        if "endpoints" in call.flags:
            return [f"{port} ({', '.join(sorted(ports[port]))})" for port in ordered]
        return ordered

    def _storage_list(self, call: _Call) -> list[str]:
        told = [name for name, attached in self.unit.storage.items() if attached]
        if self.event.kind == "storage-detaching":
            told.append(self.event.storage_id)
        name = call.word(0)
        return sorted(s for s in told if not name or s.rpartition("/")[0] == name)

    def _storage_get(self, call: _Call) -> Any:
        name = call.flags.get("storage", self.event.storage_id)
        if not name:
            raise _UsageError("no storage instance specified")
        if name not in self.unit.storage:
            where = f'invalid value "{name}" for option -s: '
            raise _UsageError(f'{where}storage instance "{name}" not found')
        data = {"kind": "filesystem", "location": self.model.storage[name].location}
        if key := call.word(0):
            if key not in data:
                raise ModelError(f'invalid storage attribute "{key}"')
            return data[key]
        return data

    def _storage_add(self, call: _Call) -> None:
        self.writes.storage += [word.partition("=")[0] for word in call.words]

    def _resource_get(self, call: _Call) -> str:
        name = call.word(0)
        if not name:
            raise _UsageError("missing required resource name")
        spec = self.application.charm.resources.get(name)
        if spec is None or name not in self.application.resources:
            raise ModelError(
                f"could not download resource: getting UUID of resource {name} "
                f"for application {self.application.uuid}: resource not found"
            )
        file = spec.filename or "content.yaml"
        tag = self.unit.name.replace("/", "-")
        return f"/var/lib/juju/agents/unit-{tag}/resources/{name}/{file}"

    def _credential_get(self, call: _Call) -> None:
        what = "cannot access cloud credentials: getting model credentials"
        raise ModelError(f"{what}: permission denied")

    # --- actions and the log --------------------------------------------------------------------

    def _running_task(self) -> Task:
        if self.task is None:
            raise ModelError("not running an action")
        return self.task

    def _action_get(self, call: _Call) -> Any:
        value: Any = self._running_task().params
        for key in filter(None, call.word(0).split(".")):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _action_set(self, call: _Call) -> None:
        results = self._running_task().results
        for word in call.words:
            path, equals, value = word.partition("=")
            if not equals:
                raise _UsageError(f'argument "{word}" must be of the form key...=value')
            keys = path.split(".")
            for key in keys:
                if not _ACTION_KEY.fullmatch(key):
                    raise _UsageError(
                        f'key "{key}" must start and end with lowercase alphanumeric, '
                        "and contain only lowercase alphanumeric and hyphens"
                    )
            if keys[0] in _RESERVED:
                raise _UsageError(f'cannot set reserved action key "{keys[0]}"')
            branch = results
            for key in keys[:-1]:
                if not isinstance(branch.get(key), dict):
                    branch[key] = {}
                branch = branch[key]
            branch[keys[-1]] = value

    def _action_log(self, call: _Call) -> None:
        self._running_task().log.append((self.model.clock(), " ".join(call.words)))

    def _action_fail(self, call: _Call) -> None:
        self._running_task()
        default = "action failed without reason given, check action for errors"
        self.failure = " ".join(call.words) or default

    def _juju_log(self, call: _Call) -> None:
        if not call.words:
            raise _UsageError("no message specified")
        level = "DEBUG" if "debug" in call.flags else call.flags.get("log-level", "INFO")
        module = f"unit.{self.unit.name}.juju-log"
        if level.upper() not in ("TRACE", "DEBUG", "INFO", "WARNING", "WARN", "ERROR", "CRITICAL"):
            warning = f'Specified log level of "{level}" is not valid'
            self.model.write_log(self.unit.name, "WARNING", module, warning)
            level = "INFO"
        self.model.write_log(self.unit.name, level.upper(), module, " ".join(call.words))

    def _juju_reboot(self, call: _Call) -> None:
        where = "when running an action." if self.task else "on k8s"
        raise ModelError(f"juju-reboot is not supported {where}")


def _parse(argv: list[str], stdin: str) -> _Call:
    """Parse flags as Juju's tools do: anywhere before `--`, long or short, with `=` or without."""
    takes = _TAKES[argv[0]]
    flags: dict[str, str] = {}
    spelling: dict[str, str] = {}
    words: list[str] = []
    rest = iter(argv[1:])
    for word in rest:
        if word == "--":
            words.extend(rest)
        elif not word.startswith("-") or word == "-":
            words.append(word)
        else:
            given, equals, value = word.partition("=")
            name = given.lstrip("-")
            name = name if given.startswith("--") else _SHORT.get(name, name)
            if name not in takes:
                raise _UsageError(f"option provided but not defined: {given}")
            if takes[name] and not equals:
                following = next(rest, None)
                if following is None:
                    raise _UsageError(f"option needs an argument: {given}")
                value = following
            if takes[name] or value.lower() not in ("false", "f", "0"):
                flags[name], spelling[name] = value, given
    return _Call(flags, tuple(words), stdin, spelling)


def _format(value: Any, how: str) -> str:
    value = _plain(value)
    if how == "json":
        return _JSON.encode(value) + "\n"
    if how == "smart" and not isinstance(value, dict):
        if value is None or value in ("", []):
            return ""
        return "\n".join(map(str, value)) + "\n" if isinstance(value, list) else f"{value}\n"
    if how not in ("smart", "yaml"):
        raise _UsageError(f'unknown format "{how}"')
    if isinstance(value, str):
        return f"{value}\n"
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1 << 30)
    return text.removesuffix("...\n")


def _plain(value: Any) -> Any:
    """Return the value with whole floats as integers, as Go prints them."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _status(status: Status) -> dict[str, Any]:
    return {"message": status.message, "status": status.current, "status-data": status.data}


def _goal(status: str, since: float) -> dict[str, str]:
    return {"status": status, "since": _second(int(since))}


@functools.lru_cache(maxsize=1000)
def _second(since: int) -> str:
    return f"{datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%SZ}"


def _rfc3339(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _filled(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}


def _tag(name: str) -> str:
    return f"unit-{name.replace('/', '-')}" if "/" in name else f"application-{name}"


def _by_number(unit: str) -> tuple[str, int]:
    application, _, number = unit.rpartition("/")
    return application, int(number)


def _by_port(port: str) -> tuple[str, int]:
    number, _, protocol = port.partition("/")
    return (protocol, int(number)) if protocol else ("", 0)


def _secret_id(uri: str) -> str:
    match = _SECRET_URI.fullmatch(uri)
    if not match:
        raise _UsageError(f'secret URI "{uri}" not valid')
    return match[3]


def _expiry(text: str, now: float) -> float:
    """Parse an RFC 3339 time, or a Go duration from now, into seconds since the epoch."""
    units = {"h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
    if re.fullmatch(r"-?([\d.]+(ms|h|m|s))+", text):
        if text.startswith("-"):
            raise _UsageError(f'negative expire duration "{text}" not valid')
        parts = re.findall(r"([\d.]+)(ms|h|m|s)", text)
        span = sum((timedelta(**{units[u]: float(n)}) for n, u in parts), timedelta())
        return now + span.total_seconds()
    if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)?", text):
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    raise _UsageError(f'expire time or duration "{text}" not valid')
