"""This machine's ports lead to the gateway, on ports and under a mark of the tests' own."""

import contextlib
import io
import json
import os
import shutil
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sandbox import gateway, up
from sandbox.cluster import Cluster
from sandbox.gateway import LOOPBACK, Front, Listener

needs_socat = pytest.mark.skipif(not shutil.which("socat"), reason="deploy installs socat")


class Echo(socketserver.StreamRequestHandler):
    """Says who it is, then what it hears."""

    def handle(self) -> None:
        self.wfile.write(self.server.name)  # pyright: ignore[reportAttributeAccessIssue]
        with contextlib.suppress(ConnectionError):
            while word := self.request.recv(4096):
                self.wfile.write(word)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Return a function that starts a server of four letters, and tells where it is."""
    servers = []

    def start(name: bytes) -> str:
        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
        server.daemon_threads = True
        server.name = name  # pyright: ignore[reportAttributeAccessIssue]
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def own_mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the platform on this machine runs is left alone."""
    monkeypatch.setattr(gateway, "MARK", f"test-of-the-gateway-{os.getpid()}")
    yield
    gateway.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as it:
        return it.getsockname()[1]


def listeners(port: int, target: str) -> list[Listener]:
    return [Listener(it, port, target) for it in LOOPBACK]


@pytest.fixture
def connect() -> Iterator[Callable[..., tuple[socket.socket, bytes]]]:
    """Return a function that connects to a port, and tells what is said there first."""
    with contextlib.ExitStack() as stack:

        def connected(port: int, address: str = "127.0.0.1") -> tuple[socket.socket, bytes]:
            made = stack.enter_context(socket.create_connection((address, port), timeout=10))
            return made, made.recv(4)

        yield connected


@needs_socat
@pytest.mark.parametrize("address", LOOPBACK)
def test_a_port_leads_to_the_gateway_until_it_is_closed(serve, connect, tmp_path, address):
    port = free_port()
    assert gateway.forward(listeners(port, serve(b"mine")), tmp_path / "log") == []
    connection, said = connect(port, address)
    connection.sendall(b"word")
    assert said + connection.recv(4) == b"mineword"
    gateway.close()
    assert connection.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(port, address)


@needs_socat
def test_what_leads_there_already_keeps_its_connections(serve, connect, tmp_path):
    there = listeners(free_port(), serve(b"mine"))
    gateway.forward(there, tmp_path / "log")
    connection, _ = connect(there[0].port)
    assert gateway.forward(there, tmp_path / "log") == []
    connection.sendall(b"word")
    assert connection.recv(4) == b"word"


@needs_socat
def test_another_gateway_takes_the_place_of_the_one_before(serve, connect, tmp_path):
    port = free_port()
    gateway.forward(listeners(port, serve(b"old ")), tmp_path / "log")
    before, _ = connect(port)
    assert gateway.forward(listeners(port, serve(b"new ")), tmp_path / "log") == []
    assert before.recv(1) == b""
    assert connect(port)[1] == b"new "


@needs_socat
def test_a_taken_port_is_told_once_and_the_other_leads(serve, connect, tmp_path):
    target, port = serve(b"mine"), free_port()
    with socket.create_server(("", 0)) as other:
        taken = other.getsockname()[1]
        both = [*listeners(taken, target), *listeners(port, target)]
        (trouble,) = gateway.forward(both, tmp_path / "log")
        assert trouble.startswith(f"port {taken} is taken: stop what `ss -ltnp sport = :{taken}`")
        assert connect(port)[1] == b"mine"
    assert gateway.forward(both, tmp_path / "log") == []
    assert connect(taken)[1] == b"mine"


def kubectl(folder: Path, script: str) -> Cluster:
    """Return a cluster whose kubectl is this script."""
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Cluster(folder / "kubeconfig", "10.200.0.1", program)


@pytest.mark.parametrize(("served", "led"), [([80, 443, 15021], [443, 80]), ([80], [80])])
def test_the_ports_that_the_gateway_serves_are_led_there(tmp_path, served, led):
    spec = {"clusterIP": "10.96.0.7", "ports": [{"port": it} for it in served]}
    cluster = kubectl(tmp_path, f"echo '{json.dumps({'spec': spec})}'")
    assert gateway.service(cluster, "katonic") == ("10.96.0.7", led)


@needs_socat
def test_without_a_gateway_the_platform_is_up_all_the_same_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("KATONIC_CACHE", str(tmp_path))
    cluster = kubectl(tmp_path, "echo 'services \"istio\" not found' >&2; exit 1")
    front = gateway.open_front(cluster, "katonic", "localhost", print)
    assert front == Front("https://localhost", ('no gateway: services "istio" not found',))


def test_a_name_is_this_machines_or_it_is_not():
    assert gateway.resolves("localhost")
    assert not gateway.resolves("192.0.2.7")
    assert not gateway.resolves("nowhere.invalid")


FRONT = Front("https://katonic.localhost", ("port 443 is taken",))


def test_a_program_is_told_the_address_and_how_to_sign_in(capsys):
    up.Lines().end([], FRONT)
    told = json.loads(capsys.readouterr().out)
    assert (told["url"], told["troubles"]) == (FRONT.url, ["port 443 is taken"])
    assert "add-user username=ada" in told["sign_in"]


def test_a_person_reads_the_address_first(tmp_path):
    written = io.StringIO()
    place = up.Place("mlflow", ["10.96.0.9:5000"], [])
    up.Screen(console=Console(file=written, width=60)).end([place], FRONT)
    text = written.getvalue()
    assert text.index(FRONT.url) < text.index("port 443 is taken") < text.index(up.SIGN_IN)
    assert text.index(up.SIGN_IN) < text.index("10.96.0.9:5000")
