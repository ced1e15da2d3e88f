"""Keycloak as programs meet it."""

import json
import urllib.parse
import urllib.request
from typing import Any

from deployed import Platform


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

    def delete(self, path: str, token: str) -> None:
        self._ask("DELETE", path, token)

    def token(self, realm: str, **form: str) -> str:
        return self.form(realm, "/token", **form)["access_token"]

    def form(self, realm: str, path: str, **form: str) -> Any:
        path = f"/realms/{realm}/protocol/openid-connect{path}"
        body = urllib.parse.urlencode(form).encode()
        return self._ask("POST", path, None, body, "application/x-www-form-urlencoded")

    def own_token(self, application: dict[str, str]) -> str:
        """Return an application's token for itself."""
        login = {it: application[it.replace("_", "-")] for it in ("client_id", "client_secret")}
        return self.token("platform", grant_type="client_credentials", **login)

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
