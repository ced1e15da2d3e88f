"""What one Juju model holds: plain data, and the transitions that a user, the world or a hook makes.

Nothing here does I/O. Units are named "app/0" everywhere. A transition never raises an event by
itself: events.due() compares what a unit has been told with what is, as Juju's own agent does.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic

from sandbox import events
from sandbox.charm import Charm, Endpoint, Option
from sandbox.events import Event

Life = Literal["alive", "dying"]
Value = str | int | float | bool
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
    secrets: list[Event] = field(default_factory=list)
    """Expiries and rotations that it was not told yet."""
    running: Event | None = None
    failed: Event | None = None
    retries: int = 0
    retry_at: float = 0.0
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
    next_unit: int = 0
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
    environment: dict[str, str] = field(default_factory=dict)


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

    `relations` maps a relation's id and an application or unit to the keys it changes ("" deletes);
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


_JSON = pydantic.TypeAdapter(Model)
