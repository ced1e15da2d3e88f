"""Keycloak as its charm meets it: a small one in memory, that answers as 26.4.0 was seen to."""

import contextlib
import copy
import http.server
import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Any

from ops import testing

EXECS = [testing.Exec(["bash", "-c"])]
BOOTSTRAP = "katonic-bootstrap"
FLOWS = {
    "browser": [
        ("Cookie", 0, "auth-cookie", "ALTERNATIVE"),
        ("forms", 0, None, "ALTERNATIVE"),
        ("Username Password Form", 1, "auth-username-password-form", "REQUIRED"),
        ("Browser - Conditional 2FA", 1, None, "CONDITIONAL"),
        ("Condition - user configured", 2, "conditional-user-configured", "REQUIRED"),
        ("OTP Form", 2, "auth-otp-form", "ALTERNATIVE"),
        ("WebAuthn Authenticator", 2, "webauthn-authenticator", "DISABLED"),
    ],
    "direct grant": [
        ("Password", 0, "direct-grant-validate-password", "REQUIRED"),
        ("Direct Grant - Conditional OTP", 0, None, "CONDITIONAL"),
        ("Condition - user configured", 1, "conditional-user-configured", "REQUIRED"),
        ("OTP", 1, "direct-grant-validate-otp", "REQUIRED"),
    ],
}
WORDS = {"length", "digits", "upperCase", "notUsername", "notEmail", "passwordHistory"}


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer that is none of success."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code


class Keycloak:
    """Realms, each with clients, users, scopes and flows."""

    def __init__(self) -> None:
        self.realms: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, set[str]] = {}
        self.add_realm({"realm": "master", "enabled": True})
        self.add_client("master", {"clientId": "admin-cli", "publicClient": True})

    def users(self, realm: str) -> dict[str, dict[str, Any]]:
        """Return the realm's users by their names."""
        return {it["username"]: it for it in self.realms[realm]["users"].values()}

    def add_realm(self, it: dict[str, Any]) -> None:
        self.check(it)
        fields = {"failureFactor": 30, "accessTokenLifespan": 300, "registrationAllowed": False}
        totp = {"alias": "CONFIGURE_TOTP", "enabled": True, "defaultAction": False}
        roles = ["manage-users", "query-users", "view-clients", "view-users"]
        management = {"id": "c1", "clientId": "realm-management", "has": roles}
        self.realms[it["realm"]] = {
            "fields": {**fields, **it},
            "clients": {} if it["realm"] == "master" else {"c1": {"attributes": {}, **management}},
            "users": {},
            "roles": {"admin": {"id": "r1", "name": "admin"}},
            "client-scopes": {"s1": {"id": "s1", "name": "profile"}},
            "default-default-client-scopes": ["s1"],
            "actions": {"CONFIGURE_TOTP": totp},
            "flows": {
                flow: [
                    {
                        "id": f"{flow}-{number}",
                        "displayName": name,
                        "level": level,
                        "providerId": provider,
                        "requirement": requirement,
                    }
                    for number, (name, level, provider, requirement) in enumerate(steps)
                ]
                for flow, steps in FLOWS.items()
            },
        }

    def check(self, fields: dict[str, Any]) -> None:
        policy = fields.get("passwordPolicy", "")
        words = {re.sub(r"\(.*\)", "", it) for it in policy.split(" and ") if it}
        if words - WORDS:
            raise Refusal(400, "Password policy not found")

    def shortest(self, fields: dict[str, Any]) -> int:
        found = re.search(r"\blength\((\d+)\)", fields.get("passwordPolicy", ""))
        return int(found[1]) if found else 0

    def add_client(self, realm: str, it: dict[str, Any]) -> None:
        clients = self.realms[realm]["clients"]
        if any(there["clientId"] == it["clientId"] for there in clients.values()):
            raise Refusal(409, f"Client {it['clientId']} already exists")
        key = str(uuid.uuid4())
        clients[key] = {"attributes": {}, "standardFlowEnabled": True, **it, "id": key}

    def token(self, form: dict[str, str]) -> dict[str, str]:
        realm, name, secret = self.realms["master"], form["client_id"], form["client_secret"]
        if name == BOOTSTRAP:  # the charm's step makes it, with the secret of the day
            realm["clients"] = {
                key: it for key, it in realm["clients"].items() if it["clientId"] != BOOTSTRAP
            }
            more = {"serviceAccountsEnabled": True, "roles": ["admin"]}
            self.add_client("master", {"clientId": name, "secret": secret, **more})
        for it in realm["clients"].values():
            if it["clientId"] == name and it.get("secret") == secret:
                token = str(uuid.uuid4())
                self.tokens[token] = set(self.realms) if "admin" in it.get("roles", []) else set()
                return {"access_token": token}
        raise Refusal(401, "Invalid client or Invalid client credentials")

    def administer(self, token: str, method: str, path: list[str], query: str, body: Any) -> Any:
        if token not in self.tokens:
            raise Refusal(401)
        if not path:
            self.add_realm(body)
            return None
        if path[0] not in self.realms:
            raise Refusal(404, "Realm not found.")
        if path[0] not in self.tokens[token]:
            raise Refusal(403)
        realm = self.realms[path[0]]
        match method, path[1:]:
            case "GET", []:
                return {key: it for key, it in realm["fields"].items() if it != ""}
            case "PUT", []:
                self.check(body)
                realm["fields"].update(body)
            case "GET", ["clients"]:
                return list(realm["clients"].values())
            case "POST", ["clients"]:
                self.add_client(path[0], body)
            case "PUT", ["clients", key]:
                there = realm["clients"][key]
                attributes = {**there["attributes"], **body.get("attributes", {})}
                there |= {**body, "attributes": attributes}
            case "DELETE", ["clients", key]:
                del realm["clients"][key]
            case "GET", ["clients", key, "service-account-user"]:
                return {"id": f"service-account-{key}"}
            case "GET", ["users"]:
                name = urllib.parse.parse_qs(query)["username"][0]
                return [it for it in realm["users"].values() if it["username"] == name]
            case "POST", ["users"]:
                for it in realm["users"].values():
                    for field in {"username", "email"} & it.keys():
                        if it[field] == body.get(field):
                            raise Refusal(409, f"User exists with same {field}")
                key = str(uuid.uuid4())
                realm["users"][key] = {"requiredActions": [], **body, "id": key}
            case "PUT", ["users", key, "reset-password"]:
                if len(body["value"]) < self.shortest(realm["fields"]):
                    raise Refusal(400, "invalidPasswordMinLengthMessage")
                realm["users"][key] |= {"password": body["value"], "temporary": body["temporary"]}
            case "GET", ["users", key, "credentials"]:
                return [{"type": "password"}] if "password" in realm["users"][key] else []
            case "GET", ["roles", name]:
                if name not in realm["roles"]:
                    raise Refusal(404, "Could not find role")
                return realm["roles"][name]
            case "POST", ["roles"]:
                realm["roles"][body["name"]] = {**body, "id": str(uuid.uuid4())}
            case "GET", ["clients", key, "roles", name] if name in realm["clients"][key]["has"]:
                return {"name": name}
            case method, ["users", user, "role-mappings", "clients", _]:
                owner = realm["clients"][user.removeprefix("service-account-")]
                held = owner.setdefault("manages", [])
                names = [it["name"] for it in body or []]
                if method == "GET":
                    return [{"name": it} for it in held]
                kept = [it for it in held if it not in names]
                owner["manages"] = kept + (names if method == "POST" else [])
            case "POST", ["users", user, "role-mappings", "realm"]:
                key = user.removeprefix("service-account-")
                owner = realm["clients"].get(key) or realm["users"][user]
                owner["roles"] = [it["name"] for it in body]
            case "GET", ["authentication", "flows", flow, "executions"]:
                return realm["flows"][flow]
            case "PUT", ["authentication", "flows", flow, "executions"]:
                (step,) = (it for it in realm["flows"][flow] if it["id"] == body["id"])
                step["requirement"] = body["requirement"]
            case "GET", ["authentication", "required-actions", alias]:
                return realm["actions"][alias]
            case "PUT", ["authentication", "required-actions", alias]:
                realm["actions"][alias] = body
            case "GET", ["client-scopes"]:
                return list(realm["client-scopes"].values())
            case "POST", ["client-scopes"]:
                key = str(uuid.uuid4())
                realm["client-scopes"][key] = {**body, "id": key}
            case "GET", ["default-default-client-scopes"]:
                chosen = realm["default-default-client-scopes"]
                return [realm["client-scopes"][key] for key in chosen]
            case "PUT", ["default-default-client-scopes", key]:
                realm["default-default-client-scopes"].append(key)
            case _:
                raise Refusal(405, f"{method} {'/'.join(path)}")
        return None


class _Handler(http.server.BaseHTTPRequestHandler):
    keycloak: Keycloak
    lock: threading.Lock

    def answer(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        path = [urllib.parse.unquote(it) for it in url.path.strip("/").split("/")]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            with self.lock:
                if path[:2] == ["admin", "realms"]:
                    said = json.loads(body) if body else None
                    method, rest = self.command, path[2:]
                    answer = self.keycloak.administer(token, method, rest, url.query, said)
                elif path[-1] == "token":
                    answer = self.keycloak.token(dict(urllib.parse.parse_qsl(body.decode())))
                elif path == ["health", "ready"]:
                    answer = {"status": "UP"}
                else:
                    raise Refusal(404)
            code, answer = 200, copy.deepcopy(answer)
        except Refusal as refusal:
            code, answer = refusal.code, {"errorMessage": str(refusal)}
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode() if answer is not None else b"")

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def serve() -> Iterator[Keycloak]:
    """Answer on Keycloak's ports for as long as the context lasts."""
    keycloak = Keycloak()
    handler = type("Handler", (_Handler,), {"keycloak": keycloak, "lock": threading.Lock()})
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", it), handler) for it in (8080, 9000)]
    threads = [
        threading.Thread(target=it.serve_forever, kwargs={"poll_interval": 0.05}) for it in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield keycloak
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
