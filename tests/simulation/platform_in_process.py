"""The bundle in this process: its charms as they are, and what lies outside of them played."""

import collections
import contextlib
import functools
import hashlib
import http.server
import importlib.util
import io
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

from ops import testing

from sandbox.bundle import Bundle, read_bundle
from sandbox.charm import Charm, read_charm
from sandbox.model import Model
from sandbox.simulated import Simulation, World
from tests import kubernetes_in_memory

ROOT = Path(__file__).parents[2]
CLIENT = "client"


class _Server:
    """Stands where a charm's world would open a port; who asks is answered without one."""

    def __init__(self, address: tuple[str, int], handler: Callable[..., Any]) -> None:
        self.server_address, self.handler = address, handler

    def serve_forever(self, *_: object, **__: object) -> None: ...
    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


class _Connection:
    """One request and what is said to it, as sockets look to http.server and http.client."""

    def __init__(self, content: bytes) -> None:
        self.content, self.said = content, b""

    def makefile(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(self.content)

    def sendall(self, data: bytes) -> None:
        self.said += data


class Outside:
    """What a charm's tests/world.py says is outside: EXECS, and the servers of serve()."""

    def __init__(self, charm: str) -> None:
        self.servers: dict[int, _Server] = {}
        path = ROOT / "charms" / charm / "tests/world.py"
        spec = importlib.util.spec_from_file_location(f"simulated_{charm}_world", path)
        assert spec
        assert spec.loader
        self.module = importlib.util.module_from_spec(spec)
        with (
            mock.patch.object(http.server, "HTTPServer", self._server),
            mock.patch.object(http.server, "ThreadingHTTPServer", self._server),
        ):
            spec.loader.exec_module(self.module)
        self.execs = {tuple(it.command_prefix): it for it in self.module.EXECS}

    def _server(self, address: tuple[str, int], handler: Callable[..., Any]) -> _Server:
        self.servers[address[1]] = _Server(address, handler)
        return self.servers[address[1]]

    @contextlib.contextmanager
    def serve(self) -> Iterator[None]:
        with (
            mock.patch.object(http.server, "HTTPServer", self._server),
            mock.patch.object(http.server, "ThreadingHTTPServer", self._server),
            self.module.serve(),
        ):
            yield


class Unreliable(World):
    """What is outside and may fail."""

    def __init__(self, application: str) -> None:
        super().__init__(application)
        self.refusals = 0
        """How many times more nothing of it answers."""

    def _refuses(self) -> bool:
        refuses, self.refusals = self.refusals > 0, max(self.refusals - 1, 0)
        return refuses


class Played(Unreliable):
    """An application's part of what is outside."""

    def __init__(self, application: str, outside: Outside) -> None:
        super().__init__(application)
        self.execs, self.servers = outside.execs, outside.servers

    def execute(self, unit: str, container: str, args: testing.ExecArgs) -> testing.ExecResult:
        command = tuple(args.command)
        if self._refuses():
            return testing.ExecResult(1, "", "the world is not in the mood")
        for length in range(len(command), -1, -1):
            if found := self.execs.get(command[:length]):
                return testing.ExecResult(found.return_code, found.stdout, found.stderr)
        return testing.ExecResult(127, "", f"{command[0]}: not found")

    def answer(self, unit: str, request: urllib.request.Request) -> tuple[int, bytes]:
        if self._refuses():
            raise urllib.error.URLError(ConnectionResetError(104, "Connection reset by peer"))
        url = urlsplit(request.full_url)
        server = self.servers[url.port or 80]
        data = request.data if isinstance(request.data, bytes) else b""
        target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        headers = "".join(f"{key}: {value}\r\n" for key, value in request.header_items())
        asked = f"{request.get_method()} {target} HTTP/1.0\r\n{headers}\r\n".encode() + data
        connection = _Connection(asked)
        server.handler(connection, ("127.0.0.1", 1), server)
        head, _, body = connection.said.partition(b"\r\n\r\n")
        return int(head.split(maxsplit=2)[1]), body


class Kubernetes(Unreliable):
    """The cluster, where Juju has made of each application what it makes of it."""

    model: Model

    def __init__(self) -> None:
        super().__init__("kubernetes")
        self.cluster = kubernetes_in_memory.Cluster()
        self.units: dict[str, int] = {}
        """How many units of each application it has seen."""

    def answer(self, unit: str, request: urllib.request.Request) -> tuple[int, bytes]:
        method, url = request.get_method(), urlsplit(request.full_url)
        if method == "GET":
            self._look()
        trusted = self.model.applications[unit.partition("/")[0]].trust
        allowed = trusted or (method == "GET" and "/pods/" in url.path)
        self.cluster.refuses = 503 if self._refuses() else 0 if allowed else 403
        body = request.data if isinstance(request.data, bytes) else b""
        kind = request.get_header("Content-type")
        code, said = self.cluster.answer(method, f"{url.path}?{url.query}", kind, body)
        return code, json.dumps(said).encode()

    def _look(self) -> None:
        """See what Juju has made of the applications since."""
        for name, it in self.model.applications.items():
            units = 1 + max(it.units, default=0)
            if self.units.get(name) != units:
                images = dict.fromkeys(it.charm.containers, f"localhost/{it.charm.name}:1")
                self.cluster.deployed(self.model.name, name, images, units)
                self.units[name] = units


@dataclass
class Platform(Simulation):
    """The bundle, how many units there are to be, and what has gone wrong so far."""

    scales: Mapping[str, int] = field(default_factory=dict)
    faults: collections.Counter[str] = field(default_factory=collections.Counter)


@functools.cache
def outside(charm: str) -> Outside:
    return Outside(charm)


@functools.cache
def charm(path: str) -> Charm:
    return read_charm(Path(path))


@functools.cache
def bundle() -> Bundle:
    return read_bundle(ROOT / "bundle.yaml", [ROOT / "bundle/overlays/sandbox.yaml"])[0]


@functools.cache
def scalable() -> list[str]:
    """Return the applications of any number of units: what has no storage, and the client."""
    kept = [name for name, it in bundle().applications.items() if not charm(it.charm).storage]
    return sorted([*kept, CLIENT])


def layouts() -> int:
    """Return how many layouts there are: the least in which `scales` pairs all with all."""
    return 1 << len(scalable()).bit_length()


def scales(layout: int) -> dict[str, int]:
    """Return the units of each application that can have any number of them: one or two.

    Of any two applications, all four pairs are in as many layouts. Layout 0 has one of each.
    """
    numbered = enumerate(scalable(), 1)
    return {name: 1 + (layout & number).bit_count() % 2 for number, name in numbered}


@contextlib.contextmanager
def deployed(layout: int, seed: str) -> Iterator[Platform]:
    """Yield the bundle, and a client of what it provides, as nothing of it has happened yet.

    What its pods have is in the working directory.
    """
    charms = {name: charm(it.charm) for name, it in bundle().applications.items()}
    found = {it.name: outside(it.name) for it in charms.values()}
    worlds = {name: functools.partial(Played, outside=it) for name, it in found.items()}
    kubernetes = Kubernetes()
    units = scales(layout)
    simulation = Platform(Path(), seed, worlds, kubernetes, scales=units)
    kubernetes.model = simulation.model
    for name, it in sorted(bundle().applications.items()):
        scale = units.get(name, it.units)
        simulation.model.deploy(
            name,
            charms[name],
            scale,
            config=it.options,
            storage=it.storage,
            trust=it.trust,
            resources=it.resources,
        )
    for one, other in bundle().relations:
        simulation.model.integrate(one, other)
    _deploy_client(simulation, units[CLIENT])
    with contextlib.ExitStack() as stack:
        for it in found.values():
            stack.enter_context(it.serve())
        yield simulation


def _deploy_client(simulation: Simulation, scale: int) -> None:
    """Deploy the client of the integration tests, of all that nobody else is a client of."""
    model, client = simulation.model, charm(str(ROOT / "tests/charms/client"))
    used = {(name, end) for it in model.relations.values() for name, end in it.ends.items()}
    free = {
        end.interface: f"{name}:{end.name}"
        for name, it in sorted(model.applications.items())
        for end in it.charm.endpoints.values()
        if end.role == "provider" and (name, end) not in used
    }
    model.deploy(CLIENT, client, scale, config={"note": "hello"}, trust=True)
    for end in client.endpoints.values():
        if end.role == "requirer" and end.interface in free:
            model.integrate(f"{CLIENT}:{end.name}", free[end.interface])


def token_bytes(size: int | None = None) -> bytes:
    """Return what stands for a random secret of the application whose hook runs."""
    application = os.environ["JUJU_UNIT_NAME"].partition("/")[0]
    return hashlib.sha512(application.encode()).digest()[: size or 32]


def end(simulation: Simulation) -> dict[str, str]:
    """Return all that is to be the same from any order of events, each as one line of JSON.

    Secrets are shown by owner, label and content in the place of their ids, addresses of pods by
    the names of their units; what only waits to notify is left out.
    """
    model = simulation.model
    found: dict[str, Any] = {}
    for unit in model.units():
        status = model.unit_status(unit)
        found[f"{unit.name} status"] = [status.current, status.message]
        found[f"{unit.name} ports"] = unit.ports
        for container, pebble in simulation.pods[unit.name].items():
            plan = pebble.get_plan().to_dict()
            services = plan.get("services", {})
            kept = {n for n, it in services.items() if "pebble notify" not in it["command"]}  # pyright: ignore
            where = f"{unit.name} {container}"
            found[f"{where} plan"] = {n: it for n, it in services.items() if n in kept}
            found[f"{where} checks"] = plan.get("checks", {})
            found[f"{where} up"] = sorted(pebble.up & kept)
    for relation in model.relations.values():
        for name in (*relation.ends, *relation.units):
            found[f"{relation} databag of {name}"] = relation.bags[name]
    for secret in model.secrets.values():
        content = secret.revisions[secret.latest].content
        granted = [target for _, target in secret.grants]
        found[f"secret {secret.owner} {secret.label}"] = [content, sorted(granted)]
    assert isinstance(simulation.kubernetes, Kubernetes)
    for name, it in simulation.kubernetes.cluster.applied.items():
        found[f"kubernetes {name}"] = kubernetes_in_memory.shown(it)
    return {key: _named(simulation, it) for key, it in sorted(found.items())}


def _named(simulation: Simulation, value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    for secret in simulation.model.secrets.values():
        text = text.replace(secret.id, f"{secret.owner}:{secret.label}")
    names = {unit.address: unit.name for unit in simulation.model.units()}
    return re.sub(r"\b10\.1\.\d+\.\d+\b", lambda match: names.get(match[0], match[0]), text)
