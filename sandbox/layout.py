"""How Juju lays an application out in Kubernetes: pure functions from a model to typed objects.

Names, labels, probes, mounts and constraints are those that Juju 4.0.14 was seen to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightkube.models.apps_v1 import (
    RollingUpdateStatefulSetStrategy,
    StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec,
    StatefulSetUpdateStrategy,
)
from lightkube.models.core_v1 import (
    Affinity,
    Container,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    HTTPGetAction,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    ObjectFieldSelector,
    PersistentVolumeClaimSpec,
    PodAffinity,
    PodAffinityTerm,
    PodAntiAffinity,
    PodSecurityContext,
    PodSpec,
    PodTemplateSpec,
    Probe,
    ResourceRequirements,
    SecretEnvSource,
    SecurityContext,
    ServicePort,
    ServiceSpec,
    Volume,
    VolumeMount,
    VolumeResourceRequirements,
)
from lightkube.models.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.apps_v1 import StatefulSet
from lightkube.resources.core_v1 import (
    Namespace,
    PersistentVolumeClaim,
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

from sandbox.events import VERSION
from sandbox.model import Application, Model, Storage

DATA = "charm-data"
FIRST_PORT = 38812
USERS = {"root": 0, "sudoer": 171, "non-root": 170}
IDENTITIES = "/charm/etc/pebble/identities.yaml"
PROFILE = "/etc/profile.d/juju-introspection.sh"
MANAGED, NAME = "app.kubernetes.io/managed-by", "app.kubernetes.io/name"
ZONE = "failure-domain.beta.kubernetes.io/zone"
RBAC = "rbac.authorization.k8s.io"
READ = ["get", "list"]
ANYTHING = [PolicyRule(apiGroups=["*"], resources=["*"], verbs=["*"])]


@dataclass(frozen=True)
class Controller:
    """What pods must know of the controller: its id, its URL, and the two images of its own."""

    uuid: str
    address: str
    agent_image: str
    charm_image: str


def objects(model: Model, app: Application, controller: Controller, password: str) -> list[Any]:
    """Return every object of an application, the StatefulSet last."""
    configuration = {
        "JUJU_K8S_APPLICATION": app.name,
        "JUJU_K8S_APPLICATION_PASSWORD": password,
        "JUJU_K8S_CONTROLLER_ADDRESSES": controller.address,
        "JUJU_K8S_MODEL": model.uuid,
    }
    named = _meta(model, app, controller, f"{app.name}-application-config")
    return [
        Secret(metadata=named, stringData=configuration),
        ServiceAccount(metadata=_meta(model, app, controller), automountServiceAccountToken=False),
        *access(model, app, controller),
        service(model, app, controller),
        _endpoints(model, app, controller),
        stateful_set(model, app, controller),
    ]


def namespace(model: Model, controller: Controller) -> Namespace:
    """Return the model's namespace."""
    labels = {MANAGED: "juju", "model.juju.is/id": model.uuid, "model.juju.is/name": model.name}
    marks = _owner(model, controller)
    return Namespace(metadata=ObjectMeta(name=model.name, labels=labels, annotations=marks))


def access(model: Model, app: Application, controller: Controller) -> list[Any]:
    """Return roles and bindings: what a charm may do in the cluster, with and without trust."""
    here = _meta(model, app, controller)
    there = ObjectMeta(
        name=f"{model.name}-{app.name}", labels=here.labels, annotations=here.annotations
    )
    namespaces = PolicyRule(apiGroups=[""], resources=["namespaces"], verbs=READ)
    local = [
        PolicyRule(
            apiGroups=[""], resources=["namespaces"], resourceNames=[model.name], verbs=READ
        ),
        PolicyRule(apiGroups=[""], resources=["pods", "services"], verbs=[*READ, "patch"]),
        PolicyRule(apiGroups=[""], resources=["pods/exec"], verbs=["create"]),
    ]
    subjects = [Subject(kind="ServiceAccount", name=app.name, namespace=model.name)]

    def reference(kind: str, meta: ObjectMeta) -> RoleRef:
        return RoleRef(apiGroup=RBAC, kind=kind, name=str(meta.name))

    return [
        Role(metadata=here, rules=ANYTHING if app.trust else local),
        RoleBinding(metadata=here, roleRef=reference("Role", here), subjects=subjects),
        ClusterRole(metadata=there, rules=ANYTHING if app.trust else [namespaces]),
        ClusterRoleBinding(
            metadata=there, roleRef=reference("ClusterRole", there), subjects=subjects
        ),
    ]


def open_ports(app: Application) -> list[tuple[int, str]]:
    """Return the ports that any unit has opened, each with its protocol in lower case."""
    said = {port.partition("/")[::2] for unit in app.units.values() for _, port in unit.ports}
    return sorted((int(port), protocol) for port, protocol in said if port.isdigit())


def service(model: Model, app: Application, controller: Controller) -> Service:
    """Return the service of an application, with its open ports or Juju's placeholder."""
    ports = [
        ServicePort(
            name=f"juju-{port}-{protocol}", port=port, targetPort=port, protocol=protocol.upper()
        )
        for port, protocol in open_ports(app)
    ]
    placeholder = ServicePort(name="placeholder", port=65535, targetPort=65535, protocol="TCP")
    return Service(
        metadata=_meta(model, app, controller),
        spec=ServiceSpec(
            type="ClusterIP", selector={NAME: app.name}, ports=ports or [placeholder]
        ),
    )


def _endpoints(model: Model, app: Application, controller: Controller) -> Service:
    meta = _meta(model, app, controller, f"{app.name}-endpoints")
    tolerate = {"service.alpha.kubernetes.io/tolerate-unready-endpoints": "true"}
    meta.annotations = {**(meta.annotations or {}), **tolerate}
    return Service(
        metadata=meta,
        spec=ServiceSpec(
            type="ClusterIP",
            clusterIP="None",
            publishNotReadyAddresses=True,
            selector={NAME: app.name},
        ),
    )


def pods_wanted(app: Application) -> int:
    """Return how many pods the units need: a leaving unit keeps its pod until it is removed."""
    return max(app.units, default=-1) + 1


def short_id(app: Application) -> str:
    """Return the six digits of the application's uuid that its claims are named by."""
    return app.uuid.replace("-", "")[:6]


def claim_name(app: Application, storage: str) -> str:
    """Return the name of the claim template of a storage."""
    return f"{app.name}-{storage}-{short_id(app)}"


def stateful_set(model: Model, app: Application, controller: Controller) -> StatefulSet:
    """Return the StatefulSet with its pod template and claim templates."""
    labels, marks = {NAME: app.name}, _marks(model, controller)
    meta = _meta(model, app, controller)
    meta.annotations = {**marks, "app.juju.is/uuid": short_id(app)}
    user = USERS[app.charm.charm_user]
    names = sorted(app.charm.containers)
    group = PodSecurityContext(fsGroup=user, supplementalGroups=[user])
    pod = PodSpec(
        serviceAccountName=app.name,
        automountServiceAccountToken=True,
        terminationGracePeriodSeconds=30,
        nodeSelector={"kubernetes.io/arch": "amd64"},
        affinity=affinity(app),
        securityContext=group if user else PodSecurityContext(),
        volumes=[Volume(name=DATA, emptyDir=EmptyDirVolumeSource())],
        initContainers=[_charm_init(app, controller, ",".join(names), user)],
        containers=[
            _charm(app, controller, ",".join(names), user),
            *(_workload(app, name, FIRST_PORT + n) for n, name in enumerate(names, 1)),
        ],
    )
    keep = StatefulSetPersistentVolumeClaimRetentionPolicy("Retain", "Retain")
    rolling = RollingUpdateStatefulSetStrategy(partition=0)
    return StatefulSet(
        metadata=meta,
        spec=StatefulSetSpec(
            replicas=pods_wanted(app),
            serviceName=f"{app.name}-endpoints",
            podManagementPolicy="Parallel",
            revisionHistoryLimit=10,
            persistentVolumeClaimRetentionPolicy=keep,
            updateStrategy=StatefulSetUpdateStrategy(rollingUpdate=rolling, type="RollingUpdate"),
            selector=LabelSelector(matchLabels=labels),
            template=PodTemplateSpec(
                metadata=ObjectMeta(labels=labels, annotations=marks), spec=pod
            ),
            volumeClaimTemplates=[
                _claim(model, app, controller, name, size)
                for name, (size, count) in sorted(app.storage.items())
                if count
            ],
        ),
    )


def _charm_init(app: Application, controller: Controller, names: str, user: int) -> Container:
    def field(name: str, path: str) -> EnvVar:
        return EnvVar(
            name=name, valueFrom=EnvVarSource(fieldRef=ObjectFieldSelector(fieldPath=path))
        )

    args = ["init", "--containeragent-pebble-dir", "/containeragent/pebble"]
    args += ["--charm-modified-version", str(app.charm_modified), "--data-dir", "/var/lib/juju"]
    args += ["--bin-dir", "/charm/bin", "--profile-dir", "/containeragent/etc/profile.d"]
    mounts = [_data("/var/lib/juju"), _data("/charm/bin"), _data("/charm/containers")]
    mounts += [_data("/containeragent/pebble"), _data("/containeragent/etc/profile.d")]
    if user:
        args += ["--pebble-identities-file", IDENTITIES, "--pebble-charm-identity", str(user)]
        mounts.append(_data("/charm/etc/pebble/"))
    return Container(
        name="charm-init",
        image=controller.agent_image,
        imagePullPolicy="IfNotPresent",
        workingDir="/var/lib/juju",
        command=["/opt/agent/hooktool"],
        args=args,
        env=[
            EnvVar(name="JUJU_CONTAINER_NAMES", value=names),
            field("JUJU_K8S_POD_NAME", "metadata.name"),
            field("JUJU_K8S_POD_UUID", "metadata.uid"),
        ],
        envFrom=[EnvFromSource(secretRef=SecretEnvSource(name=f"{app.name}-application-config"))],
        resources=ResourceRequirements(),
        securityContext=SecurityContext(runAsUser=user, runAsGroup=user) if user else None,
        volumeMounts=mounts,
    )


def _charm(app: Application, controller: Controller, names: str, user: int) -> Container:
    limit = _asked(app).get("memory", "1Gi")
    mounts = [
        _data("/charm/bin", read_only=True),
        _data("/var/lib/juju"),
        _data("/charm/containers"),
        _data("/var/lib/pebble/default", "containeragent/pebble"),
        _data("/var/log/juju", "containeragent/var/log/juju"),
        _data("/usr/bin/juju-introspect", "charm/bin/containeragent", read_only=True),
        _data("/usr/bin/juju-exec", "charm/bin/containeragent", read_only=True),
        _data(PROFILE, f"containeragent{PROFILE}", read_only=True),
    ]
    for name, (_, count) in sorted(app.storage.items()):
        if count:
            place = app.charm.storage[name].location or f"/var/lib/juju/storage/{name}-0"
            mounts.append(VolumeMount(name=claim_name(app, name), mountPath=place))
    return Container(
        name="charm",
        image=controller.charm_image,
        workingDir="/var/lib/juju",
        command=["/charm/bin/pebble"],
        args=["run", "--http", f":{FIRST_PORT}", "--verbose"],
        env=[
            EnvVar(name="JUJU_CONTAINER_NAMES", value=names),
            EnvVar(name="HTTP_PROBE_PORT", value="3856"),
        ],
        resources=ResourceRequirements(requests={"memory": "64Mi"}, limits={"memory": limit}),
        securityContext=SecurityContext(runAsUser=user, runAsGroup=user),
        volumeMounts=mounts,
        **_probes(FIRST_PORT),
    )


def _workload(app: Application, name: str, port: int) -> Container:
    workload, asked = app.charm.containers[name], _asked(app)
    unnamed = 0 if app.charm.charm_user == "root" else None
    args = ["run", "--create-dirs", "--hold", "--http", f":{port}", "--verbose"]
    mounts = [
        _data("/charm/bin/pebble", read_only=True),
        _data("/charm/container", f"charm/containers/{name}"),
    ]
    if app.charm.charm_user != "root":
        args += ["--identities", IDENTITIES]
        mounts.append(_data(IDENTITIES, read_only=True))
    for mount in workload.mounts:
        if app.storage.get(mount.storage, (0, 0))[1]:
            place = mount.location or f"/var/lib/juju/storage/{mount.storage}/0"
            mounts.append(VolumeMount(name=claim_name(app, mount.storage), mountPath=place))
    environment = {
        "JUJU_CONTAINER_NAME": name,
        "PEBBLE_SOCKET": "/charm/container/pebble.socket",
        "PEBBLE": "/charm/container/pebble",
        "PEBBLE_COPY_ONCE": "/var/lib/pebble/default",
    }
    return Container(
        name=name,
        image=app.resources.get(workload.resource, ""),
        command=["/charm/bin/pebble"],
        args=args,
        env=[EnvVar(name=key, value=value) for key, value in environment.items()],
        resources=ResourceRequirements(requests=asked or None, limits=asked or None),
        securityContext=SecurityContext(
            runAsUser=unnamed if workload.uid is None else workload.uid,
            runAsGroup=unnamed if workload.gid is None else workload.gid,
        ),
        volumeMounts=mounts,
        **_probes(port),
    )


def _probes(port: int) -> dict[str, Any]:
    def probe(level: str, period: int, failures: int) -> Probe:
        return Probe(
            httpGet=HTTPGetAction(path=f"/v1/health?level={level}", port=port),
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


def _data(path: str, sub_path: str = "", *, read_only: bool = False) -> VolumeMount:
    return VolumeMount(
        name=DATA,
        mountPath=path,
        subPath=sub_path or path.lstrip("/"),
        readOnly=True if read_only else None,
    )


def _claim(
    model: Model, app: Application, controller: Controller, name: str, size: int
) -> PersistentVolumeClaim:
    marks = {"juju-storage-owner": app.name, "storage.juju.is/name": name}
    return PersistentVolumeClaim(
        apiVersion="v1",
        kind="PersistentVolumeClaim",
        metadata=ObjectMeta(
            name=claim_name(app, name),
            labels={MANAGED: "juju", "storage.juju.is/name": name},
            annotations={**_owner(model, controller), **marks},
        ),
        spec=PersistentVolumeClaimSpec(
            accessModes=["ReadWriteOnce"],
            volumeMode="Filesystem",
            resources=VolumeResourceRequirements(requests={"storage": f"{size}Mi"}),
        ),
    )


def bound_claim(
    model: Model, app: Application, controller: Controller, storage: Storage
) -> PersistentVolumeClaim:
    """Return the claim of a unit on the volume that a storage already has."""
    claim = _claim(model, app, controller, storage.name, storage.size)
    assert claim.metadata
    assert claim.spec
    claim.metadata.name = f"{claim_name(app, storage.name)}-{storage.unit.replace('/', '-')}"
    claim.metadata.namespace = model.name
    claim.spec.volumeName = storage.provider_id
    return claim


def _asked(app: Application) -> dict[str, str]:
    """Return what each workload container asks for, and is limited to."""
    asked = {}
    if memory := app.constraints.get("mem"):
        number, unit = (memory[:-1], memory[-1]) if memory[-1] in "MGTP" else (memory, "M")
        asked["memory"] = f"{int(float(number) * 1024 ** 'MGTP'.index(unit))}Mi"
    if power := app.constraints.get("cpu-power"):
        asked["cpu"] = f"{power}m"
    return asked


def affinity(app: Application) -> Affinity | None:
    """Return what the constraints `tags` and `zones` ask of a pod's place, None when nothing.

    A tag is `key=value` for nodes, with the prefix `pod.` or `anti-pod.` for pods beside it;
    `^` before the key negates, `|` separates values, `topology-key` is how far "beside" reaches.
    """
    terms: dict[str, list[tuple[str, str, list[str]]]] = {"node": [], "pod": [], "anti-pod": []}
    reach = {"pod": "", "anti-pod": ""}
    for tag in filter(None, app.constraints.get("tags", "").split(",")):
        key, _, value = tag.partition("=")
        prefix, dot, rest = key.partition(".")
        where, key = (prefix, rest) if dot and prefix in terms else ("node", key)
        if where in reach and key == "topology-key":
            reach[where] = value
        else:
            operator = "NotIn" if key.startswith("^") else "In"  # codespell:ignore
            terms[where].append((key.removeprefix("^"), operator, value.split("|")))
    if zones := app.constraints.get("zones"):
        terms["node"].append((ZONE, "In", zones.split(",")))
    if not any(terms.values()):
        return None

    def beside(where: str) -> list[PodAffinityTerm]:
        matches = [LabelSelectorRequirement(key, op, values) for key, op, values in terms[where]]
        selector = LabelSelector(matchExpressions=matches)
        return [PodAffinityTerm(topologyKey=reach[where], labelSelector=selector)]

    nodes = [NodeSelectorRequirement(key, op, values) for key, op, values in terms["node"]]
    required = NodeSelector([NodeSelectorTerm(matchExpressions=nodes)])
    return Affinity(
        nodeAffinity=NodeAffinity(requiredDuringSchedulingIgnoredDuringExecution=required)
        if nodes
        else None,
        podAffinity=PodAffinity(requiredDuringSchedulingIgnoredDuringExecution=beside("pod"))
        if terms["pod"]
        else None,
        podAntiAffinity=PodAntiAffinity(
            requiredDuringSchedulingIgnoredDuringExecution=beside("anti-pod")
        )
        if terms["anti-pod"]
        else None,
    )


def _owner(model: Model, controller: Controller) -> dict[str, str]:
    return {"controller.juju.is/id": controller.uuid, "model.juju.is/id": model.uuid}


def _marks(model: Model, controller: Controller) -> dict[str, str]:
    return {**_owner(model, controller), "juju.is/version": VERSION}


def _meta(model: Model, app: Application, controller: Controller, name: str = "") -> ObjectMeta:
    return ObjectMeta(
        name=name or app.name,
        namespace=model.name,
        labels={MANAGED: "juju", NAME: app.name},
        annotations=_marks(model, controller),
    )
