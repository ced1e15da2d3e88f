"""Runs hooks in process, without a cluster: a whole bundle in milliseconds an event.

A charm is run by ops itself; its hook tool calls are answered by the same HookContext that answers
them in a pod, for only there it is seen which secrets a unit has read. Pebble is ops's own testing
Pebble. What lies outside (programs, HTTP) is played by a World, Kubernetes too. These are private
parts of ops (as ops.testing itself uses them), so the lock file pins it.
"""

from __future__ import annotations

import contextlib
import email.message
import functools
import importlib.util
import io
import logging
import marshal
import os
import shlex
import shutil
import subprocess
import sys
import traceback
import urllib.error
import urllib.request
import urllib.response
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from random import Random
from types import MethodType, SimpleNamespace
from typing import Any, ClassVar
from unittest import mock
from urllib.parse import urlencode, urlsplit

import httpx2
import lightkube
import ops
import ops.testing
import yaml
from lightkube.config.models import Cluster, User
from lightkube.core.generic_client import GenericSyncClient
from opentelemetry.trace import INVALID_SPAN, Span
from ops import _main, hookcmds, storage
from ops._private import tracer
from ops._private.harness import _TestingPebbleClient
from ops.log import JujuLogHandler
from ops.model import _ModelBackend

from sandbox import events
from sandbox.events import Event
from sandbox.hooktools import HookContext
from sandbox.model import Model, Unit

ACTIVE = ops.pebble.ServiceStatus.ACTIVE
INACTIVE = ops.pebble.ServiceStatus.INACTIVE


class World:
    """What lies outside an application's charm; one for each application, override to play more.

    `execute` is a program that the charm runs in a container; `answer` is what a workload says to
    an HTTP request, once its service is up: a status code and a body.
    """

    def __init__(self, application: str) -> None:
        self.application = application

    def execute(
        self, unit: str, container: str, args: ops.testing.ExecArgs
    ) -> ops.testing.ExecResult:
        """Return how the program ends; here, well and in silence."""
        return ops.testing.ExecResult()

    def answer(self, unit: str, request: urllib.request.Request) -> tuple[int, bytes]:
        """Return a status code and a body; here, 200 and nothing."""
        return 200, b""


class Pebble(_TestingPebbleClient):
    """Pebble of one workload container; services take their time to come up.

    A service that runs `pebble notify KEY` at its end is one of `notifiers`.
    """

    def __init__(
        self, root: Path, mounts: Mapping[str, Path], execute: ops.testing.ExecHandler
    ) -> None:
        super().__init__(SimpleNamespace(_can_connect=lambda client: self.connected), root)  # pyright: ignore[reportArgumentType]
        self.connected = False
        self.starting: set[str] = set()
        self.running: dict[str, Any] = {}
        self._mounts, self._execute = mounts, execute
        self._handle_exec((), self._run)
        self._mount()

    def restart(self) -> None:
        """End and begin the container: its plan is gone, what lies in /charm/container stays."""
        self.connected = False
        self._layers.clear()
        for state in (self._service_status, self._check_infos, self.running, self.starting):
            state.clear()
        for child in self._root.iterdir():
            if child.is_symlink() or child.is_file():
                child.unlink()
            elif child.name != "charm":
                shutil.rmtree(child)
        self._mount()

    def notifiers(self) -> dict[str, str]:
        """Return the services that will notify, and with which key."""
        services = self._render_services()
        active = (name for name, status in self._service_status.items() if status is ACTIVE)
        found = ((name, services[name].command.rpartition("pebble notify ")[2]) for name in active)
        return {n: key.strip("'\" ") for n, key in found if key != services[n].command}

    def serves(self, url: str) -> bool:
        """Return whether what answers at the URL is up: the service its check is named like."""
        netloc = urlsplit(url).netloc
        checks = self._render_checks().items()
        named = {n for n, it in checks if urlsplit((it.http or {}).get("url")).netloc == netloc}
        return bool(self.up & named if named else self.up - self.notifiers().keys())

    @property
    def up(self) -> set[str]:
        """Return the services that run and have come up."""
        return {n for n, it in self._service_status.items() if it is ACTIVE} - self.starting

    def replan_services(self, timeout: float = 30.0, delay: float = 0.1) -> None:
        """Start what is enabled and not running, and restart what has changed."""
        super().replan_services(timeout, delay)
        for name, service in self._render_services().items():
            if service.startup == "enabled" and self.running.get(name) != service.to_dict():
                self._begin(name)

    def start_services(
        self, services: list[str], timeout: float = 30.0, delay: float = 0.1
    ) -> Any:
        """Start services that are not running."""
        new = [name for name in services if self._service_status.get(name) is not ACTIVE]
        change = super().start_services(services, timeout, delay)
        for name in new:
            self._begin(name)
        return change

    def restart_services(
        self, services: list[str], timeout: float = 30.0, delay: float = 0.1
    ) -> Any:
        """Restart services."""
        change = super().restart_services(services, timeout, delay)
        for name in services:
            self._begin(name)
        return change

    def stop_services(self, services: list[str], timeout: float = 30.0, delay: float = 0.1) -> Any:
        """Stop services."""
        for name in services:
            self.running.pop(name, None)
            self.starting.discard(name)
        return super().stop_services(services, timeout, delay)

    def pull(self, path: str | PurePath, *, encoding: str | None = "utf-8") -> Any:
        """Return a file's content, in memory: charms need not close what Pebble gives them."""
        with super().pull(path, encoding=encoding) as file:
            content = file.read()
        return io.BytesIO(content) if isinstance(content, bytes) else io.StringIO(content)

    def exited(self, service: str) -> None:
        """End a one-shot service."""
        self._service_status[service] = INACTIVE
        self.running.pop(service, None)

    def _mount(self) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        for location, volume in self._mounts.items():
            link = self._root / location.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(volume, link.parent))

    def _run(self, args: ops.testing.ExecArgs) -> ops.testing.ExecResult | None:
        for name, check in self._render_checks().items():
            probe = shlex.split((check.exec or {}).get("command", ""))
            if probe == args.command and name not in self.up:
                return ops.testing.ExecResult(1, "", "not up")
        return self._execute(args)

    def _begin(self, service: str) -> None:
        self.running[service] = self._render_services()[service].to_dict()
        if service not in self.notifiers():
            self.starting.add(service)


class _Backend(_ModelBackend):
    """ops's own backend, whose hook tools the sandbox answers, with Pebble of the simulation."""

    def __init__(self, context: ops.JujuContext, pebbles: Mapping[str, Pebble]) -> None:
        super().__init__(juju_context=context)
        self._pebbles = pebbles

    def get_pebble(self, socket_path: str) -> Any:
        return self._pebbles[Path(socket_path).parent.name]


class _Untraced:
    """What ops enters for each thing it does; nobody looks at the traces of a simulation."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> Span:
        return INVALID_SPAN

    def __exit__(self, *_: object) -> None: ...


class _Kept:
    """What ops keeps of a charm between dispatches, with its pod: one of ops's storages."""

    def __init__(self) -> None:
        self._snapshots: dict[str, bytes] = {}
        self._notices: list[tuple[str, ...]] = []
        self.commit()

    def commit(self) -> None:
        """Keep what there is."""
        self._kept = dict(self._snapshots), list(self._notices)

    def close(self) -> None:
        """Forget what was not committed, as the end of a process does."""
        self._snapshots, self._notices = dict(self._kept[0]), list(self._kept[1])

    def save_snapshot(self, handle_path: str, snapshot_data: Any) -> None:
        """Set the data of a handle."""
        self._snapshots[handle_path] = marshal.dumps(snapshot_data)

    def load_snapshot(self, handle_path: str) -> Any:
        """Return the data of a handle; raises NoSnapshotError when it has none."""
        if handle_path not in self._snapshots:
            raise storage.NoSnapshotError(handle_path)
        return marshal.loads(self._snapshots[handle_path])  # noqa: S302 - written here

    def drop_snapshot(self, handle_path: str) -> None:
        """Forget the data of a handle."""
        self._snapshots.pop(handle_path, None)

    def save_notice(self, *notice: str) -> None:
        """Remember that an observer is to get an event: event path, observer path, method."""
        self._notices.append(notice)

    def drop_notice(self, *notice: str) -> None:
        """Forget it again."""
        self._notices = [it for it in self._notices if it != notice]

    def notices(self, event_path: str | None = None) -> list[tuple[str, ...]]:
        """Return who is to get an event, or each of them."""
        return [it for it in self._notices if event_path in (None, "", it[0])]


class _Events(ops.ObjectEvents):
    """A charm's events, defined by its first dispatch; in a pod there is no second."""

    @classmethod
    def define_event(cls, event_kind: str, event_type: type[ops.EventBase]) -> None:
        """Define an event unless it is."""
        if event_kind not in vars(cls):
            super().define_event(event_kind, event_type)

    def _event_kinds(self) -> list[str]:
        return _kinds(type(self))


@functools.cache
def _kinds(events: type[_Events]) -> list[str]:
    """Return the names of a charm's events, once all that ops knows of are defined."""
    return [name for name in dir(events) if isinstance(getattr(events, name), ops.EventSource)]


class _Framework(ops.Framework):
    """ops's own, which looks at a method that observes once, and not at each dispatch again."""

    fit: ClassVar[set[object]] = set()

    def observe(self, bound_event: ops.BoundEvent, observer: Callable[[Any], None]) -> None:
        """Register a method to be called when the event is emitted."""
        if not isinstance(observer, MethodType) or observer.__func__ not in self.fit:
            super().observe(bound_event, observer)
            self.fit.add(getattr(observer, "__func__", None))
            return
        observing: Any = observer.__self__
        emitter = bound_event.emitter
        path, kind = observing.handle.path, bound_event.event_kind
        self.register_type(bound_event.event_type, emitter, kind)
        self._observer[path] = observing
        self._observers.append((path, observer.__name__, emitter.handle.path, kind))


class _Dispatch(_main._Manager):
    """One dispatch of a charm, as ops.main makes it, with nothing left behind in the process."""

    _framework_class = _Framework

    def __init__(
        self, code: _Code, kept: _Kept, backend: _Backend, context: ops.JujuContext
    ) -> None:
        self._code, self._kept = code, kept
        super().__init__(code.charm, backend, juju_context=context)

    def destroy(self) -> None:
        """End the dispatch; ops, which counts on the process's end, would keep the framework."""
        super().destroy()
        vars(ops.Framework)["on"]._cache.clear()
        root = logging.getLogger()
        root.handlers, level = self._before
        root.setLevel(level)

    def _load_charm_meta(self) -> ops.CharmMeta:
        return self._code.meta

    def _make_storage(self, dispatcher: Any) -> Any:
        return self._kept

    def _setup_root_logging(self) -> None:
        root = logging.getLogger()
        self._before = root.handlers, root.level
        root.handlers = [JujuLogHandler(self._model_backend, logging.INFO)]
        root.setLevel(logging.INFO)


@dataclass(frozen=True)
class _Code:
    """A charm's class and metadata, loaded once."""

    charm: type[ops.CharmBase]
    meta: ops.CharmMeta


@functools.cache
def load(folder: Path) -> _Code:
    """Import a charm from its source folder; its own modules mean nothing to the next charm."""
    source, name = folder / "src", f"simulated_{folder.name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, source / "charm.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"no charm at {source}")
    before = set(sys.modules)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(source), *sys.path]):
        spec.loader.exec_module(module)
    for own in set(sys.modules) - before - {name}:
        if Path(getattr(sys.modules[own], "__file__", None) or "/").is_relative_to(source):
            del sys.modules[own]
    (found,) = (
        it
        for it in vars(module).values()
        if isinstance(it, type) and issubclass(it, ops.CharmBase) and it.__module__ == name
    )
    raw = yaml.safe_load((folder / "charmcraft.yaml").read_text())
    emitters = type("Events", (_Events, type(found.on)), {})
    charm = type(found.__name__, (found,), {"on": emitters()})
    return _Code(charm, ops.CharmMeta(raw, raw.get("actions"), raw.get("config")))


@dataclass
class Failure:
    """A hook that ended badly without having been asked to."""

    unit: str
    hook: str
    traceback: str


@dataclass
class Simulation:
    """A model whose units live in this process.

    `worlds` makes the World of each application, by the name of its charm; `kubernetes` answers
    what units ask by lightkube. Nothing happens by itself: `steps` tells what may happen to a
    unit, `settle` lets it happen, in an order that `seed` decides, until nothing more can.
    `crashes` is how often, between 0 and 1, a dispatch dies when the charm has done all it does.
    """

    directory: Path
    seed: int | str = 0
    worlds: Mapping[str, Callable[[str], World]] = field(default_factory=dict)
    kubernetes: World | None = None
    crashes: float = 0.0
    now: float = 1_800_000_000.0
    told: list[tuple[str, str]] = field(default_factory=list)
    """Every hook that ran: unit and name."""
    failures: list[Failure] = field(default_factory=list)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    """debug-log: unit, level, text."""

    def __post_init__(self) -> None:
        self.random = Random(self.seed)  # noqa: S311 - seeded, so that a run can be had again
        self.model = Model("sim", str(uuid.UUID(int=7)), settings={_INTERVAL: "87600h"})
        self.model.random = self.random
        self.model.clock = lambda: self.now
        self.model.write_log = lambda who, level, module, text: self.log.append((who, level, text))
        self.pods: dict[str, dict[str, Pebble]] = {}
        self.outside: dict[str, World] = {}
        self._kept: dict[str, _Kept] = {}
        self._http, self._opener = _Http(self), urllib.request.OpenerDirector()
        errors = urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler()
        for handler in (self._http, *errors):
            self._opener.add_handler(handler)
        self._count = 0

    def steps(self, unit: Unit) -> list[Callable[[], None]]:
        """Return calls that do what may happen next to a unit, one of them each."""
        do = functools.partial
        if not unit.up:
            return [do(self.pod_up, unit.name)]
        due = events.due(self.model, unit, self.now)
        found: list[Callable[[], None]] = [do(self.run, unit.name, event) for event in due]
        if not all(self.model.storage[name].attached for name in unit.storage):
            found.append(do(self.model.storage_ready, unit.name))
        for name, pebble in self.pods[unit.name].items():
            if not pebble.connected:
                found.append(do(self.pebble_up, unit.name, name))
            found += [do(pebble.starting.discard, service) for service in sorted(pebble.starting)]
            notices = pebble.notifiers().items()
            found += [do(self.notify, unit.name, name, service, key) for service, key in notices]
        return found

    def settle(self, limit: int = 5000) -> int:
        """Let everything happen that can, and return how many hooks ran.

        Raises RuntimeError when it does not end.
        """
        before = len(self.told)
        while self.step():
            if len(self.told) - before >= limit:
                raise RuntimeError(f"no end after {limit} hooks; the last: {self.told[-10:]}")
        return len(self.told) - before

    def step(self) -> bool:
        """Let one thing happen, or time pass until something can; False when nothing will."""
        units = list(self.model.units())
        self.random.shuffle(units)
        for unit in units:
            if steps := self.steps(unit):
                self.random.choice(steps)()
                return True
        failed = [u.retry_at for u in self.model.units() if u.failed and u.retry_at is not None]
        self.now = max([self.now, *failed])
        return bool(failed)

    def run(self, unit: str, event: Event) -> None:
        """Run one hook."""
        self.now += 0.4
        context = HookContext(self.model, unit, event, lambda path: Path(path).read_text())
        self.told.append((unit, events.hook_name(event)))
        code = self.dispatch(context)
        context.finish(1 if self.random.random() < self.crashes else code)
        if unit not in (it.name for it in self.model.units()):
            self.pods.pop(unit, None)

    def dispatch(self, context: HookContext) -> int:
        """Run the charm for an event and return its exit code."""
        charm = context.application.charm
        code = load(charm.path)
        environment = context.environment | {"JUJU_CHARM_DIR": str(charm.path)}
        juju = ops.JujuContext.from_environ(environment)
        backend = _Backend(juju, self.pods[context.unit.name])
        try:
            with _process(environment), self._answering(context):
                dispatch = _Dispatch(code, self._kept[context.unit.name], backend, juju)
                try:
                    dispatch.run()
                finally:
                    dispatch.destroy()
        except _main._Abort as abort:
            return abort.exit_code
        except Exception:
            hook = events.hook_name(context.event)
            self.failures.append(Failure(context.unit.name, hook, traceback.format_exc()))
            return 1
        return 0

    # --- what happens to pods -------------------------------------------------------------------

    def pod_up(self, unit: str) -> None:
        """Start a unit's pod: an empty one, with its storage mounted."""
        self._count += 1
        application = self.model.applications[unit.rpartition("/")[0]]
        if not application.address:
            place = list(self.model.applications).index(application.name)
            self.model.service_up(application.name, f"10.152.183.{place + 10}")
        world = self._world(application.name)
        root = self.directory / f"pod-{self._count}"
        volumes = {s.name: s.id for s in self.model.storage.values() if s.unit == unit}
        self.pods[unit], self._kept[unit] = {}, _Kept()
        for name, workload in application.charm.containers.items():
            mounts = {}
            for mounted in workload.mounts:
                kept = self.directory / volumes[mounted.storage].replace("/", "-")
                kept.mkdir(exist_ok=True)
                mounts[mounted.location] = kept
            execute = functools.partial(world.execute, unit, name)
            self.pods[unit][name] = Pebble(root / name, mounts, execute)
        self.model.pod_up(unit, f"10.1.0.{self._count % 250}", f"pod-{self._count}")

    def pod_down(self, unit: str) -> None:
        """Delete a unit's pod; another comes with `pod_up`."""
        self._stop(unit)
        self.model.pod_down(unit)
        self.pods.pop(unit, None)

    def _stop(self, unit: str) -> None:
        self.model.stopping(unit)
        event = self.model.next_event(unit, self.now)
        if event and event.kind == "stop":
            self.run(unit, event)

    def restart_charm(self, unit: str) -> None:
        """Restart a unit's charm container; Pebble of each other container is ready again."""
        self._stop(unit)
        self.model.pod_down(unit)
        found = self.model.find(unit)
        self.model.pod_up(unit, found.address, found.pod)
        for name, pebble in self.pods[unit].items():
            if pebble.connected:
                self.model.pebble_ready(unit, name)

    def pebble_up(self, unit: str, container: str) -> None:
        """Let Pebble of a container answer."""
        self.pods[unit][container].connected = True
        self.model.pebble_ready(unit, container)

    def restart_container(self, unit: str, container: str) -> None:
        """Kill a workload container; Pebble answers again with `pebble_up`."""
        self.pods[unit][container].restart()
        self.model.pebble_gone(unit, container)

    def notify(self, unit: str, container: str, service: str, key: str) -> None:
        """Let a notifier end, with its notice."""
        pebble = self.pods[unit][container]
        pebble.exited(service)
        self._count += 1
        self.model.notice(unit, container, str(self._count), "custom", key)

    # --- the world outside ----------------------------------------------------------------------

    def _world(self, application: str) -> World:
        if application not in self.outside:
            make = self.worlds.get(self.model.applications[application].charm.name, World)
            self.outside[application] = make(application)
        return self.outside[application]

    def _resource(self, context: HookContext, name: str) -> str:
        """Return the path of a file with what an agent fetches: an image's name."""
        application = context.application
        path = self.directory / f"{application.name}-{name}.yaml"
        path.write_text(f"registrypath: {application.resources[name]}\n")
        return str(path)

    @contextlib.contextmanager
    def _answering(self, context: HookContext) -> Iterator[None]:
        """Answer the charm's hook tools, and its HTTP requests by urllib and lightkube."""

        def tool(argv: list[str], *, input: str | None = None, **_: Any) -> Any:  # noqa: A002
            done = context.run(list(argv), input or "")
            if done.code:
                raise _CALLED(done.code, list(argv), done.stdout, done.stderr)
            if argv[0] == "resource-get":
                return SimpleNamespace(stdout=self._resource(context, argv[1]))
            return SimpleNamespace(stdout=done.stdout)

        def find() -> lightkube.KubeConfig:
            return _CLUSTER

        def reach(*_: object) -> _Kubernetes:
            return _Kubernetes(self.kubernetes, context.unit.name)

        self._http.unit = context.unit.name
        processes = SimpleNamespace(run=tool, CalledProcessError=_CALLED)
        with (
            mock.patch.object(tracer, "start_as_current_span", _Untraced),
            mock.patch.object(hookcmds._utils, "subprocess", processes),
            mock.patch.object(urllib.request, "_opener", self._opener),
            mock.patch.object(lightkube.KubeConfig, "from_env", find),
            mock.patch.object(GenericSyncClient, "AdapterClient", reach),
        ):
            yield

    def respond(self, unit: str, request: urllib.request.Request) -> tuple[int, bytes]:
        """Return what answers a request of a unit; raises URLError when nothing listens."""
        host = urlsplit(request.full_url).hostname or ""
        target = unit if host in ("localhost", "127.0.0.1") else ""
        for name in self.pods if not target else ():
            application, _, number = name.rpartition("/")
            named = host.split(".")[0] in (application, f"{application}-{number}")
            target = name if named or host == self.model.find(name).address else target
        url = request.full_url
        if not any(pebble.serves(url) for pebble in self.pods.get(target, {}).values()):
            raise urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))
        return self._world(target.rpartition("/")[0]).answer(target, request)


class _Http(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Answers HTTP from the simulation, where urllib would open a connection."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation, self.unit = simulation, ""

    def http_open(self, req: urllib.request.Request) -> Any:
        code, body = self._simulation.respond(self.unit, req)
        headers = email.message.Message()
        response = urllib.response.addinfourl(io.BytesIO(body), headers, req.full_url, code)
        response.msg = "simulated"  # pyright: ignore[reportAttributeAccessIssue]
        return response

    https_open = http_open


class _Kubernetes:
    """What lightkube asks, where it would have a client of HTTP."""

    def __init__(self, world: World | None, unit: str) -> None:
        self._world, self._unit = world, unit

    def build_request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str],
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: object = None,
    ) -> urllib.request.Request:
        """Return a request."""
        where = f"{_CLUSTER_URL}/{url}?{urlencode(params)}"
        return urllib.request.Request(where, content, dict(headers or {}), method=method)  # noqa: S310

    def send(self, request: urllib.request.Request, *, stream: bool = False) -> Any:
        """Return what Kubernetes answers; raises ConnectError when there is none."""
        if self._world is None:
            raise httpx2.ConnectError("there is no Kubernetes", request=_ASKED)
        code, body = self._world.answer(self._unit, request)
        if code < 400:
            return SimpleNamespace(content=body, raise_for_status=lambda: None)
        return httpx2.Response(code, headers=_JSON, content=body, request=_ASKED)

    def close(self) -> None:
        """End what was never begun."""


@contextlib.contextmanager
def _process(environment: Mapping[str, str]) -> Iterator[None]:
    """Give the process a hook's environment for a while."""
    with mock.patch.object(os, "environ", {**_ENVIRONMENT, **environment}):
        yield


_CLUSTER_URL = "http://kubernetes.default.svc"
_JSON = {"Content-Type": "application/json"}
_ASKED = httpx2.Request("GET", _CLUSTER_URL)
_CLUSTER = lightkube.KubeConfig.from_one(
    cluster=Cluster(server=_CLUSTER_URL, insecure=True), user=User()
)
_ENVIRONMENT = dict(os.environ)
_CALLED = subprocess.CalledProcessError
_INTERVAL = "update-status-hook-interval"
