"""What the pods of istiod and of the gateway have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from images import Image

PYTHON = "/usr/bin/python3"
ENVIRONMENT = {"PYTHONPATH": "/usr/lib/istio-ingress"}
NAME = "app.kubernetes.io/name"
_USER = 1337
"""Istio's own; the agent's templates and the upstream images know it."""


@dataclass(frozen=True)
class Site:
    """Where and of what it runs.

    Attributes:
        watcher: The image that the unit itself runs.
        pilot: The image of istiod.
        proxy: The image of the gateway.
        pull_secrets: The names of the secrets by which the unit's own image is pulled.
        nodes: The nodes that the unit's own pod asks for: what Juju made of the constraint.
        gateways: How many gateways there are.
    """

    application: str
    model: str
    watcher: str
    pilot: Image
    proxy: Image
    pull_secrets: tuple[str, ...] = ()
    nodes: Any = None
    gateways: int = 1

    @property
    def istiod(self) -> str:
        """Return the name of istiod's objects."""
        return f"{self.application}-istiod"

    @property
    def gateway(self) -> str:
        """Return the name of the gateway's objects."""
        return f"{self.application}-gateway"

    @property
    def logins(self) -> str:
        """Return the name of the secret by which the other images are pulled."""
        return f"{self.application}-images"

    @property
    def istiod_url(self) -> str:
        """Return where the watcher beside istiod answers."""
        return f"http://{self.istiod}.{self.model}.svc.cluster.local:{WATCHER}"


WATCHER = 8081
"""The port of the watcher in istiod's pod."""


def spec(site: Site, account: str, containers: Sequence[Any], **more: Any) -> Any:
    """Return a pod's spec, under an account of its own and without any privilege."""
    from lightkube.models import core_v1 as core

    logins = [site.logins] if site.pilot.username or site.proxy.username else []
    return core.PodSpec(
        containers=list(containers),
        serviceAccountName=account,
        imagePullSecrets=[
            core.LocalObjectReference(name=it) for it in (*site.pull_secrets, *logins)
        ],
        enableServiceLinks=False,
        securityContext=core.PodSecurityContext(
            runAsNonRoot=True,
            runAsUser=_USER,
            runAsGroup=_USER,
            fsGroup=_USER,
            seccompProfile=core.SeccompProfile(type="RuntimeDefault"),
        ),
        **more,
    )


def container(
    name: str,
    image: str,
    command: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    resources: Mapping[str, tuple[str, str]],
    **more: Any,
) -> Any:
    """Return a container; `resources` are request and limit of each, cpu and memory.

    A variable whose value begins with a $ is a field of the pod.
    """
    from lightkube.models import core_v1 as core

    def variable(name: str, value: str) -> core.EnvVar:
        if not value.startswith("$"):
            return core.EnvVar(name=name, value=value)
        field = core.ObjectFieldSelector(fieldPath=value[1:], apiVersion="v1")
        return core.EnvVar(name=name, valueFrom=core.EnvVarSource(fieldRef=field))

    return core.Container(
        name=name,
        image=image,
        env=[variable(*it) for it in environment.items()],
        securityContext=core.SecurityContext(
            allowPrivilegeEscalation=False,
            capabilities=core.Capabilities(drop=["ALL"]),
            readOnlyRootFilesystem=True,
        ),
        resources=core.ResourceRequirements(
            requests={kind: it[0] for kind, it in resources.items()},
            limits={kind: it[1] for kind, it in resources.items()},
        ),
        **{key: list(words) for key, words in command.items()},
        **more,
    )


def deployment(site: Site, name: str, replicas: int, spec: Any, metadata: Any) -> Any:
    """Return a deployment whose new pods are ready before the old ones go."""
    from lightkube.models.apps_v1 import (
        DeploymentSpec,
        DeploymentStrategy,
        RollingUpdateDeployment,
    )
    from lightkube.models.core_v1 import PodTemplateSpec
    from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
    from lightkube.resources.apps_v1 import Deployment

    return Deployment(
        metadata=ObjectMeta(name=name, labels={NAME: name}),
        spec=DeploymentSpec(
            replicas=replicas,
            strategy=DeploymentStrategy(
                type="RollingUpdate",
                rollingUpdate=RollingUpdateDeployment(maxSurge=1, maxUnavailable=0),
            ),
            selector=LabelSelector(matchLabels={NAME: name}),
            template=PodTemplateSpec(metadata=metadata, spec=spec),
        ),
    )


def affinity(site: Site, apart: str = "") -> Any:
    """Return where pods may stand: as the unit; those of the name `apart` on nodes apart."""
    from lightkube.models import core_v1 as core
    from lightkube.models.meta_v1 import LabelSelector

    terms = [
        core.WeightedPodAffinityTerm(
            weight=weight,
            podAffinityTerm=core.PodAffinityTerm(
                labelSelector=LabelSelector(matchLabels={NAME: apart}), topologyKey=key
            ),
        )
        for key, weight in (("kubernetes.io/hostname", 100), ("topology.kubernetes.io/zone", 50))
        if apart
    ]
    spread = core.PodAntiAffinity(preferredDuringSchedulingIgnoredDuringExecution=terms)
    return core.Affinity(nodeAffinity=site.nodes, podAntiAffinity=spread if terms else None)
