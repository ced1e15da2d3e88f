"""Has Kubernetes know the kinds of objects of Istio and of the Gateway API, as the image has them.

They belong to the whole cluster: what others have defined is left as it is, and none is ever
deleted, as with a kind go all objects of it.
"""

import json
import logging
import os
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

VERSION = "katonic.ai/istio"
"""The annotation of what was defined from here; its value is the version of Istio."""
_KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_NAMES_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MANAGER = "katonic-istio-ingress"


class Kubernetes:
    """The API server, as a pod of the cluster reaches it."""

    def __init__(self, url: str = "", account: Path = _ACCOUNT) -> None:
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{it}", "") for it in ("HOST", "PORT"))
        host = f"[{host}]" if ":" in host else host
        self._url, self._account = url or f"https://{host}:{port}", account

    def call(
        self, method: str, path: str, body: Any = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        """Return what Kubernetes answers.

        Raises:
            OSError: It does not answer, or refuses.
        """
        headers = {"Accept": accept}
        if self._url.startswith("https"):
            headers["Authorization"] = f"Bearer {(self._account / 'token').read_text().strip()}"
        if body is not None:
            headers["Content-Type"] = "application/apply-patch+yaml"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}{path}", data, headers, method=method)  # noqa: S310
        trust = None
        if self._url.startswith("https"):
            trust = ssl.create_default_context(cafile=str(self._account / "ca.crt"))
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:  # noqa: S310
            return json.load(answer)


def read(directory: Path) -> list[dict[str, Any]]:
    """Return the definitions of a directory's files, marked with the version of Istio there."""
    import yaml

    version = (directory / "VERSION").read_text().strip()
    found = []
    for file in sorted(directory.glob("*.yaml")):
        for it in yaml.load_all(file.read_text(), yaml.CSafeLoader):
            if it and it["kind"] == "CustomResourceDefinition":
                it["metadata"].setdefault("annotations", {})[VERSION] = version
                it.pop("status", None)
                found.append(it)
    return found


def due(version: str, names: Iterable[str], there: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return those of the names that nobody has defined, or that an older one of us has."""
    known = {it["metadata"]["name"]: it["metadata"].get("annotations", {}) for it in there}
    return {
        name
        for name in names
        if name not in known
        or (VERSION in known[name] and _number(known[name][VERSION]) < _number(version))
    }


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(it) for it in version.split(".") if it.isdigit())


class Keeper:
    """Keeps the kinds of a directory defined.

    Attributes:
        trouble: Why they are not, nothing once they are.
    """

    def __init__(self, directory: Path, kubernetes: Kubernetes | None = None) -> None:
        self._directory = directory
        self._kubernetes = kubernetes or Kubernetes()
        self._names: list[str] = []
        self._pause = threading.Event()
        self.trouble = "the kinds of objects are not defined yet"

    def keep(self) -> bool:
        """Define what lacks, and return whether that ended or began a trouble."""
        before = self.trouble
        try:
            self._keep()
            self.trouble = ""
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            self.trouble = f"kubernetes: {_message(said) or error}"
        except (OSError, KeyError, ValueError) as error:
            self.trouble = f"kubernetes: {error}"
        if self.trouble != before:
            log.info("%s", self.trouble or "all kinds are defined")
        return self.trouble != before

    def _keep(self) -> None:
        there = self._kubernetes.call("GET", _KINDS, accept=_NAMES_ALONE)["items"] or []
        version = (self._directory / "VERSION").read_text().strip()
        if self._names and not due(version, self._names, there):
            return
        wanted = {it["metadata"]["name"]: it for it in read(self._directory)}
        for name in sorted(due(version, wanted, there)):
            log.info("defining %s", name)
            path = f"{_KINDS}/{name}?fieldManager={_MANAGER}&force=true"
            self._kubernetes.call("PATCH", path, wanted[name])
            self._await(name)
        self._names = list(wanted)

    def _await(self, name: str) -> None:
        """Wait until the kind is served."""
        for _ in range(60):
            status = self._kubernetes.call("GET", f"{_KINDS}/{name}").get("status") or {}
            conditions = {it["type"]: it["status"] for it in status.get("conditions") or []}
            if conditions.get("Established") == "True":
                return
            self._pause.wait(0.5)
        raise TimeoutError(f"{name} is defined, and not served")


def _message(said: str) -> str:
    try:
        return json.loads(said).get("message", "")
    except ValueError:
        return ""
