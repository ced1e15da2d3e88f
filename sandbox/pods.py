"""The Kubernetes side of a model: each application's objects as Juju lays them out, made and kept.

`render` is pure. `Pods.sync` compares a model with the cluster and writes the difference, on the
occasions on which Juju writes: a new charm or resource renders anew, everything else touches its
own object alone. So it can be called at any time, and again after a crash.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightkube import ApiError, Client
from lightkube.models import apps_v1, core_v1, rbac_v1
from lightkube.models.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
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

from sandbox.events import VERSION
from sandbox.model import Application, Model

DATA = "charm-data"
CHARM_PORT = 38812
USERS = {"root": 0, "sudoer": 171, "non-root": 170}
IDENTITIES = "/charm/etc/pebble/identities.yaml"
ZONE = "failure-domain.beta.kubernetes.io/zone"
ANYTHING = rbac_v1.PolicyRule(apiGroups=["*"], resources=["*"], verbs=["*"])
KINDS = (StatefulSet, Service, Secret, RoleBinding, Role, ServiceAccount)
CLUSTER_KINDS = (ClusterRoleBinding, ClusterRole)


@dataclass(frozen=True)
class Controller:
    """What pods must know of the controller: its id, its URL, and the two images of its own."""

    uuid: str
    address: str
    agent_image: str
    charm_image: str


@dataclass(frozen=True)
class PodNews:
    """What Kubernetes says of one pod; `message` is why it does not run, if it says so."""

    namespace: str
    application: str
    name: str
    uid: str
    gone: bool
    message: str


def annotations(model: Model, controller: Controller) -> dict[str, str]:
    """Return the annotations that Juju puts on each object."""
    return {
        "controller.juju.is/id": controller.uuid,
        "model.juju.is/id": model.uuid,
        "juju.is/version": VERSION,
    }


def meta(model: Model, app: Application, controller: Controller, name: str = "") -> ObjectMeta:
    """Return the metadata of an object of an application."""
    return ObjectMeta(
        name=name or app.name,
        namespace=model.name,
        labels={"app.kubernetes.io/managed-by": "juju", "app.kubernetes.io/name": app.name},
        annotations=annotations(model, controller),
    )


def namespace(model: Model, controller: Controller) -> Namespace:
    """Return the model's namespace."""
    ids = {"controller.juju.is/id": controller.uuid, "model.juju.is/id": model.uuid}
    labels = {"app.kubernetes.io/managed-by": "juju", "model.juju.is/name": model.name}
    labels["model.juju.is/id"] = model.uuid
    return Namespace(metadata=ObjectMeta(name=model.name, labels=labels, annotations=ids))


def render(
    model: Model, app: Application, controller: Controller, password: str
) -> list[Any]:
    """Return every object of an application, the StatefulSet last."""
    secret = Secret(
        metadata=meta(model, app, controller, f"{app.name}-application-config"),
        stringData={
            "JUJU_K8S_APPLICATION": app.name,
            "JUJU_K8S_APPLICATION_PASSWORD": password,
            "JUJU_K8S_CONTROLLER_ADDRESSES": controller.address,
            "JUJU_K8S_MODEL": model.uuid,
        },
    )
    account = ServiceAccount(metadata=meta(model, app, controller))
    account.automountServiceAccountToken = False
    return [
        secret,
        account,
        *access(model, app, controller),
        service(model, app, controller),
        endpoints(model, app, controller),
        stateful_set(model, app, controller),
    ]


def access(model: Model, app: Application, controller: Controller) -> list[Any]:
    """Return roles and bindings: what a charm may do in the cluster, with and without trust."""
    local = [
        rbac_v1.PolicyRule(
            apiGroups=[""],
            resources=["namespaces"],
            resourceNames=[model.name],
            verbs=["get", "list"],
        ),
        rbac_v1.PolicyRule(
            apiGroups=[""], resources=["pods", "services"], verbs=["get", "list", "patch"]
        ),
        rbac_v1.PolicyRule(apiGroups=[""], resources=["pods/exec"], verbs=["create"]),
    ]
    wide = [rbac_v1.PolicyRule(apiGroups=[""], resources=["namespaces"], verbs=["get", "list"])]
    subject = rbac_v1.Subject(kind="ServiceAccount", name=app.name, namespace=model.name)
    here = meta(model, app, controller)
    group = "rbac.authorization.k8s.io"
    everywhere = ObjectMeta(
        name=f"{model.name}-{app.name}", labels=here.labels, annotations=here.annotations
    )
    return [
        Role(metadata=here, rules=[ANYTHING] if app.trust else local),
        RoleBinding(
            metadata=here,
            roleRef=rbac_v1.RoleRef(apiGroup=group, kind="Role", name=app.name),
            subjects=[subject],
        ),
        ClusterRole(metadata=everywhere, rules=[ANYTHING] if app.trust else wide),
        ClusterRoleBinding(
            metadata=everywhere,
            roleRef=rbac_v1.RoleRef(apiGroup=group, kind="ClusterRole", name=everywhere.name or ""),
            subjects=[subject],
        ),
    ]


def open_ports(app: Application) -> list[tuple[int, str]]:
    """Return the ports that any unit has opened, each with its protocol in lower case."""
    said = {port.partition("/")[::2] for unit in app.units.values() for _, port in unit.ports}
    return sorted((int(port), protocol or "tcp") for port, protocol in said if port.isdigit())


def service(model: Model, app: Application, controller: Controller) -> Service:
    """Return the service of an application, with its open ports or Juju's placeholder."""
    ports = [
        core_v1.ServicePort(
            name=f"juju-{port}-{protocol}", port=port, targetPort=port, protocol=protocol.upper()
        )
        for port, protocol in open_ports(app)
    ] or [core_v1.ServicePort(name="placeholder", port=65535, targetPort=65535, protocol="TCP")]
    selector = {"app.kubernetes.io/name": app.name}
    spec = core_v1.ServiceSpec(type="ClusterIP", selector=selector, ports=ports)
    return Service(metadata=meta(model, app, controller), spec=spec)


def endpoints(model: Model, app: Application, controller: Controller) -> Service:
    """Return the headless service that gives each pod its name."""
    headless = Service(
        metadata=meta(model, app, controller, f"{app.name}-endpoints"),
        spec=core_v1.ServiceSpec(
            type="ClusterIP",
            clusterIP="None",
            publishNotReadyAddresses=True,
            selector={"app.kubernetes.io/name": app.name},
        ),
    )
    tolerate = "service.alpha.kubernetes.io/tolerate-unready-endpoints"
    headless.metadata.annotations[tolerate] = "true"  # type: ignore[union-attr]
    return headless


def pods_wanted(app: Application) -> int:
    """Return how many pods the units need: a leaving unit keeps its pod until it is removed."""
    return max(app.units, default=-1) + 1


def claim_prefix(app: Application, storage: str) -> str:
    """Return the name of a storage's claim template."""
    return f"{app.name}-{storage}-{app.uuid.replace('-', '')[:6]}"


def stateful_set(model: Model, app: Application, controller: Controller) -> StatefulSet:
    """Return the StatefulSet with its pod template and claim templates."""
    marks = annotations(model, controller)
    labels = {"app.kubernetes.io/name": app.name}
    user = USERS[app.charm.charm_user]
    memory, cpu = app.constraints.get("mem"), app.constraints.get("cpu-power")
    asked = {"memory": mebibytes(memory)} if memory else {}
    asked |= {"cpu": f"{cpu}m"} if cpu else {}
    names = ",".join(sorted(app.charm.containers))
    charm = core_v1.Container(
        name="charm",
        image=controller.charm_image,
        workingDir="/var/lib/juju",
        command=["/charm/bin/pebble"],
        args=["run", "--http", f":{CHARM_PORT}", "--verbose"],
        env=[
            core_v1.EnvVar(name="JUJU_CONTAINER_NAMES", value=names),
            core_v1.EnvVar(name="HTTP_PROBE_PORT", value="3856"),
        ],
        resources=core_v1.ResourceRequirements(
            requests={"memory": "64Mi"}, limits={"memory": asked.get("memory", "1Gi")}
        ),
        securityContext=core_v1.SecurityContext(runAsUser=user, runAsGroup=user),
        volumeMounts=[
            _data("/charm/bin", read_only=True),
            _data("/var/lib/juju"),
            _data("/charm/containers"),
            _data("/var/lib/pebble/default", "containeragent/pebble"),
            _data("/var/log/juju", "containeragent/var/log/juju"),
            _data("/usr/bin/juju-introspect", "charm/bin/containeragent", read_only=True),
            _data("/usr/bin/juju-exec", "charm/bin/containeragent", read_only=True),
            _data(
                "/etc/profile.d/juju-introspection.sh",
                "containeragent/etc/profile.d/juju-introspection.sh",
                read_only=True,
            ),
            *(
                core_v1.VolumeMount(
                    name=claim_prefix(app, name),
                    mountPath=app.charm.storage[name].location or f"/var/lib/juju/storage/{name}-0",
                )
                for name in sorted(app.storage)
                if app.storage[name][1]
            ),
        ],
        **_common(CHARM_PORT),
    )
    workloads = [
        _workload(app, name, CHARM_PORT + 1 + index, asked)
        for index, name in enumerate(sorted(app.charm.containers))
    ]
    pod = core_v1.PodSpec(
        serviceAccountName=app.name,
        automountServiceAccountToken=True,
        terminationGracePeriodSeconds=30,
        nodeSelector={"kubernetes.io/arch": "amd64"},
        affinity=affinity(app),
        securityContext=core_v1.PodSecurityContext(fsGroup=user, supplementalGroups=[user])
        if user
        else core_v1.PodSecurityContext(),
        volumes=[core_v1.Volume(name=DATA, emptyDir=core_v1.EmptyDirVolumeSource())],
        initContainers=[_charm_init(app, controller, names, user)],
        containers=[charm, *workloads],
    )
    own = meta(model, app, controller)
    own.annotations = {**marks, "app.juju.is/uuid": app.uuid.replace("-", "")[:6]}
    return StatefulSet(
        metadata=own,
        spec=apps_v1.StatefulSetSpec(
            replicas=pods_wanted(app),
            serviceName=f"{app.name}-endpoints",
            podManagementPolicy="Parallel",
            revisionHistoryLimit=10,
            persistentVolumeClaimRetentionPolicy=apps_v1.StatefulSetPersistentVolumeClaimRetentionPolicy(
                whenDeleted="Retain", whenScaled="Retain"
            ),
            updateStrategy=apps_v1.StatefulSetUpdateStrategy(
                type="RollingUpdate",
                rollingUpdate=apps_v1.RollingUpdateStatefulSetStrategy(partition=0),
            ),
            selector=LabelSelector(matchLabels=labels),
            template=core_v1.PodTemplateSpec(
                metadata=ObjectMeta(labels=labels, annotations=marks), spec=pod
            ),
            volumeClaimTemplates=list(_claims(model, app, controller)),
        ),
    )


def _charm_init(
    app: Application, controller: Controller, names: str, user: int
) -> core_v1.Container:
    def field(name: str, path: str) -> core_v1.EnvVar:
        source = core_v1.EnvVarSource(fieldRef=core_v1.ObjectFieldSelector(fieldPath=path))
        return core_v1.EnvVar(name=name, valueFrom=source)

    args = ["init", "--containeragent-pebble-dir", "/containeragent/pebble"]
    args += ["--charm-modified-version", str(app.charm_modified), "--data-dir", "/var/lib/juju"]
    args += ["--bin-dir", "/charm/bin", "--profile-dir", "/containeragent/etc/profile.d"]
    mounts = [
        _data("/var/lib/juju"),
        _data("/charm/bin"),
        _data("/charm/containers"),
        _data("/containeragent/pebble", "containeragent/pebble"),
        _data("/containeragent/etc/profile.d", "containeragent/etc/profile.d"),
    ]
    if user:
        args += ["--pebble-identities-file", IDENTITIES, "--pebble-charm-identity", str(user)]
        mounts.append(_data("/charm/etc/pebble/", "charm/etc/pebble/"))
    secret = core_v1.SecretEnvSource(name=f"{app.name}-application-config")
    return core_v1.Container(
        name="charm-init",
        image=controller.agent_image,
        imagePullPolicy="IfNotPresent",
        workingDir="/var/lib/juju",
        command=["/opt/agent/hooktool"],
        args=args,
        env=[
            core_v1.EnvVar(name="JUJU_CONTAINER_NAMES", value=names),
            field("JUJU_K8S_POD_NAME", "metadata.name"),
            field("JUJU_K8S_POD_UUID", "metadata.uid"),
        ],
        envFrom=[core_v1.EnvFromSource(secretRef=secret)],
        resources=core_v1.ResourceRequirements(),
        securityContext=core_v1.SecurityContext(runAsUser=user, runAsGroup=user)
        if user
        else None,
        volumeMounts=mounts,
    )


def _workload(app: Application, name: str, port: int, asked: dict[str, str]) -> core_v1.Container:
    workload = app.charm.containers[name]
    root = app.charm.charm_user == "root"
    uid = workload.uid if workload.uid is not None else (0 if root else None)
    gid = workload.gid if workload.gid is not None else (0 if root else None)
    args = ["run", "--create-dirs", "--hold", "--http", f":{port}", "--verbose"]
    mounts = [
        _data("/charm/bin/pebble", read_only=True),
        _data("/charm/container", f"charm/containers/{name}"),
    ]
    if not root:
        args += ["--identities", IDENTITIES]
        mounts.append(_data(IDENTITIES, read_only=True))
    for mount in workload.mounts:
        if app.storage.get(mount.storage, (0, 0))[1]:
            location = mount.location or f"/var/lib/juju/storage/{mount.storage}/0"
            claim = claim_prefix(app, mount.storage)
            mounts.append(core_v1.VolumeMount(name=claim, mountPath=location))
    environment = {
        "JUJU_CONTAINER_NAME": name,
        "PEBBLE_SOCKET": "/charm/container/pebble.socket",
        "PEBBLE": "/charm/container/pebble",
        "PEBBLE_COPY_ONCE": "/var/lib/pebble/default",
    }
    return core_v1.Container(
        name=name,
        image=app.resources.get(workload.resource, ""),
        command=["/charm/bin/pebble"],
        args=args,
        env=[core_v1.EnvVar(name=key, value=value) for key, value in environment.items()],
        resources=core_v1.ResourceRequirements(requests=asked, limits=asked)
        if asked
        else core_v1.ResourceRequirements(),
        securityContext=core_v1.SecurityContext(runAsUser=uid, runAsGroup=gid),
        volumeMounts=mounts,
        **_common(port),
    )


def _common(port: int) -> dict[str, Any]:
    def probe(level: str, period: int, failures: int) -> core_v1.Probe:
        get = core_v1.HTTPGetAction(path=f"/v1/health?level={level}", port=port)
        return core_v1.Probe(
            httpGet=get,
            periodSeconds=period,
            failureThreshold=failures,
            timeoutSeconds=1,
            successThreshold=1,
        )

    return {
        "imagePullPolicy": "IfNotPresent",
        "startupProbe": probe("alive", 1, 30),
        "livenessProbe": probe("alive", 5, 3),
        "readinessProbe": probe("ready", 5, 1),
    }


def _data(path: str, sub_path: str = "", read_only: bool = False) -> core_v1.VolumeMount:
    sub_path = sub_path or path.lstrip("/")
    mount = core_v1.VolumeMount(name=DATA, mountPath=path, subPath=sub_path)
    mount.readOnly = True if read_only else None
    return mount


def _claims(
    model: Model, app: Application, controller: Controller
) -> Iterator[core_v1.PersistentVolumeClaim]:
    ids = {"controller.juju.is/id": controller.uuid, "model.juju.is/id": model.uuid}
    for name, (size, count) in sorted(app.storage.items()):
        if count:
            yield core_v1.PersistentVolumeClaim(
                apiVersion="v1",
                kind="PersistentVolumeClaim",
                metadata=ObjectMeta(
                    name=claim_prefix(app, name),
                    labels={
                        "app.kubernetes.io/managed-by": "juju",
                        "storage.juju.is/name": name,
                    },
                    annotations={
                        **ids,
                        "juju-storage-owner": app.name,
                        "storage.juju.is/name": name,
                    },
                ),
                spec=core_v1.PersistentVolumeClaimSpec(
                    accessModes=["ReadWriteOnce"],
                    volumeMode="Filesystem",
                    resources=core_v1.VolumeResourceRequirements(requests={"storage": f"{size}Mi"}),
                ),
            )


def mebibytes(size: str) -> str:
    """Return Juju's size ("256M", "2G") as a Kubernetes quantity in Mi; a bare number is MiB."""
    number, unit = (size[:-1], size[-1]) if size[-1] in "MGTP" else (size, "M")
    return f"{int(float(number) * 1024 ** 'MGTP'.index(unit))}Mi"


def affinity(app: Application) -> core_v1.Affinity | None:
    """Return what the constraints `tags` and `zones` ask of a pod's place, None when nothing.

    A tag is `key=value` for nodes, with the prefix `pod.` or `anti-pod.` for pods beside it;
    `^` before the key negates, `|` separates values, `topology-key` is the pods' reach.
    """
    terms: dict[str, list[tuple[str, str, list[str]]]] = {"node": [], "pod": [], "anti-pod": []}
    reach = {"pod": "", "anti-pod": ""}
    for tag in filter(None, app.constraints.get("tags", "").split(",")):
        key, _, value = tag.partition("=")
        where, dot, rest = key.partition(".")
        where, key = (where, rest) if dot and where in terms else ("node", key)
        if where != "node" and key == "topology-key":
            reach[where] = value
            continue
        operator = "NotIn" if key.startswith("^") else "In"
        terms[where].append((key.removeprefix("^"), operator, value.split("|")))
    if zones := app.constraints.get("zones"):
        terms["node"].append((ZONE, "In", zones.split(",")))
    if not any(terms.values()):
        return None
    node = [core_v1.NodeSelectorRequirement(key=k, operator=o, values=v) for k, o, v in terms["node"]]
    pods = {
        where: [
            core_v1.PodAffinityTerm(
                topologyKey=reach[where],
                labelSelector=LabelSelector(
                    matchExpressions=[
                        LabelSelectorRequirement(key=k, operator=o, values=v)
                        for k, o, v in terms[where]
                    ]
                ),
            )
        ]
        for where in ("pod", "anti-pod")
        if terms[where]
    }
    placed = core_v1.Affinity()
    if node:
        placed.nodeAffinity = core_v1.NodeAffinity(
            requiredDuringSchedulingIgnoredDuringExecution=core_v1.NodeSelector(
                nodeSelectorTerms=[core_v1.NodeSelectorTerm(matchExpressions=node)]
            )
        )
    if "pod" in pods:
        placed.podAffinity = core_v1.PodAffinity(
            requiredDuringSchedulingIgnoredDuringExecution=pods["pod"]
        )
    if "anti-pod" in pods:
        placed.podAntiAffinity = core_v1.PodAntiAffinity(
            requiredDuringSchedulingIgnoredDuringExecution=pods["anti-pod"]
        )
    return placed


class Pods:
    """Keeps the cluster as the models want it, and watches the pods."""

    def __init__(
        self, client: Client, controller: Controller, password: Callable[[Model, str], str]
    ):
        self.client, self.controller, self.password = client, controller, password
        self.written: dict[tuple[str, str], dict[str, Any]] = {}

    def sync(self, model: Model) -> dict[str, tuple[str, str]]:
        """Write what differs; return each application's ClusterIP and its service's uid."""
        if (model.uuid, "") not in self.written:
            self._apply(namespace(model, self.controller))
            self.written[model.uuid, ""] = {}
        services = {}
        for app in model.applications.values():
            found = self._sync_application(model, app)
            if found:
                services[app.name] = found
        self._prune(model)
        return services

    def _sync_application(self, model: Model, app: Application) -> tuple[str, str] | None:
        if app.charm.missing_images(app.resources):
            return None  # Juju lets such an application wait for its images
        wanted = {
            "template": (app.uuid, app.charm_modified, sorted(app.resources.items())),
            "replicas": pods_wanted(app),
            "ports": open_ports(app),
            "trust": app.trust,
        }
        written = self.written.get((model.uuid, app.name))
        if written is None:
            written = self._read(model, app)
        if written == wanted:
            return app.address, app.provider_id
        if written.get("template") != wanted["template"]:
            password = self.password(model, app.name)
            for thing in render(model, app, self.controller, password):
                self._apply(thing)
        else:
            if written["trust"] != wanted["trust"]:
                for thing in access(model, app, self.controller):
                    self._apply(thing)
            if written["ports"] != wanted["ports"]:
                self._apply(service(model, app, self.controller))
            if written["replicas"] != wanted["replicas"]:
                scale = {"spec": {"replicas": wanted["replicas"]}}
                self.client.patch(
                    StatefulSet, app.name, scale, namespace=model.name, patch_type=PatchType.MERGE
                )
        self.written[model.uuid, app.name] = wanted
        made = self.client.get(Service, app.name, namespace=model.name)
        return made.spec.clusterIP or "", made.metadata.uid or ""  # type: ignore[union-attr]

    def look(self, models: Sequence[str]) -> None:
        """Make the next sync write again what someone has deleted or scaled."""
        found: dict[tuple[str, str], int | None] = {}
        labels = {"app.kubernetes.io/managed-by": "juju"}
        for there in self.client.list(StatefulSet, namespace="*", labels=labels):
            marks = there.metadata.annotations or {}  # type: ignore[union-attr]
            key = (marks.get("model.juju.is/id", ""), there.metadata.name or "")  # type: ignore[union-attr]
            found[key] = there.spec.replicas  # type: ignore[union-attr]
        for key, written in list(self.written.items()):
            if key[0] in models and key[1] and found.get(key) != written["replicas"]:
                del self.written[key]

    def taken(self, name: str) -> bool:
        """Return whether a namespace of that name is there."""
        return any(n.metadata.name == name for n in self.client.list(Namespace))  # type: ignore[union-attr]

    def _read(self, model: Model, app: Application) -> dict[str, Any]:
        """Return what the cluster has of an application, {} when it has no StatefulSet."""
        try:
            found = self.client.get(StatefulSet, app.name, namespace=model.name)
        except ApiError as error:
            if error.status.code == 404:
                return {}
            raise
        spec = found.spec.template.spec  # type: ignore[union-attr]
        args = spec.initContainers[0].args or []  # type: ignore[index,union-attr]
        images = {c.name: c.image for c in spec.containers}  # type: ignore[union-attr]
        same = (
            (found.metadata.annotations or {}).get("app.juju.is/uuid")  # type: ignore[union-attr]
            == app.uuid.replace("-", "")[:6]
            and args[args.index("--charm-modified-version") + 1] == str(app.charm_modified)
            and all(
                images.get(name) == app.resources.get(workload.resource)
                for name, workload in app.charm.containers.items()
            )
        )
        template = (app.uuid, app.charm_modified, sorted(app.resources.items()))
        return {
            "template": template if same else None,
            "replicas": found.spec.replicas,  # type: ignore[union-attr]
            "ports": None,
            "trust": None,
        }

    def _apply(self, thing: Any) -> None:
        self.client.apply(thing, field_manager="juju", force=True)

    def _prune(self, model: Model) -> None:
        """Delete what the model no longer has; keep the volumes of storage that it still has."""
        ours = {"app.kubernetes.io/managed-by": "juju", "app.kubernetes.io/name": None}
        gone = [
            app
            for uuid, app in self.written
            if uuid == model.uuid and app and app not in model.applications
        ]
        for kind in KINDS:
            for thing in self.client.list(kind, namespace=model.name, labels=ours) if gone else ():
                if (thing.metadata.labels or {}).get("app.kubernetes.io/name") in gone:  # type: ignore[union-attr]
                    self._delete(kind, thing.metadata.name, model.name)  # type: ignore[union-attr]
        for app in gone:
            for kind in CLUSTER_KINDS:
                self._delete(kind, f"{model.name}-{app}")
            del self.written[model.uuid, app]
        self._release(model)

    def _release(self, model: Model) -> None:
        pods = {
            f"{app.name}-{number}" for app in model.applications.values() for number in app.units
        }
        kept = {storage.provider_id for storage in model.storage.values()} - {""}
        labels = {"app.kubernetes.io/managed-by": "juju", "storage.juju.is/name": None}
        for claim in self.client.list(
            PersistentVolumeClaim, namespace=model.name, labels=labels
        ):
            name = claim.metadata.name or ""  # type: ignore[union-attr]
            owner = re.search(r"-[0-9a-f]{6}-(.+-\d+)$", name)
            if owner is None or owner[1] in pods or claim.metadata.deletionTimestamp:  # type: ignore[union-attr]
                continue
            volume = claim.spec.volumeName  # type: ignore[union-attr]
            if volume and volume in kept:
                self._reclaim(volume, "Retain")
            self._delete(PersistentVolumeClaim, name, model.name)

    def _reclaim(self, volume: str, policy: str) -> None:
        patch = {"spec": {"persistentVolumeReclaimPolicy": policy}}
        self.client.patch(PersistentVolume, volume, patch, patch_type=PatchType.MERGE)

    def volumes(self, namespace: str, pod: str) -> dict[str, str]:
        """Return the volume behind each storage of a pod, by the storage's name."""
        labels = {"app.kubernetes.io/managed-by": "juju", "storage.juju.is/name": None}
        found = self.client.list(PersistentVolumeClaim, namespace=namespace, labels=labels)
        return {
            claim.metadata.labels["storage.juju.is/name"]: claim.spec.volumeName or ""  # type: ignore[union-attr,index]
            for claim in found
            if re.search(rf"-[0-9a-f]{{6}}-{re.escape(pod)}$", claim.metadata.name or "")  # type: ignore[union-attr]
        }

    def remove(self, model: Model, destroy_storage: bool) -> bool:
        """Remove a model's namespace and cluster roles; return whether all of it is gone."""
        for kind in CLUSTER_KINDS:
            for thing in self.client.list(kind, labels={"app.kubernetes.io/managed-by": "juju"}):
                marks = thing.metadata.annotations or {}  # type: ignore[union-attr]
                if marks.get("model.juju.is/id") == model.uuid:
                    self._delete(kind, thing.metadata.name)  # type: ignore[union-attr]
        for volume in self.client.list(PersistentVolume):
            claim = volume.spec.claimRef  # type: ignore[union-attr]
            if claim and claim.namespace == model.name:
                self._reclaim(volume.metadata.name, "Delete" if destroy_storage else "Retain")  # type: ignore[union-attr,arg-type]
        self._delete(Namespace, model.name)
        try:
            self.client.get(Namespace, model.name)
        except ApiError as error:
            if error.status.code != 404:
                raise
            self.written = {key: v for key, v in self.written.items() if key[0] != model.uuid}
            return True
        return False

    def _delete(self, kind: Any, name: str | None, namespace: str | None = None) -> None:
        where = {"namespace": namespace} if namespace else {}
        try:
            self.client.delete(kind, name, cascade=CascadeType.BACKGROUND, **where)
        except ApiError as error:
            if error.status.code != 404:
                raise

    def watch(self) -> Iterator[PodNews]:
        """Yield what Kubernetes says of each pod of ours, first as it is, then as it changes."""
        labels = {"app.kubernetes.io/name": None}
        for kind, pod in self.client.watch(Pod, namespace="*", labels=labels):  # type: ignore[call-overload]
            data = pod.metadata
            if (data.annotations or {}).get("controller.juju.is/id") != self.controller.uuid:
                continue
            gone = kind == "DELETED" or pod.status.phase in ("Failed", "Succeeded")
            yield PodNews(
                namespace=data.namespace,
                application=data.labels["app.kubernetes.io/name"],
                name=data.name,
                uid=data.uid,
                gone=gone,
                message=why_not_running(pod.status),
            )


def why_not_running(status: core_v1.PodStatus) -> str:
    """Return why a pod does not run, in Kubernetes' words, empty when it does or just starts."""
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return condition.message or condition.reason or ""
    statuses: Sequence[core_v1.ContainerStatus] = [
        *(status.initContainerStatuses or ()),
        *(status.containerStatuses or ()),
    ]
    for container in statuses:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason not in ("PodInitializing", "ContainerCreating"):
            return f"{container.name}: {waiting.message or waiting.reason}"
    return ""
