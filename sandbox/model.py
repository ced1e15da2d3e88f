"""What one Juju model holds: plain data, and what a user, the world and hooks do to it.

Nothing here does I/O. Units are named "app/0" everywhere. A transition never raises an event by
itself: events.due() compares what a unit has been told with what is, as Juju's own agent does.
"""

from __future__ import annotations

import copy
import random
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pydantic

from sandbox import events
from sandbox.charm import Charm, Endpoint, Value
from sandbox.events import Event

Life = Literal["alive", "dying"]
DAY = 86400.0
ROTATIONS = {
    "never": 0.0,
    "hourly": 3600.0,
    "daily": DAY,
    "weekly": 7 * DAY,
    "monthly": 30 * DAY,
    "quarterly": 90 * DAY,
    "yearly": 365 * DAY,
}
SEVERITY = ("error", "blocked", "waiting", "maintenance", "active", "unknown")
LOST = "agent lost, see `juju debug-logs` or `juju show-status-log` for more information"
HISTORY = 100
"""How many statuses of each unit are remembered."""
TASKS = 500
"""How many actions and commands are remembered once they have ended."""
LONGEST_RETRY = 300.0
LOST_AFTER = 60.0
"""Seconds without an agent after which another unit becomes leader."""


class ModelError(Exception):
    """A change is refused; the text is Juju's."""


class CommitError(Exception):
    """What a hook wrote is refused as a whole; the text is Juju's."""


@dataclass
class Status:
    """A status and since when (seconds since the epoch)."""

    current: str
    message: str = ""
    since: float = 0.0
    data: dict[str, str] = field(default_factory=dict)


@dataclass
class Membership:
    """What one unit has been told of one relation.

    `members` maps each remote unit that it saw join to the version of that unit's databag it was
    told of (-1: joined, and its first `changed` comes next); `bag` is the version of the remote
    application's databag it was told of.
    """

    members: dict[str, int] = field(default_factory=dict)
    bag: int = 0


@dataclass
class Unit:
    """A unit, its pod as the world tells it, and what it has been told so far."""

    name: str
    life: Life = "alive"
    address: str = ""
    provider_id: str = ""
    pod: str = ""
    up: bool = False
    down_since: float | None = None
    workload: Status = field(default_factory=lambda: Status("waiting", "installing agent"))
    agent: Status = field(default_factory=lambda: Status("allocating"))
    history: list[tuple[str, Status]] = field(default_factory=list)
    installed: bool = False
    started: bool = False
    stopping: bool = False
    stopped: bool = False
    upgrading: bool = False
    chosen: bool = False
    """Whether it has been told that it is the leader."""
    config: int | None = None
    """The version of the configuration it was told of."""
    relations: dict[int, Membership] = field(default_factory=dict)
    storage: dict[str, bool] = field(default_factory=dict)
    """Its storage instances, and whether it was told that they are attached."""
    pebble: dict[str, list[Event]] = field(default_factory=dict)
    """What Pebble said and the unit was not told yet, by container."""
    connected: list[str] = field(default_factory=list)
    """The containers whose Pebble answers."""
    tasks: list[str] = field(default_factory=list)
    running: Event | None = None
    failed: Event | None = None
    retries: int = 0
    retry_at: float | None = None
    """When a failed hook is run again; None waits for a person."""
    update_at: float = 0.0
    ports: list[tuple[str, str]] = field(default_factory=list)
    """Open ports, each an endpoint ("" is all) and "8080/tcp"."""
    state: dict[str, str] = field(default_factory=dict)

    @property
    def application(self) -> str:
        """Return the application's name."""
        return self.name.rpartition("/")[0]

    @property
    def number(self) -> int:
        """Return its ordinal."""
        return int(self.name.rpartition("/")[2])


@dataclass
class Storage:
    """A storage instance; `unit` is empty when it is detached. Sizes are MiB."""

    id: str
    name: str
    unit: str
    location: str
    size: int
    pool: str = "kubernetes"
    attached: bool = False
    since: float = 0.0
    provider_id: str = ""


@dataclass
class Application:
    """An application: what the user asked of it, and its units by ordinal."""

    name: str
    charm: Charm
    scale: int
    uuid: str
    since: float
    life: Life = "alive"
    trust: bool = False
    exposed: bool = False
    config: dict[str, Value] = field(default_factory=dict)
    config_version: int = 0
    constraints: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    storage: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each storage its size in MiB and how many instances each unit has."""
    annotations: dict[str, str] = field(default_factory=dict)
    units: dict[int, Unit] = field(default_factory=dict)
    leader: int | None = None
    status: Status | None = None
    """The status the leader has set for the application, if it has."""
    version: str = ""
    address: str = ""
    """The ClusterIP of its service."""
    provider_id: str = ""
    charm_modified: int = 0
    """Grows with each refresh and each new resource: its pods are replaced."""
    destroy_storage: bool = False

    def settings(self) -> dict[str, Value | None]:
        """Return each option's value: what the user set, else its default, else None."""
        return {n: self.config.get(n, o.default) for n, o in sorted(self.charm.options.items())}


@dataclass
class Relation:
    """A relation of two endpoints, or of one for peers; databags by application and by unit.

    `units` are those that have entered it and not left; versions count a databag's changes.
    """

    id: int
    ends: dict[str, Endpoint]
    life: Life = "alive"
    since: float = 0.0
    units: list[str] = field(default_factory=list)
    bags: dict[str, dict[str, str]] = field(default_factory=dict)
    """Databags, by application and by unit."""
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def peer(self) -> bool:
        """Whether this is the relation of an application with itself."""
        return len(self.ends) == 1

    def remote(self, application: str) -> str:
        """Return the other application; of a peer relation it is the same."""
        return next((name for name in self.ends if name != application), application)

    def __str__(self) -> str:
        provider_last = sorted(self.ends, key=lambda a: self.ends[a].role != "requirer")
        return " ".join(f"{a}:{self.ends[a].name}" for a in provider_last)


@dataclass
class Revision:
    """One content of a secret. `told` is whether its owner was told that nobody uses it."""

    content: dict[str, str]
    created: float
    told: bool = False


@dataclass
class Consumer:
    """A unit that has read a secret: its label, the revision it tracks, the one it was told of."""

    revision: int
    told: int
    label: str = ""


@dataclass
class Secret:
    """A secret; `owner` is an application, a unit, or "" for the model (a user's secret)."""

    id: str
    owner: str
    label: str = ""
    description: str = ""
    rotate: str = "never"
    expires: float | None = None
    rotates: float | None = None
    created: float = 0.0
    updated: float = 0.0
    latest: int = 0
    revisions: dict[int, Revision] = field(default_factory=dict)
    grants: list[tuple[int | None, str]] = field(default_factory=list)
    """Whom it is granted to: the relation (None for a user's secret), and application or unit."""
    consumers: dict[str, Consumer] = field(default_factory=dict)
    expiry_told: bool = False


@dataclass
class Task:
    """An action, or a command of `juju exec` (name "juju-exec"), and what came of it."""

    id: str
    operation: str
    unit: str
    name: str
    params: dict[str, Any]
    enqueued: float
    status: str = "pending"
    started: float | None = None
    completed: float | None = None
    message: str = ""
    results: dict[str, Any] = field(default_factory=dict)
    log: list[tuple[float, str]] = field(default_factory=list)


@dataclass
class SecretChange:
    """What a hook does to one secret; None is "as it is"."""

    verb: Literal["add", "set", "remove", "grant", "revoke"]
    id: str
    owner: str = ""
    content: dict[str, str] | None = None
    label: str | None = None
    description: str | None = None
    rotate: str | None = None
    expires: float | None = None
    revision: int | None = None
    relation: int | None = None
    target: str = ""


@dataclass
class Writes:
    """What a hook has written and Juju keeps only when the hook succeeds.

    `relations` maps a relation's id and an application or unit to its changed keys ("" deletes);
    `ports` maps an endpoint and a port to whether it is opened; `state` to None deletes.
    """

    relations: dict[tuple[int, str], dict[str, str]] = field(default_factory=dict)
    ports: dict[tuple[str, str], bool] = field(default_factory=dict)
    state: dict[str, str | None] = field(default_factory=dict)
    secrets: list[SecretChange] = field(default_factory=list)
    storage: list[str] = field(default_factory=list)


@dataclass
class Model:
    """One Juju model."""

    name: str
    uuid: str
    created: float = 0.0
    applications: dict[str, Application] = field(default_factory=dict)
    relations: dict[int, Relation] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    storage: dict[str, Storage] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """Model options that differ from their defaults (`juju model-config`)."""
    constraints: dict[str, str] = field(default_factory=dict)
    api_address: str = "127.0.0.1:17070"
    counters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock: Callable[[], float] = time.time
        self.random: random.Random = random.SystemRandom()
        self.write_log: Callable[[str, str, str, str], None] = lambda *line: None
        """Takes a line of debug-log: entity (a unit's name), level, module, text."""

    # --- the wire -----------------------------------------------------------------------------

    def to_json(self) -> bytes:
        """Return the whole model as JSON."""
        return _JSON.dump_json(self)

    @staticmethod
    def from_json(data: bytes | str) -> Model:
        """Return the model that `to_json` wrote."""
        return _JSON.validate_json(data)

    # --- finding --------------------------------------------------------------------------------

    def application(self, name: str) -> Application:
        """Return an application; raises ModelError when there is none."""
        try:
            return self.applications[name]
        except KeyError:
            raise ModelError(f'application "{name}" not found') from None

    def find(self, unit: str) -> Unit:
        """Return a unit by its name; raises ModelError when there is none."""
        name, _, number = unit.rpartition("/")
        units = self.applications[name].units if name in self.applications else {}
        if not number.isdigit() or int(number) not in units:
            raise ModelError(f'unit "{unit}" not found')
        return units[int(number)]

    def units(self) -> Iterator[Unit]:
        """Yield every unit."""
        for application in self.applications.values():
            yield from application.units.values()

    def is_leader(self, unit: str) -> bool:
        """Whether the unit is its application's leader."""
        name, _, number = unit.rpartition("/")
        return name in self.applications and self.applications[name].leader == int(number)

    def unit_status(self, unit: Unit) -> Status:
        """Return the workload status to show: an error or a lost agent hides what was set."""
        if unit.failed and unit.running != unit.failed:
            return self._failure(unit.failed, unit.agent.since)
        if unit.agent.current == "lost":
            return Status("unknown", LOST, unit.agent.since)
        return unit.workload

    def application_status(self, application: Application) -> Status:
        """Return what the leader set, else the worst of the units."""
        shown = [self.unit_status(unit) for unit in application.units.values()]
        if application.status and application.status.current != "unknown":
            return application.status
        rank = {name: number for number, name in enumerate(SEVERITY)}
        return min(shown, key=lambda s: rank[s.current], default=Status("unknown"))

    def next_event(self, unit: str, now: float | None = None) -> Event | None:
        """Return what to tell the unit now, or None."""
        due = events.due(self, self.find(unit), self.clock() if now is None else now)
        return due[0] if due else None

    def next_time(self) -> float | None:
        """Return when something becomes due by itself, or None."""
        times: list[float] = []
        for unit in self.units():
            if unit.down_since is not None and unit.agent.current != "lost":
                times.append(unit.down_since + LOST_AFTER)
            elif unit.up and unit.failed and unit.retry_at is not None:
                times.append(unit.retry_at)
            elif unit.up and unit.started:
                times.append(unit.update_at)
        for secret in self.secrets.values():
            if secret.expires is not None and not secret.expiry_told:
                times.append(secret.expires)
            if secret.rotates is not None:
                times.append(secret.rotates)
        return min(times, default=None)

    # --- what a user asks -----------------------------------------------------------------------

    def deploy(
        self,
        name: str,
        charm: Charm,
        scale: int = 1,
        *,
        config: Mapping[str, Value] | None = None,
        constraints: Mapping[str, str] | None = None,
        resources: Mapping[str, str] | None = None,
        storage: Mapping[str, str] | None = None,
        trust: bool = False,
        attach: Iterable[str] = (),
    ) -> Application:
        """Add an application with its units and its peer relations; raises ModelError."""
        _check_name(name)
        if name in self.applications:
            raise ModelError(f'cannot add application "{name}": application already exists')
        where = (
            f'cannot deploy "{name}": preparing CAAS application args: '
            "validating create application args: "
        )
        for resource in sorted(resources or {}):
            if resource not in charm.resources:
                raise ModelError(f'unrecognized resource "{resource}"')
        try:
            values = charm.parse(config or {})
        except ValueError as error:
            raise ModelError(f"{where}validating application config: {error}") from None
        for directive in sorted(storage or {}):
            if directive not in charm.storage:
                raise ModelError(
                    f"{where}invalid storage directive overrides: "
                    f'storage directive "{directive}" does not exist in the charm'
                )
        attached = [self._detached(each, name, charm) for each in attach]
        application = Application(
            name,
            charm,
            max(scale, 0),
            self._uuid(),
            self.clock(),
            trust=trust,
            config=values,
            constraints={**self.constraints, **(constraints or {})},
            resources=dict(resources or {}),
            storage={
                s: _directive((storage or {}).get(s, ""), spec.minimum_size, spec.least)
                for s, spec in charm.storage.items()
            },
        )
        self.applications[name] = application
        for peer in charm.peers:
            self._relate({name: peer})
        self._fill(application, attached)
        return application

    def scale(self, name: str, scale: int) -> None:
        """Give an application so many units, numbered from 0; the highest numbers go first."""
        application = self.application(name)
        application.scale = scale
        for unit in list(application.units.values()):
            if unit.number >= scale:
                self._condemn(unit)
        self._sweep()

    def remove_unit(self, name: str, number: int = 1) -> None:
        """Take units away, the highest numbers first."""
        scale = self.application(name).scale
        if number > scale:
            raise ModelError(f'cannot remove {number} units of "{name}": it has {scale}')
        self.scale(name, scale - number)

    def integrate(self, one: str, other: str) -> Relation:
        """Relate two endpoints, `application[:endpoint]` each; raises ModelError."""
        where = f'adding relation between endpoints "{one}" and "{other}": '
        cannot = f'{where}cannot relate endpoints "{one}" and "{other}": '
        sides = []
        for text in (one, other):
            name, _, endpoint = text.partition(":")
            known = self.applications[name].charm.endpoints if name in self.applications else {}
            ends = [e for e in known.values() if e.role != "peer" and endpoint in ("", e.name)]
            if not ends:
                raise ModelError(f"{cannot}no candidates for {text}: relation endpoint not found")
            sides.append([(name, e) for e in ends])
        fits = [
            (a, b)
            for a in sides[0]
            for b in sides[1]
            if a[1].interface == b[1].interface and a[1].role != b[1].role and a[0] != b[0]
        ]
        if not fits:
            raise ModelError(f"{cannot}no compatible endpoints found between applications")
        if len(fits) > 1:
            choices = "; ".join(f'"{a}:{e.name} {b}:{f.name}"' for (a, e), (b, f) in fits)
            raise ModelError(
                f'{cannot}ambiguous relation: "{one} {other}" could refer to {choices}'
            )
        (a, b) = fits[0]
        names = [f"{app}:{end.name}" for app, end in (a, b)]
        if self.related(*names):
            raise ModelError(
                f'{where}cannot add relation "{names[0]}", "{names[1]}": '
                f"relation {names[0]} {names[1]}: already exists"
            )
        for app, end in (a, b):
            taken = [r for r in self.relations.values() if r.ends.get(app) == end]
            if end.limit is not None and len(taken) >= end.limit:
                raise ModelError(
                    f'{where}cannot add relation "{names[0]}", "{names[1]}": establishing a new '
                    f"relation for {app}:{end.name} would exceed its maximum relation limit of "
                    f"{end.limit}"
                )
        return self._relate({a[0]: a[1], b[0]: b[1]})

    def related(self, one: str, other: str) -> Relation | None:
        """Return the relation of two endpoints, `application[:endpoint]` each, or None."""
        for relation in self.relations.values():
            if relation.peer:
                continue
            sides = [(app, f"{app}:{end.name}") for app, end in relation.ends.items()]
            if (one in sides[0] and other in sides[1]) or (one in sides[1] and other in sides[0]):
                return relation
        return None

    def remove_relation(self, one: str, other: str, *, force: bool = False) -> None:
        """End a relation: its units are told, and then it is gone; by force, at once."""
        relation = self.related(one, other)
        if relation is None:
            raise ModelError(
                f"relation with endpoints [{one} {other}] or id 0 not found (not found)"
            )
        relation.life = "dying"
        if force:
            self._delete_relation(relation)
        self._sweep()

    def set_config(self, name: str, values: Mapping[str, Value]) -> None:
        """Set options, parsed by their types; raises ModelError."""
        application = self.application(name)
        try:
            parsed = application.charm.parse(values)
        except ValueError as error:
            prefix = "invalid application config: " if "unknown option" in str(error) else ""
            raise ModelError(f"{prefix}{error}") from None
        self._configure(application, {**application.config, **parsed})

    def reset_config(self, name: str, options: Iterable[str]) -> None:
        """Set options back to their defaults."""
        application, gone = self.application(name), set(options)
        kept = {k: v for k, v in application.config.items() if k not in gone}
        self._configure(application, kept)

    def refresh(self, name: str, charm: Charm, resources: Mapping[str, str] | None = None) -> None:
        """Give an application another charm; its pods are replaced by whoever runs them."""
        application = self.application(name)
        used = {r.ends[name].name for r in self.relations.values() if name in r.ends}
        if gone := sorted(used - set(charm.endpoints)):
            raise ModelError(
                f'cannot upgrade application "{name}" to charm "{charm.name}": '
                f'would break relation "{name}:{gone[0]}"'
            )
        for resource in sorted(resources or {}):
            if resource not in charm.resources:
                raise ModelError(f'unrecognized resource "{resource}"')
        kept = {k: v for k, v in application.config.items() if k in charm.options}
        application.charm = charm
        application.config = charm.parse(kept, strict=False)
        application.resources.update(resources or {})
        application.charm_modified += 1
        for storage, spec in charm.storage.items():
            application.storage.setdefault(storage, _directive("", spec.minimum_size, spec.least))
        for relation in self.relations.values():
            if name in relation.ends:
                relation.ends[name] = charm.endpoints[relation.ends[name].name]
        for peer in charm.peers:
            if peer.name not in used:
                self._relate({name: peer})

    def attach_resource(self, name: str, resource: str, value: str) -> None:
        """Give an application another image or file; its pods are replaced."""
        application = self.application(name)
        if resource not in application.charm.resources:
            raise ModelError(f'unrecognized resource "{resource}"')
        application.resources[resource] = value
        application.charm_modified += 1

    def set_trust(self, name: str, trust: bool) -> None:
        """Grant or take access to the cluster; the units get config-changed, as Juju's do."""
        application = self.application(name)
        application.config_version += application.trust != trust
        application.trust = trust

    def set_constraints(self, name: str, constraints: Mapping[str, str]) -> None:
        """Replace an application's constraints."""
        self.application(name).constraints = dict(constraints)

    def remove_application(
        self, name: str, *, destroy_storage: bool = False, force: bool = False
    ) -> None:
        """End an application: its units are told, and then it is gone; by force, at once."""
        if name not in self.applications:
            raise ModelError(f'removing application {name} failed: application "{name}" not found')
        application = self.applications[name]
        application.life, application.scale = "dying", 0
        application.destroy_storage |= destroy_storage
        for relation in [r for r in self.relations.values() if name in r.ends]:
            relation.life = "dying"
        for unit in list(application.units.values()):
            self._condemn(unit)
            if force and unit.number in application.units:
                self._drop(unit)
        self._sweep()

    def remove_storage(self, storage_id: str) -> None:
        """Forget a detached storage instance."""
        storage = self.storage.get(storage_id)
        if storage is None:
            raise ModelError(f'storage "{storage_id}" not found')
        if storage.unit:
            raise ModelError(f'storage "{storage_id}" is attached to unit "{storage.unit}"')
        del self.storage[storage_id]

    def resolved(self, unit: str, *, retry: bool = True) -> None:
        """Run a failed hook again now, or skip it; raises ModelError when none failed."""
        found = self.find(unit)
        if not found.failed:
            raise ModelError(f'unit "{unit}" is not in an error state')
        if retry:
            found.retry_at = self.clock()
            return
        event, found.failed, found.retries = found.failed, None, 0
        self._done(found, event)
        self._sweep()

    def run_action(self, unit: str, action: str, params: Mapping[str, Any]) -> Task:
        """Queue an action on a unit; a Task with status "error" when its parameters are wrong."""
        found = self.find(unit)
        spec = self.application(found.application).charm.actions.get(action)
        if spec is None:
            raise ModelError(f'action "{action}" not defined for unit "{unit}". (not found)')
        task = self._task(found, action, spec.defaults() | dict(params))
        if refusal := spec.refusal(params):
            task.status = "error"
            task.message = f'cannot run "{action}" action: validation failed: {refusal}'
        else:
            found.tasks.append(task.id)
        return task

    def exec(self, unit: str, command: str, timeout: float = 300.0) -> Task:
        """Queue a command line on a unit."""
        found = self.find(unit)
        task = self._task(found, "juju-exec", {"command": command, "timeout": int(timeout * 1e9)})
        found.tasks.append(task.id)
        return task

    def add_secret(self, name: str, content: Mapping[str, str], description: str = "") -> Secret:
        """Add a user's secret."""
        if any(s.label == name and not s.owner for s in self.secrets.values()):
            raise ModelError(f'secret with name "{name}" already exists')
        secret = Secret(self.new_id(), "", name, description, created=self.clock())
        self.secrets[secret.id] = secret
        self._revise(secret, content)
        return secret

    def user_secret(self, name: str) -> Secret:
        """Return a user's secret by name, id or URI; raises ModelError."""
        bare = name.rpartition("/")[2].removeprefix("secret:")
        for secret in self.secrets.values():
            if not secret.owner and (secret.label == name or secret.id == bare):
                return secret
        raise ModelError(f'secret "{name}" not found')

    def update_secret(
        self, name: str, content: Mapping[str, str] | None = None, description: str | None = None
    ) -> None:
        """Give a user's secret new content."""
        secret = self.user_secret(name)
        secret.description = secret.description if description is None else description
        if content:
            self._revise(secret, content)

    def grant_secret(self, name: str, applications: Iterable[str]) -> None:
        """Let applications read a user's secret."""
        secret = self.user_secret(name)
        for application in applications:
            grant = (None, self.application(application).name)
            if grant not in secret.grants:
                secret.grants.append(grant)

    def revoke_secret(self, name: str, applications: Iterable[str]) -> None:
        """Stop applications from reading a user's secret."""
        secret, gone = self.user_secret(name), set(applications)
        secret.grants = [g for g in secret.grants if g[1] not in gone]

    def remove_secret(self, name: str, revision: int | None = None) -> None:
        """Remove a user's secret, or one revision of it."""
        self._remove_secret(self.user_secret(name), revision)

    # --- what the world tells -------------------------------------------------------------------

    def service_up(self, name: str, address: str, provider_id: str = "") -> None:
        """An application's service has its address: databags carry it."""
        application = self.application(name)
        application.address, application.provider_id = address, provider_id
        for relation in self.relations.values():
            for unit in relation.units:
                if unit.rpartition("/")[0] == name:
                    self._write_bag(relation, unit, _addresses(address))

    def pod_up(self, unit: str, address: str, pod: str, provider_id: str = "") -> None:
        """A unit's agent has started, in the pod of that uid.

        In a new pod an installed unit is told upgrade-charm, config-changed and start; in the
        same pod (the charm container was restarted) start. What Pebble says is to be told again.
        """
        found, fresh = self.find(unit), self.find(unit).pod != pod
        found.address, found.pod, found.provider_id = address, pod, provider_id
        found.up, found.stopping, found.down_since = True, False, None
        found.started = False
        found.connected, found.pebble = [], {}
        if found.installed and fresh:
            found.upgrading, found.config = True, None
            self._set_status(found, "maintenance")
        for secret in self.secrets.values():
            secret.expiry_told &= not self.manages(unit, secret)
        if found.agent.current == "lost":
            self._agent(found, "idle")
        if found.retry_at is not None:
            found.retry_at = self.clock()
        application = self.applications[found.application]
        if application.leader is None:
            application.leader = found.number

    def stopping(self, unit: str) -> None:
        """A unit's pod or charm container is about to end: `stop` is what it is told next."""
        self.find(unit).stopping = True

    def pod_down(self, unit: str) -> None:
        """A unit's agent is gone, with its pod or without."""
        found = self.find(unit)
        found.up, found.stopping, found.down_since = False, False, self.clock()
        if found.running and found.running.kind == "action":
            task = self.tasks[found.running.task]
            task.status, task.message, task.completed = "failed", "action terminated", self.clock()
            found.running = None
        if found.life == "alive":  # a stop that did not end well is over with its pod
            if found.running and found.running.kind == "stop":
                found.running = None
            if found.failed and found.failed.kind == "stop":
                found.failed, found.retries, found.retry_at = None, 0, None

    def storage_ready(self, unit: str, provider_ids: Mapping[str, str] | None = None) -> None:
        """The volumes of a unit are bound; `provider_ids` names them by storage id."""
        for storage in self.storage.values():
            if storage.unit == unit and not storage.attached:
                storage.attached, storage.since = True, self.clock()
                storage.provider_id = (provider_ids or {}).get(storage.id, "")

    def pebble_ready(self, unit: str, container: str) -> None:
        """Pebble of a workload container answers for the first time since it was started."""
        self._pebble(unit, Event("pebble-ready", workload=container))
        found = self.find(unit)
        found.connected = sorted({*found.connected, container})

    def pebble_gone(self, unit: str, container: str) -> None:
        """Pebble of a workload container does not answer: the container has ended."""
        found = self.find(unit)
        found.connected = [name for name in found.connected if name != container]
        found.pebble.pop(container, None)

    def notice(self, unit: str, container: str, notice_id: str, kind: str, key: str) -> None:
        """Pebble has recorded a custom notice."""
        event = Event("pebble-custom-notice", workload=container, notice_id=notice_id)
        self._pebble(unit, replace(event, notice_type=kind, notice_key=key))

    def check(self, unit: str, container: str, name: str, *, failed: bool) -> None:
        """A Pebble check has reached its threshold of failures, or recovered."""
        kind = "pebble-check-failed" if failed else "pebble-check-recovered"
        self._pebble(unit, Event(kind, workload=container, check_name=name))

    def tick(self, now: float) -> None:
        """See to what time alone changes: agents that stay away are lost, and lose leadership."""
        for application in self.applications.values():
            for unit in application.units.values():
                gone = unit.down_since is not None and now - unit.down_since >= LOST_AFTER
                if gone and unit.agent.current != "lost":
                    self._agent(unit, "lost", LOST)
                    if application.leader == unit.number:
                        self._elect(application)

    # --- hooks ----------------------------------------------------------------------------------

    def begin(self, unit: str, event: Event) -> None:
        """Tell a unit an event that is due; it runs until `finish`."""
        found = self.find(unit)
        if found.running is None and event != found.failed:
            events.tell(self, found, event)
        found.running = event
        name = events.hook_name(event)
        if event.kind == "action":
            task = self.tasks[event.task]
            task.status, task.started = "running", self.clock()
            if event.task in found.tasks:
                found.tasks.remove(event.task)
            self._agent(found, "executing", f"running action {name}")
            return
        self._agent(found, "executing", f"running {name} hook")
        if event.kind == "install" and not found.failed:
            self._set_status(found, "maintenance", "installing charm software")

    def commit(self, unit: str, writes: Writes) -> None:
        """Keep all that a hook has written, or nothing of it: raises CommitError."""
        found = self.find(unit)
        for name in writes.storage:
            raise CommitError(
                f'preparing storage additions: preparing storage add "{name}" for unit "{unit}": '
                "adding storage to a unit is not supported on k8s"
            )
        if not self.is_leader(unit) and any(bag != unit for _, bag in writes.relations):
            raise CommitError("cannot write relation settings")
        before = copy.deepcopy(self.secrets) if writes.secrets else self.secrets
        try:
            for change in writes.secrets:
                self._change_secret(unit, change)
        except CommitError:
            self.secrets = before
            raise
        for (relation_id, bag), changes in writes.relations.items():
            if relation_id in self.relations:
                self._write_bag(self.relations[relation_id], bag, changes)
        for port, opened in writes.ports.items():
            if opened and port not in found.ports:
                found.ports.append(port)
            elif not opened and port in found.ports:
                found.ports.remove(port)
        for key, value in writes.state.items():
            if value is None:
                found.state.pop(key, None)
            else:
                found.state[key] = value
        found.ports.sort()

    def finish(self, unit: str, error: str = "") -> None:
        """End the running hook or action of a unit; a hook with an error is run again later."""
        found = self.find(unit)
        event, found.running = found.running, None
        if event is None:
            raise ModelError(f'unit "{unit}" runs no hook')
        name, now = events.hook_name(event), self.clock()
        if event.kind == "action":
            self._agent(found, "idle")
            return
        module = "juju.worker.uniter.operation"
        how = "(via hook dispatching script: dispatch)"
        if error:
            again = found.failed == event
            found.failed, found.retries = event, found.retries + 1 if again else 1
            automatic = self.settings.get("automatically-retry-hooks", "true") == "true"
            pause = min(5.0 * 2 ** min(found.retries - 1, 10), LONGEST_RETRY)
            found.retry_at = now + pause if automatic else None
            self.write_log(unit, "ERROR", module, f'hook "{name}" {how} failed: {error}')
            self.write_log(
                unit, "INFO", "juju.worker.uniter", f'awaiting error resolution for "{name}" hook'
            )
            found.history.append(("juju-unit", self._failure(event, now)))
        else:
            self.write_log(
                unit, "INFO", "juju.worker.uniter.operation", f'ran "{name}" hook {how}'
            )
            if found.failed == event:
                found.failed, found.retries, found.retry_at = None, 0, None
            self._done(found, event)
        self._agent(found, "idle")
        self._sweep()

    def set_status(self, unit: str, current: str, message: str, *, application: bool) -> None:
        """Set a unit's status, or (by its leader) its application's."""
        if application:
            status = Status(current, message, self.clock())
            self.applications[self.find(unit).application].status = status
        else:
            self._set_status(self.find(unit), current, message)

    # --- secrets --------------------------------------------------------------------------------

    def manages(self, unit: str, secret: Secret) -> bool:
        """Whether a unit owns a secret: its own, or its application's while it leads."""
        application = unit.rpartition("/")[0]
        return secret.owner == unit or (secret.owner == application and self.is_leader(unit))

    def may_read(self, unit: str, secret: Secret) -> bool:
        """Whether a unit may read a secret."""
        application = unit.rpartition("/")[0]
        granted = any(target in (unit, application) for _, target in secret.grants)
        return granted or secret.owner == application or self.manages(unit, secret)

    def labelled(self, unit: str, label: str) -> Secret | None:
        """Return the secret that a unit calls by a label: an owned one, or one it has read."""
        application = unit.rpartition("/")[0]
        for secret in self.secrets.values():
            if secret.label == label and secret.owner in (unit, application):
                return secret
            if unit in secret.consumers and secret.consumers[unit].label == label:
                return secret
        return None

    def read_secret(
        self,
        unit: str,
        secret_id: str,
        label: str = "",
        *,
        peek: bool = False,
        refresh: bool = False,
    ) -> dict[str, str]:
        """Return a secret's content as a unit sees it, and record what it tracks."""
        secret = self.secrets.get(secret_id)
        if secret is None:
            raise ModelError("getting latest secret revision: secret not found")
        if not self.may_read(unit, secret):
            raise ModelError(f'"{unit}" is not allowed to read this secret')
        if self.manages(unit, secret):
            if unit in secret.consumers:
                secret.consumers[unit].revision = secret.latest
            return secret.revisions[secret.latest].content
        consumer = secret.consumers.get(unit)
        if consumer is None:
            consumer = secret.consumers[unit] = Consumer(secret.latest, secret.latest)
        consumer.label = label or consumer.label
        if refresh or consumer.revision not in secret.revisions:
            consumer.revision = consumer.told = secret.latest
        return secret.revisions[secret.latest if peek else consumer.revision].content

    def unused(self, secret: Secret) -> Iterator[int]:
        """Yield the older revisions that no unit tracks any more."""
        tracked = {c.revision for u, c in secret.consumers.items() if not self.manages(u, secret)}
        yield from (r for r in secret.revisions if r < secret.latest and r not in tracked)

    def next_rotation(self, secret: Secret) -> float | None:
        """Return when a secret is to be rotated, counted from now; None for never."""
        period = ROTATIONS[secret.rotate]
        return self.clock() + period if period else None

    def new_id(self) -> str:
        """Return an id for a secret: 20 letters and digits."""
        return "".join(self.random.choices("0123456789abcdefghijklmnopqrstuv", k=20))

    def _change_secret(self, unit: str, change: SecretChange) -> None:
        if change.verb == "add":
            secret = Secret(change.id, change.owner, created=self.clock())
            where = f'create secrets: creating secret "{change.id}": '
            self.secrets[change.id] = secret
        else:
            found = self.secrets.get(change.id)
            if found is None:
                if change.verb == "remove":
                    return
                raise CommitError(f'secret "{change.id}" not found')
            secret, where = found, f'update secrets: updating secret "{change.id}": '
        if not self.manages(unit, secret):
            raise CommitError(f'"{unit}" is not allowed to manage this secret')
        if change.verb == "remove":
            self._remove_secret(secret, change.revision)
        elif change.verb == "grant":
            grant = (change.relation, change.target)
            if grant not in secret.grants:
                secret.grants.append(grant)
        elif change.verb == "revoke":
            secret.grants = [
                (relation, target)
                for relation, target in secret.grants
                if (change.relation is not None and relation != change.relation)
                or (change.target and target != change.target)
            ]
        else:
            if change.label:
                for other in self.secrets.values():
                    same = other is not secret and other.owner == secret.owner
                    if same and other.label == change.label:
                        raise CommitError(
                            f"executing leadership func: {where}"
                            f'secret with label "{change.label}" already exists'
                        )
                secret.label = change.label
            if change.description is not None:
                secret.description = change.description
            if change.rotate is not None:
                secret.rotate = change.rotate
                secret.rotates = self.next_rotation(secret)
            if change.expires is not None:
                secret.expires, secret.expiry_told = change.expires, False
            if change.content is not None:
                self._revise(secret, change.content)

    def _revise(self, secret: Secret, content: Mapping[str, str]) -> None:
        now = self.clock()
        if secret.latest and secret.revisions[secret.latest].content == content:
            return
        secret.latest, secret.updated = secret.latest + 1, now
        secret.revisions[secret.latest] = Revision(dict(content), now)

    def _remove_secret(self, secret: Secret, revision: int | None) -> None:
        if revision is not None:
            secret.revisions.pop(revision, None)
            secret.latest = max(secret.revisions, default=0)
        if revision is None or not secret.revisions:
            del self.secrets[secret.id]

    # --- inside ---------------------------------------------------------------------------------

    def _count(self, counter: str, start: int = 0) -> int:
        number = self.counters.get(counter, start)
        self.counters[counter] = number + 1
        return number

    def _uuid(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def _relate(self, ends: dict[str, Endpoint]) -> Relation:
        relation = Relation(self._count("relation"), ends, since=self.clock())
        relation.bags = {name: {} for name in ends}
        self.relations[relation.id] = relation
        return relation

    def _write_bag(self, relation: Relation, bag: str, changes: Mapping[str, str]) -> None:
        now = relation.bags.setdefault(bag, {})
        new = {k: v for k, v in {**now, **changes}.items() if v != ""}
        if new != now:
            relation.bags[bag] = new
            relation.versions[bag] = relation.versions.get(bag, 0) + 1

    def enter(self, unit: Unit, relation: Relation) -> None:
        """Let a unit into a relation: it has a databag from now on, and others see it."""
        address = self.applications[unit.application].address
        relation.units.append(unit.name)
        relation.bags[unit.name] = _addresses(address)
        unit.relations[relation.id] = Membership()

    def leave(self, unit: Unit, relation: Relation) -> None:
        """Let a unit out of a relation; its databag stays readable as long as the relation."""
        if unit.name in relation.units:
            relation.units.remove(unit.name)
        unit.relations.pop(relation.id, None)

    def _fill(self, application: Application, attach: Iterable[Storage] = ()) -> None:
        """Add the units that are missing; one whose number is still another's waits for it."""
        for number in range(application.scale):
            if number not in application.units:
                self._add_unit(application, number, attach)
                attach = ()

    def _add_unit(self, application: Application, number: int, attach: Iterable[Storage]) -> None:
        unit = application.units[number] = Unit(f"{application.name}/{number}")
        now = self.clock()
        unit.workload.since = unit.agent.since = now
        given = {storage.name: storage for storage in attach}
        for name, (size, count) in application.storage.items():
            location = application.charm.storage[name].location
            for index in range(count):
                path = f"/var/lib/juju/storage/{name}-{index}"
                if location:
                    multiple = application.charm.storage[name].multiple
                    path = f"{location}/{index}" if multiple else location
                if name in given:
                    storage = given.pop(name)
                    storage.unit, storage.location = unit.name, path
                else:
                    storage_id = f"{name}/{self._count('storage')}"
                    storage = Storage(storage_id, name, unit.name, path, size)
                    self.storage[storage_id] = storage
                storage.since = now
                unit.storage[storage.id] = False

    def _detached(self, storage_id: str, application: str, charm: Charm) -> Storage:
        storage = self.storage.get(storage_id)
        where = f'cannot deploy "{application}": storage "{storage_id}"'
        if storage is None or storage.name not in charm.storage:
            raise ModelError(f"{where} not found")
        if storage.unit:
            raise ModelError(f'{where} is attached to "{storage.unit}"')
        return storage

    def _configure(self, application: Application, config: dict[str, Value]) -> None:
        before = application.settings()
        application.config = config
        application.config_version += application.settings() != before

    def _condemn(self, unit: Unit) -> None:
        """Begin the end of a unit; one that has not begun has nothing to be told."""
        unit.life = "dying"
        if not unit.installed and unit.running is None:
            self._drop(unit)

    def _drop(self, unit: Unit) -> None:
        application = self.applications[unit.application]
        del application.units[unit.number]
        for relation in self.relations.values():
            self.leave(unit, relation)
        for storage in [s for s in self.storage.values() if s.unit == unit.name]:
            if application.destroy_storage:
                del self.storage[storage.id]
            else:
                storage.unit, storage.attached, storage.since = "", False, self.clock()
        for secret in list(self.secrets.values()):
            secret.consumers.pop(unit.name, None)
            if secret.owner == unit.name:
                del self.secrets[secret.id]
        for task in unit.tasks:
            self.tasks[task].status = "cancelled"
        if application.leader == unit.number:
            self._elect(application)

    def _elect(self, application: Application) -> None:
        """Make the lowest unit with an agent the leader; nobody when there is none."""
        old = application.units.get(-1 if application.leader is None else application.leader)
        able = [u.number for u in application.units.values() if u.up and u is not old]
        alive = [n for n in able if application.units[n].life == "alive"]
        if old and not able:
            return
        application.leader = min(alive or able, default=None)
        if old:
            old.chosen = False

    def _delete_relation(self, relation: Relation) -> None:
        del self.relations[relation.id]
        for secret in self.secrets.values():
            secret.grants = [g for g in secret.grants if g[0] != relation.id]
        for unit in self.units():
            unit.relations.pop(relation.id, None)
            if unit.failed and unit.failed.relation_id == relation.id:
                unit.failed, unit.retries, unit.retry_at = None, 0, None

    def _sweep(self) -> None:
        """Forget relations and applications that are all gone, and fill up those that are not."""
        for application in self.applications.values():
            self._fill(application)
        told = {relation for unit in self.units() for relation in unit.relations}
        for relation in [r for r in self.relations.values() if r.life == "dying"]:
            if relation.id not in told:
                self._delete_relation(relation)
        for application in [a for a in self.applications.values() if a.life == "dying"]:
            related = any(application.name in r.ends for r in self.relations.values())
            if not application.units and not related:
                del self.applications[application.name]
                for secret in [s for s in self.secrets.values() if s.owner == application.name]:
                    del self.secrets[secret.id]

    def _done(self, unit: Unit, event: Event) -> None:
        """Do what follows when a hook has succeeded, or was skipped."""
        if event.kind == "install":
            unit.installed = True
        elif event.kind == "upgrade-charm":
            unit.upgrading = False
        elif event.kind == "start":
            unit.started, unit.update_at = True, self._next_update()
            if unit.workload.current in ("waiting", "maintenance") and (
                unit.workload.message in ("", "installing agent", "installing charm software")
            ):
                self._set_status(unit, "unknown")
        elif event.kind == "update-status":
            unit.update_at = self._next_update()
        elif event.kind == "relation-broken" and event.relation_id in self.relations:
            self.leave(unit, self.relations[event.relation_id])
        elif event.kind == "storage-detaching":
            unit.storage.pop(event.storage_id, None)
        elif event.kind == "stop":
            unit.started, unit.stopped = False, unit.life == "dying"
        elif event.kind == "remove":
            self._drop(unit)

    def _next_update(self) -> float:
        period = _seconds(self.settings.get("update-status-hook-interval", "5m"))
        return self.clock() + period * self.random.uniform(0.85, 1.15)

    def _pebble(self, unit: str, event: Event) -> None:
        told = self.find(unit).pebble.setdefault(event.workload, [])
        if event not in told:
            told.append(event)

    def _failure(self, event: Event, since: float) -> Status:
        name = events.hook_name(event)
        message, data = f'hook failed: "{name}"', {"hook": name}
        if event.relation_id is not None:
            message += f" for {event.remote_app}:{event.endpoint}"
            data |= {"relation-id": str(event.relation_id), "remote-unit": event.remote_unit}
        return Status("error", message, since, data)

    def _set_status(self, unit: Unit, current: str, message: str = "") -> None:
        unit.workload = Status(current, message, self.clock())
        self._remember(unit, "workload", unit.workload)

    def _agent(self, unit: Unit, current: str, message: str = "") -> None:
        unit.agent = Status(current, message, self.clock())
        self._remember(unit, "juju-unit", unit.agent)

    def _remember(self, unit: Unit, kind: str, status: Status) -> None:
        unit.history.append((kind, status))
        del unit.history[:-HISTORY]

    def _task(self, unit: Unit, name: str, params: dict[str, Any]) -> Task:
        operation, number = str(self._count("task", 1)), str(self._count("task", 1))
        task = Task(number, operation, unit.name, name, params, self.clock())
        self.tasks[number] = task
        for old in [it.id for it in self.tasks.values() if it.completed][:-TASKS]:
            del self.tasks[old]
        return task


def _addresses(address: str) -> dict[str, str]:
    if not address:
        return {}
    return {"egress-subnets": f"{address}/32", "ingress-address": address}


def _check_name(name: str) -> None:
    wrong = f'invalid application name "{name}", unexpected '
    if re.search("[A-Z]", name):
        raise ModelError(f"{wrong}uppercase character")
    if re.fullmatch(r".*-\d+", name):
        raise ModelError(f"{wrong}number(s) found after last hyphen")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]*[a-z][a-z0-9]*)*", name):
        raise ModelError(f"{wrong}character")


def _directive(text: str, minimum: str, least: int) -> tuple[int, int]:
    """Parse a storage directive ("20M", "2,20M", "pool,2,20M") into size in MiB and count."""
    size, count = _mebibytes(minimum), least
    for part in filter(None, text.split(",")):
        if part.isdigit():
            count = int(part)
        elif re.fullmatch(r"\d+(\.\d+)?[MGTP]i?B?", part):
            size = _mebibytes(part)
    return size, count


def _mebibytes(size: str) -> int:
    number, unit = re.fullmatch(r"([\d.]+)([MGTP]?).*", size).groups()  # pyright: ignore
    return int(float(number) * 1024 ** "MGTP".index(unit or "M"))


def _seconds(duration: str) -> float:
    """Parse a Go duration like "5m" or "1h30m" into seconds."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    return sum(float(n) * units[u] for n, u in re.findall(r"([\d.]+)(ms|h|m|s)", duration))


_JSON = pydantic.TypeAdapter(Model)
