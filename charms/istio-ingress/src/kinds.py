"""The kinds of objects of the Gateway API and of Istio, of which lightkube knows none itself."""

from typing import Any

_KINDS = {
    "AuthorizationPolicy": ("security.istio.io", "v1", "authorizationpolicies"),
    "DestinationRule": ("networking.istio.io", "v1", "destinationrules"),
    "EnvoyFilter": ("networking.istio.io", "v1alpha3", "envoyfilters"),
    "Gateway": ("gateway.networking.k8s.io", "v1", "gateways"),
    "GatewayClass": ("gateway.networking.k8s.io", "v1", "gatewayclasses"),
    "HTTPRoute": ("gateway.networking.k8s.io", "v1", "httproutes"),
    "ServiceEntry": ("networking.istio.io", "v1", "serviceentries"),
    "Telemetry": ("telemetry.istio.io", "v1", "telemetries"),
    "TrafficExtension": ("extensions.istio.io", "v1alpha1", "trafficextensions"),
    "WasmPlugin": ("extensions.istio.io", "v1alpha1", "wasmplugins"),
}


def learn() -> None:
    """Have lightkube know them all: what there was of a kind is looked for when none is wanted."""
    for it in _KINDS:
        kind(it)


def kind(name: str) -> Any:
    """Return the class of a kind's objects."""
    from lightkube.generic_resource import create_global_resource, create_namespaced_resource

    group, version, plural = _KINDS[name]
    everywhere = name == "GatewayClass"
    create = create_global_resource if everywhere else create_namespaced_resource
    return create(group, version, name, plural)
