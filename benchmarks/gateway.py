"""What the gateway costs: requests a second of the API through it over the same without it.

    MODEL=katonic python benchmarks/gateway.py

Asks the deployed platform, in turns: over TLS at the gateway as people do, and the API's own
service in plain. In the sandbox both are on the same machine as who asks, so that what Envoy and
TLS take of the processors is in the ratio; how much each program takes is printed too.
"""

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Coroutine
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

PROJECTS, TURNS = 50, 5


@dataclass(frozen=True)
class Turn:
    """What was measured one way, and milliseconds of a processor for each request, by program."""

    measured: Measured
    costs: dict[str, float]

    def __str__(self) -> str:
        costs = ", ".join(f"{name} {it:.2f}" for name, it in self.costs.items())
        return f"{self.measured}; CPU ms: {costs}"


PROGRAMS = {"envoy": "/envoy\0", "api": "katonic_api\0serve"}


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


async def measure(platform: Platform, token: str, paths: dict[str, str]) -> None:
    """Ask both ways in turns, and print what they are like."""
    get = ("get", "service", "istio-ingress-gateway", "-o", "jsonpath={.spec.clusterIP}")
    gateway = platform.kubectl(*get)
    hostname = str(platform.juju.config("istio-ingress")["external-hostname"])
    api = platform.address("katonic-api")
    headers = {"Authorization": f"Bearer {token}"}
    for name, path in paths.items():
        turns = []
        for _ in range(TURNS):
            direct = await turn(load(api, 8080, path, headers))
            through = await turn(load(gateway, 443, f"/api{path}", headers, tls=hostname))
            turns.append((direct, through))
        turns.sort(key=lambda it: it[1].measured.rate / it[0].measured.rate)
        direct, through = turns[TURNS // 2]
        print(f"{name:13} direct  {direct}")
        print(f"{'':13} gateway {through}")
        print(f"{'':13} ratio   {through.measured.rate / direct.measured.rate:.2f}", flush=True)


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
