"""Envoy in Kubernetes: it faces the internet, so its account may nothing at all."""

import json
from typing import Any

import control_plane
import pods
from pods import NAME, Site

HTTP, HTTPS = 8080, 8443
"""Where Envoy listens, as it may not below 1024."""
_READY = 15021
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label without which a policy of the user's for the Gateway would pass its pods by."""


def objects(site: Site, service_type: str, tls: bool) -> list[Any]:
    """Return all that the gateway consists of; with `tls` TLS ends here, else before it."""
    from lightkube.models.core_v1 import ServicePort, ServiceSpec
    from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
    from lightkube.models.policy_v1 import PodDisruptionBudgetSpec
    from lightkube.resources.core_v1 import Service, ServiceAccount
    from lightkube.resources.policy_v1 import PodDisruptionBudget

    ports = {"http": (80, HTTP), **({"https": (443, HTTPS)} if tls else {})}
    budget = PodDisruptionBudgetSpec(
        maxUnavailable=1, selector=LabelSelector(matchLabels={NAME: site.gateway})
    )
    return [
        ServiceAccount(metadata=ObjectMeta(name=site.gateway), automountServiceAccountToken=False),
        Service(
            metadata=ObjectMeta(name=site.gateway),
            spec=ServiceSpec(
                type=service_type,
                selector={NAME: site.gateway},
                ports=[
                    ServicePort(port=port, name=name, protocol="TCP", targetPort=target)
                    for name, (port, target) in ports.items()
                ],
            ),
        ),
        *(
            [PodDisruptionBudget(metadata=ObjectMeta(name=site.gateway), spec=budget)]
            if site.gateways > 1
            else []
        ),
        _deployment(site, trusted_proxies=0 if tls else 1),
    ]


def _deployment(site: Site, trusted_proxies: int) -> Any:
    from lightkube.models import core_v1 as core
    from lightkube.models.meta_v1 import ObjectMeta

    labels = {NAME: site.gateway, GATEWAY_NAME: site.application, "istio.io/rev": site.application}
    ready = core.HTTPGetAction(port=_READY, path="/healthz/ready")
    proxy = pods.container(
        "istio-proxy",
        site.proxy.name,
        {
            "command": ["/usr/local/bin/pilot-agent"],
            "args": [
                "proxy",
                "router",
                "--domain=$(POD_NAMESPACE).svc.cluster.local",
                "--proxyLogLevel=warning",
                "--proxyComponentLogLevel=misc:error",
                "--log_output_level=default:info",
            ],
        },
        _environment(site, trusted_proxies),
        {"cpu": ("100m", "2"), "memory": ("128Mi", "1Gi")},
        ports=[
            core.ContainerPort(containerPort=port, name=name, protocol="TCP")
            for name, port in {"http": HTTP, "https": HTTPS, "http-envoy-prom": 15090}.items()
        ],
        readinessProbe=core.Probe(httpGet=ready, periodSeconds=5, failureThreshold=3),
        startupProbe=core.Probe(httpGet=ready, periodSeconds=1, failureThreshold=120),
        volumeMounts=[
            core.VolumeMount(name=name, mountPath=path) for name, path in _MOUNTS.items()
        ],
    )
    spec = pods.spec(
        site,
        site.gateway,
        [proxy],
        affinity=pods.affinity(site, apart=site.gateway),
        automountServiceAccountToken=False,
        terminationGracePeriodSeconds=_GRACE,
        volumes=_volumes(),
    )
    return pods.deployment(site, site.gateway, site.gateways, spec, ObjectMeta(labels=labels))


_GRACE = 60
_MOUNTS = {
    "istio-token": "/var/run/secrets/tokens",
    "istio-ca": "/var/run/secrets/istio",
    "workload-socket": "/var/run/secrets/workload-spiffe-uds",
    "envoy": "/etc/istio/proxy",
    "data": "/var/lib/istio/data",
}


def _environment(site: Site, trusted_proxies: int) -> dict[str, str]:
    configuration = {
        "discoveryAddress": control_plane.discovery(site),
        "gatewayTopology": {"numTrustedProxies": trusted_proxies},
        # One that is told to go takes what still comes, until nobody is connected any more.
        "drainDuration": "30s",
        # Beside what Istio has Envoy count: what comes in, and what goes to applications.
        "proxyStatsMatcher": {"inclusionPrefixes": ["cluster.outbound|", "http.outbound_"]},
    }
    return {
        "POD_NAME": "$metadata.name",
        "POD_NAMESPACE": "$metadata.namespace",
        "INSTANCE_IP": "$status.podIP",
        "HOST_IP": "$status.hostIP",
        "SERVICE_ACCOUNT": site.gateway,
        "CA_ADDR": control_plane.discovery(site),
        "PILOT_CERT_PROVIDER": "istiod",
        "PROXY_CONFIG": json.dumps(configuration),
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true",
        # A load balancer before it takes as long to hear that it goes.
        "MINIMUM_DRAIN_DURATION": "20s",
        "ISTIO_META_UNPRIVILEGED_POD": "true",
    }


def _volumes() -> list[Any]:
    from lightkube.models import core_v1 as core

    token = core.ServiceAccountTokenProjection(
        audience="istio-ca", expirationSeconds=43200, path="istio-token"
    )
    projected = core.ProjectedVolumeSource(
        sources=[core.VolumeProjection(serviceAccountToken=token)]
    )
    written = ("workload-socket", "envoy", "data")
    return [
        core.Volume(name="istio-token", projected=projected),
        core.Volume(
            name="istio-ca", configMap=core.ConfigMapVolumeSource(name="istio-ca-root-cert")
        ),
        *(core.Volume(name=it, emptyDir=core.EmptyDirVolumeSource()) for it in written),
    ]
