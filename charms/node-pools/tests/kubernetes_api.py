"""Kubernetes' API in memory: what the watcher asks of it, and who else writes.

The StatefulSets' controller does what Kubernetes 1.34's does (pkg/controller/statefulset), and as
that one reads StatefulSets and pods from two streams, each of which may be late.
"""

import asyncio
import bisect
import hashlib
import json
import random
import re
import selectors
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx2

_PATH = re.compile(
    r"/(?:api/v1|apis/[^/]+/v1)(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_REVISION = "controller-revision-hash"
Key = tuple[str, str]
"""Plural and name; all that has a namespace is in the one of the tests."""


class Timeless(asyncio.SelectorEventLoop):
    """An event loop in which nobody waits: a turn takes 0.1 ms, and time jumps to what is next."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the seconds since the loop began."""
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: Timeless) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        self._loop.now += max(timeout or 0, 0.0001)
        return super().select(0)


class Refusal(Exception):  # noqa: N818 - what a client gets
    """An answer that is none."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api(httpx2.AsyncBaseTransport):
    """The API server.

    Attributes:
        calls: Each request but watches: method, plural and name.
        refuses: Returns the code with which a request is refused, 0 for none; may raise.
        hurry: How many turns of the loop a request takes at most.
    """

    def __init__(self, seed: int = 0) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.log: dict[str, list[tuple[int, str, dict[str, Any]]]] = {}
        self.oldest = 0
        self.version = 100
        self.calls: list[tuple[str, str, str]] = []
        self.watches = 0
        self.refuses: Callable[[str, str], int] = lambda method, plural: 0
        self.broken = False
        self.random = random.Random(seed)
        self.slowness = 0
        self._news = asyncio.Event()

    # What those write who do not come by HTTP.

    def put(self, plural: str, it: Mapping[str, Any]) -> dict[str, Any]:
        """Have an object, new or changed."""
        key = plural, it["metadata"]["name"]
        before = self.objects.get(key)
        after = _copy(it)
        about = after["metadata"]
        if before is None:
            self.version += 1
            about.setdefault("uid", f"uid-{self.version}")
        elif before.get("spec") != after.get("spec"):
            about["generation"] = before["metadata"].get("generation", 0) + 1
        if before is not None and _same(before, after):
            return before
        self.version += 1
        about["resourceVersion"] = str(self.version)
        self.objects[key] = after
        self._tell("MODIFIED" if before else "ADDED", plural, after)
        return after

    def change(self, plural: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Merge something into an object."""
        return self.put(plural, _merged(self.objects[plural, name], patch))

    def remove(self, plural: str, name: str) -> None:
        """Have an object no more."""
        it = self.objects.pop((plural, name))
        self.version += 1
        last = {**it, "metadata": {**it["metadata"], "resourceVersion": str(self.version)}}
        self._tell("DELETED", plural, last)

    def all(self, plural: str) -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        return [it for (found, _), it in self.objects.items() if found == plural]

    def born(self, it: Mapping[str, Any]) -> int:
        """Return at which version an object came."""
        return int(it["metadata"]["uid"].removeprefix("uid-"))

    def forget(self) -> None:
        """Know no event of the past any more, as after a restart."""
        self.log.clear()
        self.version += 1
        self.oldest = self.version

    def interrupt(self) -> None:
        """Break every connection."""
        self.broken = True
        self._wake()

    def _tell(self, event: str, plural: str, it: dict[str, Any]) -> None:
        self.log.setdefault(plural, []).append((self.version, event, it))
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # HTTP

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request."""
        match = _PATH.fullmatch(request.url.path)
        assert match, request.url.path
        plural, name = match["plural"], match["name"] or ""
        query = request.url.params
        for _ in range(self.random.randint(0, self.slowness)):
            await asyncio.sleep(0)
        if self.broken:
            raise httpx2.ConnectError("connection refused")
        if query.get("watch") == "true":
            self.watches += 1
            stream = _Stream(self._watch(plural, int(query["resourceVersion"])))
            return httpx2.Response(200, stream=stream, request=request)
        self.calls.append((request.method, plural, name))
        try:
            if code := self.refuses(request.method, plural):
                raise Refusal(code, "as the test wants it")
            body = self._answer(request, plural, name)
        except Refusal as error:
            status = {"kind": "Status", "message": str(error), "code": error.code}
            return httpx2.Response(error.code, json=status, request=request)
        # The answer comes later than it is true.
        for _ in range(self.random.randint(0, self.slowness)):
            await asyncio.sleep(0)
        return httpx2.Response(200, json=body, request=request)

    def _answer(self, request: httpx2.Request, plural: str, name: str) -> Any:
        if request.method == "GET":
            wanted = request.url.params.get("labelSelector", "")
            labels = dict(it.split("=") for it in wanted.split(",") if it)
            found = [
                it
                for it in self.all(plural)
                if labels.items() <= it["metadata"].get("labels", {}).items()
            ]
            return {"metadata": {"resourceVersion": str(self.version)}, "items": found}
        before = self.objects.get((plural, name))
        if request.method == "DELETE":
            if before is None:
                raise Refusal(404, f"{plural} {name} not found")
            self.remove(plural, name)
            return {}
        assert request.method == "PATCH"
        patch = json.loads(request.content)
        apply = request.headers["content-type"].startswith("application/apply-patch")
        about = patch["metadata"]
        if before is None:
            if not apply:
                raise Refusal(404, f"{plural} {name} not found")
            if "uid" in about:
                raise Refusal(409, "uid mismatch: there is no such object")
            return self.put(plural, patch)
        for key in ("uid", "resourceVersion"):
            if about.get(key, before["metadata"][key]) != before["metadata"][key]:
                raise Refusal(409, "the object has been modified")
        about.pop("resourceVersion", None)
        if plural == "pods" and "spec" in patch:
            there = before["spec"].get("tolerations", [])
            if patch["spec"]["tolerations"][: len(there)] != there:
                raise Refusal(422, "tolerations may only be added")
        after = _copy(_merged(before, patch))
        if apply:
            _keep_spreading(before, after)
            managers = after["metadata"].setdefault("managedFields", [])
            ours = {"manager": request.url.params["fieldManager"], "operation": "Apply"}
            if ours not in managers:
                managers.append(ours)
        return self.put(plural, after)

    async def _watch(self, plural: str, version: int) -> AsyncIterator[bytes]:
        if version < self.oldest:
            gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
            yield _line("ERROR", gone)
            return
        while True:
            news = self._news
            if self.broken:
                raise httpx2.ReadError("connection reset")
            log = self.log.get(plural, [])
            for at, event, it in log[bisect.bisect(log, version, key=lambda it: it[0]) :]:
                version = at
                for _ in range(self.random.randint(0, self.slowness)):
                    await asyncio.sleep(0)
                yield _line(event, it)
            if news is self._news:
                await news.wait()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for it in self._lines:
            yield it


def _line(event: str, it: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": event, "object": it}).encode() + b"\n"


def _copy(it: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(it))


def _merged(before: Any, patch: Any) -> Any:
    """Return a JSON merge patch's result, which shares what did not change."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(before) if isinstance(before, Mapping) else {}
    for key, it in patch.items():
        if it is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), it)
    return result


def _keep_spreading(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Merge by topology key what others wrote, as server-side apply does."""
    if before["kind"] == "StatefulSet":
        spec = after["spec"]["template"]["spec"]
        said = spec.get("topologySpreadConstraints", [])
        theirs = before["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        keys = {it["topologyKey"] for it in said}
        merged = [*(it for it in theirs if it["topologyKey"] not in keys), *said]
        if merged:
            spec["topologySpreadConstraints"] = merged


def _same(before: dict[str, Any], after: dict[str, Any]) -> bool:
    def plain(it: dict[str, Any]) -> dict[str, Any]:
        about = {key: value for key, value in it["metadata"].items() if key != "resourceVersion"}
        return {**it, "metadata": about}

    return plain(before) == plain(after)


class StatefulSets:
    """The controller of StatefulSets, with the scheduler, the kubelets and the garbage collector.

    Attributes:
        rolled: Each pod that was replaced for another template, and that template's revision. Not
            those that it deletes as it knows an older pod by their name, as Kubernetes' does too.
    """

    def __init__(self, api: Api) -> None:
        self.rolled: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._api = api
        self._sets: dict[str, dict[str, Any]] = {}
        self._pods: dict[str, dict[str, Any]] = {}
        self._heard = {"statefulsets": 0, "pods": 0}

    def hear(self, plural: str) -> bool:
        """Hear one more event of a stream; return whether there was one."""
        cache = self._sets if plural == "statefulsets" else self._pods
        log = self._api.log.get(plural, [])
        if self._heard[plural] == len(log):
            return False
        _, event, it = log[self._heard[plural]]
        self._heard[plural] += 1
        cache.pop(it["metadata"]["name"], None)
        if event != "DELETED":
            cache[it["metadata"]["name"]] = it
        return True

    def settle(self) -> bool:
        """Do all there is to do; return whether there was anything."""
        before = self._api.version
        while self.hear("statefulsets") or self.hear("pods"):
            pass
        for name in tuple(self._sets):
            self.sync(name)
        self.schedule()
        self.run()
        self.collect()
        return self._api.version != before

    def schedule(self) -> None:
        """Bind each pod that waits and has tolerations; only such nodes are there."""
        for it in self._api.all("pods"):
            if "nodeName" not in it["spec"] and it["spec"].get("tolerations"):
                self._api.change("pods", it["metadata"]["name"], {"spec": {"nodeName": "p1"}})

    def run(self) -> None:
        """Start what is bound, and end what leaves."""
        for it in self._api.all("pods"):
            name = it["metadata"]["name"]
            if "deletionTimestamp" in it["metadata"]:
                self._api.remove("pods", name)
            elif it["spec"].get("nodeName") and it["status"]["phase"] != "Running":
                self._api.change("pods", name, {"status": {"phase": "Running"}})

    def collect(self) -> None:
        """Remove what belongs to nobody any more."""
        alive = {it["metadata"]["uid"] for it in self._api.all("statefulsets")}
        for plural in ("pods", "controllerrevisions", "poddisruptionbudgets"):
            for it in self._api.all(plural):
                owners = it["metadata"].get("ownerReferences", [])
                if owners and not alive & {owner["uid"] for owner in owners}:
                    self._api.remove(plural, it["metadata"]["name"])

    def sync(self, name: str) -> None:
        """Make the pods of a StatefulSet what it says, as far as this has heard of both."""
        it = self._sets.get(name)
        live = self._api.objects.get(("statefulsets", name))
        if it is None or live is None or live["metadata"]["uid"] != it["metadata"]["uid"]:
            return
        identity, spec = it["metadata"]["uid"], it["spec"]
        pods = {
            pod["metadata"]["name"]: pod
            for pod in self._pods.values()
            if pod["metadata"]["ownerReferences"][0]["uid"] == identity
        }
        update = self._revision(it)
        known = {
            found["metadata"]["name"]: found for found in self._api.all("controllerrevisions")
        }
        current = known.get(it["status"].get("currentRevision", ""), update)
        counts = self._counts(pods.values(), current, update)
        partition = spec["updateStrategy"]["rollingUpdate"].get("partition", 0)
        names = [f"{name}-{number}" for number in range(spec["replicas"])]
        for number, wanted in enumerate(names):
            if wanted not in pods:
                self._create(it, wanted, current if number < partition else update)
        for extra in sorted(pods.keys() - set(names)):
            self._delete(extra)
        self._roll([pods.get(wanted) for wanted in names], partition, update)
        if counts["updatedReplicas"] == counts["readyReplicas"] == spec["replicas"]:
            current = update
            counts["currentReplicas"] = counts["updatedReplicas"]
        status = {
            **counts,
            "observedGeneration": it["metadata"].get("generation", 0),
            "currentRevision": current["metadata"]["name"],
            "updateRevision": update["metadata"]["name"],
        }
        self._api.change("statefulsets", name, {"status": status})

    def _roll(
        self, pods: list[dict[str, Any] | None], partition: int, update: dict[str, Any]
    ) -> None:
        for number in reversed(range(partition, len(pods))):
            it = pods[number]
            if it is None:
                return
            about = it["metadata"]
            leaving = "deletionTimestamp" in about
            if about["labels"][_REVISION] != update["metadata"]["name"] and not leaving:
                live = self._api.objects.get(("pods", about["name"]))
                if live and live["metadata"]["uid"] == about["uid"]:
                    self.rolled.append((live, update))
                self._delete(about["name"])
                return
            if leaving or it["status"]["phase"] != "Running":
                return

    def _counts(self, pods: Any, current: Any, update: Any) -> dict[str, int]:
        def of(revision: dict[str, Any]) -> int:
            return sum(
                it["metadata"]["labels"][_REVISION] == revision["metadata"]["name"]
                and "deletionTimestamp" not in it["metadata"]
                for it in pods
            )

        return {
            "replicas": len(pods),
            "readyReplicas": sum(it["status"]["phase"] == "Running" for it in pods),
            "currentReplicas": of(current),
            "updatedReplicas": of(update),
        }

    def _revision(self, it: dict[str, Any]) -> dict[str, Any]:
        about = it["metadata"]
        data = {"spec": {"template": {**it["spec"]["template"], "$patch": "replace"}}}
        said = json.dumps([about["uid"], data], sort_keys=True).encode()
        name = f"{about['name']}-{hashlib.sha256(said).hexdigest()[:8]}"
        found = self._api.objects.get(("controllerrevisions", name))
        return found or self._api.put(
            "controllerrevisions",
            {
                "metadata": {
                    "name": name,
                    "namespace": about["namespace"],
                    "labels": it["spec"]["template"]["metadata"]["labels"],
                    "ownerReferences": [_owner(it)],
                },
                "data": data,
            },
        )

    def _create(self, it: dict[str, Any], name: str, revision: dict[str, Any]) -> None:
        if ("pods", name) in self._api.objects:
            return
        template = revision["data"]["spec"]["template"]
        labels = {**template["metadata"]["labels"], _REVISION: revision["metadata"]["name"]}
        self._api.put(
            "pods",
            {
                "metadata": {
                    "name": name,
                    "namespace": it["metadata"]["namespace"],
                    "labels": labels,
                    "ownerReferences": [_owner(it)],
                },
                "spec": template["spec"],
                "status": {"phase": "Pending", "madeFrom": template["spec"]["containers"]},
            },
        )

    def _delete(self, name: str) -> None:
        it = self._api.objects.get(("pods", name))
        if it and it["spec"].get("nodeName"):
            self._api.change("pods", name, {"metadata": {"deletionTimestamp": "now"}})
        elif it:
            self._api.remove("pods", name)


def _owner(it: dict[str, Any]) -> dict[str, Any]:
    about = it["metadata"]
    return {
        "kind": "StatefulSet",
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
    }
