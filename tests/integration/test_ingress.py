"""The gateway: who is served where, who is asked to sign in, and what nothing may break."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import jubilant
import pytest
import websockets.sync.client
import websockets.sync.server
import yaml
from deployed import (
    BINARY,
    ON_SANDBOX,
    ROOT,
    Platform,
    charm_path,
    eventually,
    image,
    kubectl_command,
)

pytestmark = pytest.mark.skipif(not ON_SANDBOX, reason="its servers run in this process")

SCRATCH = os.environ.get("EDGE_MODEL", "edge")
HOST = "edge.localhost"
ROUTES = {
    "open": {"path": "/open", "sign-in": "own"},
    "closed": {"path": "/closed"},
    "socket": {"path": "/socket", "sign-in": "none"},
    "calls": {"path": "/echo.Echo", "sign-in": "none"},
}
GOOD = {"Authorization": "Bearer good"}


@dataclass(frozen=True)
class Answer:
    """What the gateway answered."""

    code: int
    headers: dict[str, str]
    content: bytes

    @property
    def told(self) -> dict[str, Any]:
        """Return what the application was asked."""
        return json.loads(self.content)


class Connection(http.client.HTTPSConnection):
    """A connection to the gateway's address, under a name that no DNS knows."""

    def __init__(self, address: str, trust: ssl.SSLContext, host: str = HOST) -> None:
        super().__init__(host, timeout=15, context=trust)
        self.address, self.trust = address, trust

    def connect(self) -> None:
        plain = socket.create_connection((self.address, 443), timeout=15)
        self.sock = self.trust.wrap_socket(plain, server_hostname=HOST)

    def ask(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        body: Any = None,
    ) -> Answer:
        self.request(method, path, body, headers or {})
        answer = self.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, named, answer.read())


@dataclass(frozen=True)
class Edge:
    """A model with a gateway of its own."""

    juju: jubilant.Juju

    @property
    def address(self) -> str:
        """Return the address of the gateway's service."""
        return self.get("service", "istio-ingress-gateway")["spec"]["clusterIP"]

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """Return what kubectl prints in the model's namespace."""
        command = [*kubectl_command(), "--namespace", SCRATCH, *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *words: str) -> dict[str, Any]:
        """Return an object."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def pods(self, application: str) -> list[str]:
        """Return the names of an application's pods that are not on their way out."""
        found = self.get("pods", "-l", f"app.kubernetes.io/name={application}")["items"]
        kept = [it for it in found if "deletionTimestamp" not in it["metadata"]]
        return sorted(it["metadata"]["name"] for it in kept)

    def ready(self, application: str, number: int) -> bool:
        """Return whether exactly so many pods are there, all ready and none on its way out."""
        found = self.get("pods", "-l", f"app.kubernetes.io/name={application}")["items"]
        ready = [
            it["metadata"]["name"]
            for it in found
            for condition in it["status"].get("conditions", [])
            if (condition["type"], condition["status"]) == ("Ready", "True")
            and "deletionTimestamp" not in it["metadata"]
        ]
        return len(found) == len(ready) == number

    @property
    def trust(self) -> ssl.SSLContext:
        """Return what trusts the gateway's authority and nothing else."""
        authority = self.certificate()["authority"]
        return ssl.create_default_context(cadata=authority)

    def certificate(self) -> dict[str, str]:
        """Return what the charm tells of the gateway's certificate."""
        return self.juju.run("istio-ingress/0", "get-certificate").results

    def ask(self, path: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """Return what the gateway answers on a connection of its own."""
        connection = Connection(self.address, TRUST[0], more.pop("host", HOST))
        with contextlib.closing(connection):
            return connection.ask(path, headers, **more)

    def plain(self, path: str, headers: dict[str, str] | None = None) -> Answer:
        """Return what port 80 answers."""
        connection = http.client.HTTPConnection(self.address, timeout=15)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": HOST, **(headers or {})})
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, named, answer.read())

    def configure(self, **options: str) -> None:
        """Set options of the gateway."""
        self.juju.config("istio-ingress", {it.replace("_", "-"): v for it, v in options.items()})

    def route(self, **changes: Any) -> None:
        """Change routes; with None one is as by default."""
        routes = {name: it for name, it in {**ROUTES, **changes}.items() if it is not None}
        self.configure(routes=yaml.safe_dump(routes))

    def integrate(self, one: str, other: str) -> None:
        """Relate two endpoints, once what was between them before is all gone."""

        def related() -> bool:
            with contextlib.suppress(jubilant.CLIError):
                self.juju.integrate(one, other)
                return True
            return False

        eventually(related)

    def said(self) -> tuple[str, str]:
        """Return the status of the gateway's charm."""
        now = self.juju.status().apps["istio-ingress"].app_status
        return now.current, now.message

    def says(self, status: str, *words: str) -> None:
        """Wait until the gateway's charm says all of this."""
        eventually(lambda: self.said()[0] == status and all(it in self.said()[1] for it in words))

    def url(self, client: str) -> str:
        """Return where a client was told that it is."""
        return self.juju.run(f"{client}/0", "credentials").results["url"]

    def asked(self, path: str, code: int, headers: dict[str, str] | None = None) -> None:
        """Wait until a path is answered with a code."""
        eventually(lambda: self.ask(path, headers).code == code, pause=0.2)


TRUST: list[ssl.SSLContext] = []


def here() -> str:
    """Return the address by which pods reach this process."""
    node = json.loads(
        subprocess.run(
            [*kubectl_command(), "get", "nodes", "-o", "json"], capture_output=True, check=True
        ).stdout
    )["items"][0]
    (address,) = (
        it["address"] for it in node["status"]["addresses"] if it["type"] == "InternalIP"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 1))
        return probe.getsockname()[0]


class Calls(grpc.GenericRpcHandler):
    """A gRPC service without a description: it echoes bytes, once and many times."""

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method == "/echo.Echo/Say":
            return grpc.unary_unary_rpc_method_handler(lambda said, _: said)
        if handler_call_details.method == "/echo.Echo/Chat":
            return grpc.stream_stream_rpc_method_handler(lambda said, _: (it for it in said))
        return None


@contextlib.contextmanager
def serving() -> Iterator[dict[str, int]]:
    """Yield the ports on which this process answers WebSockets and gRPC."""

    def echo(socket: Any) -> None:
        for message in socket:
            socket.send(f"{socket.request.path} {message}")

    with (
        concurrent.futures.ThreadPoolExecutor() as pool,
        websockets.sync.server.serve(echo, "0.0.0.0", 0) as sockets,
    ):
        calls = grpc.server(pool)
        calls.add_generic_rpc_handlers([Calls()])
        port = calls.add_insecure_port("0.0.0.0:0")
        calls.start()
        threading.Thread(target=sockets.serve_forever, daemon=True).start()
        yield {"socket": sockets.socket.getsockname()[1], "calls": port}
        sockets.shutdown()
        calls.stop(0).wait()


@pytest.fixture(scope="module")
def edge(platform: Platform) -> Iterator[Edge]:
    """Yield a model in which `decider` guards `closed`, and `socket` and `calls` are here."""
    if "EDGE_MODEL" not in os.environ:
        jubilant.Juju(cli_binary=BINARY).add_model(SCRATCH)
    edge = Edge(jubilant.Juju(model=SCRATCH, cli_binary=BINARY, wait_timeout=300))
    tags = {"tags": "katonic.ai/node-pool=compute"}
    box = {"box-image": image("charm-base", "ubuntu:24.04")}
    client = charm_path(ROOT / "tests/charms/client")
    with serving() as ports:
        known = set(edge.juju.status().apps)
        if "istio-ingress" not in known:
            edge.juju.deploy(
                charm_path(ROOT / "charms/istio-ingress"),
                "istio-ingress",
                trust=True,
                resources={
                    "istio-ingress-image": image("istio-ingress", ""),
                    "pilot-image": image("istio-pilot", ""),
                    "proxy-image": image("istio-proxy", ""),
                },
                config={"external-hostname": HOST, "service-type": "ClusterIP"},
                constraints=tags,
            )
        for name in ("open", "closed", "decider"):
            if name not in known:
                options: dict[str, Any] = {"serve": True}
                edge.juju.deploy(client, name, config=options, resources=box, constraints=tags)
        for name, scheme in (("socket", "http"), ("calls", "h2c")):
            options = {"scheme": scheme, "port": ports[name], "host": here()}
            options["strip-prefix"] = False
            if name not in known:
                edge.juju.deploy(client, name, config=options, resources=box, constraints=tags)
            else:
                edge.juju.config(name, options)
        edge.route()
        if "open" not in known:
            for name in ROUTES:
                edge.integrate(f"{name}:ingress", "istio-ingress:ingress")
            edge.integrate("decider:decisions", "istio-ingress:forward-auth")
        edge.says("active", f"4 routes on https://{HOST}")
        TRUST[:] = [edge.trust]
        yield edge
    if "EDGE_MODEL" not in os.environ:
        edge.juju.destroy_model(SCRATCH, destroy_storage=True, force=True)


# Who is served where.


def test_an_application_is_served_under_its_path_and_told_where_that_is(edge: Edge) -> None:
    assert edge.url("open") == f"https://{HOST}/open"
    told = edge.ask("/open/a/b?c=d").told
    assert told["path"] == "/a/b?c=d"
    assert told["headers"]["x-forwarded-prefix"] == "/open"
    assert told["headers"]["x-forwarded-proto"] == "https"
    assert told["headers"]["x-forwarded-host"] == HOST
    assert len(told["headers"]["x-request-id"]) == 36


def test_a_page_gets_its_slash_so_that_its_links_stay_under_its_path(edge: Edge) -> None:
    answer = edge.ask("/open?x=1")
    assert (answer.code, answer.headers["location"]) == (302, f"https://{HOST}/open/?x=1")


@pytest.mark.parametrize("path", ["/", "/nothing", "/opened", "/open%2Fa"])
def test_what_nobody_serves_is_not_found(edge: Edge, path: str) -> None:
    assert edge.ask(path).code == 404


def test_under_another_name_nobody_is_served(edge: Edge) -> None:
    assert edge.ask("/open/", {"Host": "stranger.example"}).code == 404


def test_plain_http_is_sent_to_https(edge: Edge) -> None:
    answer = edge.plain("/open/a?b=c")
    assert (answer.code, answer.headers["location"]) == (301, f"https://{HOST}/open/a?b=c")


def test_a_websocket_goes_through(edge: Edge) -> None:
    plain = socket.create_connection((edge.address, 443))
    url = f"wss://{HOST}/socket/a?b=c"
    with websockets.sync.client.connect(url, sock=plain, ssl=TRUST[0]) as it:
        for message in ("one", "two"):
            it.send(message)
            assert it.recv(timeout=10) == f"/socket/a?b=c {message}"


def test_a_call_and_a_stream_of_grpc_go_through(edge: Edge) -> None:
    authority = edge.certificate()["authority"].encode()
    with grpc.secure_channel(
        f"{edge.address}:443",
        grpc.ssl_channel_credentials(authority),
        [("grpc.ssl_target_name_override", HOST), ("grpc.default_authority", HOST)],
    ) as channel:
        assert channel.unary_unary("/echo.Echo/Say")(b"hello", timeout=10) == b"hello"
        chat = channel.stream_stream("/echo.Echo/Chat")
        assert list(chat(iter([b"a", b"b", b"c"]), timeout=10)) == [b"a", b"b", b"c"]


def test_who_wants_the_path_of_another_is_refused_and_the_first_goes_on(edge: Edge) -> None:
    edge.route(closed={"path": "/open", "sign-in": "own"})
    edge.says("blocked", "closed: /open is open's; give it another in routes")
    assert edge.ask("/open/").told["unit"].startswith("open-")
    eventually(lambda: edge.url("closed") == "")
    edge.route()
    edge.says("active", "4 routes")


def test_a_wrong_word_is_named_and_all_is_served_on(edge: Edge) -> None:
    edge.route(open={"path": "/open/", "sign-in": "own"})
    edge.says("blocked", "config routes: open: path=/open/")
    assert edge.ask("/open/a").code == 200
    edge.route()
    edge.says("active", "4 routes")


def test_an_application_that_goes_is_served_no_more(edge: Edge) -> None:
    edge.juju.remove_relation("open:ingress", "istio-ingress:ingress")
    edge.asked("/open/a", 404)
    eventually(lambda: edge.url("open") == "")
    edge.integrate("open:ingress", "istio-ingress:ingress")
    edge.asked("/open/a", 200)
    eventually(lambda: edge.url("open") == f"https://{HOST}/open")


def test_a_request_that_brings_too_much_is_refused(edge: Edge) -> None:
    edge.configure(upload_limit="1")
    # It is refused for what it says that it will bring, before it does.
    too_much = {"Content-Length": str(2**20 + 1)}
    eventually(lambda: edge.ask("/open/", too_much, method="PUT").code == 413)
    assert edge.ask("/open/", method="PUT", body=bytes(2**20)).code == 200
    edge.juju.config("istio-ingress", reset="upload-limit")
    eventually(lambda: edge.ask("/open/", method="PUT", body=bytes(2**20 + 1)).code == 200)


def test_each_request_is_a_line_of_the_log_without_its_secrets(edge: Edge) -> None:
    edge.ask("/open/logged?code=secret")

    def line() -> dict[str, Any]:
        (pod,) = edge.pods("istio-ingress-gateway")
        lines = edge.kubectl("logs", pod, "--tail=50").splitlines()
        found = [json.loads(it) for it in lines if it.startswith("{")]
        return next(it for it in found if it["path"] == "/open/logged")

    seen = eventually(line)
    assert (seen["status"], seen["method"], seen["host"]) == (200, "GET", HOST)
    assert "secret" not in json.dumps(seen)


# Who is asked to sign in.


def test_who_is_not_signed_in_is_sent_to_sign_in(edge: Edge) -> None:
    answer = edge.ask("/closed/a?b=c")
    assert (answer.code, answer.headers["location"]) == (302, "https://sign-in.example/")
    assert answer.headers["set-cookie"] == "state=1; Secure"
    assert answer.told["unit"].startswith("decider-")
    assert answer.told["path"] == "/decide/closed/a?b=c"
    assert answer.told["headers"]["host"] == HOST
    assert answer.told["headers"]["x-forwarded-proto"] == "https"


def test_who_is_signed_in_comes_through_under_the_name_that_was_decided(edge: Edge) -> None:
    forged = {"X-Katonic-User": "root", "X-Katonic-Roles": "platform-admin", "x-katonic-new": "1"}
    told = edge.ask("/closed/a?b=c", {**GOOD, **forged}).told
    assert told["unit"].startswith("closed-")
    known = {name: it for name, it in told["headers"].items() if name.startswith("x-katonic")}
    assert known == {"x-katonic-user": "ann", "x-katonic-asked": "/decide/closed/a?b=c"}


def test_no_client_can_say_who_it_is(edge: Edge) -> None:
    forged = {
        "X-Katonic-User": "root",
        "x-katonic-anything": "1",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "http",
        "Forwarded": "host=evil.example",
    }
    headers = edge.ask("/open/", forged).told["headers"]
    assert not {it for it in headers if it.startswith("x-katonic")}
    assert "forwarded" not in headers
    assert headers["x-forwarded-host"] == HOST
    assert headers["x-forwarded-prefix"] == "/open"
    assert headers["x-forwarded-proto"] == "https"


@pytest.mark.parametrize(
    "path",
    [
        "/closed",
        "/closed/",
        "/closed/a",
        "/open/../closed/a",
        "/open/%2e%2e/closed/a",
        "/%63losed/a",
        "/./closed/a",
        "//closed/a",
        "/closed;x/a",
        "/closed%2Fa",
        "/CLOSED/a",
        "/open\\..\\closed\\a",
        "/closed/a?x=/open/",
    ],
)
@pytest.mark.parametrize("host", [HOST, f"{HOST}:443", HOST.upper(), f"{HOST}."])
def test_no_way_of_writing_a_path_or_a_name_leads_past_the_door(
    edge: Edge, path: str, host: str
) -> None:
    answer = edge.ask(path, {"Host": host})
    assert answer.code in (302, 404)
    assert b'"closed-' not in answer.content


def test_an_old_connection_sees_what_is_closed_since(edge: Edge) -> None:
    with contextlib.closing(Connection(edge.address, TRUST[0])) as kept:
        assert kept.ask("/open/").code == 200
        edge.route(open={"path": "/open"})
        eventually(lambda: kept.ask("/open/").code == 302, pause=0.2)
    edge.route()
    edge.asked("/open/", 200)


def test_while_nobody_decides_nobody_passes(edge: Edge) -> None:
    edge.kubectl("scale", "statefulset", "decider", "--replicas=0")
    try:
        eventually(lambda: edge.ask("/closed/a", GOOD).code == 503)
        assert edge.ask("/open/a").code == 200
    finally:
        edge.kubectl("scale", "statefulset", "decider", "--replicas=1")
    edge.asked("/closed/a", 200, GOOD)


def test_without_who_decides_the_door_is_shut_and_the_status_says_what_to_do(edge: Edge) -> None:
    edge.juju.remove_relation("decider:decisions", "istio-ingress:forward-auth")
    edge.says("blocked", "integrate forward-auth, or set sign-in of closed in routes")
    assert edge.ask("/closed/a", GOOD).code == 404
    assert edge.ask("/open/a").code == 200
    eventually(lambda: edge.url("closed") == "")
    edge.integrate("decider:decisions", "istio-ingress:forward-auth")
    edge.says("active", "4 routes")
    assert edge.ask("/closed/a").code == 302
    edge.asked("/closed/a", 200, GOOD)


def test_who_faces_the_internet_has_no_right_in_the_cluster(edge: Edge) -> None:
    account = f"system:serviceaccount:{SCRATCH}:istio-ingress-gateway"
    rights = edge.kubectl("auth", "can-i", "--list", f"--as={account}")
    names = [it.split()[0] for it in rights.splitlines()[1:] if not it.startswith(" ")]
    assert {it for it in names if not it.startswith(("selfsubject", "["))} == set()
    (pod,) = edge.pods("istio-ingress-gateway")
    assert not edge.get("pod", pod)["spec"]["automountServiceAccountToken"]


# What nothing may break.


@dataclass
class Load:
    """Requests without a pause, on connections that are kept as long as the gateway keeps them."""

    edge: Edge
    path: str
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until told to end."""
        with contextlib.closing(Connection(self.edge.address, TRUST[0])) as connection:
            while not self.ended.is_set():
                try:
                    self._note(self._ask(connection))
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{time.time():.3f} {error!r}")
                    connection.close()
                time.sleep(0.005)

    def _ask(self, connection: Connection) -> Answer:
        """Return an answer; by HTTP's own rule one asks again where a kept connection has gone."""
        kept = connection.sock is not None
        try:
            return connection.ask(self.path)
        except (ConnectionError, ssl.SSLEOFError):
            connection.close()
            if not kept:
                raise
            return connection.ask(self.path)

    def _note(self, answer: Answer) -> None:
        self.answered += 1
        if answer.code != 200:
            self.failures.append(f"{time.time():.3f} {answer.code} {answer.content[:200]!r}")


@contextlib.contextmanager
def load(edge: Edge, path: str, workers: int = 3) -> Iterator[Callable[[], int]]:
    """Have requests run for as long as the context lasts; none of them may fail."""
    loads = [Load(edge, path) for _ in range(workers)]
    threads = [threading.Thread(target=it.run) for it in loads]
    for it in threads:
        it.start()
    try:
        yield lambda: sum(it.answered for it in loads)
    finally:
        for it in loads:
            it.ended.set()
        for it in threads:
            it.join()
    failures: Sequence[str] = [failure for it in loads for failure in it.failures]
    answered = sum(it.answered for it in loads)
    assert not failures, f"{len(failures)} of {answered}: {failures[:5]}"
    assert answered > len(loads)


@pytest.fixture
def two(edge: Edge) -> Iterator[Edge]:
    """Yield the model with two gateways, and two units of `open`."""
    edge.juju.cli("scale-application", "istio-ingress", "2")
    edge.juju.cli("scale-application", "open", "2")
    eventually(lambda: edge.ready("istio-ingress-gateway", 2) and edge.ready("open", 2))
    edge.says("active", "4 routes")
    yield edge
    edge.juju.cli("scale-application", "istio-ingress", "1")
    edge.juju.cli("scale-application", "open", "1")
    eventually(lambda: edge.ready("istio-ingress-gateway", 1) and edge.ready("open", 1))


def answering(edge: Edge) -> set[str]:
    """Return the units of `open` that answer."""
    return {edge.ask("/open/").told["unit"] for _ in range(40)}


def test_every_unit_is_asked_and_any_pod_may_go(two: Edge) -> None:
    assert len(answering(two)) == 2
    assert two.get("pdb", "istio-ingress-gateway")["status"]["disruptionsAllowed"] == 1
    with load(two, "/open/") as answered:
        for application in ("istio-ingress-gateway", "open", "istio-ingress-istiod"):
            number = len(two.pods(application))
            for pod in two.pods(application):
                before = answered()
                two.kubectl("delete", "pod", pod, "--wait=false")
                eventually(lambda it=application, n=number: two.ready(it, n))
                # Ready is Pebble, before the workload: with the next one nobody would be left.
                eventually(lambda: len(answering(two)) == 2)
                assert answered() > before


def test_a_unit_that_takes_no_connections_costs_nobody_a_request(two: Edge) -> None:
    """Such is each unit that begins: its pod is ready before its workload listens."""
    pebble = ("exec", "open-1", "-c", "box", "--", "/charm/bin/pebble")
    with load(two, "/open/", workers=6) as answered:
        two.kubectl(*pebble, "stop", "echo")
        enough = answered() + 500
        eventually(lambda: answered() > enough)
    two.kubectl(*pebble, "start", "echo")
    assert len(answering(two)) == 2


def test_the_gateway_is_replaced_without_a_failed_request(edge: Edge) -> None:
    with load(edge, "/open/"):
        edge.configure(access_log="false")
        edge.kubectl("rollout", "restart", "deployment/istio-ingress-gateway")
        edge.kubectl("rollout", "status", "deployment/istio-ingress-gateway", "--timeout=120s")
        eventually(lambda: edge.ready("istio-ingress-gateway", 1))
    edge.juju.config("istio-ingress", reset="access-log")


def test_a_new_certificate_is_served_without_a_failed_request(edge: Edge) -> None:
    def shown() -> bytes | None:
        with contextlib.closing(Connection(edge.address, TRUST[0])) as it:
            it.connect()
            return it.sock.getpeercert(binary_form=True)

    before = shown()
    with load(edge, "/open/"):
        edge.juju.run("istio-ingress/leader", "rotate-certificate")
        eventually(lambda: shown() != before, pause=0.2)


TELEMETRY = {
    "apiVersion": "telemetry.istio.io/v1",
    "kind": "Telemetry",
    "metadata": {"name": "strangers"},
    "spec": {"metrics": [{"providers": [{"name": "prometheus"}]}]},
}
LUA = "envoy.extensions.filters.http.lua.v3.Lua"
FILTER = {
    "apiVersion": "networking.istio.io/v1alpha3",
    "kind": "EnvoyFilter",
    "metadata": {"name": "strangers"},
    "spec": {
        "configPatches": [
            {
                "applyTo": "HTTP_FILTER",
                "match": {"context": "GATEWAY"},
                "patch": {
                    "operation": "INSERT_FIRST",
                    "value": {
                        "name": "strangers",
                        "typed_config": {
                            "@type": f"type.googleapis.com/{LUA}",
                            "default_source_code": {"inline_string": "this is no Lua"},
                        },
                    },
                },
            }
        ]
    },
}


@pytest.mark.parametrize("strange", [TELEMETRY, FILTER], ids=["telemetry", "envoy filter"])
def test_what_envoy_refuses_is_said_and_the_door_stays_shut(
    edge: Edge, strange: dict[str, Any]
) -> None:
    kind = strange["kind"]
    edge.kubectl("apply", "-f", "-", stdin=json.dumps(strange))
    try:
        edge.says("blocked", "Envoy refuses a Listener", f"likely for {kind} strangers")
        assert "istio_ingress_refusals{" in metrics(edge)
        # The listeners are yesterday's now, the routes are not: what is new is guarded too.
        edge.route(open={"path": "/open"})
        edge.asked("/open/", 302)
        assert edge.ask("/closed/").code == 302
        edge.route()
        edge.asked("/open/", 200)
    finally:
        edge.kubectl("delete", kind, "strangers")
    edge.says("active", "4 routes")
    eventually(lambda: "istio_ingress_refusals{" not in metrics(edge))


def metrics(edge: Edge) -> str:
    """Return what the charm's service tells Prometheus."""
    address = edge.get("service", "istio-ingress")["spec"]["clusterIP"]
    connection = http.client.HTTPConnection(address, 8080, timeout=15)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()


def test_each_metric_that_alerts_and_the_dashboard_ask_for_is_there(edge: Edge) -> None:
    edge.ask("/open/")
    edge.ask("/closed/")
    (pod,) = edge.pods("istio-ingress-gateway")
    address = edge.get("pod", pod)["status"]["podIP"]
    connection = http.client.HTTPConnection(address, 15090, timeout=15)
    with contextlib.closing(connection):
        connection.request("GET", "/stats/prometheus")
        there = connection.getresponse().read().decode() + metrics(edge)
    folder = ROOT / "charms/istio-ingress/src"
    asked = {
        name
        for path in (*folder.glob("prometheus_alert_rules/*"), *folder.glob("grafana*/*"))
        for name in re.findall(r"\b(?:envoy|pilot|istio_ingress)_\w+", path.read_text())
    }
    # One is there once there is something to tell.
    assert {it for it in asked if it not in there} <= {"istio_ingress_refusals"}


def test_behind_who_ends_tls_port_80_is_served_and_its_word_is_believed(edge: Edge) -> None:
    edge.configure(tls_termination="upstream")
    try:
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7"}
        eventually(lambda: edge.plain("/open/", forwarded).code == 200)
        eventually(lambda: edge.ready("istio-ingress-gateway", 1))
        headers = eventually(lambda: edge.plain("/open/", forwarded).told["headers"])
        assert headers["x-forwarded-proto"] == "https"
        assert headers["x-envoy-external-address"] == "203.0.113.7"
        assert edge.plain("/closed/").code == 302
        assert edge.url("open") == f"https://{HOST}/open"
        ports = edge.get("service", "istio-ingress-gateway")["spec"]["ports"]
        assert [it["port"] for it in ports] == [80]
    finally:
        edge.juju.config("istio-ingress", reset="tls-termination")
    edge.asked("/open/", 200)
