"""Makes Keycloak match by its admin API; what an administrator made in it is left alone."""

import hashlib
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keycloak
from realm import MARK, Client, Realm

from katonic import Invalid, NotYet

ADMINISTRATOR = "admin"
"""The user that people administer Keycloak as."""

CLIENT = "katonic-charm"
"""The client that the charm administers Keycloak as, whatever people do to their own passwords."""

_URL = f"http://localhost:{keycloak.PORT}"
_PASSWORD = "katonic.password"  # noqa: S105 - the attribute that tells which password is set
_AUDIENCE = "katonic audience "
_TIMEOUT = 20


@dataclass(frozen=True)
class Logins:
    """The administrator's password, and the secrets of the charm's two clients."""

    administrator: str
    client: str
    bootstrap: str


def sync(logins: Logins, realm: Realm, clients: Sequence[Client]) -> list[str]:
    """Make the administrator, the realm and its clients match, and return what changed.

    Raises:
        NotYet: Keycloak does not answer, or not now.
        Invalid: An administrator has to set something right.
    """
    token, changes = _login(logins)
    changes += _align_master(token, logins.administrator)
    if _ask(token, "GET", realm.name) is None:
        _ask(token, "POST", "", {"realm": realm.name, "enabled": True, **realm.settings})
        changes.append(f"made realm {realm.name}")
        token, _ = _login(logins)  # the old one knows nothing of the new realm
    changes += _align_settings(token, realm)
    changes += _align_mfa(token, realm)
    changes += _align_groups(token, realm)
    return changes + _align_clients(token, realm, clients)


def _login(logins: Logins) -> tuple[str, list[str]]:
    """Return a token of the charm's lasting client, made first by the temporary one if need be."""
    if token := _token(CLIENT, logins.client):
        return token, []
    bootstrap = _token(keycloak.BOOTSTRAP, logins.bootstrap)
    if bootstrap is None:
        raise Invalid(f"keycloak refuses client {CLIENT}: remove and make anew relation database")
    wanted = {"secret": logins.client, "serviceAccountsEnabled": True, "enabled": True}
    wanted |= {"clientId": CLIENT, "publicClient": False, "standardFlowEnabled": False}
    found = _clients(bootstrap, "master").get(CLIENT)
    if found:
        _ask(bootstrap, "PUT", f"master/clients/{found['id']}", wanted)
    else:
        _ask(bootstrap, "POST", "master/clients", wanted)
        found = _clients(bootstrap, "master")[CLIENT]
    account = _ask(bootstrap, "GET", f"master/clients/{found['id']}/service-account-user")
    _make_administrator(bootstrap, account["id"])
    token = _token(CLIENT, logins.client)
    if token is None:
        raise NotYet(f"keycloak does not know client {CLIENT} yet")
    return token, [f"made client {CLIENT}"]


def _align_master(token: str, password: str) -> list[str]:
    """Take the temporary client away, and have the administrator with this password."""
    clients = _clients(token, "master")
    changes = []
    if temporary := clients.get(keycloak.BOOTSTRAP):
        _ask(token, "DELETE", f"master/clients/{temporary['id']}")
        changes.append(f"deleted client {keycloak.BOOTSTRAP}")
    digest = hashlib.sha256(password.encode()).hexdigest()[:16]
    mine, search = clients[CLIENT], f"master/users?username={ADMINISTRATOR}&exact=true"
    found = _ask(token, "GET", search)
    if found and mine.get("attributes", {}).get(_PASSWORD) == digest:
        return changes
    if not found:
        _ask(token, "POST", "master/users", {"username": ADMINISTRATOR, "enabled": True})
        found = _ask(token, "GET", search)
    user = found[0]["id"]
    _make_administrator(token, user)
    secret = {"type": "password", "value": password, "temporary": False}
    _ask(token, "PUT", f"master/users/{user}/reset-password", secret)
    remember = {"clientId": CLIENT, "attributes": {_PASSWORD: digest}}
    _ask(token, "PUT", f"master/clients/{mine['id']}", remember)
    return [*changes, f"set the password of {ADMINISTRATOR}"]


def _make_administrator(token: str, user: str) -> None:
    role = _ask(token, "GET", "master/roles/admin")
    _ask(token, "POST", f"master/users/{user}/role-mappings/realm", [role])


def _align_settings(token: str, realm: Realm) -> list[str]:
    changed = _difference(_ask(token, "GET", realm.name), realm.settings)
    if changed:
        _ask(token, "PUT", realm.name, changed)
    return [f"set {key}" for key in changed]


_FORMS = {"browser": "auth-otp-form", "direct grant": "direct-grant-validate-otp"}
_REQUIREMENTS = {
    "off": ("DISABLED", "ALTERNATIVE"),
    "optional": ("CONDITIONAL", "ALTERNATIVE"),
    "required": ("REQUIRED", "REQUIRED"),
}
"""For each mode, what the built-in flows require: of the part with the one-time password, and of
its form in it. The form alone cannot be disabled: Keycloak then fails every login."""


def _align_mfa(token: str, realm: Realm) -> list[str]:
    changes = []
    for flow, form in (
        ("browser", "auth-otp-form"),
        ("direct grant", "direct-grant-validate-otp"),
    ):
        path = f"{realm.name}/authentication/flows/{urllib.parse.quote(flow)}/executions"
        steps: list[dict[str, Any]] = []  # the form last, after the parts that it is in
        for it in _ask(token, "GET", path):
            steps = [*steps[: it["level"]], it]
            if it.get("providerId") == form:
                break
        else:
            raise Invalid(f"put the step {form} back into flow {flow} of realm {realm.name}")
        for execution, requirement in zip(steps[-2:], _REQUIREMENTS[realm.mfa], strict=True):
            if execution["requirement"] != requirement:
                _ask(token, "PUT", path, {**execution, "requirement": requirement})
                changes.append(f"{flow}: {execution['displayName']} {requirement}")
    path = f"{realm.name}/authentication/required-actions/CONFIGURE_TOTP"
    action = _ask(token, "GET", path)
    wanted = {"enabled": realm.mfa != "off", "defaultAction": realm.mfa == "required"}
    if _difference(action, wanted):
        _ask(token, "PUT", path, {**action, **wanted})
        changes.append(f"setting up a one-time password is {realm.mfa}")
    return changes


def _align_groups(token: str, realm: Realm) -> list[str]:
    """Have tokens tell their users' groups, as the claim "groups"."""
    defaults = f"{realm.name}/default-default-client-scopes"
    if any(it["name"] == "groups" for it in _ask(token, "GET", defaults)):
        return []
    scopes = f"{realm.name}/client-scopes"
    found = [it for it in _ask(token, "GET", scopes) if it["name"] == "groups"]
    if not found:
        _ask(token, "POST", scopes, _GROUPS)
        found = [it for it in _ask(token, "GET", scopes) if it["name"] == "groups"]
    _ask(token, "PUT", f"{defaults}/{found[0]['id']}")
    return ["made scope groups a default"]


_GROUPS = {
    "name": "groups",
    "protocol": "openid-connect",
    "attributes": {"include.in.token.scope": "true", "display.on.consent.screen": "false"},
    "protocolMappers": [
        {
            "name": "groups",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {
                "claim.name": "groups",
                "full.path": "false",
                "id.token.claim": "true",
                "access.token.claim": "true",
                "userinfo.token.claim": "true",
            },
        }
    ],
}


def _align_clients(token: str, realm: Realm, clients: Sequence[Client]) -> list[str]:
    """Have these clients, and none other that this charm made."""
    there = _clients(token, realm.name)
    ours = {name for name, it in there.items() if MARK in it.get("attributes", {})}
    changes = []
    for client in clients:
        found = there.get(client.identifier, {})
        if found and client.identifier not in ours:
            raise Invalid(f"rename or delete client {client.identifier} of realm {realm.name}")
        changed = _difference(found, {**client.wanted, **_mappers(found, client.audience)})
        body = {"clientId": client.identifier, **changed}
        if not found:
            _ask(token, "POST", f"{realm.name}/clients", {**body, "publicClient": False})
            changes.append(f"made client {client.identifier}")
        elif changed:
            _ask(token, "PUT", f"{realm.name}/clients/{found['id']}", body)
            changes.append(f"client {client.identifier}: set {', '.join(changed)}")
    for name in sorted(ours - {it.identifier for it in clients}):
        _ask(token, "DELETE", f"{realm.name}/clients/{there[name]['id']}")
        changes.append(f"deleted client {name}")
    return changes


def _mappers(found: Mapping[str, Any], audience: Sequence[str]) -> dict[str, Any]:
    """Return the client's mappers when those of its audience are not what they are to be."""
    mappers = found.get("protocolMappers", [])
    others = [it for it in mappers if not it["name"].startswith(_AUDIENCE)]
    if {it["name"] for it in mappers} == {it["name"] for it in others} | {
        _AUDIENCE + it for it in audience
    }:
        return {}
    wanted = [
        {
            "name": _AUDIENCE + it,
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": it, "access.token.claim": "true"},
        }
        for it in audience
    ]
    return {"protocolMappers": [*others, *wanted]}


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: it for key, it in wanted.items() if not _same(found.get(key), it)}


def _same(found: Any, wanted: Any) -> bool:
    """Return whether a representation holds the value; Keycloak leaves out what is empty."""
    if isinstance(wanted, Mapping):
        return not _difference(found or {}, wanted)
    if key := isinstance(wanted, list) and json.dumps:  # in no order of its own
        return sorted(found or [], key=key) == sorted(wanted, key=key)
    return (found or None) == (wanted or None)


def _clients(token: str, realm: str) -> dict[str, dict[str, Any]]:
    return {it["clientId"]: it for it in _ask(token, "GET", f"{realm}/clients")}


def _token(client: str, secret: str) -> str | None:
    """Return a token of a client of the realm master, or None when Keycloak refuses it one."""
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
    url = f"{_URL}/realms/master/protocol/openid-connect/token"
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode())  # noqa: S310
    try:
        return _open(request)["access_token"]
    except urllib.error.HTTPError as error:
        if error.code in (400, 401):
            return None
        raise _refusal(error) from error


def _ask(token: str, method: str, path: str, body: Any = None) -> Any:
    """Return the answer to a question about /admin/realms/PATH; None when there is no such."""
    url = f"{_URL}/admin/realms/{path}".rstrip("/")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - localhost
    try:
        return _open(request)
    except urllib.error.HTTPError as error:
        if error.code == 404 and method == "GET":
            return None
        raise _refusal(error) from error


def _open(request: urllib.request.Request) -> Any:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            return json.loads(answer.read() or "null")
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise NotYet(f"keycloak does not answer: {error}") from error


def _refusal(error: urllib.error.HTTPError) -> Exception:
    """Return what a refusal means to a user; any but those known is a bug, and itself."""
    path = urllib.parse.urlsplit(error.url or "").path
    if error.code in (401, 403):
        return Invalid(f"give client {CLIENT} of keycloak's realm master its role admin back")
    if error.code == 400:
        text = error.read().decode(errors="replace")
        return Invalid(f"keycloak refuses what it is asked of {path}: {text}")
    if error.code in (409, 429) or error.code >= 500:
        return NotYet(f"keycloak answers {error.code} to {path}")
    return error
