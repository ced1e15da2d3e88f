"""Keycloak as its clients and its administrators meet it."""

import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import jubilant
import pytest
from deployed import Platform, eventually

PASSWORD = f"Aa1-{secrets.token_urlsafe(16)}"


class Keycloak:
    """Keycloak's HTTP API."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.base = platform.url("keycloak", 8080)

    def get(self, path: str, token: str | None = None) -> Any:
        return self._ask("GET", path, token)

    def post(self, path: str, body: Any, token: str) -> Any:
        return self._ask("POST", path, token, json.dumps(body).encode(), "application/json")

    def put(self, path: str, body: Any, token: str) -> Any:
        return self._ask("PUT", path, token, json.dumps(body).encode(), "application/json")

    def token(self, realm: str, **form: str) -> str:
        path = f"/realms/{realm}/protocol/openid-connect/token"
        body = urllib.parse.urlencode(form).encode()
        answer = self._ask("POST", path, None, body, "application/x-www-form-urlencoded")
        return answer["access_token"]

    def admin(self) -> str:
        login = self.platform.juju.run("keycloak/0", "get-admin-password").results
        return self.token(
            "master",
            grant_type="password",
            client_id="admin-cli",
            username=login["username"],
            password=login["password"],
        )

    def _ask(
        self,
        method: str,
        path: str,
        token: str | None,
        body: bytes | None = None,
        kind: str = "",
    ) -> Any:
        request = urllib.request.Request(self.base + path, body, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        if kind:
            request.add_header("Content-Type", kind)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@pytest.fixture
def keycloak(platform: Platform) -> Keycloak:
    return Keycloak(platform)


@pytest.fixture(scope="module")
def application(platform: Platform, deploy_client) -> dict[str, str]:
    """Return what an application with an OIDC client of its own was given."""
    name = deploy_client("application")
    platform.juju.integrate(f"{name}:oauth", "keycloak:oauth")
    platform.settle(name, "keycloak")
    return eventually(lambda: _given(platform, name))


def _given(platform: Platform, name: str) -> dict[str, str]:
    given = platform.credentials(name)
    return given if given.get("client-id") else {}


def make_user(keycloak: Keycloak, name: str, password: str) -> None:
    admin = keycloak.admin()
    user = {
        "username": name,
        "email": f"{name}@example.org",
        "firstName": "A",
        "lastName": "Person",
        "emailVerified": True,
        "enabled": True,
        "credentials": [{"type": "password", "value": password, "temporary": False}],
    }
    keycloak.post("/admin/realms/platform/users", user, admin)


def test_the_discovery_document_names_the_realm(keycloak):
    document = keycloak.get("/realms/platform/.well-known/openid-configuration")
    assert document["issuer"].endswith("/realms/platform")
    assert document["token_endpoint"].startswith(document["issuer"])


def test_an_application_gets_a_token_with_its_own_client(keycloak, application):
    token = keycloak.token(
        "platform",
        grant_type="client_credentials",
        client_id=application["client-id"],
        client_secret=application["client-secret"],
    )
    assert token.count(".") == 2
    with pytest.raises(urllib.error.HTTPError, match="401"):
        keycloak.token(
            "platform",
            grant_type="client_credentials",
            client_id=application["client-id"],
            client_secret="guessed",
        )


def test_a_user_that_an_administrator_made_is_there(keycloak):
    make_user(keycloak, "ada", PASSWORD)
    found = keycloak.get("/admin/realms/platform/users?username=ada", keycloak.admin())
    assert [it["email"] for it in found] == ["ada@example.org"]


def test_a_password_policy_takes_hold(platform, keycloak):
    platform.juju.config("keycloak", {"password-policy": "length(30)"})
    platform.settle("keycloak")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        make_user(keycloak, "bob", "Short-1234567")
    platform.juju.config("keycloak", reset="password-policy")
    platform.settle("keycloak")


def test_a_wrong_policy_is_blocked_by_name_while_sign_in_goes_on(platform, keycloak, application):
    platform.juju.config("keycloak", {"password-policy": "size(8)"})
    status = platform.juju.wait(lambda it: jubilant.all_blocked(it, "keycloak"), timeout=120)
    message = status.apps["keycloak"].app_status.message
    assert "password-policy" in message
    assert "size" in message
    assert keycloak.token(
        "platform",
        grant_type="client_credentials",
        client_id=application["client-id"],
        client_secret=application["client-secret"],
    )
    platform.juju.config("keycloak", reset="password-policy")
    platform.settle("keycloak")


def test_the_client_of_a_gone_relation_is_gone(platform, keycloak, application):
    platform.juju.remove_relation("application:oauth", "keycloak:oauth")
    platform.settle("keycloak")

    def refused() -> bool:
        try:
            keycloak.token(
                "platform",
                grant_type="client_credentials",
                client_id=application["client-id"],
                client_secret=application["client-secret"],
            )
        except urllib.error.HTTPError as error:
            return error.code in (400, 401)
        return False

    assert eventually(refused)
