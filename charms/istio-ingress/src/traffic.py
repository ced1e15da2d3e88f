"""What the gateway serves, as objects of the Gateway API and of Istio."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import control_plane
import kinds
from certificate import Certificate
from pods import NAME, Site
from routes import Route, is_address, pods

from interfaces import forward_auth

OPEN, GUARDED = "open", "guarded"
"""How rules of routes are called: Envoy lets through unasked what is called open."""
_SAFE = {"-get": "GET", "-head": "HEAD"}
"""What is behind the name of a rule for requests that change nothing, and their method."""
_SLASH = "-slash"
"""What is behind the name of a rule for requests that lack a slash."""
_MIB = 2**20
_FOREIGN = ("EnvoyFilter", "Telemetry", "TrafficExtension", "WasmPlugin")
"""The kinds by which others change what Envoy is made to load."""


@dataclass(frozen=True)
class Edge:
    """How requests are received.

    Attributes:
        host: The name of all routes that have none of their own, or an address.
        certificate: What is shown where TLS ends here; None where it ends before.
        upload_limit: MiB that a request may bring; 0 for no limit.
        request_timeout: Seconds that an answer may take; 0 for no limit.
    """

    host: str
    certificate: Certificate | None
    upload_limit: int
    request_timeout: int


def objects(
    site: Site, edge: Edge, routes: Sequence[Route], sign_in: forward_auth.Provider | None
) -> list[Any]:
    """Return all of it, what guards before what is guarded."""
    return [
        *_entry(site, edge),
        _decider(site, sign_in),
        *_guard(site, edge),
        *(it for route in routes for it in _route(site, edge, route)),
    ]


def suspects(cluster: Any, application: str) -> list[str]:
    """Return the objects of others that change what Envoy loads, the newest first."""
    found = []
    for kind in _FOREIGN:
        for it in cluster.list(kinds.kind(kind)):
            labels = it.metadata.labels or {}
            if labels.get("katonic.ai/application") != application:
                found.append((str(it["metadata"].get("creationTimestamp")), kind, it))
    found.sort(key=lambda it: it[0], reverse=True)
    return [f"{kind} {it.metadata.name}" for _, kind, it in found]


def _object(site: Site, kind: str, name: str, spec: Mapping[str, Any]) -> Any:
    from lightkube.models.meta_v1 import ObjectMeta

    # Of what has no revision istiod, which has one, would not write the status.
    labels = {"istio.io/rev": site.application}
    return kinds.kind(kind)(metadata=ObjectMeta(name=name, labels=labels), spec=spec)


def _entry(site: Site, edge: Edge) -> Iterable[Any]:
    """Return where requests come in."""
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Secret

    name = f"{site.model}.{site.application}.gateways"
    kind = {"controllerName": control_plane.controller(site)}
    yield _object(site, "GatewayClass", name, kind)
    listeners: list[dict[str, Any]] = [{"name": "http", "port": 80, "protocol": "HTTP"}]
    if edge.certificate:
        # A name for each signer, so that the log says which it is.
        secret = f"{site.application}-{'own-' if edge.certificate.own else ''}certificate"
        pem = {"tls.crt": edge.certificate.chain, "tls.key": edge.certificate.key}
        yield Secret(
            metadata=ObjectMeta(name=secret),
            type="kubernetes.io/tls",
            data={key: base64.b64encode(it.encode()).decode() for key, it in pem.items()},
        )
        tls = {"mode": "Terminate", "certificateRefs": [{"name": secret}]}
        listeners.append({"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls})
    # One with an address of its own is somebody's deployment, and Istio makes none.
    where = f"{site.gateway}.{site.model}.svc.cluster.local"
    spec = {
        "gatewayClassName": name,
        "addresses": [{"type": "Hostname", "value": where}],
        "listeners": listeners,
    }
    yield _object(site, "Gateway", site.application, spec)
    if edge.certificate:
        redirect = {"scheme": "https", "statusCode": 301}
        spec = {
            "parentRefs": [{"name": site.application, "sectionName": "http"}],
            "rules": [
                {
                    "name": OPEN,
                    "filters": [{"type": "RequestRedirect", "requestRedirect": redirect}],
                }
            ],
        }
        yield _object(site, "HTTPRoute", f"{site.application}-https", spec)


def _decider(site: Site, sign_in: forward_auth.Provider | None) -> Any:
    """Return who decides about requests, as Envoy knows it: nobody where there is no one."""
    where = urlsplit(sign_in.decisions_address if sign_in else "http://127.0.0.1:9")
    return _service(
        site,
        control_plane.SIGN_IN,
        control_plane.decider(site),
        where.port or 80,
        {"resolution": "DNS", "endpoints": [{"address": where.hostname}]},
    )


def _guard(site: Site, edge: Edge) -> Iterable[Any]:
    """Return what asks about every request, but for the rules called open.

    Both find pods by the label by which the service does: who lacks it is sent nothing. By the
    Gateway they would need another label, and without that pass a pod by in silence.
    """
    selected = {NAME: site.gateway}
    spec = {
        "selector": {"matchLabels": selected},
        "action": "CUSTOM",
        "provider": {"name": control_plane.SIGN_IN},
        "rules": [{}],
    }
    yield _object(site, "AuthorizationPolicy", f"{site.application}-{control_plane.SIGN_IN}", spec)
    patches = [
        *(_pass(f"{OPEN}{it}") for it in ("", *_SAFE, _SLASH)),
        *(_again(f"{door}{it}") for door in (OPEN, GUARDED) for it in _SAFE),
        _ask_again(),
        _not_found(),
        *([_limited(edge.upload_limit)] if edge.upload_limit else []),
        _unforged(),
    ]
    spec = {
        "workloadSelector": {"labels": selected},
        "configPatches": patches,
    }
    yield _object(site, "EnvoyFilter", f"{site.application}-requests", spec)


def _type(name: str) -> str:
    return f"type.googleapis.com/envoy.{name}"


_CONNECTIONS = {"name": "envoy.filters.network.http_connection_manager"}
_DECIDES = "envoy.filters.http.ext_authz"
_UNASKED = {
    _DECIDES: {
        "@type": _type("extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
        "disabled": True,
    }
}


def _pass(rule: str) -> dict[str, Any]:
    """Return what lets through whatever a rule of this name matches.

    It hangs on the route that was chosen: who compared paths once more could see another path.
    """
    return _merge(rule, {"typed_per_filter_config": _UNASKED})


def _again(rule: str) -> dict[str, Any]:
    """Return what makes a request again that a unit has dropped before it answered."""
    return _merge(rule, {"route": {"retry_policy": {"retry_on": f"{control_plane.RETRY},reset"}}})


def _ask_again() -> dict[str, Any]:
    """Return what asks who decides again where nobody answers, which that one is used to.

    As often as it takes to meet one of its units that does: Kubernetes chooses at random.
    """
    policy = {"num_retries": 5, "retry_on": "5xx,reset,connect-failure"}
    value = {
        "name": _DECIDES,
        "typed_config": {
            "@type": _type("extensions.filters.http.ext_authz.v3.ExtAuthz"),
            "http_service": {"retry_policy": policy},
        },
    }
    listener = {"filterChain": {"filter": {**_CONNECTIONS, "subFilter": {"name": _DECIDES}}}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": listener},
        "patch": {"operation": "MERGE", "value": value},
    }


def _merge(rule: str, value: Mapping[str, Any]) -> dict[str, Any]:
    match = {"context": "GATEWAY", "routeConfiguration": {"vhost": {"route": {"name": rule}}}}
    return {
        "applyTo": "HTTP_ROUTE",
        "match": match,
        "patch": {"operation": "MERGE", "value": value},
    }


def _not_found() -> dict[str, Any]:
    """Return the last route, for what no other matches: that nobody is asked about."""
    value = {
        "name": "not-found",
        "match": {"prefix": "/"},
        "direct_response": {"status": 404},
        "typed_per_filter_config": _UNASKED,
    }
    return {
        "applyTo": "HTTP_ROUTE",
        "match": {"context": "GATEWAY"},
        "patch": {"operation": "ADD", "value": value},
    }


def _first(name: str, kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has a filter of Envoy's see each request before everything else."""
    typed = {"@type": _type(f"extensions.filters.http.{kind}"), **settings}
    value = {"name": f"katonic.{name}", "typed_config": typed}
    listener = {"filterChain": {"filter": _CONNECTIONS}}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "GATEWAY", "listener": listener},
        "patch": {"operation": "INSERT_FIRST", "value": value},
    }


def _unforged() -> dict[str, Any]:
    """Return what leaves to the gateway alone who a person is, and where a request came in."""
    host = {"key": "x-forwarded-host", "value": "%REQ(:AUTHORITY)%"}
    mutations = [
        {"remove_on_match": {"key_matcher": {"prefix": "x-katonic-"}}},
        *({"remove": it} for it in ("x-forwarded-prefix", "x-forwarded-port", "forwarded")),
        {"append": {"header": host, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}},
    ]
    settings = {"mutations": {"request_mutations": mutations}}
    return _first("headers", "header_mutation.v3.HeaderMutation", settings)


def _limited(mib: int) -> dict[str, Any]:
    """Return what refuses a request that says of itself that it brings more."""
    script = _LIMIT.format(bytes=mib * _MIB, mib=mib)
    return _first("upload-limit", "lua.v3.Lua", {"default_source_code": {"inline_string": script}})


_LIMIT = """\
function envoy_on_request(request)
  local length = tonumber(request:headers():get("content-length"))
  if length and length > {bytes} then
    request:respond({{[":status"] = "413"}}, "More than {mib} MiB.\\n")
  end
end
"""


def _route(site: Site, edge: Edge, route: Route) -> Iterable[Any]:
    """Return an application's place: who it is, how it is spoken to, what comes to it."""
    asked, host = route.application, f"{route.name}.{site.application}.internal"
    if asked.model == site.model and pods(asked.name, asked.model, asked.hosts):
        units = {"resolution": "STATIC", "workloadSelector": {"labels": {NAME: asked.name}}}
    else:
        endpoints = [{"address": it} for it in sorted(set(asked.hosts))]
        units = {"resolution": "DNS", "endpoints": endpoints}
    protocol = "HTTP2" if asked.scheme == "h2c" else "HTTP"
    yield _service(site, route.name, host, asked.port, units, protocol)
    # A server closes what is idle for some seconds: what was sent just then would be lost.
    policy: dict[str, Any] = {
        "connectionPool": {"http": {"idleTimeout": "1s"}},
        # In turns: a pod is ready before its workload listens, and whoever looked for the unit
        # with the fewest requests would try that one again and again.
        "loadBalancer": {"simple": "ROUND_ROBIN"},
    }
    if asked.scheme == "https":
        policy["tls"] = {"mode": "SIMPLE", "insecureSkipVerify": True}
    spec = {"host": host, "trafficPolicy": policy, "exportTo": ["."]}
    yield _object(site, "DestinationRule", f"{site.application}-{route.name}", spec)
    yield _http_route(site, edge, route, host)


def _service(
    site: Site, name: str, host: str, port: int, units: Mapping[str, Any], protocol: str = "HTTP"
) -> Any:
    spec = {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "ports": [{"number": port, "name": protocol.lower(), "protocol": protocol}],
        "exportTo": ["."],
        **units,
    }
    return _object(site, "ServiceEntry", f"{site.application}-{name}", spec)


def _http_route(site: Site, edge: Edge, route: Route, host: str) -> Any:
    asked = route.application
    stripped = asked.strip_prefix and route.path != "/"
    filters: list[dict[str, Any]] = []
    if stripped:
        rewrite = {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}
        prefix = {"set": [{"name": "X-Forwarded-Prefix", "value": route.path}]}
        filters += [
            {"type": "URLRewrite", "urlRewrite": {"path": rewrite}},
            {"type": "RequestHeaderModifier", "requestHeaderModifier": prefix},
        ]
    # A stream of h2c, gRPC's, may go on for ever: its clients say themselves how long they wait.
    seconds = 0 if asked.scheme == "h2c" else edge.request_timeout
    backend = {
        "group": "networking.istio.io",
        "kind": "Hostname",
        "name": host,
        "port": asked.port,
    }
    door, path = _door(route), {"type": "PathPrefix", "value": route.path}
    rule = {
        "filters": filters,
        "timeouts": {"request": f"{seconds}s"},
        "backendRefs": [backend],
    }
    # A match each: a prefix is taken away only where there is one.
    safe = {f"{door}{it}": {"path": path, "method": method} for it, method in _SAFE.items()}
    rules = [
        *(
            {"name": name, "matches": [it], **rule}
            for name, it in {**safe, door: {"path": path}}.items()
        ),
        *([_slash(route)] if stripped else []),
    ]
    own = route.host or (None if is_address(edge.host) else edge.host)
    parent = {
        "name": site.application,
        "sectionName": "https" if edge.certificate else "http",
    }
    spec = {
        "parentRefs": [parent],
        **({"hostnames": [own]} if own else {}),
        "rules": rules,
    }
    return _object(site, "HTTPRoute", f"{site.application}-{route.name}", spec)


def _door(route: Route) -> str:
    return GUARDED if route.sign_in == "edge" else OPEN


def _slash(route: Route) -> dict[str, Any]:
    """Return what adds a page's slash, without which its relative links would miss the prefix."""
    path = {"type": "ReplaceFullPath", "replaceFullPath": f"{route.path}/"}
    match = {"path": {"type": "Exact", "value": route.path}, "method": "GET"}
    redirect = {"type": "RequestRedirect", "requestRedirect": {"path": path, "statusCode": 302}}
    return {
        "name": f"{_door(route)}{_SLASH}",
        "matches": [match],
        "filters": [redirect],
    }
