"""What the charm wants, and how it stands in Kubernetes."""

import base64
import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ops
import pytest
import yaml
from lightkube.models.core_v1 import (
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
)

from interfaces import forward_auth, tls_certificates
from katonic import Invalid, NotYet

_spec = importlib.util.spec_from_file_location("own", Path(__file__).with_name("own.py"))
assert _spec
assert _spec.loader
own = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(own)
its = own.modules()
charm, follower, images, options, pods, routes, surroundings = (
    its[it] for it in ("charm", "follower", "images", "options", "pods", "routes", "surroundings")
)
certificate = its["certificate"]

OPTIONS = options.Options(
    external_hostname="mlops.example",
    service_type="LoadBalancer",
    tls_termination="edge",
    routes="",
    upload_limit=0,
    request_timeout=3600,
    access_log=True,
)
POOL = NodeAffinity(
    requiredDuringSchedulingIgnoredDuringExecution=NodeSelector(
        nodeSelectorTerms=[
            NodeSelectorTerm(
                matchExpressions=[
                    NodeSelectorRequirement(
                        key="katonic.ai/node-pool", operator="In", values=["platform"]
                    )
                ]
            )
        ]
    )
)
SITE = pods.Site(
    application="istio-ingress",
    model="lab",
    watcher="registry.example/istio-ingress:1",
    pilot=images.Image("registry.example/pilot:1"),
    proxy=images.Image("registry.example/proxy:1"),
    pull_secrets=("pull",),
    nodes=POOL,
)
AROUND = surroundings.Surroundings(SITE, "mlops.example")
SIGN_IN = forward_auth.Provider(
    decisions_address="http://katonic-ui.lab.svc.cluster.local:8080/decisions",
    app_names=("mlflow", "files"),
    headers=("x-katonic-user",),
)
CERTIFICATE = certificate.Certificate("CHAIN", "AUTHORITY", "KEY", own=True)
REPORT = follower.Report(istiod=follower.Istiod(gateways=("gateway-1",)))


def application(name: str, relation: int = 1, **more: Any) -> Any:
    hosts = (f"{name}-0.{name}-endpoints.lab.svc.cluster.local",)
    told = {"port": 5000, "scheme": "http", "strip_prefix": True, "hosts": hosts, "model": "lab"}
    return routes.Application(relation=relation, name=name, **{**told, **more})


STATE = charm.State(
    around=AROUND,
    options=OPTIONS,
    identity=certificate.Identity(CERTIFICATE, ("REQUEST",)),
    applications=[application("mlflow")],
    sign_in=SIGN_IN,
    report=REPORT,
)


def having(said: str = "", **more: Any) -> Any:
    """Return the state with these routes, and other parts."""
    changed = {it: more.pop(it) for it in list(more) if it in dir(OPTIONS)}
    words = {it: getattr(OPTIONS, it) for it in OPTIONS.__struct_fields__}
    changed = options.Options(**{**words, "routes": said, **changed})
    return dataclasses.replace(STATE, options=changed, **more)


def made(state: Any = STATE) -> dict[str, dict[str, Any]]:
    """Return the objects by kind and name."""
    found = [it.to_dict() for it in charm.plan(state).resources or ()]
    for it, plain in zip(charm.plan(state).resources or (), found, strict=True):
        plain.setdefault("kind", type(it).__name__)
    return {f"{it['kind']} {it['metadata']['name']}": it for it in found}


def urls(state: Any) -> dict[int, str]:
    return {key: it.url for key, it in charm.plan(state).offers["ingress"].items()}


def status(state: Any) -> ops.StatusBase:
    return charm.plan(state).status


def rules(name: str = "mlflow-1", state: Any = STATE) -> list[dict[str, Any]]:
    return made(state)[f"HTTPRoute istio-ingress-{name}"]["spec"]["rules"]


# Where an application is.


def test_an_application_is_at_its_model_and_name_unless_the_user_says_otherwise():
    assert urls(STATE) == {1: "https://mlops.example/lab-mlflow"}
    assert urls(having("mlflow: {path: /mlflow}")) == {1: "https://mlops.example/mlflow"}
    assert urls(having("mlflow: {path: /}")) == {1: "https://mlops.example"}
    own_host = having("mlflow: {path: /, host: mlflow.example}")
    assert urls(own_host) == {1: "https://mlflow.example"}


def test_an_address_of_ipv6_stands_in_brackets():
    around = dataclasses.replace(AROUND, host="2001:db8::1")
    assert urls(having(around=around)) == {1: "https://[2001:db8::1]/lab-mlflow"}
    route = made(having(around=around))["HTTPRoute istio-ingress-mlflow-1"]
    assert "hostnames" not in route["spec"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("mlflow: {path: mlflow}", "config routes: mlflow: path=mlflow: "),
        ("mlflow: {path: /mlflow/}", "config routes: mlflow: path=/mlflow/: "),
        ("mlflow: {path: /a/../b}", "config routes: mlflow: path=/a/../b: "),
        ("mlflow: {path: /a b}", "config routes: mlflow: path=/a b: "),
        ("mlflow: {host: Example.com}", "config routes: mlflow: host=Example.com: "),
        (
            "mlflow: {sign-in: maybe}",
            "config routes: mlflow: sign-in=maybe: invalid enum value 'maybe'; "
            "allowed: edge, own, none",
        ),
        ("mlflow: {folder: /x}", "config routes: mlflow: folder; allowed: path, host, sign-in"),
        ("mlflow: /x", "config routes: mlflow=/x: expected a mapping; allowed: path, host"),
        ("[mlflow]", "config routes: expected a mapping"),
        ("mlflow: }", "config routes: line 1: "),
    ],
)
def test_a_wrong_route_is_named_with_what_is_allowed(said, message):
    with pytest.raises(Invalid, match=f"^{re.escape(message)}") as raised:
        charm.plan(having(said))
    assert "\n" not in str(raised.value)


def test_who_wants_the_place_of_another_is_refused_by_name_and_the_first_goes_on():
    both = [application("files", 7), application("mlflow", 3)]
    said = "{mlflow: {path: /x}, files: {path: /x}}"
    assert urls(having(said, applications=both)) == {3: "https://mlops.example/x"}
    assert status(having(said, applications=both)) == ops.BlockedStatus(
        "files: /x is mlflow's; give it another in routes"
    )
    assert urls(having(said, applications=both[:1])) == {7: "https://mlops.example/x"}


def test_the_same_path_on_a_host_of_its_own_is_another_place():
    both = [application("files", 7), application("mlflow", 3)]
    said = "{mlflow: {path: /x}, files: {path: /x, host: files.example}}"
    assert len(urls(having(said, applications=both))) == 2


def test_an_application_that_is_gone_leaves_nothing():
    assert not urls(having(applications=[]))
    kinds = {it.partition(" ")[0] for it in made(having(applications=[])) if "mlflow" in it}
    assert not kinds
    assert status(having(applications=[])) == ops.ActiveStatus("0 routes on https://mlops.example")


# Who is asked to sign in.


def test_who_has_no_sign_in_is_not_served_before_there_is_who_asks_for_it():
    alone = having("mlflow: {path: /mlflow}", sign_in=None)
    assert not urls(alone)
    assert "HTTPRoute istio-ingress-mlflow-1" not in made(alone)
    assert status(alone) == ops.BlockedStatus(
        "integrate forward-auth, or set sign-in of mlflow in routes"
    )


@pytest.mark.parametrize("sign_in", ["own", "none"])
def test_who_needs_no_sign_in_at_the_edge_is_served_without(sign_in):
    alone = having(f"mlflow: {{sign-in: {sign_in}}}", sign_in=None)
    assert urls(alone) == {1: "https://mlops.example/lab-mlflow"}
    assert status(alone) == ops.ActiveStatus("1 route on https://mlops.example")


def test_who_is_not_guarded_yet_waits():
    unguarded = having(applications=[application("other")])
    assert not urls(unguarded)
    assert status(unguarded) == ops.WaitingStatus("waiting for forward-auth to guard other")


def test_forward_auth_hears_whom_it_is_to_guard():
    both = [application("mlflow"), application("files", 2), application("ui", 3)]
    asked = charm.plan(having("ui: {sign-in: own}", applications=both)).asks["forward-auth"]
    assert asked == forward_auth.Requirer(ingress_app_names=("files", "mlflow"))


def patched(part: str) -> set[str]:
    """Return the names of the rules whose routes get a part."""
    patches = made()["EnvoyFilter istio-ingress-requests"]["spec"]["configPatches"]
    return {
        it["match"]["routeConfiguration"]["vhost"]["route"]["name"]
        for it in patches
        if it["patch"]["operation"] == "MERGE" and part in it["patch"]["value"]
    }


def test_what_changes_nothing_is_asked_again_when_a_unit_drops_it_and_nothing_else():
    again = patched("route")
    assert again == {"open-get", "open-head", "guarded-get", "guarded-head"}
    (methods,) = zip(*(it["matches"] for it in rules() if it["name"] in again), strict=True)
    assert [it["method"] for it in methods] == ["GET", "HEAD"]


def test_every_request_is_asked_about_but_for_rules_that_are_called_open():
    policy = made()["AuthorizationPolicy istio-ingress-sign-in"]["spec"]
    assert (policy["action"], policy["rules"]) == ("CUSTOM", [{}])
    opened = patched("typed_per_filter_config")
    assert opened == {"open", "open-get", "open-head", "open-slash"}
    assert {it["name"] for it in rules()} == {it.replace("open", "guarded") for it in opened}
    said = having("mlflow: {sign-in: own}")
    assert {it["name"] for it in rules(state=said)} == opened


def test_a_pod_that_no_policy_finds_is_sent_nothing():
    service = made()["Service istio-ingress-gateway"]["spec"]["selector"]
    policy = made()["AuthorizationPolicy istio-ingress-sign-in"]["spec"]["selector"]
    filters = made()["EnvoyFilter istio-ingress-requests"]["spec"]["workloadSelector"]
    assert policy["matchLabels"] == filters["labels"] == service


def test_a_policy_of_the_users_for_the_gateway_finds_its_pods():
    pod = made()["Deployment istio-ingress-gateway"]["spec"]["template"]["metadata"]
    assert pod["labels"]["gateway.networking.k8s.io/gateway-name"] == "istio-ingress"
    assert "Gateway istio-ingress" in made()


def test_what_guards_is_there_before_what_is_guarded():
    order = list(made())
    assert order.index("AuthorizationPolicy istio-ingress-sign-in") < order.index(
        "HTTPRoute istio-ingress-mlflow-1"
    )


def mesh(state: Any = STATE) -> dict[str, Any]:
    return yaml.safe_load(made(state)["ConfigMap istio-istio-ingress"]["data"]["mesh"])


def test_who_decides_is_asked_where_it_says_and_its_headers_are_passed_on():
    (provider,) = mesh()["extensionProviders"]
    said = provider["envoyExtAuthzHttp"]
    assert (said["port"], said["pathPrefix"]) == (8080, "/decisions")
    assert said["headersToUpstreamOnAllow"] == ["x-katonic-user"]
    assert "failOpen" not in said
    entry = made()["ServiceEntry istio-ingress-sign-in"]["spec"]
    assert entry["hosts"] == [said["service"]]
    assert entry["endpoints"] == [{"address": "katonic-ui.lab.svc.cluster.local"}]


def test_while_nobody_decides_nobody_answers_for_it():
    alone = having(sign_in=None)
    entry = made(alone)["ServiceEntry istio-ingress-sign-in"]["spec"]
    assert entry["endpoints"] == [{"address": "127.0.0.1"}]
    assert "AuthorizationPolicy istio-ingress-sign-in" in made(alone)


# How requests reach an application.


def test_the_prefix_is_taken_away_where_the_application_wants_that():
    *both, slash = rules()
    for it in both:
        kinds = {that["type"] for that in it["filters"]}
        assert kinds == {"URLRewrite", "RequestHeaderModifier"}
    assert slash["matches"][0]["path"] == {"type": "Exact", "value": "/lab-mlflow"}
    whole = having(applications=[application("mlflow", strip_prefix=False)])
    assert [it["filters"] for it in rules(state=whole)] == [[], [], []]


def entry(state: Any = STATE) -> dict[str, Any]:
    return made(state)["ServiceEntry istio-ingress-mlflow-1"]["spec"]


def test_pods_of_the_model_are_found_by_their_label():
    assert entry()["workloadSelector"] == {"labels": {"app.kubernetes.io/name": "mlflow"}}


@pytest.mark.parametrize(
    ("hosts", "model"),
    [
        (("mlflow-0.mlflow-endpoints.other.svc.cluster.local",), "other"),
        (("10.1.0.7", "10.1.0.8"), "lab"),
        (("mlflow-server.lab.svc.cluster.local",), "lab"),
        (("files-0.files-endpoints.lab.svc.cluster.local",), "lab"),
    ],
)
def test_others_are_found_by_the_names_that_they_say(hosts, model):
    asked = application("mlflow", hosts=hosts, model=model)
    found = entry(having(applications=[asked]))
    assert [it["address"] for it in found["endpoints"]] == list(hosts)
    assert "workloadSelector" not in found


@pytest.mark.parametrize(
    ("scheme", "protocol", "tls", "timeout"),
    [
        ("http", "HTTP", False, "3600s"),
        ("https", "HTTP", True, "3600s"),
        ("h2c", "HTTP2", False, "0s"),
    ],
)
def test_each_is_spoken_to_as_it_speaks(scheme, protocol, tls, timeout):
    state = having(applications=[application("mlflow", scheme=scheme)])
    assert entry(state)["ports"][0]["protocol"] == protocol
    policy = made(state)["DestinationRule istio-ingress-mlflow-1"]["spec"]["trafficPolicy"]
    assert ("tls" in policy) is tls
    assert rules(state=state)[0]["timeouts"] == {"request": timeout}


def first(state: Any) -> dict[str, Any]:
    """Return the filters that see a request before all others, by name."""
    patches = made(state)["EnvoyFilter istio-ingress-requests"]["spec"]["configPatches"]
    found = [it["patch"]["value"] for it in patches if it["patch"]["operation"] == "INSERT_FIRST"]
    return {it["name"]: it["typed_config"] for it in found}


def test_what_a_request_brings_is_limited_where_there_is_a_limit():
    assert set(first(STATE)) == {"katonic.headers"}
    limit = first(having(upload_limit=5))["katonic.upload-limit"]["default_source_code"]
    assert f"length > {5 * 2**20}" in limit["inline_string"]
    assert "413" in limit["inline_string"]


def test_a_unit_that_takes_no_connections_is_not_tried_again_and_again():
    policy = made()["DestinationRule istio-ingress-mlflow-1"]["spec"]["trafficPolicy"]
    assert policy["loadBalancer"] == {"simple": "ROUND_ROBIN"}


def test_requests_are_logged_where_that_is_wanted_and_never_what_is_behind_the_question_mark():
    said = json.loads(mesh()["accessLogFormat"])
    assert "REQ(:PATH)" not in json.dumps(said)
    assert {"request_id", "status", "user"} <= said.keys()
    assert "accessLogFile" not in mesh(having(access_log=False))


# Where TLS ends.


def ports(state: Any) -> list[int]:
    service = made(state)["Service istio-ingress-gateway"]
    return [it["port"] for it in service["spec"]["ports"]]


def test_tls_ends_here_and_plain_http_is_sent_there():
    assert ports(STATE) == [80, 443]
    secret = made()["Secret istio-ingress-own-certificate"]
    assert base64.b64decode(secret["data"]["tls.key"]) == b"KEY"
    (redirect,) = made()["HTTPRoute istio-ingress-https"]["spec"]["rules"]
    assert redirect["filters"][0]["requestRedirect"] == {"scheme": "https", "statusCode": 301}
    assert redirect["name"] == "open"


def test_behind_who_ends_tls_port_80_is_all_and_its_word_is_believed():
    behind = having(tls_termination="upstream", identity=None)
    assert ports(behind) == [80]
    assert not {it for it in made(behind) if it.startswith("Secret")}
    assert "HTTPRoute istio-ingress-https" not in made(behind)
    assert urls(behind) == {1: "https://mlops.example/lab-mlflow"}
    assert [proxies(it) for it in (STATE, behind)] == [0, 1]


def proxies(state: Any) -> int:
    said = json.loads(environment("gateway", state)["PROXY_CONFIG"]["value"])
    return said["gatewayTopology"]["numTrustedProxies"]


def test_a_service_without_an_address_needs_a_name():
    with pytest.raises(Invalid, match=r"^config external-hostname=: a service of type NodePort"):
        options.Options(
            **{
                **{it: getattr(OPTIONS, it) for it in OPTIONS.__struct_fields__},
                "external_hostname": "",
                "service_type": "NodePort",
            }
        ).check()


# What runs.


def spec(name: str, state: Any = STATE) -> dict[str, Any]:
    return made(state)[f"Deployment istio-ingress-{name}"]["spec"]["template"]["spec"]


def environment(name: str, state: Any = STATE) -> dict[str, dict[str, Any]]:
    return {it["name"]: it for it in spec(name, state)["containers"][0]["env"]}


def test_nothing_is_applied_before_the_kinds_are_defined():
    silent = dataclasses.replace(STATE, report=None)
    assert charm.plan(silent).resources is None
    assert charm.plan(silent).containers


@pytest.mark.parametrize(
    ("host", "report", "waits"),
    [
        (None, REPORT, "waiting for the load balancer's address"),
        ("mlops.example", follower.Report(trouble="refused"), "waiting for istiod"),
        ("mlops.example", follower.Report(istiod=follower.Istiod()), "waiting for the gateway"),
    ],
)
def test_nobody_is_told_before_all_answers_and_what_was_told_stays(host, report, waits):
    around = dataclasses.replace(AROUND, host=host)
    wanted = charm.plan(dataclasses.replace(STATE, around=around, report=report))
    assert wanted.resources
    (hold,) = wanted.effects
    with pytest.raises(NotYet, match=waits):
        hold.call(*hold.args)


def test_each_unit_is_one_gateway_and_one_goes_at_a_time():
    two = dataclasses.replace(
        STATE, around=dataclasses.replace(AROUND, site=dataclasses.replace(SITE, gateways=2))
    )
    assert made(two)["Deployment istio-ingress-gateway"]["spec"]["replicas"] == 2
    budget = made(two)["PodDisruptionBudget istio-ingress-gateway"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert "PodDisruptionBudget istio-ingress-gateway" not in made()
    assert status(two) == ops.WaitingStatus("1 of 2 gateways are connected")


@pytest.mark.parametrize("name", ["gateway", "istiod"])
def test_all_stands_on_the_pool_of_the_unit_without_any_privilege(name):
    it = spec(name)
    terms = it["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (expression,) = terms["nodeSelectorTerms"][0]["matchExpressions"]
    assert expression["values"] == ["platform"]
    assert it["imagePullSecrets"] == [{"name": "pull"}]
    assert it["securityContext"]["runAsNonRoot"]
    assert it["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in it["containers"]:
        said = container["securityContext"]
        assert said["readOnlyRootFilesystem"]
        assert not said["allowPrivilegeEscalation"]
        assert said["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}
        assert container["readinessProbe"]


def subjects(kind: str) -> set[str]:
    return {
        subject["name"]
        for name, it in made().items()
        if name.startswith(kind)
        for subject in it["subjects"]
    }


def test_who_faces_the_internet_may_nothing():
    assert spec("gateway")["serviceAccountName"] == "istio-ingress-gateway"
    assert spec("gateway")["automountServiceAccountToken"] is False
    assert subjects("RoleBinding") | subjects("ClusterRoleBinding") == {"istio-ingress-istiod"}
    projected = [it for it in spec("gateway")["volumes"] if "projected" in it]
    (source,) = projected[0]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "istio-ca"


def test_istiod_sees_one_namespace_and_no_secret_of_another():
    (everywhere,) = (it for name, it in made().items() if name.startswith("ClusterRole "))
    seen = {resource for rule in everywhere["rules"] for resource in rule["resources"]}
    assert not seen & {"secrets", "configmaps", "pods", "services", "*"}
    written = {verb for rule in everywhere["rules"] for verb in rule["verbs"]}
    assert written <= {"get", "list", "watch", "create", "update", "patch"}
    assert environment("istiod")["ISTIO_WATCH_NAMESPACE"]["value"] == "lab"


def test_two_of_them_in_a_cluster_share_nothing():
    def shared(model: str, application: str) -> set[str]:
        site = dataclasses.replace(SITE, model=model, application=application)
        around = dataclasses.replace(AROUND, site=site)
        state = dataclasses.replace(STATE, around=around, applications=[])
        objects = made(state)
        (kind,) = (it for name, it in objects.items() if name.startswith("GatewayClass"))
        own = {it for it in objects if it.split()[0] in ("ClusterRole", "ClusterRoleBinding")}
        return {*own, kind["metadata"]["name"], kind["spec"]["controllerName"]}

    assert not shared("lab", "istio-ingress") & shared("other", "istio-ingress")
    assert not shared("lab", "istio-ingress") & shared("lab", "second")


def test_envoy_as_it_is_gets_nothing_that_only_istios_build_has():
    said = environment("istiod")
    assert said["PILOT_ENABLE_METADATA_EXCHANGE"]["value"] == "false"
    assert said["PILOT_ENABLE_ALPN_FILTER"]["value"] == "false"
    assert "defaultProviders" not in mesh()


def test_an_image_that_not_everybody_may_pull_is_pulled_with_its_login():
    private = images.Image("registry.example:5000/pilot:1", "me", "word")
    site = dataclasses.replace(SITE, pilot=private)
    state = dataclasses.replace(STATE, around=dataclasses.replace(AROUND, site=site))
    secret = made(state)["Secret istio-ingress-images"]
    said = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))
    assert said["auths"].keys() == {"registry.example:5000"}
    assert {"name": "istio-ingress-images"} in spec("istiod", state)["imagePullSecrets"]
    assert "word" not in repr(private)


# How it stands.


def refusing(*messages: str, suspects: tuple[str, ...] = ()) -> Any:
    refusals = tuple(
        follower.Refusal(gateway="gateway-1", kind="Listener", message=it) for it in messages
    )
    istiod = follower.Istiod(gateways=("gateway-1",), refusals=refusals)
    around = dataclasses.replace(AROUND, suspects=suspects)
    return dataclasses.replace(STATE, around=around, report=follower.Report(istiod=istiod))


def test_what_envoy_refuses_is_said_with_who_is_likely_why_and_routes_stay():
    state = refusing("no istio.stats", suspects=("Telemetry mesh",))
    assert status(state) == ops.BlockedStatus(
        "gateway-1: Envoy refuses a Listener; likely for Telemetry mesh: no istio.stats"
    )
    assert urls(state) == urls(STATE)


def test_a_long_refusal_is_shortened_and_the_others_are_counted():
    said = status(refusing("x" * 500, "y")).message
    assert len(said) < 300
    assert said.endswith("… (and 1 more)")


def test_who_signs_and_refuses_is_quoted():
    refused = dataclasses.replace(STATE.identity, refused="DOMAIN_NOT_ALLOWED: not yours")
    assert status(dataclasses.replace(STATE, identity=refused)) == ops.BlockedStatus(
        "certificates: DOMAIN_NOT_ALLOWED: not yours"
    )


def test_who_signs_is_asked_for_the_certificate():
    asked = charm.plan(STATE).asks["certificates"]
    assert asked == tls_certificates.Requirer(
        certificate_signing_requests=(
            tls_certificates.Asked(certificate_signing_request="REQUEST"),
        )
    )


def test_alerts_and_dashboard_ask_for_metrics_that_there_are():
    known = {"istio_ingress_gateways", "istio_ingress_refusals"}
    for path in [
        *own.ROOT.glob("src/prometheus_alert_rules/*"),
        *own.ROOT.glob("src/grafana_dashboards/*"),
    ]:
        for name in set(re.findall(r"\bistio_ingress_\w+", path.read_text())):
            assert name in known, path
        assert re.search(r"envoy_|pilot_|istio_ingress_", path.read_text())


def test_the_rules_are_a_group_of_alerts_that_say_what_to_do():
    (path,) = own.ROOT.glob("src/prometheus_alert_rules/*.rules")
    (group,) = yaml.safe_load(path.read_text())["groups"]
    for it in group["rules"]:
        assert it["labels"]["severity"] in ("warning", "critical")
        assert it["annotations"].keys() == {"summary", "description"}
        assert "expr" in it


def test_the_dashboard_is_one_and_its_panels_do_not_overlap():
    (path,) = own.ROOT.glob("src/grafana_dashboards/*.json")
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        at: Mapping[str, int] = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not mine & cells
        cells |= mine
