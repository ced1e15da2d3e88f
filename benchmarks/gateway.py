"""What the gateway costs: requests a second of the API through it over the same without it.

    MODEL=katonic python benchmarks/gateway.py

Asks the deployed platform, in turns: over TLS at the gateway as people do, and the API's own
service in plain. Both are on the same machine as who asks, so that what Envoy and TLS take of the
processors is in the ratio.
"""

import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/integration"), str(ROOT)]
os.environ.setdefault("MODEL", "katonic")

import jubilant  # noqa: E402
import uvloop  # noqa: E402
from deployed import BINARY, MODEL, Platform  # noqa: E402
from load import load  # noqa: E402
from people import Accounts  # noqa: E402

PROJECTS, TURNS = 50, 5


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
            direct = await load(api, 8080, path, headers)
            turns.append((direct, await load(gateway, 443, f"/api{path}", headers, tls=hostname)))
        direct, through = sorted(turns, key=lambda it: it[1].rate / it[0].rate)[TURNS // 2]
        print(f"{name:13} direct  {direct}")
        print(f"{'':13} gateway {through}")
        print(f"{'':13} ratio   {through.rate / direct.rate:.2f}", flush=True)


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
