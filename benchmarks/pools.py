"""How soon applications reach their pools, and what that costs Kubernetes' API.

On a running cluster with kwok (the sandbox's, or the one that KUBECONFIG names): nodes that are
objects alone, in five pools, and StatefulSets as Juju writes them, all made at once. First all of
them on the pool without a taint and without the watcher, which is what the cluster does by itself;
then on all pools, with the watcher as a process of this machine under a service account with the
rights that the charm gives it. What it makes is removed, and what a run that was killed has left.

It fails when a pod stands outside of its pool, an application does not get there, a running pod is
made a second time, or the watcher calls the API in steady state.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import lightkube
import yaml
from lightkube import AsyncClient, KubeConfig, codecs
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import StatefulSet
from lightkube.resources.core_v1 import Namespace, Node, Pod, ServiceAccountToken
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding
from rich.console import Console
from rich.table import Table

from sandbox import cluster

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "charms/node-pools/src"
Client = Any  # an AsyncClient; of every field of an answer its types say that it may be None
POOLS = ("platform", "compute", "deployment", "storage", "gpu")
OPEN = "compute"
LABEL, KEY = "katonic.ai/benchmark", "benchmark.katonic.ai/pool"
LONGEST = 600
"""Seconds after which an application that is not on its pool counts as lost."""

RIGHTS = """
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: watcher, namespace: NAME}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: NAME, labels: {katonic.ai/benchmark: pools}}
  rules: [{apiGroups: [""], resources: [nodes, pods], verbs: [get, list, watch]}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: NAME, labels: {katonic.ai/benchmark: pools}}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NAME}
  subjects: [{kind: ServiceAccount, name: watcher, namespace: NAME}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {name: watcher, namespace: NAME}
  rules:
  - {apiGroups: [""], resources: [pods], verbs: [patch]}
  - {apiGroups: [apps], resources: [deployments, statefulsets], verbs: [get, list, watch, patch]}
  - {apiGroups: [apps], resources: [controllerrevisions], verbs: [get, list]}
  - apiGroups: [policy]
    resources: [poddisruptionbudgets]
    verbs: [get, list, watch, create, patch, delete]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {name: watcher, namespace: NAME}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: watcher}
  subjects: [{kind: ServiceAccount, name: watcher, namespace: NAME}]
"""


@dataclass
class Application:
    """A StatefulSet and when what happened to it was seen, in seconds of a clock."""

    pool: str
    created: float = 0
    mended: float = 0
    pods: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    restarted: int = 0

    @property
    def first(self) -> float:
        """Return the seconds from its creation to its first pod on a node."""
        return min(self.pods.values()) - self.created

    @property
    def last(self) -> float:
        """Return the seconds from its creation to its last pod on a node."""
        return max(self.pods.values()) - self.created


@dataclass(frozen=True)
class Result:
    """What was seen of one run."""

    plain: Mapping[str, Application]
    placed: Mapping[str, Application]
    lost: Sequence[str]
    misplaced: int
    calls: Mapping[str, float]
    steady: Mapping[str, float]
    cpu: float
    memory: int


class Watched:
    """The StatefulSets of a namespace as a watch shows them."""

    def __init__(self, namespace: str, applications: Mapping[str, Application], pods: int) -> None:
        self.namespace = namespace
        self.applications = applications
        self._pods = pods

    async def follow(self, client: Client) -> None:
        """See what happens, for ever."""
        await asyncio.gather(self._templates(client), self._places(client))

    async def settled(self, mended: bool) -> Sequence[str]:
        """Return those that are not there when all others are, or after a long while."""
        end = time.monotonic() + LONGEST
        while (left := self._missing(mended)) and time.monotonic() < end:
            await asyncio.sleep(0.2)
        return left

    def _missing(self, mended: bool) -> Sequence[str]:
        return [
            name
            for name, it in self.applications.items()
            if len(it.pods) < self._pods or (mended and not it.mended)
        ]

    async def _templates(self, client: Client) -> None:
        async for _, it in client.watch(StatefulSet, namespace=self.namespace):
            found = self.applications[it.metadata.name]
            spec = it.spec.template.spec
            said = spec.topologySpreadConstraints if found.pool == OPEN else spec.tolerations
            if said and not found.mended:
                found.mended = time.monotonic()

    async def _places(self, client: Client) -> None:
        async for event, it in client.watch(Pod, namespace=self.namespace):
            name, about = it.metadata.name, it.metadata
            found = self.applications[name.rpartition("-")[0]]
            if it.spec.nodeName and name not in found.pods:
                found.pods[name] = time.monotonic()
            if it.spec.nodeName:
                found.nodes[name] = it.spec.nodeName
            if event == "DELETED":
                found.restarted += about.uid in found.running
            elif it.status.phase == "Running":
                found.running.add(about.uid)


def node(name: str, pool: str) -> Any:
    """Return a node for kwok."""
    resources = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    taint = {"key": KEY, "value": pool, "effect": "NoSchedule"}
    return codecs.from_dict(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {
                    LABEL: "pools",
                    KEY: pool,
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                },
            },
            "spec": {"taints": [] if pool == OPEN else [taint]},
            "status": {"allocatable": resources, "capacity": resources},
        }
    )


def statefulset(name: str, pool: str, pods: int) -> Any:
    """Return a StatefulSet as Juju writes it for the constraint `tags=KEY=POOL`."""
    labels = {"app.kubernetes.io/name": name}
    asked = {"key": KEY, "operator": "In", "values": [pool]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [asked]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    containers = [
        {"name": "charm", "image": "fake", "resources": {"requests": {"memory": "64Mi"}}},
        {"name": "workload", "image": "fake", "resources": {"requests": {"memory": "256Mi"}}},
    ]
    return codecs.from_dict(
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {
                "name": name,
                "labels": {**labels, "app.kubernetes.io/managed-by": "juju"},
            },
            "spec": {
                "replicas": pods,
                "serviceName": f"{name}-endpoints",
                "podManagementPolicy": "Parallel",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "affinity": affinity,
                        "nodeSelector": {"kubernetes.io/arch": "amd64"},
                        "terminationGracePeriodSeconds": 30,
                        "containers": containers,
                    },
                },
            },
        }
    )


def options() -> str:
    """Return the watcher's pools, as its file has them."""
    taints = {it: {"key": KEY, "value": it, "effect": "NoSchedule"} for it in POOLS if it != OPEN}
    return json.dumps(
        [
            {
                "name": it,
                "key": KEY,
                "value": it,
                **({"taint": taints[it]} if it in taints else {}),
            }
            for it in POOLS
        ]
    )


async def together(works: Iterable[Awaitable[Any]], at_once: int = 16) -> None:
    """Do all of it, some at a time."""
    turn = asyncio.Semaphore(at_once)

    async def do(work: Awaitable[Any]) -> None:
        async with turn:
            await work

    async with asyncio.TaskGroup() as group:
        for it in works:
            group.create_task(do(it))


async def burst(client: Client, watched: Watched, pods: int) -> None:
    """Make all the StatefulSets, as fast as they are taken."""

    async def create(name: str, it: Application) -> None:
        it.created = time.monotonic()
        await client.create(statefulset(name, it.pool, pods), namespace=watched.namespace)

    await together(create(name, it) for name, it in watched.applications.items())


async def gone(client: Client, resource: Any, name: str) -> None:
    """Delete something, and return when it is not there any more."""
    with contextlib.suppress(lightkube.ApiError):
        await client.delete(resource, name)
        while True:
            await client.get(resource, name)
            await asyncio.sleep(0.5)


async def remove_all(client: Client) -> None:
    """Remove whatever a benchmark has made, this one or one before it."""
    namespaces = [it.metadata.name async for it in client.list(Namespace, labels={LABEL: "pools"})]
    await together(gone(client, Namespace, it) for it in namespaces)
    for resource in (ClusterRoleBinding, ClusterRole, Node):
        names = [it.metadata.name async for it in client.list(resource, labels={LABEL: "pools"})]
        await together(gone(client, resource, it) for it in names)


@contextlib.asynccontextmanager
async def stage(client: Client, name: str, nodes: int) -> AsyncIterator[None]:
    """Have nodes that are ready, and namespaces, for as long as the context lasts."""
    await remove_all(client)
    try:
        pools = [POOLS[number % len(POOLS)] for number in range(nodes)]
        names = [f"{name}-{number}" for number in range(nodes)]
        await together(
            client.create(node(it, pool)) for it, pool in zip(names, pools, strict=True)
        )
        for it in (name, f"{name}-plain"):
            about = {"name": it, "labels": {LABEL: "pools"}}
            await client.create(Namespace.from_dict({"metadata": about}))
        await ready(client, nodes)
        yield
    finally:
        await remove_all(client)


async def ready(client: Client, nodes: int) -> None:
    """Return when kwok says of all nodes that they live."""
    live = 0
    for _ in range(120):
        live = 0
        async for it in client.list(Node, labels={LABEL: "pools"}):
            barred = any("not-ready" in taint.key for taint in it.spec.taints or ())
            conditions = {one.type: one.status for one in it.status.conditions or ()}
            live += conditions.get("Ready") == "True" and not barred
        if live == nodes:
            return
        await asyncio.sleep(1)
    raise RuntimeError(f"{live} of {nodes} nodes are ready: kwok does not run in the cluster")


class Watcher:
    """The watcher, as a process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    async def calls(self) -> collections.Counter[str]:
        """Return how many requests it has made, by verb and by answer where that was a refusal."""
        found: collections.Counter[str] = collections.Counter()
        for line in (await self._client.get("/metrics")).text.splitlines():
            if line.startswith("node_pools_api_calls_total{"):
                labels, _, value = line.partition("} ")
                verb, code = (it.split('"')[1] for it in labels.split(","))
                found[verb if code[0] == "2" else f"{verb} {code}"] += int(float(value))
        return found

    async def message(self) -> str:
        """Return what it says, "" while it does not answer."""
        with contextlib.suppress(httpx2.HTTPError):
            answer = await self._client.get("/verdict")
            if answer.status_code == 200:
                return answer.json()["message"]
        if self._process.poll() is not None:
            raise RuntimeError("the watcher has ended")
        return ""

    async def until(self, message: str) -> bool:
        """Return whether it comes to say this."""
        for _ in range(LONGEST):
            if await self.message() == message:
                return True
            await asyncio.sleep(1)
        return False

    def cost(self) -> tuple[float, int]:
        """Return the CPU seconds and the most bytes of memory that it has used."""
        proc = Path(f"/proc/{self._process.pid}")
        user, system = (proc / "stat").read_text().rpartition(")")[2].split()[11:13]
        status = dict(
            line.split(":", 1)
            for line in (proc / "status").read_text().splitlines()
            if ":" in line
        )
        ticks = os.sysconf("SC_CLK_TCK")
        return (int(user) + int(system)) / ticks, int(status["VmHWM"].split()[0]) * 1024


@contextlib.asynccontextmanager
async def watcher(client: Client, name: str, kubeconfig: Path) -> AsyncIterator[Watcher]:
    """Run the watcher with a token of its own service account."""
    for it in yaml.safe_load(RIGHTS.replace("NAME", name)):
        await client.apply(codecs.from_dict(it), field_manager="benchmark")
    request = ServiceAccountToken(
        metadata=ObjectMeta(), spec=TokenRequestSpec(audiences=[], expirationSeconds=7200)
    )
    token = await client.create(request, "watcher", namespace=name)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        said = yaml.safe_load(kubeconfig.read_text())
        context = next(it for it in said["contexts"] if it["name"] == said["current-context"])
        context["context"]["user"] = "watcher"
        said["users"] = [{"name": "watcher", "user": {"token": token.status.token}}]
        own, pools = Path(folder) / "kubeconfig", Path(folder) / "pools.json"
        own.touch(0o600)
        own.write_text(json.dumps(said))
        pools.write_text(options())
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "controller", "watch", "--pools", pools]
        environment = {**os.environ, "KUBECONFIG": str(own), "PYTHONPATH": str(SOURCE)}
        with (
            (Path(folder) / "log").open("wb") as log,
            subprocess.Popen(
                [*command, "--namespace", name, "--listen", str(port)],
                env=environment,
                stderr=log,
            ) as process,
        ):
            try:
                yield Watcher(process, port)
            finally:
                process.terminate()


async def misplaced(client: Client, watched: Watched) -> int:
    """Return how many pods stand on a node of another pool than their application's."""
    pools = {
        it.metadata.name: (it.metadata.labels or {}).get(KEY) async for it in client.list(Node)
    }
    apart = 0
    async for it in client.list(Pod, namespace=watched.namespace):
        wanted = watched.applications[it.metadata.name.rpartition("-")[0]].pool
        apart += pools.get(it.spec.nodeName) != wanted
    return apart


async def measure(given: argparse.Namespace, kubeconfig: Path) -> Result:
    """Return what was seen."""
    config = KubeConfig.from_file(kubeconfig).get()
    name = f"benchmark-{secrets.token_hex(3)}"
    names = [f"app{number}" for number in range(given.applications)]
    plain = Watched(f"{name}-plain", {it: Application(OPEN) for it in names}, given.pods)
    mixed = {it: Application(POOLS[n % len(POOLS)]) for n, it in enumerate(names)}
    placed = Watched(name, mixed, given.pods)
    timeout = httpx2.Timeout(60)
    async with AsyncClient(config, timeout=timeout) as client, stage(client, name, given.nodes):
        tell("the cluster by itself")
        async with following(client, plain):
            await burst(client, plain, given.pods)
            lost = list(await plain.settled(mended=False))
        await gone(client, Namespace, plain.namespace)
        tell("with the watcher")
        async with watcher(client, name, kubeconfig) as it, following(client, placed):
            await it.until("0 of 0 applications on their pool")
            before = await it.calls()
            await burst(client, placed, given.pods)
            lost += await placed.settled(mended=True)
            count = given.applications
            if not await it.until(f"{count} of {count} applications on their pool"):
                lost.append(f"the watcher says: {await it.message()}")
            after = await it.calls()
            apart = await misplaced(client, placed)
            tell(f"steady for {given.seconds} s")
            await asyncio.sleep(given.seconds)
            steady = await it.calls()
            cpu, memory = it.cost()
        tell("cleaning up")
    return Result(
        plain.applications,
        placed.applications,
        lost,
        apart,
        after - before,
        steady - after,
        cpu,
        memory,
    )


@contextlib.asynccontextmanager
async def following(client: Client, watched: Watched) -> AsyncIterator[None]:
    """Follow a namespace for as long as the context lasts."""
    task = asyncio.create_task(watched.follow(client))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def tell(word: str) -> None:
    """Say on stderr what is being done."""
    print(word, file=sys.stderr)


def percentile(values: Sequence[float], hundredth: int) -> float:
    """Return the value that so many of a hundred do not exceed."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * hundredth // 100) - 1, 0)]


def faults(seen: Result) -> list[str]:
    """Return what must not be, in words."""
    found = [f"not there: {it}" for it in seen.lost]
    if seen.misplaced:
        found.append(f"{seen.misplaced} pods outside of their pool")
    if restarted := sum(it.restarted for it in seen.placed.values()):
        found.append(f"{restarted} running pods were made a second time")
    if beyond := {verb: it for verb, it in seen.steady.items() if verb != "watch"}:
        found.append(f"calls in steady state: {beyond}")
    return found


def figures(seen: Result, seconds: int) -> dict[str, Any]:
    """Return what is told."""

    def times(values: Iterable[float]) -> dict[str, float]:
        every = list(values)
        return {"p50": round(statistics.median(every), 2), "p99": round(percentile(every, 99), 2)}

    plain, placed = seen.plain.values(), seen.placed.values()
    told = times(it.mended - it.created for it in placed)
    first, last = times(it.first for it in plain), times(it.last for it in placed)
    count = len(seen.placed)
    beyond = {verb: it for verb, it in seen.calls.items() if verb != "watch"}
    return {
        "misplaced pods": seen.misplaced,
        "running pods made a second time": sum(it.restarted for it in placed),
        "seconds to the toleration": told,
        "seconds to the last pod on a node": last,
        "plain: seconds to the first pod on a node": first,
        "plain: seconds to the last pod on a node": times(it.last for it in plain),
        "p99 to the toleration, of plain p50 to the first pod": round(
            told["p99"] / first["p50"], 2
        ),
        "p99 to the last pod, of plain p99": round(
            last["p99"] / percentile([it.last for it in plain], 99), 2
        ),
        "API calls for each application": round(sum(beyond.values()) / count, 2),
        "of these": {verb: round(it / count, 2) for verb, it in sorted(beyond.items())},
        f"API calls in {seconds} s of steady state": sum(
            it for verb, it in seen.steady.items() if verb != "watch"
        ),
        "watcher: CPU seconds": round(seen.cpu, 1),
        "watcher: MB of memory at most": round(seen.memory / 1e6),
    }


def main() -> int:
    """Measure, tell, and return 1 if something is as it must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--applications", type=int, default=200)
    parser.add_argument("--pods", type=int, default=5, help="of each application")
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60, help="of steady state")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given = parser.parse_args()
    try:
        seen = asyncio.run(measure(given, cluster.start(tell).kubeconfig))
    except (cluster.ClusterError, RuntimeError) as error:
        print(f"benchmarks/pools.py: {error}", file=sys.stderr)
        return 1
    told, wrong = figures(seen, given.seconds), faults(seen)
    if given.format == "json":
        sizes = {it: getattr(given, it) for it in ("applications", "pods", "nodes")}
        print(json.dumps({**sizes, **told, "faults": wrong}))
    else:
        title = f"{given.applications} StatefulSets of {given.pods} pods, {given.nodes} nodes"
        table = Table(title, "", box=None, pad_edge=False)
        for name, it in told.items():
            shown = (
                ", ".join(f"{key} {value}" for key, value in it.items())
                if isinstance(it, dict)
                else str(it)
            )
            table.add_row(name, shown)
        Console().print(table)
        for it in wrong:
            print(f"FAULT {it}")
        if not wrong:
            print("every pod on its pool, none restarted for it, and then silence")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
