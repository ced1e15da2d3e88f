"""What the gateway costs: requests a second of the API through it over the same without it.

    MODEL=katonic python benchmarks/gateway.py

Asks the deployed platform, in turns: the API's own service in plain, over TLS at the gateway as
people do, and over TLS at a bare Envoy, the gateway's own image beside it, that does nothing else.
In the sandbox all are on the same machine as who asks, so that what Envoy and TLS take of the
processors is in the ratio; how much each program takes is printed too.
"""

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT)]
os.environ.setdefault("MODEL", "katonic")

import jubilant  # noqa: E402
import uvloop  # noqa: E402
from deployed import BINARY, MODEL, Platform  # noqa: E402
from load import Measured, load  # noqa: E402
from people import Accounts  # noqa: E402

PROJECTS, TURNS = 50, 9
BARE = 8443
"""Where the bare Envoy listens."""


@dataclass(frozen=True)
class Turn:
    """What was measured one way, and milliseconds of a processor for each request, by program."""

    measured: Measured
    costs: dict[str, float]

    def __str__(self) -> str:
        costs = ", ".join(f"{name} {it:.2f}" for name, it in self.costs.items())
        return f"{self.measured}; CPU ms: {costs}"


PROGRAMS = {"envoy": "bin/envoy\0", "api": "katonic_api\0serve"}


def used() -> dict[str, float]:
    """Return the seconds of a processor that each program on this machine has used."""
    seconds = dict.fromkeys(PROGRAMS, 0.0)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_text(errors="replace")
            for name, words in PROGRAMS.items():
                if words in line:
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    ticks = int(fields[11]) + int(fields[12])
                    seconds[name] += ticks / os.sysconf("SC_CLK_TCK")
    return {**seconds, "client": time.process_time()}


async def turn(asking: Coroutine[Any, Any, Measured]) -> Turn:
    """Return what was measured, and what it cost."""
    before, begun = used(), time.perf_counter()
    measured = await asking
    requests = measured.rate * (time.perf_counter() - begun)
    costs = {name: (it - before[name]) * 1000 / requests for name, it in used().items()}
    return Turn(measured, costs)


def configuration(api: str, certificate: str, key: str) -> dict[str, Any]:
    """Return Envoy's where it ends TLS and hands on to the API what is under /api, no more."""
    types = "type.googleapis.com/envoy.extensions"
    pair = {
        "certificate_chain": {"inline_string": certificate},
        "private_key": {"inline_string": key},
    }
    tls = {
        "@type": f"{types}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [pair]},
    }
    router = {"@type": f"{types}.filters.http.router.v3.Router"}
    route = {"match": {"prefix": "/api/"}, "route": {"cluster": "api", "prefix_rewrite": "/"}}
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bare",
        "route_config": {"virtual_hosts": [{"name": "api", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": router}],
    }
    chain = {
        "transport_socket": {"name": "tls", "typed_config": tls},
        "filters": [{"name": "manager", "typed_config": manager}],
    }

    def at(address: str, port: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": address, "port_value": port}}}

    endpoint = {"endpoint": at(api, 8080)}
    assignment = {"cluster_name": "api", "endpoints": [{"lb_endpoints": [endpoint]}]}
    cluster = {"name": "api", "type": "STATIC", "load_assignment": assignment}
    listener = {**at("0.0.0.0", BARE), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextlib.contextmanager
def bare(platform: Platform, api: str) -> Iterator[str]:
    """Yield the address of an Envoy that does as little as it can, where the gateway stands."""
    selected = ("get", "pods", "-l", "app.kubernetes.io/name=istio-ingress-gateway", "-o", "json")
    gateway = json.loads(platform.kubectl(*selected))["items"][0]["spec"]
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout - -subj /CN=bare"
    made = subprocess.run(
        ["openssl", *words.split()], capture_output=True, text=True, check=True
    ).stdout
    settings = json.dumps(configuration(api, made, made))
    container = {
        "name": "envoy",
        "image": gateway["containers"][0]["image"],
        "command": ["/usr/local/bin/envoy", "--config-yaml", settings, "--concurrency", "2"],
        "resources": gateway["containers"][0]["resources"],
    }
    kept = ("affinity", "tolerations", "securityContext")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare-envoy"},
        "spec": {"containers": [container], **{it: gateway[it] for it in kept if it in gateway}},
    }
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    try:
        platform.kubectl("wait", "--for=condition=Ready", "pod/bare-envoy", "--timeout=60s")
        yield platform.kubectl("get", "pod", "bare-envoy", "-o", "jsonpath={.status.podIP}")
    finally:
        platform.kubectl("delete", "pod", "bare-envoy", "--wait=false")


async def measure(platform: Platform, token: str, paths: dict[str, str]) -> None:
    """Ask all ways in turns, and print what they are like."""
    get = ("get", "service", "istio-ingress-gateway", "-o", "jsonpath={.spec.clusterIP}")
    gateway = platform.kubectl(*get)
    hostname = str(platform.juju.config("istio-ingress")["external-hostname"])
    api = platform.address("katonic-api")
    headers = {"Authorization": f"Bearer {token}"}
    with bare(platform, api) as envoy:
        for name, path in paths.items():
            turns = []
            for _ in range(TURNS):
                direct = await turn(load(api, 8080, path, headers))
                least = await turn(load(envoy, BARE, f"/api{path}", headers, tls="bare"))
                through = await turn(load(gateway, 443, f"/api{path}", headers, tls=hostname))
                turns.append((direct, least, through))
            turns.sort(key=lambda it: it[2].measured.rate / it[0].measured.rate)
            direct, least, through = turns[TURNS // 2]
            print(f"{name:13} direct  {direct}")
            print(f"{'':13} bare    {least}")
            print(f"{'':13} gateway {through}")
            print(
                f"{'':13} gateway over direct {through.measured.rate / direct.measured.rate:.2f}, "
                f"bare Envoy over direct {least.measured.rate / direct.measured.rate:.2f}",
                flush=True,
            )


def main() -> None:
    """Make an organization of projects, measure, and take it away."""
    platform = Platform(jubilant.Juju(model=MODEL, cli_binary=BINARY))
    accounts = Accounts(platform)
    name = f"bench-{secrets.token_hex(3)}"
    made: list[str] = []
    try:
        person = accounts.person(name, platform_admin=True)
        organization = person("POST", "/v1/organizations", {"name": name}).json["id"]
        made.append(f"/v1/organizations/{organization}")
        for number in range(PROJECTS):
            project = {"name": f"{name}-{number}", "organization": organization}
            identifier = person("POST", "/v1/projects", project).json["id"]
            made.insert(0, f"/v1/projects/{identifier}")
        paths = {
            "project list": f"/v1/projects?organization={organization}",
            "project read": made[0],
        }
        uvloop.run(measure(platform, accounts.anew(person).token, paths))
        person = accounts.anew(person)
        for path in made:
            person("DELETE", path, If_Match="*")
    finally:
        accounts.remove()


if __name__ == "__main__":
    main()
