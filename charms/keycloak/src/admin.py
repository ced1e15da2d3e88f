"""Makes Keycloak match by its admin API; what an administrator made in it is left alone."""

import hashlib
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keycloak
from api import CLIENT, ask, token_of
from realm import MARK, PLATFORM_ADMIN, Client, Realm

from katonic import Invalid, NotYet, Seed

ADMINISTRATOR = "admin"
"""The user that people administer Keycloak as."""

_PASSWORD = "katonic.password"  # noqa: S105 - the attribute that tells which password is set
_AUDIENCE = "katonic audience "


@dataclass(frozen=True)
class Logins:
    """The administrator's password, and the secrets of the charm's two clients."""

    administrator: str
    client: str
    bootstrap: str


def logins(seed: Seed) -> Logins:
    """Return the logins of an application.

    Raises:
        NotYet: Its leader has not made the seed.
    """
    if not seed.available:
        raise NotYet("waiting for the leader to make the seed")
    return Logins(*map(seed.password, ("administrator", "client", "bootstrap")))


def sync(logins: Logins, realm: Realm, clients: Sequence[Client]) -> list[str]:
    """Make the administrator, the realm and its clients match, and return what changed.

    Raises:
        NotYet: Keycloak does not answer, or not now.
        Invalid: An administrator has to set something right.
    """
    token, changes = login(logins)
    changes += _align_master(token, logins.administrator)
    if ask(token, "GET", realm.name) is None:
        ask(token, "POST", "", {"realm": realm.name, "enabled": True, **realm.settings})
        changes.append(f"made realm {realm.name}")
        token, _ = login(logins)  # the old one knows nothing of the new realm
    changes += _align_settings(token, realm)
    changes += _align_mfa(token, realm)
    changes += _align_groups(token, realm)
    changes += _align_roles(token, realm)
    changes += _align_clients(token, realm, clients)
    return changes + _align_managers(token, realm, clients)


def login(logins: Logins) -> tuple[str, list[str]]:
    """Return a token of the charm's lasting client, made first by the temporary one if need be."""
    if token := token_of(CLIENT, logins.client):
        return token, []
    bootstrap = token_of(keycloak.BOOTSTRAP, logins.bootstrap)
    if bootstrap is None:
        raise Invalid(f"keycloak refuses client {CLIENT}: remove and make anew relation database")
    wanted = {"secret": logins.client, "serviceAccountsEnabled": True, "enabled": True}
    wanted |= {"clientId": CLIENT, "publicClient": False, "standardFlowEnabled": False}
    found = _clients(bootstrap, "master").get(CLIENT)
    if found:
        ask(bootstrap, "PUT", f"master/clients/{found['id']}", wanted)
    else:
        ask(bootstrap, "POST", "master/clients", wanted)
        found = _clients(bootstrap, "master")[CLIENT]
    account = ask(bootstrap, "GET", f"master/clients/{found['id']}/service-account-user")
    _make_administrator(bootstrap, account["id"])
    token = token_of(CLIENT, logins.client)
    if token is None:
        raise NotYet(f"keycloak does not know client {CLIENT} yet")
    return token, [f"made client {CLIENT}"]


def _align_master(token: str, password: str) -> list[str]:
    """Take the temporary client away, and have the administrator with this password."""
    clients = _clients(token, "master")
    changes = []
    if temporary := clients.get(keycloak.BOOTSTRAP):
        ask(token, "DELETE", f"master/clients/{temporary['id']}")
        changes.append(f"deleted client {keycloak.BOOTSTRAP}")
    digest = hashlib.sha256(password.encode()).hexdigest()[:16]
    mine, search = clients[CLIENT], f"master/users?username={ADMINISTRATOR}&exact=true"
    found = ask(token, "GET", search)
    if found and mine.get("attributes", {}).get(_PASSWORD) == digest:
        return changes
    if not found:
        ask(token, "POST", "master/users", {"username": ADMINISTRATOR, "enabled": True})
        found = ask(token, "GET", search)
    user = found[0]["id"]
    _make_administrator(token, user)
    secret = {"type": "password", "value": password, "temporary": False}
    ask(token, "PUT", f"master/users/{user}/reset-password", secret)
    remember = {"clientId": CLIENT, "attributes": {_PASSWORD: digest}}
    ask(token, "PUT", f"master/clients/{mine['id']}", remember)
    return [*changes, f"set the password of {ADMINISTRATOR}"]


def _make_administrator(token: str, user: str) -> None:
    role = ask(token, "GET", "master/roles/admin")
    ask(token, "POST", f"master/users/{user}/role-mappings/realm", [role])


def _align_settings(token: str, realm: Realm) -> list[str]:
    changed = _difference(ask(token, "GET", realm.name), realm.settings)
    if changed:
        ask(token, "PUT", realm.name, changed)
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
    for flow, form in _FORMS.items():
        path = f"{realm.name}/authentication/flows/{urllib.parse.quote(flow)}/executions"
        steps: list[dict[str, Any]] = []  # the form last, after the parts that it is in
        for it in ask(token, "GET", path):
            steps = [*steps[: it["level"]], it]
            if it.get("providerId") == form:
                break
        else:
            raise Invalid(f"put the step {form} back into flow {flow} of realm {realm.name}")
        for execution, requirement in zip(steps[-2:], _REQUIREMENTS[realm.mfa], strict=True):
            if execution["requirement"] != requirement:
                ask(token, "PUT", path, {**execution, "requirement": requirement})
                changes.append(f"{flow}: {execution['displayName']} {requirement}")
    path = f"{realm.name}/authentication/required-actions/CONFIGURE_TOTP"
    action = ask(token, "GET", path)
    wanted = {"enabled": realm.mfa != "off", "defaultAction": realm.mfa == "required"}
    if _difference(action, wanted):
        ask(token, "PUT", path, {**action, **wanted})
        changes.append(f"setting up a one-time password is {realm.mfa}")
    return changes


def _align_groups(token: str, realm: Realm) -> list[str]:
    """Have tokens tell their users' groups, as the claim "groups"."""
    defaults = f"{realm.name}/default-default-client-scopes"
    if any(it["name"] == "groups" for it in ask(token, "GET", defaults)):
        return []
    scopes = f"{realm.name}/client-scopes"
    found = [it for it in ask(token, "GET", scopes) if it["name"] == "groups"]
    if not found:
        ask(token, "POST", scopes, _GROUPS)
        found = [it for it in ask(token, "GET", scopes) if it["name"] == "groups"]
    ask(token, "PUT", f"{defaults}/{found[0]['id']}")
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


def _align_roles(token: str, realm: Realm) -> list[str]:
    """Have the role of the platform's administrators, which tokens tell in realm_access.roles."""
    if ask(token, "GET", f"{realm.name}/roles/{PLATFORM_ADMIN}"):
        return []
    role = {"name": PLATFORM_ADMIN, "description": "Administers the platform."}
    ask(token, "POST", f"{realm.name}/roles", role)
    return [f"made role {PLATFORM_ADMIN}"]


def _align_clients(token: str, realm: Realm, clients: Sequence[Client]) -> list[str]:
    """Have these clients, and none other that this charm made."""
    there = _clients(token, realm.name)
    ours = {name for name, it in there.items() if MARK in it.get("attributes", {})}
    changes = []
    for client in clients:
        found = there.get(client.identifier, {})
        if found and client.identifier not in ours:
            raise Invalid(f"rename or delete client {client.identifier} of realm {realm.name}")
        name = {"clientId": client.identifier}
        wanted = {**client.wanted, **_mappers(found, client.audience)}
        if not found:
            ask(token, "POST", f"{realm.name}/clients", {**name, **wanted})
            changes.append(f"made client {client.identifier}")
        elif changed := _difference(found, wanted):
            ask(token, "PUT", f"{realm.name}/clients/{found['id']}", {**name, **changed})
            changes.append(f"client {client.identifier}: set {', '.join(changed)}")
    for name in sorted(ours - {it.identifier for it in clients}):
        ask(token, "DELETE", f"{realm.name}/clients/{there[name]['id']}")
        changes.append(f"deleted client {name}")
    return changes


_MANAGING = ("manage-users", "query-users", "view-users")
"""The roles of the built-in client realm-management by which a client manages people."""


def _align_managers(token: str, realm: Realm, clients: Sequence[Client]) -> list[str]:
    """Have the service accounts of the clients that manage people hold the roles for it."""
    there = _clients(token, realm.name)
    management = there["realm-management"]["id"]
    changes = []
    for client in clients:
        if not client.wanted["serviceAccountsEnabled"]:
            continue
        path = f"{realm.name}/clients/{there[client.identifier]['id']}/service-account-user"
        account = ask(token, "GET", path)["id"]
        path = f"{realm.name}/users/{account}/role-mappings/clients/{management}"
        held = {it["name"]: it for it in ask(token, "GET", path) if it["name"] in _MANAGING}
        if client.manages_users and len(held) < len(_MANAGING):
            roles = f"{realm.name}/clients/{management}/roles"
            ask(token, "POST", path, [ask(token, "GET", f"{roles}/{it}") for it in _MANAGING])
            changes.append(f"let client {client.identifier} manage users")
        elif held and not client.manages_users:
            ask(token, "DELETE", path, list(held.values()))
            changes.append(f"no longer let client {client.identifier} manage users")
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
    return {it["clientId"]: it for it in ask(token, "GET", f"{realm}/clients")}
