"""Which tokens the platform's address takes, and that nobody is who they merely say they are."""

import base64
import json
import secrets
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from deployed import ON_SANDBOX, Platform, eventually
from keycloak_api import Keycloak

pytestmark = pytest.mark.skipif(not ON_SANDBOX, reason="the name leads to the sandbox alone")

API, EDGE = "/api/v1/me", "/mlflow/api/2.0/mlflow/experiments/search?max_results=1"
FORGED = {"X-Katonic-User": "root", "X-Katonic-Roles": "platform-admin"}
AUDIENCE = {
    "name": "the platform",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-audience-mapper",
    "config": {"included.custom.audience": "katonic-api", "access.token.claim": "true"},
}

Get = Callable[..., tuple[int, bytes]]


@pytest.fixture(scope="module")
def get(platform: Platform) -> Get:
    """Return what asks the gateway, as a program outside of the cluster does."""
    shown = platform.juju.run("istio-ingress/0", "get-certificate").results
    trust = ssl.create_default_context(cadata=shown["authority"])
    url = f"https://{platform.juju.config('istio-ingress')['external-hostname']}"

    def get(path: str, token: str = "", **headers: str) -> tuple[int, bytes]:
        said = {name.replace("_", "-"): it for name, it in headers.items()}
        said |= {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(url + path, headers=said)
        try:
            with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return get


@pytest.fixture(scope="module")
def tokens(platform: Platform) -> Iterator[dict[str, str]]:
    """Yield tokens of clients that an administrator has made: one is good, each other is not."""
    keycloak = Keycloak(platform)
    realm, suffix = f"elsewhere-{secrets.token_hex(3)}", secrets.token_hex(3)
    keycloak.post("/admin/realms", {"realm": realm, "enabled": True}, keycloak.admin())
    made: list[str] = [f"/admin/realms/{realm}"]

    def token(name: str, realm: str = "platform", **more: object) -> str:
        clients, secret = f"/admin/realms/{realm}/clients", secrets.token_urlsafe()
        client = {
            "clientId": f"{name}-{suffix}",
            "secret": secret,
            "serviceAccountsEnabled": True,
            "protocolMappers": [AUDIENCE],
            **more,
        }
        keycloak.post(clients, client, keycloak.admin())
        (it,) = keycloak.get(f"{clients}?clientId={client['clientId']}", keycloak.admin())
        made.insert(0, f"{clients}/{it['id']}")
        login = {"client_id": client["clientId"], "client_secret": secret}
        return keycloak.token(realm, grant_type="client_credentials", **login)

    brief = token("brief", attributes={"access.token.lifespan": "1"})
    good = token("good")
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(f"{body}=="))
    claims["realm_access"] = {"roles": ["platform-admin"]}
    grown = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    yield {
        "good": good,
        "changed": f"{head}.{grown}.{signature}",
        "of another realm": token("good", realm),
        "for another audience": token("stranger", protocolMappers=[]),
        "expired": brief,
    }
    for path in made:
        keycloak.delete(path, keycloak.admin())


@pytest.mark.parametrize("path", [API, EDGE])
def test_a_good_token_is_taken(get: Get, tokens: dict[str, str], path: str):
    assert get(path, tokens["good"])[0] == 200


@pytest.mark.parametrize("path", [API, EDGE])
@pytest.mark.parametrize("kind", ["changed", "of another realm", "for another audience"])
def test_a_token_that_is_not_for_the_platform_is_refused(
    get: Get, tokens: dict[str, str], path: str, kind: str
):
    assert get(path, tokens[kind])[0] == 401


@pytest.mark.parametrize("path", [API, EDGE])
def test_an_expired_token_is_refused(get: Get, tokens: dict[str, str], path: str):
    body = tokens["expired"].split(".")[1]
    expires = json.loads(base64.urlsafe_b64decode(f"{body}=="))["exp"]
    # Until then it may be good: the clocks of two machines differ.
    time.sleep(max(0, expires + 1 - time.time()))
    eventually(lambda: get(path, tokens["expired"])[0] == 401, 30)


@pytest.mark.parametrize("path", [API, EDGE])
def test_nobody_comes_in_by_saying_who_they_are(get: Get, path: str):
    assert get(path, **FORGED)[0] == 401


def test_who_says_to_be_another_stays_who_the_token_says(get: Get, tokens: dict[str, str]):
    status, body = get(API, tokens["good"], **FORGED)
    assert status == 200
    told, forged = json.loads(get(API, tokens["good"])[1]), json.loads(body)
    assert forged["id"] == told["id"]
    assert forged["platform_admin"] is False
