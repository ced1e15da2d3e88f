import asyncio
import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import httpx2
import pytest
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User

SOURCE = Path(__file__).parents[1] / "src"
sys.path[:0] = [str(SOURCE), str(Path(__file__).parent)]
failures = importlib.import_module("controller.failures")
follow = importlib.import_module("controller.follow")
program = importlib.import_module("controller.__main__")
pools = importlib.import_module("controller.pools")
serve = importlib.import_module("controller.serve")
verdicts = importlib.import_module("controller.verdict")
watch = importlib.import_module("controller.watch")
apis = importlib.import_module("kubernetes_api")
world = importlib.import_module("kubernetes_objects")

CONFIG = KubeConfig.from_one(cluster=Cluster(server="http://kubernetes"), user=User()).get()


@contextlib.asynccontextmanager
async def watching():
    """A watcher of a node and a pool, and a client of its site."""
    api = apis.Api()
    api.put("nodes", world.node("p1", "platform"))
    client = AsyncClient(CONFIG, namespace="lab", field_manager="node-pools", transport=api)
    watcher = watch.Watcher(client, "lab", pools.parse(world.POOLS))
    site = serve.Site(watcher, {("watch", 200): 5}).application
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(site), base_url="http://w") as it:
        yield api, watcher, it


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


class TestSite:
    def test_it_is_not_healthy_before_all_has_been_seen(self):
        async def test():
            async with watching() as (_, watcher, site):
                for path in ("/health", "/verdict", "/drain?node=p1"):
                    answer = await site.get(path)
                    assert (answer.status_code, answer.text) == (503, "looking around\n")
                task = asyncio.create_task(watcher.run())
                await until(lambda: watcher.verdict)
                assert (await site.get("/health")).status_code == 200
                task.cancel()

        asyncio.run(test())

    def test_it_answers_with_the_verdict_and_waits_for_another(self):
        async def test():
            async with watching() as (api, watcher, site):
                task = asyncio.create_task(watcher.run())
                await until(lambda: watcher.verdict)
                first = (await site.get("/verdict")).json()
                assert first["message"] == "0 of 0 applications on their pool"
                again = await site.get("/verdict", params={"after": first["digest"], "wait": 0.01})
                assert again.json() == first
                longing = asyncio.create_task(
                    site.get("/verdict", params={"after": first["digest"], "wait": 30})
                )
                await asyncio.sleep(0.01)
                assert not longing.done()
                api.put("nodes", world.node("p2", "platform", cpu=1))
                second = (await longing).json()
                assert second["message"] == "platform: node p2 has 1 CPU of at least 4"
                assert (await site.get("/verdict?after=x&wait=y")).status_code == 400
                task.cancel()

        asyncio.run(test())

    def test_it_tells_metrics_and_what_a_drain_would_do(self):
        async def test():
            async with watching() as (_, watcher, site):
                task = asyncio.create_task(watcher.run())
                await until(lambda: watcher.verdict)
                text = (await site.get("/metrics")).text
                assert 'node_pools_pool_nodes{pool="platform"} 1' in text
                assert 'node_pools_api_calls_total{verb="watch",code="200"} 5' in text
                found = (await site.get("/drain", params={"node": "p1"})).json()
                assert found == {"node": "p1", "message": "0 of 0 pods fit elsewhere", "moves": []}
                none = await site.get("/drain", params={"node": "x"})
                assert (none.status_code, none.text) == (404, "there is no node x\n")
                task.cancel()

        asyncio.run(test())


class Watcher(httpx2.AsyncBaseTransport):
    """What a follower meets at the watcher's address."""

    def __init__(self):
        self.verdict = {"digest": "one"}
        self.gone = False
        self.news = asyncio.Event()

    def say(self, digest):
        self.verdict = {"digest": digest}
        self.news.set()
        self.news = asyncio.Event()

    async def handle_async_request(self, request):
        if request.url.params.get("after") == self.verdict["digest"]:
            await self.news.wait()
        if self.gone:
            raise httpx2.ConnectError("connection refused")
        if request.url.path == "/verdict":
            return httpx2.Response(200, json=self.verdict, request=request)
        text = f"{request.url.path} {dict(request.url.params)}"
        return httpx2.Response(200, text=text, request=request)


@contextlib.asynccontextmanager
async def following(tmp_path, bell=None):
    """A watcher, a client of its follower's site, and how often the bell has rung."""
    watcher, rung = Watcher(), tmp_path / "rung"
    rung.touch()
    bell = bell or ("sh", "-c", f"echo >>{rung}")
    async with httpx2.AsyncClient(transport=watcher, base_url="http://w") as client:
        follower = follow.Follower(client, bell)
        transport = httpx2.ASGITransport(follower.application)
        async with httpx2.AsyncClient(transport=transport, base_url="http://f") as site:
            task = asyncio.create_task(follower.run())
            yield watcher, site, lambda: len(rung.read_text().splitlines())
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class TestFollower:
    def test_it_rings_when_the_watcher_comes_says_something_else_goes_and_comes_back(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(follow, "_PAUSE", 0.01)

        async def test():
            async with following(tmp_path) as (watcher, site, rung):
                await until(lambda: rung() == 1)
                assert (await site.get("/ready")).status_code == 200
                watcher.say("two")
                await until(lambda: rung() == 2)
                assert (await site.get("/verdict")).json() == {"digest": "two"}
                watcher.gone = True
                watcher.say("three")
                await until(lambda: rung() == 3)
                for path in ("/ready", "/verdict"):
                    answer = await site.get(path)
                    said = "the watcher does not answer: connection refused\n"
                    assert (answer.status_code, answer.text) == (503, said)
                watcher.gone = False
                await until(lambda: rung() == 4)
                assert (await site.get("/verdict")).json() == {"digest": "three"}

        asyncio.run(test())

    def test_it_says_so_before_the_watcher_has_answered(self):
        async def test():
            async with httpx2.AsyncClient(base_url="http://w") as client:
                follower = follow.Follower(client)
                transport = httpx2.ASGITransport(follower.application)
                async with httpx2.AsyncClient(transport=transport, base_url="http://f") as site:
                    answer = await site.get("/ready")
                    assert (answer.status_code, answer.text) == (
                        503,
                        "the watcher has not answered yet\n",
                    )

        asyncio.run(test())

    def test_it_passes_on_what_is_the_watchers(self, tmp_path):
        async def test():
            async with following(tmp_path) as (watcher, site, _):
                assert (await site.get("/drain?node=p1")).text == "/drain {'node': 'p1'}"
                assert (await site.get("/metrics")).text == "/metrics {}"
                watcher.gone = True
                answer = await site.get("/metrics")
                assert answer.status_code == 503
                assert answer.text == "the watcher does not answer: connection refused\n"

        asyncio.run(test())

    def test_a_bell_that_does_not_ring_is_rung_again(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(follow, "_PAUSE", 0.01)
        once = tmp_path / "once"
        bell = ("sh", "-c", f"[ -e {once} ] && echo >>{tmp_path}/rung || ! touch {once}")

        async def test():
            async with following(tmp_path, bell) as (_, _, rung):
                await until(lambda: rung() == 1)

        asyncio.run(test())
        assert "sh: 1" in caplog.text


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            ([], "controller: the following arguments are required: watch|follow"),
            (["x"], "controller: argument watch|follow: invalid choice: 'x'"),
            (["watch", "--namespace", "a"], "controller watch: the following arguments are"),
            (["follow", "http://w", "--listen", "x"], "controller follow: argument --listen:"),
        ],
    )
    def test_a_wrong_argument_is_told_in_one_line(self, arguments, line, capsys):
        with pytest.raises(SystemExit):
            program.parse(arguments)
        said = capsys.readouterr().err
        assert said.startswith(line)
        assert said.count("\n") == 1

    @pytest.mark.parametrize("content", [None, "[", "[]", '[{"name": "a"}]'])
    def test_a_file_that_has_no_pools_is_told_in_one_line(
        self, content, tmp_path, monkeypatch, capsys
    ):
        file = tmp_path / "pools.json"
        if content:
            file.write_text(content)
        arguments = ["watch", "--pools", str(file), "--namespace", "lab"]
        monkeypatch.setattr(sys, "argv", ["controller", *arguments])
        assert program.main() == 1
        said = capsys.readouterr().err
        assert said.startswith("controller: ")
        assert said.count("\n") == 1

    def test_a_cluster_that_is_nowhere_is_told_in_one_line(self, tmp_path, monkeypatch, capsys):
        file = tmp_path / "pools.json"
        file.write_text(pools.dump(pools.parse(world.POOLS)))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
        arguments = ["watch", "--pools", str(file), "--namespace", "lab"]
        monkeypatch.setattr(sys, "argv", ["controller", *arguments])
        assert program.main() == 1
        assert capsys.readouterr().err.count("\n") == 1

    def test_a_port_that_is_taken_is_told_in_one_line(self, monkeypatch, capsys):
        with socket.create_server(("", 0)) as taken:
            port = str(taken.getsockname()[1])
            arguments = ["follow", "http://127.0.0.1:9", "--listen", port]
            monkeypatch.setattr(sys, "argv", ["controller", *arguments])
            assert program.main() == 1
        said = capsys.readouterr().err.splitlines()
        assert said[-1].startswith("controller: [Errno 98]")

    def test_no_token_is_in_what_an_error_says(self):
        error = httpx2.LocalProtocolError("Illegal header value b'Bearer eyJhbGciOi.x\\n'")
        assert failures.line(error) == "Illegal header value b'Bearer ***'"

    def test_what_nobody_expects_says_where_it_came_from(self):
        with pytest.raises(KeyError) as caught:
            {}["x"]
        said = failures.line(caught.value)
        assert said.startswith("KeyError('x') in test_what_nobody_expects_says_where_it_came_from")

    def test_the_program_serves_and_ends_when_told_to(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "controller", "follow", "http://127.0.0.1:9", "--listen"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
        with subprocess.Popen(
            [*command, str(port)], env=environment, stderr=subprocess.PIPE, text=True
        ) as process:
            answer = ""
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/ready")
                except urllib.error.HTTPError as error:
                    answer = error.read().decode()
                    error.close()
                    if "does not answer" in answer:
                        break
                except OSError:
                    pass
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert answer.startswith("the watcher does not answer: ")
        assert all(it.split()[0] in ("INFO", "WARNING") for it in said.splitlines())


def test_the_verdict_is_read_as_it_is_written():
    cluster = importlib.import_module("controller.observed").Cluster("lab")
    verdict = verdicts.judge(cluster, pools.parse(world.POOLS))
    msgspec = importlib.import_module("msgspec")
    written = msgspec.json.encode(verdict)
    assert msgspec.json.decode(written, type=verdicts.Verdict) == verdict
    said = json.loads(written)["pools"][0]
    assert said["tolerations"] == [world.PLATFORM]
    assert said["maximum_nodes"] == 3
