"""The programs of the image: what watches istiod, what follows, what defines the kinds."""

import contextlib
import http.server
import importlib
import json
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
definitions, follow, serve, watch = (
    importlib.import_module(f"watcher.{it}") for it in ("definitions", "follow", "serve", "watch")
)
sys.path.pop(0)

TYPE = "type.googleapis.com/envoy.config"
QUIET = {
    "proxy": "istio-ingress-gateway-5d-x1.lab",
    "resources": {f"{TYPE}.listener.v3.Listener": {"sent": "a", "acked": "a"}},
}
REFUSING = {
    "proxy": "istio-ingress-gateway-5d-x2.lab",
    "resources": {
        f"{TYPE}.cluster.v3.Cluster": {"sent": "b", "acked": "b"},
        f"{TYPE}.listener.v3.Listener": {
            "sent": "c",
            "acked": "a",
            "lastError": "Error adding listener(s)\n0.0.0.0_8443: no istio.stats",
        },
    },
}


def test_who_is_connected_and_what_is_refused_is_seen_in_istiods_account():
    seen = watch.state([REFUSING, QUIET])
    assert seen["gateways"] == ["istio-ingress-gateway-5d-x1", "istio-ingress-gateway-5d-x2"]
    assert seen["refusals"] == [
        {
            "gateway": "istio-ingress-gateway-5d-x2",
            "kind": "Listener",
            "message": "Error adding listener(s) 0.0.0.0_8443: no istio.stats",
        }
    ]


def test_a_digest_tells_what_is_news():
    assert watch.state([QUIET]) == watch.state([QUIET])
    assert watch.state([QUIET])["digest"] != watch.state([REFUSING])["digest"]
    assert watch.state([])["gateways"] == []


def test_what_is_seen_is_measured():
    said = watch.metrics(watch.state([QUIET, REFUSING]))
    assert "istio_ingress_gateways 2\n" in said
    assert (
        'istio_ingress_refusals{gateway="istio-ingress-gateway-5d-x2",kind="Listener"} 1\n' in said
    )


@contextlib.contextmanager
def answering(answers: dict[str, Callable[[Any], Any]]) -> Iterator[str]:
    server = serve.serve(answers, 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def got(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def start(*jobs: Callable[[], None]) -> None:
    for it in jobs:
        threading.Thread(target=it, daemon=True).start()


def eventually(holds: Callable[[], bool]) -> None:
    ended = threading.Event()
    for _ in range(500):
        if holds():
            return
        ended.wait(0.02)
    raise AssertionError("it never came true")


@pytest.fixture
def istiod(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Yield what istiod says, which may be changed; without proxies it does not answer."""
    said: dict[str, Any] = {"proxies": [QUIET]}
    answers = {
        "/debug/syncz": lambda _: (
            (200, json.dumps(said["proxies"])) if "proxies" in said else (503, "")
        ),
        "/metrics": lambda _: (200, "pilot_xds 1\n"),
    }
    with answering(answers) as url:
        monkeypatch.setattr(watch, "SYNCHRONIZATION", f"{url}/debug/syncz")
        monkeypatch.setattr(watch, "METRICS", f"{url}/metrics")
        monkeypatch.setattr(watch, "_PAUSE", 0.01)
        monkeypatch.setattr(follow, "_PAUSE", 0.01)
        yield said


def test_who_asks_the_watcher_hears_of_news_when_there_are_some(istiod):
    watcher = watch.Watcher(watch.SYNCHRONIZATION)
    start(*watcher.jobs)
    with answering(watcher.answers) as url:
        eventually(lambda: got(f"{url}/health")[0] == 200)
        before = json.loads(got(f"{url}/state")[1])
        istiod["proxies"] = [REFUSING]
        after = json.loads(got(f"{url}/state?after={before['digest']}&wait=10")[1])
        assert after["refusals"]
        assert got(f"{url}/metrics")[1].startswith("pilot_xds 1\n")
        assert "istio_ingress_refusals{" in got(f"{url}/metrics")[1]


def test_while_istiod_does_not_answer_the_watcher_says_so(istiod):
    watcher = watch.Watcher(watch.SYNCHRONIZATION)
    start(*watcher.jobs)
    with answering(watcher.answers) as url:
        eventually(lambda: got(f"{url}/health")[0] == 200)
        del istiod["proxies"]
        eventually(lambda: got(f"{url}/state") == (503, "istiod does not answer\n"))
        istiod["proxies"] = None
        eventually(lambda: '"gateways": []' in got(f"{url}/state")[1])
        istiod["proxies"] = {"detail": "somebody else"}
        eventually(lambda: got(f"{url}/state") == (503, "istiod does not answer\n"))


class Defined:
    """A keeper whose kinds are defined, or are not."""

    def __init__(self, trouble: str = "") -> None:
        self.trouble = trouble

    def keep(self) -> bool:
        return False


@pytest.fixture
def bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that gets a line each time that the charm is woken."""
    rung = tmp_path / "rung"
    rung.touch()
    script = tmp_path / "pebble"
    script.write_text(f'#!/bin/sh\necho "$@" >>{rung}\n')
    script.chmod(0o755)
    monkeypatch.setattr(follow, "BELL", (str(script), *follow.BELL[1:]))
    return rung


def test_the_charm_is_woken_for_news_and_reads_them(istiod, bell):
    watcher = watch.Watcher(watch.SYNCHRONIZATION)
    start(*watcher.jobs)
    with answering(watcher.answers) as url:
        follower = follow.Follower(url, Defined())
        start(*follower.jobs)
        with answering(follower.answers) as own:
            eventually(lambda: json.loads(got(f"{own}/report")[1])["istiod"] is not None)
            eventually(lambda: bool(bell.read_text()))
            rings = len(bell.read_text().splitlines())
            istiod["proxies"] = [REFUSING]
            eventually(lambda: bool(json.loads(got(f"{own}/report")[1])["istiod"]["refusals"]))
            eventually(lambda: len(bell.read_text().splitlines()) > rings)
            assert set(bell.read_text().splitlines()) == {"notify katonic.dev/report"}
            assert "pilot_xds" in got(f"{own}/metrics")[1]


def test_a_watcher_that_is_not_there_is_told_and_no_reason_to_be_unready(bell):
    follower = follow.Follower("http://127.0.0.1:9", Defined())
    start(*follower.jobs)
    with answering(follower.answers) as own:
        eventually(lambda: "refused" in json.loads(got(f"{own}/report")[1])["trouble"])
        assert json.loads(got(f"{own}/report")[1])["istiod"] is None
        assert got(f"{own}/ready")[0] == 200


def test_before_the_kinds_are_defined_it_is_not_ready_and_says_why():
    follower = follow.Follower("http://127.0.0.1:9", Defined("kubernetes: forbidden"))
    with answering(follower.answers) as own:
        assert got(f"{own}/ready") == (503, "kubernetes: forbidden\n")
        assert got(f"{own}/report")[0] == 503


def definition(name: str, **annotations: str) -> dict[str, Any]:
    return {
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"group": "istio.io"},
    }


class Kubernetes:
    """The API server's part that concerns definitions."""

    def __init__(self, *there: dict[str, Any]) -> None:
        self.there = {it["metadata"]["name"]: it for it in there}
        self.calls: list[str] = []
        self.refuses = 0

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                outer.calls.append(f"{self.command} {self.path.partition('?')[0]}")
                name = self.path.partition("?")[0].rpartition("/")[2]
                length = int(self.headers.get("Content-Length") or 0)
                said = json.loads(self.rfile.read(length)) if length else {}
                code, answer = 200, {}
                if outer.refuses:
                    code, answer = outer.refuses, {"message": "customresourcedefinitions: no"}
                elif self.command == "PATCH":
                    outer.there[name] = said
                elif name == "customresourcedefinitions":
                    answer = {"items": list(outer.there.values()) or None}
                else:
                    ready = {"conditions": [{"type": "Established", "status": "True"}]}
                    answer = {**outer.there[name], "status": ready}
                content = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PATCH = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def version(self, name: str) -> str:
        return self.there[name]["metadata"]["annotations"].get(definitions.VERSION, "")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "VERSION").write_text("1.31\n")
    both = [definition("gateways.istio.io"), definition("routes.gateway.io")]
    other = {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "upgrades"}}
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all([*both, other]))
    return tmp_path


@contextlib.contextmanager
def keeping(directory: Path, kubernetes: Kubernetes) -> Iterator[Any]:
    with kubernetes.serve() as url:
        yield definitions.Keeper(directory, definitions.Kubernetes(url))


def test_what_lacks_is_defined_and_nothing_but_kinds(directory):
    kubernetes = Kubernetes()
    with keeping(directory, kubernetes) as keeper:
        assert keeper.trouble
        assert keeper.keep()
        assert not keeper.trouble
    assert kubernetes.there.keys() == {"gateways.istio.io", "routes.gateway.io"}
    assert kubernetes.version("gateways.istio.io") == "1.31"


def test_what_others_have_defined_is_left_alone(directory):
    kubernetes = Kubernetes(definition("gateways.istio.io"))
    with keeping(directory, kubernetes) as keeper:
        keeper.keep()
    assert not kubernetes.version("gateways.istio.io")
    assert kubernetes.version("routes.gateway.io") == "1.31"


@pytest.mark.parametrize(("there", "after"), [("1.9", "1.31"), ("1.31", "1.31"), ("2.0", "2.0")])
def test_what_an_older_one_defined_is_renewed_and_a_newer_ones_never(directory, there, after):
    kubernetes = Kubernetes(definition("gateways.istio.io", **{definitions.VERSION: there}))
    with keeping(directory, kubernetes) as keeper:
        keeper.keep()
    assert kubernetes.version("gateways.istio.io") == after


def test_once_all_is_defined_a_look_is_one_call_and_what_is_deleted_comes_back(directory):
    kubernetes = Kubernetes()
    with keeping(directory, kubernetes) as keeper:
        keeper.keep()
        kubernetes.calls.clear()
        assert not keeper.keep()
        assert len(kubernetes.calls) == 1
        del kubernetes.there["routes.gateway.io"]
        keeper.keep()
        assert "routes.gateway.io" in kubernetes.there


def test_why_kubernetes_refuses_is_said(directory):
    kubernetes = Kubernetes()
    kubernetes.refuses = 403
    with keeping(directory, kubernetes) as keeper:
        assert keeper.keep()
        assert keeper.trouble == "kubernetes: customresourcedefinitions: no"
        assert not keeper.keep()
        kubernetes.refuses = 0
        assert keeper.keep()
        assert not keeper.trouble


def test_each_role_says_what_it_needs():
    program = importlib.import_module("watcher.__main__")
    given = program.parse(["follow", "http://w:1", "--definitions", "/d", "--listen", "8080"])
    assert (given.url, given.definitions, given.listen) == ("http://w:1", Path("/d"), 8080)
    with pytest.raises(SystemExit):
        program.parse(["watch"])
