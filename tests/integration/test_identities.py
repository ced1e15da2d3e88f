"""Keycloak as its clients and its administrators meet it."""

import base64
import json
import secrets
import urllib.error
from typing import Any

import jubilant
import pytest
from deployed import Platform, eventually
from keycloak_api import Keycloak

PASSWORD = f"Aa1-{secrets.token_urlsafe(16)}"


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
    assert keycloak.own_token(application).count(".") == 2
    with pytest.raises(urllib.error.HTTPError, match="401"):
        keycloak.token(
            "platform",
            grant_type="client_credentials",
            client_id=application["client-id"],
            client_secret="guessed",
        )


def claims(token: str) -> dict[str, Any]:
    """Return what a JWT says."""
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def test_tokens_are_asked_for_within_the_cluster_and_name_the_address_of_browsers(
    platform, keycloak, application
):
    inside = f"http://keycloak.{platform.juju.model}.svc.cluster.local:8080/realms/platform"
    assert application["token-endpoint"] == f"{inside}/protocol/openid-connect/token"
    issuer = keycloak.get("/realms/platform/.well-known/openid-configuration")["issuer"]
    assert claims(keycloak.own_token(application))["iss"] == issuer
    assert issuer == f"https://{hostname(platform)}/auth/realms/platform"


def hostname(platform: Platform) -> str:
    """Return the name by which browsers find the platform."""
    return str(platform.juju.config("istio-ingress")["external-hostname"])


def status_of(error: pytest.ExceptionInfo[urllib.error.HTTPError]) -> tuple[int, str]:
    """Return the code of a refusal, and the words in which Keycloak says why."""
    with error.value as answer:
        return answer.code, json.load(answer).get("error_description", "")


def test_a_person_who_is_added_has_the_role_and_a_password_for_one_sign_in(platform, keycloak):
    asked = {"username": "grace", "email": "grace@example.org", "admin": True}
    added = platform.juju.run("keycloak/0", "add-user", asked).results
    assert (added["username"], added["role"]) == ("grace", "platform-admin")
    admin, users = keycloak.admin(), "/admin/realms/platform/users"
    (grace,) = keycloak.get(f"{users}?username=grace&exact=true", admin)
    roles = keycloak.get(f"{users}/{grace['id']}/role-mappings/realm", admin)
    assert "platform-admin" in {it["name"] for it in roles}
    (client,) = keycloak.get("/admin/realms/platform/clients?clientId=programs", admin)
    path = f"/admin/realms/platform/clients/{client['id']}/evaluate-scopes"
    example = f"{path}/generate-example-access-token?scope=openid&userId={grace['id']}"
    assert "platform-admin" in keycloak.get(example, admin)["realm_access"]["roles"]
    signing_in = {"grant_type": "password", "client_id": "admin-cli", "username": "grace"}
    with pytest.raises(urllib.error.HTTPError) as right:
        keycloak.token("platform", **signing_in, password=added["password"])
    assert status_of(right) == (400, "Account is not fully set up"), "it has to be changed first"
    with pytest.raises(urllib.error.HTTPError) as wrong:
        keycloak.token("platform", **signing_in, password="guessed")
    assert status_of(wrong) == (401, "Invalid user credentials")
    again = platform.juju.run("keycloak/0", "add-user", asked).results
    assert added["password"] not in again.values()


def test_a_program_is_let_in_by_a_person_in_a_browser(platform, keycloak):
    asked = keycloak.form("platform", "/auth/device", client_id="programs", scope="openid")
    page = f"https://{hostname(platform)}/auth/realms/platform/device"
    assert asked["verification_uri_complete"] == f"{page}?user_code={asked['user_code']}"
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    code = {"device_code": asked["device_code"], "client_id": "programs"}
    with pytest.raises(urllib.error.HTTPError) as pending:
        keycloak.token("platform", grant_type=grant, **code)
    assert status_of(pending) == (400, "The authorization request is still pending")


def test_who_is_a_user_manager_sees_people_and_who_is_taken_off_does_not(
    platform, keycloak, application
):
    def users() -> int:
        try:
            own = keycloak.own_token(application)
            return len(keycloak.get("/admin/realms/platform/users", own))
        except urllib.error.HTTPError as error:
            with error:
                return -error.code

    assert users() == -403
    before = platform.juju.config("keycloak")["user-managers"]
    platform.juju.config("keycloak", {"user-managers": f"{before},application".strip(",")})
    platform.settle("keycloak")
    assert eventually(lambda: users() > 0)
    platform.juju.config("keycloak", {"user-managers": before})
    platform.settle("keycloak")
    assert eventually(lambda: users() == -403)


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
    assert keycloak.own_token(application)
    platform.juju.config("keycloak", reset="password-policy")
    platform.settle("keycloak")


def test_the_client_of_a_gone_relation_is_gone(platform, keycloak, application):
    platform.juju.remove_relation("application:oauth", "keycloak:oauth")
    platform.settle("keycloak")

    def refused() -> bool:
        try:
            keycloak.own_token(application)
        except urllib.error.HTTPError as error:
            return error.code in (400, 401)
        return False

    assert eventually(refused)
