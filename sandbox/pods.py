"""Keeps Kubernetes as the models want it, and tells what becomes of the pods.

`Pods.sync` compares a model with the cluster and writes the difference, on the occasions on which
Juju writes: a new charm or resource renders anew, everything else touches its own object alone.
It can be called at any time, and again after a crash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lightkube import ApiError, Client
from lightkube.core import decoders
from lightkube.models.core_v1 import PodStatus
from lightkube.resources.apps_v1 import StatefulSet
from lightkube.resources.core_v1 import (
    Namespace,
    PersistentVolume,
    PersistentVolumeClaim,
    Pod,
    Secret,
    Service,
    ServiceAccount,
)
from lightkube.resources.rbac_authorization_v1 import (
    ClusterRole,
    ClusterRoleBinding,
    Role,
    RoleBinding,
)
from lightkube.types import CascadeType, PatchType

from sandbox import layout
from sandbox.layout import MANAGED, NAME, Controller
from sandbox.model import Application, Model

KINDS = (StatefulSet, Service, Secret, RoleBinding, Role, ServiceAccount)
CLUSTER_KINDS = (ClusterRoleBinding, ClusterRole)
OURS = {MANAGED: "juju"}
KEPT = "model.juju.is/id"
"""Marks a volume that outlives its claim, so that only its own model ever deletes it."""
CLAIM = re.compile(r".*-[0-9a-f]{6}-(?P<pod>.+-\d+)")


@dataclass(frozen=True)
class PodNews:
    """What Kubernetes says of one pod; `message` is why it does not run, if it says so."""

    namespace: str
    application: str
    name: str
    uid: str
    gone: bool
    message: str


def learn_kinds() -> None:
    """Have msgspec learn every kind before there are threads: two that do so at once crash it."""
    kept = (Namespace, PersistentVolume, PersistentVolumeClaim, Pod)
    for kind in (*kept, *KINDS, *CLUSTER_KINDS):
        decoders.decode_list(b'{"items": []}', kind)
    decoders.decode_watch_event(b'{"type": "", "object": {}}')
    decoders.decode_status(b"{}")


def wanted(app: Application) -> dict[str, Any]:
    """Return what Kubernetes is to hold of an application, by what makes Juju write it."""
    return {
        "template": (app.uuid, app.charm_modified, tuple(sorted(app.resources.items()))),
        "replicas": layout.pods_wanted(app),
        "ports": layout.open_ports(app),
        "trust": app.trust,
    }


def digest(model: Model) -> tuple[Any, ...]:
    """Return a value that changes when there is something to write to Kubernetes."""
    complete = [a for a in model.applications.values() if not a.charm.missing_images(a.resources)]
    units = sorted(unit.name for unit in model.units())
    return [(a.name, wanted(a)) for a in complete], units, sorted(model.storage)


class Pods:
    """The objects of the models in one cluster."""

    def __init__(
        self, client: Client, controller: Controller, password: Callable[[Model, str], str]
    ):
        self.client, self.controller, self.password = client, controller, password
        self.written: dict[tuple[str, str], dict[str, Any]] = {}
        learn_kinds()

    def sync(self, model: Model) -> dict[str, tuple[str, str]]:
        """Write what differs; return each application's ClusterIP and its service's uid."""
        self._apply(layout.namespace(model, self.controller))
        services = {}
        for app in model.applications.values():
            if not app.charm.missing_images(app.resources):  # else Juju lets it wait for them
                self._write(model, app)
                made = self._get(Service, app.name, model.name)
                services[app.name] = made.spec.clusterIP, made.metadata.uid
        self._prune(model)
        self._release(model)
        return services

    def _write(self, model: Model, app: Application) -> None:
        want, key = wanted(app), (model.uuid, app.name)
        have = self.written.get(key) or self._read(model, app)
        if have != want:
            self._attach(model, app)
        if have.get("template") != want["template"]:
            password = self.password(model, app.name)
            for thing in layout.objects(model, app, self.controller, password):
                self._apply(thing)
        else:
            if have["trust"] != want["trust"]:
                for thing in layout.access(model, app, self.controller):
                    self._apply(thing)
            if have["ports"] != want["ports"]:
                self._apply(layout.service(model, app, self.controller))
            if have["replicas"] != want["replicas"]:
                scale = {"spec": {"replicas": want["replicas"]}}
                self._patch(StatefulSet, app.name, scale, namespace=model.name)
        self.written[key] = want

    def _attach(self, model: Model, app: Application) -> None:
        """Claim the volumes that units are given, before their pods would get new ones."""
        for storage in model.storage.values():
            given = storage.unit.rpartition("/")[0] == app.name and not storage.attached
            if not given or not storage.provider_id:
                continue
            claim: Any = layout.bound_claim(model, app, self.controller, storage)
            if self._get(PersistentVolumeClaim, claim.metadata.name, model.name) is None:
                # Only a volume that no claim is noted for can be claimed.
                self._patch(PersistentVolume, storage.provider_id, {"spec": {"claimRef": None}})
                self._apply(claim)

    def _read(self, model: Model, app: Application) -> dict[str, Any]:
        """Return what the cluster has of an application, {} when it has to be rendered anew."""
        found = self._get(StatefulSet, app.name, model.name)
        if found is None:
            return {}
        pod = found.spec.template.spec
        images = {container.name: container.image for container in pod.containers}
        resources = app.resources
        same = (
            found.metadata.annotations["app.juju.is/uuid"] == layout.short_id(app)
            and f"--charm-modified-version {app.charm_modified} "
            in " ".join(pod.initContainers[0].args)
            and images | {n: resources.get(w.resource) for n, w in app.charm.containers.items()}
            == images
        )
        unknown = {"replicas": found.spec.replicas, "ports": None, "trust": None}
        return {"template": wanted(app)["template"], **unknown} if same else {}

    def disturbed(self) -> set[str]:
        """Return the models of which someone has deleted or scaled a StatefulSet, to be synced."""
        there = {
            (thing.metadata.annotations.get("model.juju.is/id"), thing.metadata.name): thing
            for thing in self._list(StatefulSet, OURS, "*")
        }
        lost = [
            key
            for key, have in self.written.items()
            if key not in there or there[key].spec.replicas != have["replicas"]
        ]
        for key in lost:
            del self.written[key]
        return {uuid for uuid, _ in lost}

    def taken(self, name: str) -> bool:
        """Return whether a namespace of that name is there."""
        return self._get(Namespace, name) is not None

    def _prune(self, model: Model) -> None:
        """Delete what is there of applications that the model no longer has."""
        there = self._list(ServiceAccount, {**OURS, NAME: None}, model.name)
        gone = {thing.metadata.name for thing in there} - model.applications.keys()
        for app in gone:
            for kind in KINDS:
                for thing in self._list(kind, {**OURS, NAME: app}, model.name):
                    self._delete(kind, thing.metadata.name, model.name)
            for kind in CLUSTER_KINDS:
                self._delete(kind, f"{model.name}-{app}")
            self.written.pop((model.uuid, app), None)

    def _release(self, model: Model) -> None:
        """Delete the claims of units that are gone, and keep the volumes that the model keeps."""
        pods = {unit.name.replace("/", "-") for unit in model.units()}
        kept = {storage.provider_id for storage in model.storage.values()}
        for claim in self._claims(model.name):
            owner = CLAIM.fullmatch(claim.metadata.name)
            if owner and owner["pod"] not in pods and not claim.metadata.deletionTimestamp:
                if claim.spec.volumeName in kept:
                    self._reclaim(claim.spec.volumeName, "Retain", model)
                self._delete(PersistentVolumeClaim, claim.metadata.name, model.name)
        for volume in self._volumes_of(model):
            ours = (volume.metadata.annotations or {}).get(KEPT) == model.uuid
            if ours and volume.metadata.name not in kept:
                self._reclaim(volume.metadata.name, "Delete", model)

    def volumes(self, namespace: str, pod: str) -> dict[str, str]:
        """Return the volume behind each storage of a pod, by the storage's name."""
        return {
            claim.metadata.labels["storage.juju.is/name"]: claim.spec.volumeName or ""
            for claim in self._claims(namespace)
            if (owner := CLAIM.fullmatch(claim.metadata.name)) and owner["pod"] == pod
        }

    def remove(self, model: Model, destroy_storage: bool) -> bool:
        """Remove a model's namespace and cluster roles; return whether all of it is gone."""
        for kind in CLUSTER_KINDS:
            for thing in self._list(kind, OURS):
                if (thing.metadata.annotations or {}).get("model.juju.is/id") == model.uuid:
                    self._delete(kind, thing.metadata.name)
        for volume in self._volumes_of(model):
            policy = "Delete" if destroy_storage else "Retain"
            self._reclaim(volume.metadata.name, policy, model)
        self._delete(Namespace, model.name)
        self.written = {key: have for key, have in self.written.items() if key[0] != model.uuid}
        return self._get(Namespace, model.name) is None

    def watch(self) -> Iterator[PodNews]:
        """Yield what Kubernetes says of each pod of ours, first as it is, then as it changes."""
        pods: Any = self.client.watch(Pod, namespace="*", labels={NAME: None})
        for kind, pod in pods:
            meta = pod.metadata
            if (meta.annotations or {}).get("controller.juju.is/id") == self.controller.uuid:
                gone = kind == "DELETED" or pod.status.phase in ("Failed", "Succeeded")
                why = why_not_running(pod.status)
                app = meta.labels[NAME]
                yield PodNews(meta.namespace, app, meta.name, meta.uid, gone, why)

    # --- the client, with what its optional types hide ------------------------------------------

    def _apply(self, thing: Any) -> None:
        self.client.apply(thing, field_manager="juju", force=True)

    def _get(self, kind: Any, name: str, namespace: str | None = None) -> Any:
        try:
            return self.client.get(kind, name, namespace=namespace)
        except ApiError as error:
            if error.status.code == 404:
                return None
            raise

    def _list(self, kind: Any, labels: Any = None, namespace: str | None = None) -> Iterator[Any]:
        yield from self.client.list(kind, namespace=namespace, labels=labels)

    def _claims(self, namespace: str) -> Iterator[Any]:
        labels = {**OURS, "storage.juju.is/name": None}
        yield from self._list(PersistentVolumeClaim, labels, namespace)

    def _volumes_of(self, model: Model) -> Iterator[Any]:
        for volume in self._list(PersistentVolume):
            if volume.spec.claimRef and volume.spec.claimRef.namespace == model.name:
                yield volume

    def _patch(self, kind: Any, name: str, patch: Any, namespace: str | None = None) -> None:
        how = PatchType.MERGE
        self.client.patch(kind, name, patch, namespace=namespace, patch_type=how)

    def _reclaim(self, volume: str, policy: str, model: Model) -> None:
        """Say what becomes of a volume without its claim; a kept one is marked as the model's."""
        mark = {"annotations": {KEPT: model.uuid if policy == "Retain" else None}}
        spec = {"persistentVolumeReclaimPolicy": policy}
        self._patch(PersistentVolume, volume, {"metadata": mark, "spec": spec})

    def _delete(self, kind: Any, name: str, namespace: str | None = None) -> None:
        try:
            self.client.delete(kind, name, namespace=namespace, cascade=CascadeType.BACKGROUND)
        except ApiError as error:
            if error.status.code != 404:
                raise


def why_not_running(status: PodStatus) -> str:
    """Return why a pod does not run, in Kubernetes' words, empty when it does or just starts."""
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason or ""
    for container in [*(status.initContainerStatuses or ()), *(status.containerStatuses or ())]:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason not in ("PodInitializing", "ContainerCreating"):
            return f"{container.name}: {waiting.message or waiting.reason}"
    return ""
