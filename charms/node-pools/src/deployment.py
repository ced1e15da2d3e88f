"""The controller in Kubernetes: a Deployment, and an account with the least rights."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from controller import pools
from controller.pools import Pool

PORT = 8080
PYTHON = "/opt/node-pools/bin/python"
ENVIRONMENT = {"PYTHONPATH": "/opt/node-pools/app"}
_DIRECTORY, _FILE = "/etc/node-pools", "pools.json"
_USER = 10004
_NAME = "app.kubernetes.io/name"
_RBAC = "rbac.authorization.k8s.io"
_READ, _WATCH = ["get", "list"], ["get", "list", "watch"]


@dataclass(frozen=True)
class Image:
    """An image, and the names of the secrets that one needs to pull it."""

    name: str
    pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Controller:
    """The controller of an application."""

    application: str
    model: str
    image: Image
    pools: tuple[Pool, ...]

    @property
    def name(self) -> str:
        """Return the name of all its objects in the model's namespace."""
        return f"{self.application}-controller"

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://{self.name}.{self.model}.svc.cluster.local:{PORT}"


def objects(controller: Controller) -> list[Any]:
    """Return all that it consists of."""
    return [*_access(controller), *_configuration(controller), _deployment(controller)]


def _access(controller: Controller) -> list[Any]:
    """Return its account: it sees all nodes and pods, and changes what is in its namespace."""
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
    from lightkube.resources.core_v1 import ServiceAccount
    from lightkube.resources.rbac_authorization_v1 import (
        ClusterRole,
        ClusterRoleBinding,
        Role,
        RoleBinding,
    )

    here = controller.name
    everywhere = f"{controller.model}.{controller.application}.controller"
    subjects = [Subject(kind="ServiceAccount", name=here, namespace=controller.model)]

    def rule(group: str, resources: list[str], verbs: list[str]) -> PolicyRule:
        return PolicyRule(apiGroups=[group], resources=resources, verbs=verbs)

    return [
        ServiceAccount(metadata=ObjectMeta(name=here)),
        ClusterRole(
            metadata=ObjectMeta(name=everywhere), rules=[rule("", ["nodes", "pods"], _WATCH)]
        ),
        ClusterRoleBinding(
            metadata=ObjectMeta(name=everywhere),
            roleRef=RoleRef(apiGroup=_RBAC, kind="ClusterRole", name=everywhere),
            subjects=subjects,
        ),
        Role(
            metadata=ObjectMeta(name=here),
            rules=[
                rule("", ["pods"], ["patch"]),
                rule("apps", ["deployments", "statefulsets"], [*_WATCH, "patch"]),
                rule("apps", ["controllerrevisions"], _READ),
                rule("policy", ["poddisruptionbudgets"], [*_WATCH, "create", "patch", "delete"]),
            ],
        ),
        RoleBinding(
            metadata=ObjectMeta(name=here),
            roleRef=RoleRef(apiGroup=_RBAC, kind="Role", name=here),
            subjects=subjects,
        ),
    ]


def _configuration(controller: Controller) -> list[Any]:
    from lightkube.models.core_v1 import ServicePort, ServiceSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap, Service

    ports = [ServicePort(port=PORT, name="http", protocol="TCP", targetPort=PORT)]
    spec = ServiceSpec(selector=_labels(controller), ports=ports)
    return [
        ConfigMap(
            metadata=ObjectMeta(name=controller.name), data={_FILE: pools.dump(controller.pools)}
        ),
        Service(metadata=ObjectMeta(name=controller.name), spec=spec),
    ]


def _deployment(controller: Controller) -> Any:
    from lightkube.models.apps_v1 import (
        DeploymentSpec,
        DeploymentStrategy,
        RollingUpdateDeployment,
    )
    from lightkube.models.core_v1 import PodTemplateSpec
    from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
    from lightkube.resources.apps_v1 import Deployment

    labels = _labels(controller)
    said = hashlib.sha256(pools.dump(controller.pools).encode()).hexdigest()[:16]
    # It reads the pools once, when it starts: others are another template, which makes it start.
    metadata = ObjectMeta(labels=labels, annotations={"katonic.ai/pools": said})
    return Deployment(
        metadata=ObjectMeta(name=controller.name, labels=labels),
        spec=DeploymentSpec(
            replicas=1,
            # The old one goes first: two that know other pools would undo each other's work.
            strategy=DeploymentStrategy(
                rollingUpdate=RollingUpdateDeployment(maxSurge=0, maxUnavailable=1)
            ),
            selector=LabelSelector(matchLabels=labels),
            template=PodTemplateSpec(metadata=metadata, spec=_pod(controller)),
        ),
    )


def _pod(controller: Controller) -> Any:
    from lightkube.models import core_v1 as core

    home = [it for it in controller.pools if it.name == "platform"]
    return core.PodSpec(
        containers=[_container(controller)],
        serviceAccountName=controller.name,
        imagePullSecrets=[
            core.LocalObjectReference(name=it) for it in controller.image.pull_secrets
        ],
        enableServiceLinks=False,
        securityContext=core.PodSecurityContext(
            runAsNonRoot=True,
            runAsUser=_USER,
            runAsGroup=_USER,
            seccompProfile=core.SeccompProfile(type="RuntimeDefault"),
        ),
        affinity=core.Affinity(nodeAffinity=_preference(home)),
        tolerations=[
            core.Toleration(**msgspec.to_builtins(it)) for pool in home for it in pool.tolerations
        ],
        volumes=[
            core.Volume(name="pools", configMap=core.ConfigMapVolumeSource(name=controller.name))
        ],
    )


def _preference(home: Sequence[Pool]) -> Any:
    """Return what draws it to the pool, and no more: where that has no node, it is to say so."""
    from lightkube.models import core_v1 as core

    preferred = [
        core.PreferredSchedulingTerm(
            weight=100,
            preference=core.NodeSelectorTerm(
                matchExpressions=[
                    core.NodeSelectorRequirement(key=it.key, operator="In", values=[it.value])
                ]
            ),
        )
        for it in home
    ]
    return core.NodeAffinity(preferredDuringSchedulingIgnoredDuringExecution=preferred)


def _container(controller: Controller) -> Any:
    from lightkube.models import core_v1 as core

    command = [PYTHON, "-m", "controller", "watch", "--pools", f"{_DIRECTORY}/{_FILE}"]
    health = core.HTTPGetAction(port=PORT, path="/health")
    return core.Container(
        name="controller",
        image=controller.image.name,
        command=[*command, "--namespace", controller.model, "--listen", str(PORT)],
        env=[core.EnvVar(name=name, value=value) for name, value in ENVIRONMENT.items()],
        ports=[core.ContainerPort(containerPort=PORT, name="http", protocol="TCP")],
        securityContext=core.SecurityContext(
            allowPrivilegeEscalation=False,
            capabilities=core.Capabilities(drop=["ALL"]),
            readOnlyRootFilesystem=True,
        ),
        resources=core.ResourceRequirements(
            requests={"cpu": "50m", "memory": "128Mi"}, limits={"cpu": "1", "memory": "512Mi"}
        ),
        readinessProbe=core.Probe(httpGet=health, periodSeconds=5),
        # Healthy is who has seen the whole cluster once: it gets five minutes for that.
        startupProbe=core.Probe(httpGet=health, periodSeconds=5, failureThreshold=60),
        livenessProbe=core.Probe(httpGet=health, periodSeconds=10, timeoutSeconds=5),
        volumeMounts=[core.VolumeMount(mountPath=_DIRECTORY, name="pools", readOnly=True)],
    )


def _labels(controller: Controller) -> dict[str, str]:
    return {_NAME: controller.name}
