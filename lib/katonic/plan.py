"""What a charm wants, as plain comparable values: nothing here does anything."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ops

from katonic.wire import Databag

FILES = "/charm/container/katonic"
"""A directory of each workload container that its user may write; it goes with the pod."""


class NotYet(Exception):  # noqa: N818 - it is no error: the next event tries again
    """Something outside the charm is not ready: what runs goes on, and it heals by itself."""


class Invalid(Exception):  # noqa: N818 - it is the user's turn, the charm is all right
    """The user must change something, and the message says what: nothing is touched until then."""


@dataclass(frozen=True)
class File:
    """A text file in a workload container; `permissions` are 0o600 when it holds a secret."""

    content: str
    permissions: int = 0o644


@dataclass(frozen=True)
class Service:
    """A process that Pebble keeps running.

    Attributes:
        command: The command line, which never holds a secret.
        environment: Variables that anyone may see in Pebble's plan.
        secrets: Variables that reach the process by a file of mode 0600, and are in no plan.
        ready: How to ask whether it answers: an HTTP URL on localhost, or a command's argv.
        kill_delay: Seconds that it may take to stop.
    """

    command: str
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    ready: str | Sequence[str] = ""
    kill_delay: int = 10


@dataclass(frozen=True)
class Step:
    """A command to finish before the services start, idempotent, as a new pod runs it again.

    Attributes:
        name: What it is called in the log and in the status.
        argv: The command; no secret in it.
        key: The version of what it does: it runs once for each name and key.
        environment: Its variables, secrets included.
        timeout: Seconds after which it is given up until the next event.
        leader_only: Run once for the whole application, by the leader, before any unit starts.
    """

    name: str
    argv: Sequence[str]
    key: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 300
    leader_only: bool = False


@dataclass(frozen=True)
class Container:
    """All that runs in one workload container: a service that is not here is stopped."""

    services: Mapping[str, Service] = field(default_factory=dict)
    files: Mapping[str, str | File] = field(default_factory=dict)
    steps: Sequence[Step] = ()


@dataclass(frozen=True)
class Effect:
    """An idempotent, quick call to the running workload's own API, made by the leader.

    `call` gets the named container first, when there is one, then `args`; it returns what it
    changed, in words for the log, and raises NotYet when the workload does not take it now.
    """

    name: str
    call: Callable[..., Iterable[str] | None]
    args: Sequence[Any] = ()
    container: str | None = None


@dataclass(frozen=True)
class Plan:
    """The whole of what one unit wants: what is not in it is stopped, closed or withdrawn.

    Attributes:
        containers: What runs, by container name.
        ports: The TCP ports of the application's Kubernetes service.
        resources: Kubernetes objects (lightkube's), applied and pruned; None leaves them as they
            are. A charm that has some needs trust, and the endpoint `peers`.
        asks: What is told at once to those we require, by endpoint.
        effects: Calls to the workload, once its services answer.
        offers: What is told last to those we provide for, by endpoint: one databag for every
            relation, or one for each relation id.
        status: What to say when all the rest holds; Active when None.
    """

    containers: Mapping[str, Container] = field(default_factory=dict)
    ports: Sequence[int] = ()
    resources: Sequence[Any] | None = None
    asks: Mapping[str, Databag | Sequence[Databag]] = field(default_factory=dict)
    effects: Sequence[Effect] = ()
    offers: Mapping[str, Databag | Mapping[int, Databag]] = field(default_factory=dict)
    status: ops.StatusBase | None = None
