"""The platform's API as people with real accounts meet it."""

import dataclasses
import json
import secrets
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from deployed import Platform
from keycloak_api import Keycloak

PASSWORD = f"Aa1-{secrets.token_urlsafe(16)}"


@dataclass(frozen=True)
class Answer:
    """What the API answers."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Return what it says."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Person:
    """Somebody with an account and an access token."""

    url: str
    id: str
    name: str
    token: str

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        said = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        said |= {name.replace("_", "-"): it for name, it in headers.items()}
        request = urllib.request.Request(self.url + path, data, said, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read())


class Accounts:
    """Makes people, with a client of Keycloak's for their tokens; all of it can be taken away."""

    def __init__(self, platform: Platform) -> None:
        self._keycloak = Keycloak(platform)
        self._url = platform.url("katonic-api", 8080)
        self._made: list[str] = []
        self._tokens: dict[str, tuple[float, str]] = {}
        self._realm = "/admin/realms/platform"
        self._client = f"people-{secrets.token_hex(4)}"
        client = {
            "clientId": self._client,
            "publicClient": True,
            "directAccessGrantsEnabled": True,
            "protocolMappers": [
                {
                    "name": "audience",
                    "protocol": "openid-connect",
                    "protocolMapper": "oidc-audience-mapper",
                    "config": {
                        "included.custom.audience": "katonic-api",
                        "access.token.claim": "true",
                    },
                }
            ],
        }
        self._post("clients", client)
        query = f"{self._realm}/clients?clientId={self._client}"
        self._made.append(f"clients/{self._keycloak.get(query, self._keycloak.admin())[0]['id']}")

    def person(self, name: str, platform_admin: bool = False, sign_in: bool = True) -> Person:
        """Return a new person, who has been at the API unless they have not."""
        account = {
            "username": name,
            "email": f"{name}@example.org",
            "firstName": name.title(),
            "lastName": "Person",
            "emailVerified": True,
            "enabled": True,
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
        }
        self._post("users", account)
        admin = self._keycloak.admin()
        query = f"{self._realm}/users?username={name}&exact=true"
        identifier = self._keycloak.get(query, admin)[0]["id"]
        self._made.insert(0, f"users/{identifier}")
        if platform_admin:
            role = self._keycloak.get(f"{self._realm}/roles/platform-admin", admin)
            self._post(f"users/{identifier}/role-mappings/realm", [role])
        person = Person(self._url, identifier, name, self.token(name))
        self._tokens[name] = time.monotonic(), person.token
        if sign_in:
            assert person("GET", "/v1/me").status == 200
        return person

    def anew(self, person: Person) -> Person:
        """Return a person with a token that is good for some minutes still."""
        made, token = self._tokens[person.name]
        if time.monotonic() - made > 120:
            token = self.token(person.name)
            self._tokens[person.name] = time.monotonic(), token
        return dataclasses.replace(person, token=token)

    def token(self, name: str) -> str:
        """Return an access token for the API."""
        return self._keycloak.token(
            "platform",
            grant_type="password",
            client_id=self._client,
            username=name,
            password=PASSWORD,
            scope="openid profile email",
        )

    def remove(self) -> None:
        """Take all that was made away."""
        for it in self._made:
            self._keycloak.delete(f"{self._realm}/{it}", self._keycloak.admin())

    def _post(self, path: str, body: Any) -> None:
        self._keycloak.post(f"{self._realm}/{path}", body, self._keycloak.admin())
