import importlib
import sys
from pathlib import Path

import msgspec
import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
drains = importlib.import_module("controller.drain")
metrics = importlib.import_module("controller.metrics")
observed = importlib.import_module("controller.observed")
placement = importlib.import_module("controller.placement")
pools = importlib.import_module("controller.pools")
rollout = importlib.import_module("controller.rollout")
verdicts = importlib.import_module("controller.verdict")
world = importlib.import_module("kubernetes_objects")

POOLS = pools.parse(world.POOLS)
HEALTHY = (
    world.node("p1", "platform"),
    world.node("c1", "compute"),
    world.node("s1", "storage"),
)
FOREIGN = {"key": "example.com/other", "operator": "Exists", "effect": "NoExecute"}
SPREADING = [
    {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "redis"}},
    }
    for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
]
MENDED = {"tolerations": [world.PLATFORM], "topologySpreadConstraints": SPREADING}


def template(raw):
    return msgspec.convert(raw, observed.TemplateObject).parse(raw["kind"])


def redis(spec=None, **more):
    return world.statefulset("redis", {**world.asks("platform"), **(spec or {})}, **more)


def mended(**more):
    return redis(MENDED, managed=["node-pools"], **more)


def budget(*arguments, **more):
    return msgspec.convert(world.budget(*arguments, **more), observed.BudgetObject).parse()


def node(raw):
    return msgspec.convert(raw, observed.NodeObject).parse()


def pod(raw):
    return msgspec.convert(raw, observed.PodObject).parse()


def cluster(*templates, pods=(), nodes=HEALTHY):
    return observed.Cluster(
        world.NAMESPACE,
        nodes=tuple(node(it) for it in nodes),
        pods=tuple(pod(it) for it in pods),
        templates=tuple(template(it) for it in templates),
    )


def unit(on, number=0, **more):
    return world.pod(f"redis-{number}", on, owner="StatefulSet redis", **more)


def said(*arguments, known=POOLS, **more):
    return verdicts.judge(cluster(*arguments, **more), known)


def troubles(*arguments, **more):
    return [f"{it.level}: {it.text}" for it in said(*arguments, **more).troubles]


class TestPlacement:
    @pytest.mark.parametrize(
        ("spec", "names"),
        [
            ({}, []),
            (world.asks("platform"), ["platform"]),
            (world.asks("platform", "compute"), ["platform", "compute"]),
            ({"nodeSelector": world.LABELS["storage"]}, ["storage"]),
            ({"affinity": world.affinity(("katonic.ai/node-pool", "NotIn", ["platform"]))}, []),
            ({"affinity": world.affinity(("katonic.ai/node-pool", "Exists", []))}, []),
            ({"nodeSelector": {"kubernetes.io/arch": "amd64"}}, []),
        ],
    )
    def test_a_template_asks_for_pools_in_its_own_words(self, spec, names):
        wish = template(world.statefulset("it", spec)).wish
        assert [it.name for it in placement.asked(wish, POOLS)] == names
        assert placement.unknown(wish, POOLS) == ()

    def test_a_label_of_a_pools_key_that_no_pool_has_is_unknown(self):
        wrong = ("katonic.ai/node-pool", "In", ["platforms", "compute"])
        wish = template(world.statefulset("it", {"affinity": world.affinity(wrong)})).wish
        assert placement.unknown(wish, POOLS) == ("katonic.ai/node-pool=platforms",)
        assert [it.name for it in placement.asked(wish, POOLS)] == ["compute"]

    def test_a_template_gets_the_tolerations_of_its_pool_beside_those_of_others(self):
        before = template(redis({"tolerations": [FOREIGN]}))
        words = placement.words(before, POOLS)
        assert words.tolerations == [FOREIGN, world.PLATFORM]
        assert placement.due(before, words)

    def test_a_template_loses_the_tolerations_of_pools_that_it_does_not_ask_for(self):
        before = template(redis({"tolerations": [world.STORAGE, FOREIGN, world.PLATFORM]}))
        assert placement.words(before, POOLS).tolerations == [FOREIGN, world.PLATFORM]

    def test_a_toleration_without_an_operator_is_the_one_that_it_means(self):
        plain = {key: it for key, it in world.PLATFORM.items() if key != "operator"}
        assert placement.words(template(redis({"tolerations": [plain]})), POOLS).tolerations == [
            plain
        ]

    def test_an_application_of_jujus_is_spread_over_hosts_and_zones(self):
        words = placement.words(template(redis()), POOLS)
        assert words.spreading == SPREADING

    def test_nothing_is_due_to_a_template_that_says_all_of_it(self):
        zone = {**SPREADING[0], "topologyKey": "rack", "maxSkew": 2}
        there = {**MENDED, "topologySpreadConstraints": [zone, *SPREADING]}
        after = template(redis(there))
        assert not placement.due(after, placement.words(after, POOLS))

    def test_a_template_of_others_is_left_alone_until_it_asks_for_a_pool(self):
        other = template(world.deployment("web", {"tolerations": [world.PLATFORM]}))
        assert placement.words(other, POOLS) is None
        asking = template(world.deployment("web", world.asks("platform")))
        words = placement.words(asking, POOLS)
        assert words == placement.Words([world.PLATFORM], [])

    def test_a_template_that_was_mended_once_is_still_looked_after(self):
        foreign = {"tolerations": [world.PLATFORM]}
        before = template(world.statefulset("it", foreign, labels={}, managed=["node-pools"]))
        assert placement.words(before, POOLS) == placement.Words([], [])

    def test_several_units_have_a_budget(self):
        one, three = template(mended(replicas=1)), template(mended(replicas=3))
        assert not placement.budget_due(one, [])
        assert placement.budget_due(three, [])
        assert not placement.budget_due(three, [budget("redis", "redis")])
        assert not placement.budget_left(three, [budget("redis", "redis")])
        assert placement.budget_left(one, [budget("redis", "redis")])

    def test_a_budget_of_a_statefulset_that_is_gone_is_made_right(self):
        assert placement.budget_due(template(mended(replicas=3)), [budget("redis", "older")])

    @pytest.mark.parametrize("name", ["redis", "by-hand"])
    def test_a_budget_that_someone_else_made_is_the_only_one(self, name):
        three, theirs = (
            template(mended(replicas=3)),
            budget(name, None, labels={}, selects="redis"),
        )
        assert not placement.budget_due(three, [theirs])
        assert not placement.budget_left(three, [theirs])

    def test_a_budget_of_ours_goes_when_someone_else_makes_one(self):
        three, theirs = template(mended(replicas=3)), budget("x", None, labels={}, selects="redis")
        assert placement.budget_left(three, [theirs, budget("redis", "redis")])


def status(generation, replicas, current, updated, revisions=("old", "new")):
    return {
        "observedGeneration": generation,
        "replicas": replicas,
        "currentReplicas": current,
        "updatedReplicas": updated,
        "currentRevision": revisions[0],
        "updateRevision": revisions[1],
    }


def held(**more):
    """A StatefulSet in the midst of it: the words are there, and the hold."""
    about = {"annotations": {observed.HELD: "0"}, "partition": observed.HOLD, "generation": 2}
    return template(mended(**{**about, **more}))


def of_revision(name, *, leaving=False, number=0):
    labels = {observed.REVISION: name}
    return pod(world.pod(f"redis-{number}", "p1", labels=labels, leaving=leaving))


def step(it, pods=(), different=()):
    return rollout.next_step(it, placement.words(it, POOLS), pods, different)


class TestRollout:
    def test_words_come_with_a_hold(self):
        assert step(template(redis())) == rollout.Apply(0)

    def test_a_hold_remembers_the_partition_that_it_takes(self):
        assert step(template(redis(partition=2))) == rollout.Apply(2)

    def test_nothing_is_next_for_a_template_that_says_all_and_is_not_held(self):
        assert step(template(mended()), [of_revision("old")]) is None

    def test_a_hold_that_another_writer_broke_is_taken_again(self):
        assert step(held(partition=0)) == rollout.Apply(0)
        assert step(held(partition=1)) == rollout.Apply(1)

    def test_words_that_are_due_during_a_hold_keep_what_it_remembers(self):
        about = {"annotations": {observed.HELD: "2"}, "partition": observed.HOLD}
        assert step(template(redis(**about))) == rollout.Apply(2)

    def test_nothing_is_next_before_the_controller_has_seen_the_template(self):
        late = held(status=status(1, 1, 1, 0))
        assert step(late, [of_revision("old")]) is None
        assert step(held(status={"replicas": 0})) is None

    def test_pods_of_an_earlier_revision_are_adopted(self):
        old, new = of_revision("old"), of_revision("new", number=1)
        leaving = of_revision("old", leaving=True, number=2)
        seen = held(status=status(2, 3, 1, 1))
        assert step(seen, [old, new, leaving]) == rollout.Adopt([old])

    def test_nothing_is_released_before_the_controller_has_seen_who_was_adopted(self):
        adopted = [of_revision("new")]
        assert step(held(status=status(2, 1, 1, 0)), adopted) is None
        assert step(held(status=status(2, 1, 0, 1)), adopted) == rollout.Release(0)

    def test_nothing_is_released_while_the_controller_counts_a_pod_that_is_gone(self):
        """One was adopted while another of the new revision went: the count is the same."""
        adopted = [of_revision("new"), of_revision("old", number=1)]
        seen = held(status=status(2, 2, 0, 1))
        assert step(seen, adopted, different={"old"}) is None

    def test_a_pod_that_leaves_is_counted_as_the_controller_counts_it(self):
        pods = [of_revision("new"), of_revision("old", leaving=True, number=1)]
        assert step(held(status=status(2, 2, 0, 1)), pods) == rollout.Release(0)

    def test_pods_that_differ_in_more_are_left_to_roll(self):
        pods = [of_revision("old"), of_revision("new", number=1)]
        seen = held(status=status(2, 2, 1, 1))
        assert step(seen, pods, different={"old"}) == rollout.Release(0)

    def test_the_release_gives_back_what_the_hold_took(self):
        about = {"annotations": {observed.HELD: "2"}, "replicas": 0}
        assert step(held(status=status(2, 0, 0, 0), **about)) == rollout.Release(2)

    def test_a_release_is_in_no_hurry_while_pods_are_missing(self):
        late = held(replicas=2, status=status(2, 1, 0, 1))
        assert step(late, [of_revision("new")]) == rollout.Release(0, hurry=False)

    def test_pods_that_are_replaced_by_hand_are_adopted_without_a_partition(self):
        raw = mended(annotations={observed.HELD: "0"}, status=status(1, 1, 1, 0))
        raw["spec"]["updateStrategy"] = {"type": "OnDelete"}
        old = of_revision("old")
        assert step(template(raw), [old]) == rollout.Adopt([old])

    def test_a_deployment_rolls_by_itself(self):
        web = template(world.deployment("web", world.asks("platform")))
        assert step(web) == rollout.Apply(None)

    def test_revisions_differ_by_all_but_scheduling(self):
        def data(spec, **about):
            labels = {"app.kubernetes.io/name": "redis"}
            it = {"$patch": "replace", "metadata": {"labels": labels, **about}, "spec": spec}
            return {"spec": {"template": it}}

        plain = {"containers": [{"name": "charm", "image": "one"}]}
        revisions = {
            "new": data({**plain, **MENDED}, creationTimestamp=None),
            "same": data({**plain, "tolerations": [FOREIGN]}),
            "image": data({"containers": [{"name": "charm", "image": "two"}]}),
            "restarted": data(plain, annotations={"kubectl.kubernetes.io/restartedAt": "now"}),
        }
        names = {"same", "image", "restarted", "gone"}
        assert rollout.different(revisions, "new", names) == {"image", "restarted", "gone"}
        assert rollout.tolerations(revisions["new"]) == [world.PLATFORM]
        assert rollout.tolerations(revisions["image"]) == []

    def test_without_the_newest_revision_nothing_is_adopted(self):
        assert rollout.different({}, "new", {"old"}) == {"old"}


class TestVerdict:
    def test_all_is_well(self):
        verdict = said(mended(), pods=[unit("p1")])
        assert (verdict.level, verdict.message) == (
            "active",
            "1 of 1 applications on their pool",
        )
        assert verdict.applications == (
            verdicts.Application(
                "redis",
                ("platform",),
                1,
                1,
                (verdicts.PodPlace("redis-0", "p1", "placed"),),
            ),
        )

    def test_an_unknown_pool_is_named_with_those_there_are(self):
        wrong = world.affinity(("katonic.ai/node-pool", "In", ["platforms"]))
        it = redis({"affinity": wrong, "topologySpreadConstraints": SPREADING})
        assert troubles(it, pods=[unit("c1")]) == [
            "blocked: redis: asks for katonic.ai/node-pool=platforms, which no pool has; "
            "pools: platform, compute, storage, gpu-v100, gpu-A30"
        ]

    def test_an_application_without_a_pool_is_told_how_to_get_one(self):
        it = world.statefulset("redis", {"topologySpreadConstraints": SPREADING})
        assert troubles(it, pods=[unit("c1")]) == [
            "blocked: redis: has no pool; "
            "deploy it with --constraints tags=katonic.ai/node-pool=compute"
        ]

    def test_what_is_not_jujus_needs_no_pool(self):
        assert troubles(world.deployment("web", {})) == []

    def test_a_pool_without_a_node_blocks_who_asks_for_it(self):
        why = world.NO_NODE
        pods = [unit(None, why=why)]
        assert troubles(mended(), pods=pods, nodes=HEALTHY[1:]) == [
            "blocked: redis: pool platform has no node",
            "blocked: platform: 0 nodes of at least 1",
            "waiting: redis: 1 of 1 pods wait for a node of platform: 0/6 nodes are available: "
            "1 Insufficient memory, 5 node(s) didn't match Pod's node affinity",
        ]
        verdict = said(mended(), pods=pods, nodes=HEALTHY[1:])
        assert verdict.message == ("redis: pool platform has no node (and 2 more: run show-pools)")

    def test_too_few_and_too_many_nodes_are_counted(self):
        known = pools.parse("- {name: a, label: a=b, minimum-nodes: 3}")
        nodes = [world.node(it, labels={"a": "b"}) for it in ("n1", "n2")]
        assert troubles(nodes=nodes, known=known) == ["blocked: a: 2 nodes of at least 3"]
        known = pools.parse("- {name: a, label: a=b, maximum-nodes: 1}")
        assert troubles(nodes=nodes, known=known) == ["blocked: a: 2 nodes of at most 1"]
        known = pools.parse("- {name: a, label: a=b, minimum-nodes: 0}")
        assert troubles(nodes=[], known=known) == []

    def test_a_node_that_is_too_small_is_named(self):
        small = world.node("p1", "platform", cpu=2, memory="7Gi")
        assert troubles(nodes=[small]) == [
            "blocked: platform: node p1 has 2 CPU of at least 4",
            "blocked: platform: node p1 has 7.5G memory of at least 16G",
        ]
        gpu = world.node("g1", "gpu-v100")
        assert troubles(nodes=[*HEALTHY, gpu]) == [
            "blocked: gpu-v100: node g1 has 0 GPUs of at least 1"
        ]

    def test_a_machine_sold_with_16_gb_is_large_enough(self):
        assert troubles(nodes=[world.node("p1", "platform", memory="15990000Ki")]) == []

    def test_a_taint_and_its_label_belong_together(self):
        bare = world.node("x1", taints=[world.TAINTS["platform"]])
        open_ = world.node("p2", "platform", taints=[])
        assert troubles(nodes=[*HEALTHY, bare, open_]) == [
            "blocked: node p2: has the label of platform and not its taint "
            "katonic.ai/node-pool=platform:NoSchedule; run label-nodes",
            "blocked: node x1: has the taint of platform and not its label "
            "katonic.ai/node-pool=platform; run label-nodes",
        ]

    def test_a_pod_outside_of_its_pool_is_named(self):
        assert troubles(mended(), pods=[unit("c1")]) == [
            "blocked: redis runs outside platform: redis-0 on c1"
        ]

    def test_a_pod_on_a_node_that_is_not_known_waits(self):
        assert troubles(mended(), pods=[unit("gone")]) == [
            "waiting: redis: 1 of 1 pods wait for a node of platform"
        ]

    def test_pods_that_leave_or_have_ended_do_not_count(self):
        pods = [unit("p1", leaving=True), unit("p1", 1, phase="Failed"), unit("p1", 2)]
        verdict = said(mended(replicas=3), pods=pods)
        assert verdict.message == "redis: 2 of 3 pods wait for a node of platform"
        assert [it.name for it in verdict.applications[0].pods] == ["redis-2"]

    def test_words_that_are_due_or_held_are_told(self):
        assert troubles(redis(), pods=[unit("p1")]) == [
            "waiting: redis: gets the tolerations of platform"
        ]
        half = mended(annotations={observed.HELD: "0"}, partition=observed.HOLD)
        assert troubles(half, pods=[unit("p1")]) == [
            "waiting: redis: gets the tolerations of platform"
        ]
        compute = world.statefulset("redis", world.asks("compute"))
        assert troubles(compute, pods=[unit("c1")]) == [
            "waiting: redis: gets the spreading of its pods"
        ]

    def test_a_refusal_is_told_instead(self):
        seen = cluster(redis(), pods=[unit("p1")])
        verdict = verdicts.judge(seen, POOLS, {"redis": "403 no"}, "Node: 500 no")
        assert [it.text for it in verdict.troubles] == [
            "redis: 403 no",
            "kubernetes: Node: 500 no",
        ]
        assert verdict.level == "waiting"

    def test_a_node_that_is_not_ready_is_told_and_counts(self):
        sick = world.node("p1", "platform", ready=False)
        verdict = said(nodes=[sick])
        assert [it.text for it in verdict.troubles] == ["platform: node p1 is not ready"]
        assert verdict.pools[0].free == verdicts.Resources(0, 0, 0)

    def test_an_application_may_stand_on_any_pool_that_it_asks_for(self):
        either = {**world.asks("platform", "compute"), **MENDED}
        it = world.statefulset("redis", either)
        assert said(it, pods=[unit("c1")]).level == "active"

    def test_a_deployment_that_asks_for_a_pool_is_an_application(self):
        spec = {**world.asks("storage"), "tolerations": [world.STORAGE]}
        web = world.deployment("web", spec)
        labels = {"pod-template-hash": "7f8d"}
        here = world.pod("web-7f8d-x", "s1", owner="ReplicaSet web-7f8d", labels=labels)
        assert said(web, pods=[here]).message == "1 of 1 applications on their pool"

    def test_what_is_free_is_rounded_down_and_of_nodes_that_take_pods(self):
        nodes = [
            world.node("g1", "gpu-v100", cpu=8, memory="32Gi", gpus=2),
            world.node("g2", "gpu-v100", cpu=8, memory="32Gi", gpus=2, cordoned=True),
        ]
        requests = {"cpu": "1500m", "memory": "1.5Gi", "nvidia.com/gpu": "1"}
        pods = [
            world.pod("one", "g1", namespace="other", requests=requests),
            world.pod("two", "g1", requests=requests, phase="Succeeded"),
        ]
        gpu = next(it for it in said(nodes=nodes, pods=pods).pools if it.name == "gpu-v100")
        assert gpu.free == verdicts.Resources(6, 30 * 2**30, 1)
        assert gpu.requested == verdicts.Resources(1.5, 3 * 2**29, 1)
        assert gpu.allocatable == verdicts.Resources(16, 64 * 2**30, 4)
        assert (gpu.pods, gpu.nodes, gpu.gpu_type) == (1, ("g1", "g2"), "v100")
        assert gpu.selector == world.LABELS["gpu-v100"]

    def test_a_fraction_of_what_is_free_wakes_nobody(self):
        few = [unit("p1"), world.pod("x", "c1", requests={"cpu": "100m", "memory": "10Mi"})]
        more = [unit("p1"), world.pod("x", "c1", requests={"cpu": "200m", "memory": "20Mi"})]
        much = [unit("p1"), world.pod("x", "c1", requests={"cpu": "3", "memory": "20Mi"})]
        one, two, three = (said(mended(), pods=it).digest for it in (few, more, much))
        assert one == two != three

    def test_a_pod_asks_for_what_the_scheduler_reckons_with(self):
        spec = {
            "initContainers": [
                {"resources": {"requests": {"cpu": "100m"}}, "restartPolicy": "Always"},
                {"resources": {"requests": {"cpu": "4", "memory": "1Gi"}}},
            ],
            "overhead": {"memory": "10Mi"},
        }
        asked = pod(world.pod("x", None, spec, requests={"cpu": "1", "memory": "2Gi"})).requests
        assert asked == observed.Amount(4100, 2 * 2**30 + 10 * 2**20, 0)
        whole = {**spec, "resources": {"requests": {"cpu": "5"}}}
        asked = pod(world.pod("x", None, whole, requests={"cpu": "1", "memory": "2Gi"})).requests
        assert asked.cpu == 5000

    def test_metrics_are_lines_of_prometheus(self):
        verdict = said(mended(), pods=[unit("c1")])
        calls, counts = {("patch", 200): 3, ("watch", 200): 5}, {"mends_total": 2}
        text = metrics.text(verdict, calls, counts)
        for line in (
            'node_pools_pool_nodes{pool="platform"} 1',
            'node_pools_pool_free_cpu_cores{pool="compute"} 7',
            'node_pools_application_replicas{application="redis"} 1',
            'node_pools_application_placed{application="redis"} 0',
            "node_pools_misplaced_pods 1",
            'node_pools_troubles{level="blocked"} 1',
            'node_pools_api_calls_total{verb="patch",code="200"} 3',
            "node_pools_mends_total 2",
            "# TYPE node_pools_mends_total counter",
        ):
            assert line in text.splitlines()
        assert metrics.text(None, {}, {}).startswith("# HELP node_pools_pool_nodes ")


def drained(*pods, nodes):
    return drains.drain(cluster(pods=pods, nodes=nodes), "p1")


class TestDrain:
    def test_pods_go_where_there_is_room(self):
        big = {"cpu": "6", "memory": "1Gi"}
        nodes = [world.node(it, "platform") for it in ("p1", "p2", "p3")]
        spec = {**world.asks("platform"), "tolerations": [world.PLATFORM]}
        pods = [world.pod(it, "p1", spec, requests=big) for it in ("a", "b", "c")]
        found = drained(*pods, nodes=nodes)
        assert found.message == "1 of 3 pods would not fit elsewhere: c"
        assert {it.name: it.to for it in found.moves} == {"a": "p2", "b": "p3", "c": None}
        assert found.moves[0].reason == (
            "asks for 6 CPU, 1024Mi; the emptiest of 2 has 2 CPU, 31744Mi"
        )

    def test_pods_of_daemonsets_and_ended_ones_stay_behind(self):
        nodes = [world.node("p1", "platform"), world.node("c1", "compute")]
        pods = [
            world.pod("a", "p1", owner="DaemonSet logs"),
            world.pod("b", "p1", phase="Succeeded"),
            world.pod("c", "p1"),
        ]
        found = drained(*pods, nodes=nodes)
        assert [(it.name, it.to) for it in found.moves] == [("c", "c1")]
        assert found.message == "1 of 1 pods fit elsewhere"

    @pytest.mark.parametrize(
        "other",
        [
            world.node("x", "compute"),
            world.node("x", "platform", ready=False),
            world.node("x", "platform", cordoned=True),
            world.node("x", "platform", taints=[{"key": "maintenance", "effect": "NoExecute"}]),
        ],
    )
    def test_a_pod_goes_to_no_node_that_does_not_take_it(self, other):
        spec = {**world.asks("platform"), "tolerations": [world.PLATFORM]}
        found = drained(world.pod("a", "p1", spec), nodes=[world.node("p1", "platform"), other])
        assert found.moves == (drains.Move(world.NAMESPACE, "a", None, "no other node takes it"),)

    def test_a_toleration_of_everything_is_one_of_each_taint(self):
        spec = {"tolerations": [{"operator": "Exists"}]}
        nodes = [world.node("p1", "platform"), world.node("s1", "storage")]
        assert drained(world.pod("a", "p1", spec), nodes=nodes).moves[0].to == "s1"

    def test_a_node_that_is_not_there_has_no_answer(self):
        assert drains.drain(cluster(), "nowhere") is None
