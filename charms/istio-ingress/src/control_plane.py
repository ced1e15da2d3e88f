"""Istiod in Kubernetes, with the watcher beside it, under an account with the least rights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pods
import yaml
from pods import NAME, Site

from interfaces import forward_auth

_RBAC = "rbac.authorization.k8s.io"
_READ, _STATUS = ["get", "list", "watch"], ["get", "update", "patch"]
_KINDS = ["extensions.istio.io", "networking.istio.io", "security.istio.io", "telemetry.istio.io"]
_DISCOVERY, _METRICS = 15012, 15014
SIGN_IN = "sign-in"
"""The name of who decides at the edge, among Istio's providers."""
RETRY = "connect-failure,refused-stream,reset-before-request,unavailable,cancelled"
"""When a request is made again, at another unit: when none has seen it."""
_LOG = {
    "time": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user": "%REQ(X-KATONIC-USER)%",
    "method": "%REQ(:METHOD)%",
    "host": "%REQ(:AUTHORITY)%",
    # Without what is behind the question mark: a sign-in has its code there.
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "milliseconds": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "user_agent": "%REQ(USER-AGENT)%",
}


@dataclass(frozen=True)
class Mesh:
    """What istiod tells all gateways.

    Attributes:
        sign_in: Who decides about a request; where there is none, nobody passes.
        access_log: Whether each request is logged.
    """

    sign_in: forward_auth.Provider | None
    access_log: bool


def objects(site: Site, mesh: Mesh) -> list[Any]:
    """Return all that istiod consists of."""
    return [*_access(site), *_configuration(site, mesh), _deployment(site)]


def controller(site: Site) -> str:
    """Return the name by which a class of gateways is this istiod's, and no other's."""
    return f"katonic.ai/{site.model}-{site.application}"


def decider(site: Site) -> str:
    """Return the host by which Envoy knows who decides at the edge."""
    return f"{SIGN_IN}.{site.application}.internal"


def _access(site: Site) -> list[Any]:
    """Return its account, which sees one namespace, and of the cluster what belongs to none."""
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
    from lightkube.resources.core_v1 import ServiceAccount
    from lightkube.resources.rbac_authorization_v1 import (
        ClusterRole,
        ClusterRoleBinding,
        Role,
        RoleBinding,
    )

    def rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> PolicyRule:
        return PolicyRule(apiGroups=[group], resources=list(resources), verbs=list(verbs))

    everywhere = f"{site.model}.{site.application}.istiod"
    subjects = [Subject(kind="ServiceAccount", name=site.istiod, namespace=site.model)]
    gateway_api, admission = "gateway.networking.k8s.io", "admissionregistration.k8s.io"
    webhooks = ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"]
    return [
        ServiceAccount(metadata=ObjectMeta(name=site.istiod)),
        ClusterRole(
            metadata=ObjectMeta(name=everywhere),
            rules=[
                rule("", ["namespaces", "nodes"], _READ),
                rule("apiextensions.k8s.io", ["customresourcedefinitions"], _READ),
                rule(gateway_api, ["gatewayclasses"], _READ),
                rule(gateway_api, ["gatewayclasses/status"], _STATUS),
                # It is never ready without, whether or not it has webhooks.
                rule(admission, webhooks, _READ),
                rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
            ],
        ),
        ClusterRoleBinding(
            metadata=ObjectMeta(name=everywhere),
            roleRef=RoleRef(apiGroup=_RBAC, kind="ClusterRole", name=everywhere),
            subjects=subjects,
        ),
        Role(
            metadata=ObjectMeta(name=site.istiod),
            rules=[
                rule("", ["endpoints", "pods", "services"], _READ),
                rule("discovery.k8s.io", ["endpointslices"], _READ),
                rule("networking.k8s.io", ["ingresses"], _READ),
                rule("", ["configmaps", "secrets"], [*_READ, "create", "update", "patch"]),
                rule("coordination.k8s.io", ["leases"], [*_STATUS, "create"]),
                *(rule(it, ["*"], _READ) for it in (*_KINDS, gateway_api)),
                *(rule(it, ["*/status"], _STATUS) for it in (*_KINDS, gateway_api)),
            ],
        ),
        RoleBinding(
            metadata=ObjectMeta(name=site.istiod),
            roleRef=RoleRef(apiGroup=_RBAC, kind="Role", name=site.istiod),
            subjects=subjects,
        ),
    ]


def _configuration(site: Site, mesh: Mesh) -> list[Any]:
    from lightkube.models.core_v1 import ServicePort, ServiceSpec
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap, Service

    ports = {"grpc-xds": _DISCOVERY, "http-metrics": _METRICS, "http-watcher": pods.WATCHER}
    spec = ServiceSpec(
        selector={NAME: site.istiod},
        ports=[
            ServicePort(port=port, name=name, protocol="TCP", targetPort=port)
            for name, port in ports.items()
        ],
    )
    return [
        ConfigMap(
            metadata=ObjectMeta(name=f"istio-{site.application}"),
            data={"mesh": yaml.safe_dump(_mesh(site, mesh), width=1000)},
        ),
        Service(metadata=ObjectMeta(name=site.istiod), spec=spec),
    ]


def _mesh(site: Site, mesh: Mesh) -> dict[str, Any]:
    """Return Istio's MeshConfig.

    No provider of metrics: it would bring Envoy filters that Envoy as it is does not have.
    """
    log = {
        "accessLogFile": "/dev/stdout",
        "accessLogEncoding": "JSON",
        "accessLogFormat": json.dumps(_LOG),
    }
    return {
        "rootNamespace": site.model,
        "trustDomain": "cluster.local",
        "ingressControllerMode": "OFF",
        "enableAutoMtls": False,
        "enableTracing": False,
        "defaultConfig": {"discoveryAddress": discovery(site)},
        "defaultHttpRetryPolicy": {"attempts": 3, "retryOn": RETRY},
        "extensionProviders": [{"name": SIGN_IN, "envoyExtAuthzHttp": _sign_in(site, mesh)}],
        **(log if mesh.access_log else {}),
    }


def _sign_in(site: Site, mesh: Mesh) -> dict[str, Any]:
    """Return how Envoy asks who decides: about every request, so it must be there always."""
    decisions = urlsplit(mesh.sign_in.decisions_address if mesh.sign_in else "")
    headers = list(mesh.sign_in.headers) if mesh.sign_in else []
    path = decisions.path.rstrip("/")
    return {
        "service": decider(site),
        "port": decisions.port or 80,
        "timeout": "10s",
        "statusOnError": "503",
        "includeRequestHeadersInCheck": [
            "accept",
            "authorization",
            "cookie",
            "user-agent",
            "x-forwarded-*",
            "x-request-id",
            "x-requested-with",
        ],
        "headersToUpstreamOnAllow": headers,
        "headersToDownstreamOnAllow": ["set-cookie"],
        "headersToDownstreamOnDeny": [
            "cache-control",
            "content-type",
            "location",
            "set-cookie",
            "www-authenticate",
        ],
        **({"pathPrefix": path} if path else {}),
    }


def discovery(site: Site) -> str:
    """Return where gateways ask for their configuration, and for their certificate of the mesh."""
    return f"{site.istiod}.{site.model}.svc:{_DISCOVERY}"


def _deployment(site: Site) -> Any:
    from lightkube.models import core_v1 as core
    from lightkube.models.meta_v1 import ObjectMeta

    ready = core.Probe(httpGet=core.HTTPGetAction(port=8080, path="/ready"), periodSeconds=3)
    istiod = pods.container(
        "istiod",
        site.pilot.name,
        {
            "command": ["/usr/local/bin/pilot-discovery"],
            "args": [
                "discovery",
                f"--monitoringAddr=:{_METRICS}",
                "--log_output_level=default:info",
                "--domain=cluster.local",
                "--keepaliveMaxServerConnectionAge=30m",
            ],
        },
        _environment(site),
        {"cpu": ("100m", "2"), "memory": ("256Mi", "1Gi")},
        readinessProbe=ready,
        startupProbe=core.Probe(httpGet=ready.httpGet, periodSeconds=1, failureThreshold=120),
        livenessProbe=core.Probe(
            tcpSocket=core.TCPSocketAction(port=_DISCOVERY), periodSeconds=10, failureThreshold=3
        ),
    )
    health = core.HTTPGetAction(port=pods.WATCHER, path="/health")
    watcher = pods.container(
        "watcher",
        site.watcher,
        {"command": [pods.PYTHON, "-m", "watcher", "watch", f"--listen={pods.WATCHER}"]},
        pods.ENVIRONMENT,
        {"cpu": ("10m", "500m"), "memory": ("32Mi", "128Mi")},
        readinessProbe=core.Probe(httpGet=health, periodSeconds=3),
    )
    return pods.deployment(
        site,
        site.istiod,
        1,
        pods.spec(site, site.istiod, [istiod, watcher], affinity=pods.affinity(site)),
        ObjectMeta(labels={NAME: site.istiod}),
    )


def _environment(site: Site) -> dict[str, str]:
    """Return istiod's settings: one namespace, no sidecars, no gateways that it makes itself."""
    return {
        "POD_NAME": "$metadata.name",
        "POD_NAMESPACE": "$metadata.namespace",
        "SERVICE_ACCOUNT": site.istiod,
        "REVISION": site.application,
        "CLUSTER_ID": "Kubernetes",
        "ISTIO_WATCH_NAMESPACE": site.model,
        "ISTIOD_CUSTOM_HOST": f"{site.istiod}.{site.model}.svc",
        "INJECT_ENABLED": "false",
        "INJECTION_WEBHOOK_CONFIG_NAME": "",
        "VALIDATION_WEBHOOK_CONFIG_NAME": "",
        "PILOT_ENABLE_CA_CRL": "false",
        "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "false",
        "PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER": "false",
        "PILOT_GATEWAY_API_CONTROLLER_NAME": controller(site),
        "PILOT_SCOPE_GATEWAY_TO_NAMESPACE": "true",
        # What these add is in Istio's build of Envoy alone; without, any Envoy serves.
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
    }
