"""A Kubernetes API in memory: as much of it as charms use, with the rules that they rely on."""

import contextlib
import copy
import datetime
import http.server
import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import lightkube
from lightkube.config.models import Cluster as Server
from lightkube.config.models import User

Key = tuple[str, str, str, str]
"""API version, namespace ("" for what is in none), plural and name of an object."""

_PATH = re.compile(
    r"/(?:api|apis(?=/[^/]+/v))/(?P<version>(?:[^/]+/)?v[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>\w+)(?:/(?P<name>[^/]+))?"
)
_REASONS = {403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed", 409: "Conflict"}


class Refusal(Exception):  # noqa: N818 - what a client gets
    """An answer that is none."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Cluster:
    """What the API server has, and how it answers.

    Attributes:
        calls: Every request, as its method and path.
        refuses: The code with which everything is refused; 0 for nothing is.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.refuses = 0
        self._applied: dict[Key, dict[str, Any]] = {}
        self._version = 0

    def deployed(
        self, model: str, application: str, images: Mapping[str, str], units: int
    ) -> None:
        """Have what Juju makes for an application: its ClusterRole, and a pod for each unit."""
        role = {"kind": "ClusterRole", "metadata": {"name": f"{model}-{application}"}, "rules": []}
        self._add(("rbac.authorization.k8s.io/v1", "", "clusterroles"), role)
        containers = [{"name": name, "image": image} for name, image in images.items()]
        for number in range(units):
            meta = {"name": f"{application}-{number}", "namespace": model}
            pod = {"kind": "Pod", "metadata": meta, "spec": {"containers": containers}}
            self._add(("v1", model, "pods"), pod)

    def add_node(self, name: str, labels: Mapping[str, str], *taints: Mapping[str, str]) -> None:
        """Have a node."""
        meta = {"name": name, "labels": dict(labels)}
        node = {"kind": "Node", "metadata": meta, "spec": {"taints": list(taints)}}
        self._add(("v1", "", "nodes"), node)

    def removed(self, model: str, application: str) -> None:
        """Have Juju remove an application; with what it owned goes what belonged to that."""
        version = "rbac.authorization.k8s.io/v1"
        self._delete((version, "", "clusterroles", f"{model}-{application}"))

    def find(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return an object by its kind and name."""
        found = (it for it in self.objects.values() if it["kind"] == kind)
        return next((it for it in found if it["metadata"]["name"] == name), None)

    @property
    def applied(self) -> dict[str, dict[str, Any]]:
        """Return what was made by server-side apply, by kind and name."""
        found = (self.objects[key] for key in self._applied)
        return {f"{it['kind']} {it['metadata']['name']}": it for it in found}

    def answer(
        self, method: str, target: str, kind: str | None, body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Return the code and the object that a request gets; `kind` is its Content-Type."""
        url = urllib.parse.urlsplit(target)
        self.calls.append(f"{method} {url.path}")
        try:
            if self.refuses:
                raise Refusal(self.refuses, "as the test wants it")
            query = dict(urllib.parse.parse_qsl(url.query))
            said = json.loads(body) if body else None
            return self._answer(method, url.path, query, kind or "", said)
        except Refusal as refusal:
            status = {"kind": "Status", "status": "Failure", "message": str(refusal)}
            reason = _REASONS.get(refusal.code, "InternalError")
            return refusal.code, {**status, "code": refusal.code, "reason": reason}

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], kind: str, said: Any
    ) -> tuple[int, dict[str, Any]]:
        match = _PATH.fullmatch(path)
        if not match:
            raise Refusal(404, f"{path}: no such path")
        version, namespace, plural, name = match.group("version", "namespace", "plural", "name")
        where = version, namespace or "", plural
        if method == "GET" and name is None:
            return 200, self._list(where, query.get("labelSelector", ""))
        if method == "POST" and name is None:
            key = (*where, said["metadata"]["name"])
            if key in self.objects:
                raise Refusal(409, f"{plural} {key[-1]} already exists")
            return 201, self._write(key, said)
        key = (*where, name)
        if method == "PATCH" and kind.startswith("application/apply-patch"):
            if "fieldManager" not in query:
                raise Refusal(400, "fieldManager is required")
            return 200, self._apply(key, query["fieldManager"], said)
        if key not in self.objects:
            raise Refusal(404, f'{plural} "{name}" not found')
        if method == "PATCH":
            return 200, self._write(key, _merged(self.objects[key], said))
        if method == "DELETE":
            self._delete(key)
            return 200, {"kind": "Status", "status": "Success"}
        if method == "GET":
            return 200, self.objects[key]
        raise Refusal(405, f"{method} {path}")

    def _list(self, where: tuple[str, str, str], selector: str) -> dict[str, Any]:
        version, namespace, plural = where
        found = [
            {part: value for part, value in it.items() if part not in ("apiVersion", "kind")}
            for key, it in sorted(self.objects.items())
            if (key[0], key[2]) == (version, plural)
            and namespace in ("", key[1])
            and _selects(selector, it["metadata"].get("labels", {}))
        ]
        meta = {"resourceVersion": str(self._version)}
        return {"kind": "List", "apiVersion": version, "metadata": meta, "items": found}

    def _apply(self, key: Key, manager: str, said: dict[str, Any]) -> dict[str, Any]:
        """Write what a manager says, without what it said before and does not say any more."""
        old = self.objects.get(key, {})
        mine = self._applied.setdefault(key, {})
        kept = _without(old, mine.get(manager, {}), said)
        mine[manager] = said
        return self._write(key, _merged(kept, said))

    def _add(self, where: tuple[str, str, str], it: dict[str, Any]) -> None:
        key = (*where, it["metadata"]["name"])
        if key not in self.objects:
            self._write(key, {"apiVersion": where[0], **it})

    def _write(self, key: Key, wanted: dict[str, Any]) -> dict[str, Any]:
        old, new = self.objects.get(key), copy.deepcopy(wanted)
        meta = new.setdefault("metadata", {})
        if old is not None:
            if meta.get("resourceVersion", "") not in ("", old["metadata"]["resourceVersion"]):
                raise Refusal(409, f"{key[2]} {key[3]}: the object has been modified")
            meta["resourceVersion"] = old["metadata"]["resourceVersion"]
            if new == old:
                return old
        else:
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            meta |= {"name": key[3], "uid": str(uuid.uuid4()), "creationTimestamp": now}
            meta |= {"namespace": key[1]} if key[1] else {}
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self.objects[key] = new
        return new

    def _delete(self, key: Key) -> None:
        gone = self.objects.pop(key)
        self._applied.pop(key, None)
        for other, it in list(self.objects.items()):
            owners = {owner["uid"] for owner in it["metadata"].get("ownerReferences", [])}
            if other in self.objects and gone["metadata"]["uid"] in owners:
                self._delete(other)


def _merged(old: Any, new: Any) -> Any:
    """Return a value with another laid over it. Source: RFC 7386, JSON Merge Patch."""
    if not isinstance(new, dict):
        return new
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _without(now: Any, before: Any, said: Any) -> Any:
    """Return a value without what was said before and is not said again."""
    if not (isinstance(now, dict) and isinstance(before, dict) and isinstance(said, dict)):
        return now
    return {
        key: _without(value, before.get(key, {}), said.get(key, {}))
        for key, value in now.items()
        if key not in before or key in said
    }


def _selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Return whether a label selector, its equalities and existences alone, selects labels."""
    for word in filter(None, selector.split(",")):
        key, equals, value = word.partition("=")
        if key.endswith("!"):
            fits = labels.get(key[:-1]) != value
        elif key.startswith("!"):
            fits = key[1:] not in labels
        else:
            fits = labels.get(key) == value.lstrip("=") if equals else key in labels
        if not fits:
            return False
    return True


@contextlib.contextmanager
def reached_at(url: str) -> Iterator[None]:
    """Have lightkube find the cluster at a URL, whatever this machine or pod knows of others."""
    # Insecure: else each client reads all of the machine's certificates.
    server = Server(server=url, insecure=True)
    found = lightkube.KubeConfig.from_one(cluster=server, user=User())
    with mock.patch.object(lightkube.KubeConfig, "from_env", return_value=found):
        yield


@contextlib.contextmanager
def serve(cluster: Cluster) -> Iterator[None]:
    """Answer on a port, which lightkube finds, for as long as the context lasts."""
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with reached_at(f"http://127.0.0.1:{server.server_port}"):
            yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    cluster: Cluster

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type")
        code, said = self.cluster.answer(self.command, self.path, kind, body)
        content = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_DELETE = do_GET = do_PATCH = do_POST = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


def shown(it: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object without what differs from one cluster to the next."""
    own = {"creationTimestamp", "ownerReferences", "resourceVersion", "uid"}
    metadata = {key: value for key, value in it["metadata"].items() if key not in own}
    return {**it, "metadata": metadata}
