import asyncio
import contextlib
import importlib
import random
import sys
from pathlib import Path

import httpx2
import msgspec
import pytest
from lightkube import AsyncClient, KubeConfig
from lightkube.config.models import Cluster, User

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
kubernetes = importlib.import_module("controller.kubernetes")
observed = importlib.import_module("controller.observed")
pools = importlib.import_module("controller.pools")
views = importlib.import_module("controller.view")
watch = importlib.import_module("controller.watch")
apis = importlib.import_module("kubernetes_api")
world = importlib.import_module("kubernetes_objects")

POOLS = pools.parse(world.POOLS)
CONFIG = KubeConfig.from_one(cluster=Cluster(server="http://kubernetes"), user=User()).get()


def timeless(function):
    """Run a test in a loop in which waiting takes no time."""

    def test():
        with asyncio.Runner(loop_factory=apis.Timeless) as runner:
            runner.run(function())

    test.__name__ = function.__name__
    return test


class Lab:
    """A cluster, its controllers, and watchers that come and go."""

    def __init__(self, seed=0):
        self.api = apis.Api(seed)
        self.sets = apis.StatefulSets(self.api)
        self.watchers = []
        self.api.put("nodes", world.node("p1", "platform", cpu=64, memory="256Gi"))

    def deploy(self, name, replicas=1, **more):
        spec = {**world.asks("platform"), **more.pop("spec", {})}
        raw = world.statefulset(name, spec, replicas=replicas, **more)
        del raw["metadata"]["uid"]
        self.api.put("statefulsets", raw)

    def refresh(self, name):
        """Do what Juju does: merge other images into the template."""
        number = self.api.version
        containers = [{"name": "charm", "image": f"charm-{number}", "resources": {}}]
        patch = {"spec": {"template": {"spec": {"containers": containers}}}}
        self.api.change("statefulsets", name, patch)

    def scale(self, name, replicas):
        self.api.change("statefulsets", name, {"spec": {"replicas": replicas}})

    async def start(self):
        transport = kubernetes.Transport(self.api)
        client = AsyncClient(
            CONFIG, namespace="lab", field_manager=observed.MANAGER, transport=transport
        )
        watcher = watch.Watcher(client, "lab", POOLS)
        task = asyncio.create_task(watcher.run())
        self.watchers.append((watcher, task))
        return watcher

    async def kill(self):
        """End the oldest watcher without a word."""
        _, task = self.watchers.pop(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def settle(self):
        quiet = 0
        while quiet < 3:
            moved, before = self.sets.settle(), self.api.version
            await asyncio.sleep(5)
            quiet = 0 if moved or self.api.version != before else quiet + 1

    async def end(self):
        while self.watchers:
            await self.kill()

    def pods(self, name):
        return [
            it for it in self.api.all("pods") if it["metadata"]["name"].rpartition("-")[0] == name
        ]

    def uids(self, name):
        return {it["metadata"]["uid"] for it in self.pods(name)}

    def template(self, name):
        return self.api.objects["statefulsets", name]

    def placed(self, name):
        """All that has to hold in the end of an application."""
        it = self.template(name)
        spec = it["spec"]["template"]["spec"]
        assert world.PLATFORM in spec["tolerations"]
        assert len(spec["topologySpreadConstraints"]) == 2
        assert it["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 0
        assert observed.HELD not in it["metadata"].get("annotations", {})
        pods = self.pods(name)
        assert len(pods) == it["spec"]["replicas"]
        for found in pods:
            assert found["spec"]["nodeName"] == "p1"
            assert world.PLATFORM in found["spec"]["tolerations"]
            labels = found["metadata"]["labels"]
            assert labels[observed.REVISION] == it["status"]["updateRevision"]
            # What it was made from is what it counts as made from.
            assert found["status"]["madeFrom"] == spec["containers"]
        assert (("poddisruptionbudgets", name) in self.api.objects) is (len(pods) > 1)
        return True

    def holds(self, uid):
        """Return when each hold of a StatefulSet began."""
        began, before = [], False
        for version, _, it in self.api.log["statefulsets"]:
            if it["metadata"]["uid"] == uid:
                held = observed.HELD in it["metadata"].get("annotations", {})
                began += [version] * (held and not before)
                before = held
        return began

    def calls(self, *methods):
        return [it for it in self.api.calls if it[0] in methods]


@timeless
async def test_what_was_there_before_is_placed():
    lab = Lab()
    lab.deploy("redis", 3)
    await lab.settle()
    assert not any("nodeName" in it["spec"] for it in lab.pods("redis"))
    before = lab.uids("redis")
    watcher = await lab.start()
    await lab.settle()
    assert lab.placed("redis")
    assert lab.uids("redis") == before
    assert watcher.verdict.message == "1 of 1 applications on their pool"
    await lab.end()


@timeless
async def test_what_comes_later_is_placed():
    lab = Lab()
    watcher = await lab.start()
    await asyncio.sleep(1)
    assert watcher.verdict.message == "0 of 0 applications on their pool"
    lab.deploy("redis", 2)
    await lab.settle()
    assert lab.placed("redis")
    await lab.end()


@timeless
async def test_no_running_pod_is_restarted():
    lab = Lab()
    lab.deploy("redis", 3, spec={"tolerations": [{"operator": "Exists"}]})
    await lab.settle()
    before = lab.uids("redis")
    assert all(it["status"]["phase"] == "Running" for it in lab.pods("redis"))
    await lab.start()
    await lab.settle()
    assert lab.placed("redis")
    assert lab.uids("redis") == before
    assert not lab.sets.rolled
    await lab.end()


@timeless
async def test_an_application_takes_a_fixed_number_of_calls_and_then_none():
    lab = Lab()
    await lab.start()
    await asyncio.sleep(1)
    lab.api.calls.clear()
    lab.deploy("redis", 5)
    await lab.settle()
    assert lab.placed("redis")
    assert sorted(lab.api.calls) == [
        ("GET", "controllerrevisions", ""),
        ("PATCH", "poddisruptionbudgets", "redis"),
        *(("PATCH", "pods", f"redis-{number}") for number in range(5)),
        ("PATCH", "statefulsets", "redis"),
        ("PATCH", "statefulsets", "redis"),
    ]
    watches = lab.api.watches
    await asyncio.sleep(3600)
    assert len(lab.api.calls) == 9
    assert lab.api.watches == watches
    await lab.end()


@timeless
async def test_a_refresh_that_is_under_way_rolls_what_it_meant_and_no_more():
    lab = Lab()
    lab.deploy("redis", 3, spec={"tolerations": [{"operator": "Exists"}]})
    await lab.settle()
    lab.refresh("redis")
    while lab.sets.hear("statefulsets") or lab.sets.hear("pods"):
        pass
    lab.sets.sync("redis")
    lab.sets.run()
    await lab.start()
    await lab.settle()
    assert lab.placed("redis")
    assert [it["metadata"]["name"] for it, _ in lab.sets.rolled] == [
        "redis-2",
        "redis-1",
        "redis-0",
    ]
    await lab.end()


@timeless
async def test_jujus_own_writes_keep_what_was_written():
    lab = Lab()
    await lab.start()
    lab.deploy("redis")
    await lab.settle()
    before = len(lab.calls("PATCH"))
    lab.refresh("redis")
    await lab.settle()
    assert lab.placed("redis")
    assert len(lab.calls("PATCH")) == before
    lab.scale("redis", 3)
    await lab.settle()
    assert lab.placed("redis")
    lab.scale("redis", 1)
    await lab.settle()
    assert lab.placed("redis")
    lab.scale("redis", 0)
    await lab.settle()
    assert lab.placed("redis")
    await lab.end()


@timeless
async def test_a_statefulset_that_is_made_anew_is_mended_anew():
    lab = Lab()
    await lab.start()
    lab.deploy("redis", 2)
    await lab.settle()
    lab.api.remove("statefulsets", "redis")
    lab.deploy("redis", 2)
    await lab.settle()
    assert lab.placed("redis")
    owners = lab.api.objects["poddisruptionbudgets", "redis"]["metadata"]["ownerReferences"]
    assert [it["uid"] for it in owners] == [lab.template("redis")["metadata"]["uid"]]
    await lab.end()


@timeless
async def test_a_partition_of_another_is_given_back():
    lab = Lab()
    lab.deploy("redis", 3, partition=2)
    await lab.start()
    await lab.settle()
    assert lab.template("redis")["spec"]["updateStrategy"]["rollingUpdate"]["partition"] == 2
    assert not lab.sets.rolled
    await lab.end()


@pytest.mark.parametrize("dies_at", range(1, 9))
def test_a_watcher_that_dies_is_followed_by_one_that_goes_on(dies_at):
    async def test():
        lab = Lab()
        lab.deploy("redis", 3, spec={"tolerations": [{"operator": "Exists"}]})
        await lab.settle()
        before, doomed = lab.uids("redis"), asyncio.Event()

        def refuses(method, plural):
            if len(lab.calls("PATCH")) == dies_at:
                doomed.set()
                raise httpx2.ReadError("the watcher's machine is gone")
            return 0

        lab.api.refuses = refuses
        await lab.start()
        await lab.settle()
        assert doomed.is_set() is (dies_at < 7)
        await lab.kill()
        lab.api.refuses = lambda method, plural: 0
        await lab.settle()
        await lab.start()
        await lab.settle()
        assert lab.placed("redis")
        assert lab.uids("redis") == before
        await lab.end()

    timeless(test)()


@timeless
async def test_a_watcher_that_ends_holds_nothing():
    lab = Lab(seed=1)
    lab.api.slowness = 5
    watcher = await lab.start()
    await asyncio.sleep(1)
    lab.deploy("redis", 3)
    while observed.HELD not in lab.template("redis")["metadata"].get("annotations", {}):
        await asyncio.sleep(0)
    ending = asyncio.create_task(watcher.end())
    lab.deploy("other")
    while not ending.done():
        lab.sets.settle()
        await asyncio.sleep(0.05)
    await lab.kill()
    assert observed.HELD not in lab.template("redis")["metadata"]["annotations"]
    assert "tolerations" not in lab.template("other")["spec"]["template"]["spec"]


@timeless
async def test_a_lost_api_is_told_and_found_again():
    lab = Lab()
    lab.deploy("redis")
    watcher = await lab.start()
    await lab.settle()
    lab.api.interrupt()
    await asyncio.sleep(10)
    assert watcher.verdict.level == "waiting"
    assert watcher.verdict.message.startswith("kubernetes: ")
    assert "connection refused" in watcher.verdict.message
    lab.api.broken = False
    lab.deploy("other")
    await lab.settle()
    await asyncio.sleep(120)
    await lab.settle()
    assert lab.placed("other")
    assert watcher.verdict.message == "2 of 2 applications on their pool"
    await lab.end()


@timeless
async def test_one_break_is_no_silence():
    lab = Lab()
    watcher = await lab.start()
    await asyncio.sleep(60)
    told = []
    lab.api.interrupt()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    lab.api.broken = False
    for _ in range(50):
        await asyncio.sleep(0.1)
        told.append(watcher.verdict.level)
    assert set(told) == {"active"}
    assert watcher.restarts == 5
    await lab.end()


@timeless
async def test_a_watch_of_what_is_forgotten_begins_anew():
    lab = Lab()
    watcher = await lab.start()
    await lab.settle()
    lab.api.interrupt()
    await asyncio.sleep(0)
    lab.api.forget()
    lab.api.broken = False
    lab.deploy("redis")
    lab.sets = apis.StatefulSets(lab.api)
    await lab.settle()
    await asyncio.sleep(60)
    await lab.settle()
    assert lab.placed("redis")
    assert watcher.verdict.level == "active"
    await lab.end()


def test_each_request_has_the_token_that_is_in_the_file_then(tmp_path):
    sent, token = [], tmp_path / "token"

    def answer(request):
        sent.append(request.headers["Authorization"])
        return httpx2.Response(200, json={"items": []})

    async def test():
        transport = kubernetes.Transport(httpx2.MockTransport(answer), token)
        async with AsyncClient(CONFIG, transport=transport) as client:
            for it in ("one", "two"):
                token.write_text(f"{it}\n")
                assert [it async for it in client.list(kubernetes.Node)] == []
        assert transport.calls == {("get", 200): 2}

    asyncio.run(test())
    assert sent == ["Bearer one", "Bearer two"]


@timeless
async def test_a_refusal_is_told_and_tried_again():
    lab = Lab()
    lab.api.refuses = lambda method, plural: 403 * (method == "PATCH" and plural == "statefulsets")
    lab.deploy("redis")
    watcher = await lab.start()
    await lab.settle()
    await asyncio.sleep(20)
    assert "redis: 403 as the test wants it" in [it.text for it in watcher.verdict.troubles]
    lab.api.refuses = lambda method, plural: 0
    await asyncio.sleep(100)
    await lab.settle()
    assert lab.placed("redis")
    assert watcher.verdict.level == "active"
    await lab.end()


@timeless
async def test_what_another_takes_away_again_is_told_and_not_fought():
    lab = Lab()
    lab.deploy("redis")
    watcher = await lab.start()
    put = lab.api.put

    def without(plural, it):
        if plural == "statefulsets":
            it["spec"]["template"]["spec"].pop("tolerations", None)
        return put(plural, it)

    lab.api.put = without
    for _ in range(720):
        lab.sets.settle()
        await asyncio.sleep(5)
    said = "redis: kubernetes does not keep what is written into the template"
    assert said in [it.text for it in watcher.verdict.troubles]
    assert len(lab.calls("PATCH")) < 200
    assert observed.HELD not in lab.template("redis")["metadata"]["annotations"]
    await lab.end()


def test_an_answer_that_comes_after_the_news_of_the_end_is_no_news():
    def budget(version):
        raw = world.budget("redis", "redis")
        raw["metadata"]["resourceVersion"] = version
        return msgspec.convert(raw, observed.BudgetObject).parse()

    known = views.View("lab")
    known.see(budget("7"))
    known.lose(budget("9"))
    known.wrote(budget("8"))
    assert known.budgets == ()
    known.wrote(budget("10"))
    assert known.budgets == (budget("10"),)


@timeless
async def test_a_budget_of_another_stays():
    lab = Lab()
    theirs = world.budget("redis", None, labels={})
    lab.api.put("poddisruptionbudgets", theirs)
    lab.deploy("redis", 3)
    await lab.start()
    await lab.settle()
    assert "ownerReferences" in theirs["metadata"]
    assert lab.api.objects["poddisruptionbudgets", "redis"]["metadata"]["labels"] == {}
    lab.scale("redis", 1)
    await lab.settle()
    assert ("poddisruptionbudgets", "redis") in lab.api.objects
    await lab.end()


@timeless
async def test_a_deployment_gets_its_tolerations_and_no_hold():
    lab = Lab()
    lab.api.put("deployments", world.deployment("web", world.asks("platform")))
    await lab.start()
    await lab.settle()
    it = lab.api.objects["deployments", "web"]
    assert it["spec"]["template"]["spec"]["tolerations"] == [world.PLATFORM]
    assert "annotations" not in it["metadata"]
    await lab.end()


@pytest.mark.parametrize("seed", range(24))
def test_in_any_order_of_events_all_is_placed_and_nothing_is_restarted_for_it(seed):
    """Streams are late, requests slow, watchers two or none; Juju does what it does meanwhile."""
    timeless(lambda: _any_order(seed))()


async def _any_order(seed):
    random.seed(seed)  # of the pauses between tries
    chance = random.Random(seed)
    lab = Lab(seed)
    lab.api.slowness = chance.choice((0, 3, 12))
    names, broken = ("redis", "mlflow"), set()

    def deploy(name):
        tolerant = {"tolerations": [{"operator": "Exists"}]} if chance.random() < 0.5 else {}
        lab.deploy(name, chance.randint(0, 4), spec=tolerant)

    def anew(name):
        lab.api.remove("statefulsets", name)
        deploy(name)

    def evict(name):
        if found := lab.pods(name):
            lab.sets._delete(chance.choice(found)["metadata"]["name"])

    def render(name):
        """What a re-render of Juju's would do at worst: break a hold by its own partition."""
        before = lab.template(name)["metadata"]
        if observed.HELD in before.get("annotations", {}):
            broken.add(before["uid"])
        patch = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
        lab.api.change("statefulsets", name, patch)

    for name in names:
        deploy(name)
    await lab.start()
    for _ in range(400):
        name = chance.choice(names)
        dice = chance.random()
        if dice < 0.25:
            lab.sets.hear(chance.choice(("statefulsets", "pods")))
        elif dice < 0.5:
            lab.sets.sync(name)
        elif dice < 0.6:
            lab.sets.schedule()
            lab.sets.run()
        elif dice < 0.62:
            lab.refresh(name)
        elif dice < 0.64:
            lab.scale(name, chance.randint(0, 4))
        elif dice < 0.65:
            anew(name)
        elif dice < 0.67:
            evict(name)
        elif dice < 0.68:
            render(name)
        elif dice < 0.70 and len(lab.watchers) < 2:
            await lab.start()
        elif dice < 0.72 and lab.watchers:
            await lab.kill()
        elif dice < 0.73:
            lab.api.interrupt()
            await asyncio.sleep(chance.random())
            lab.api.broken = False
        else:
            for _ in range(chance.randint(1, 10)):
                await asyncio.sleep(0)
        if chance.random() < 0.02:
            await asyncio.sleep(chance.random() * 3)
        lab.sets.collect()
    if not lab.watchers:
        await lab.start()
    await lab.settle()
    await asyncio.sleep(120)
    await lab.settle()
    for name in names:
        assert lab.placed(name)
    for pod, update in lab.sets.rolled:
        owner = pod["metadata"]["ownerReferences"][0]["uid"]
        template = update["data"]["spec"]["template"]["spec"]
        alike = pod["status"]["madeFrom"] == template["containers"]
        # One that is made during a hold is made from what was before, and may be seen late.
        there = any(lab.api.born(pod) < began for began in lab.holds(owner))
        running = pod["spec"].get("nodeName")
        assert not (alike and there and running) or owner in broken, (pod, update)
    before = len(lab.api.calls)
    await asyncio.sleep(3600)
    assert len(lab.api.calls) == before
    await lab.end()
