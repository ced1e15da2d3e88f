"""Keycloak as the server meets it: its keys, tokens and admin API; what 26.4 was seen to do."""

import json
import time
import uuid
from typing import Any
from urllib.parse import parse_qs

import httpx2
from joserfc import jwt
from joserfc.jwk import OKPKey, RSAKey

ISSUER = "https://katonic.localhost/auth/realms/platform"
BASE = "http://keycloak/realms/platform/protocol/openid-connect"
ADMIN = "/admin/realms/platform"


class Keycloak:
    """A realm with people, one client and signing keys that rotate."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, {"kid": "first", "use": "sig", "alg": "RS256"})]
        self.users: dict[str, dict[str, Any]] = {}
        self.signed_out: list[str] = []
        self.manages, self.answers = True, True
        self.asked: list[str] = []

    def rotate(self) -> None:
        """Sign with another key from now on."""
        name = f"key-{len(self.keys)}"
        self.keys.insert(0, RSAKey.generate_key(2048, {"kid": name, "use": "sig"}))

    def person(self, name: str, **more: Any) -> str:
        """Give a person an account, and return its id."""
        identifier = str(uuid.uuid4())
        self.users[identifier] = {
            "id": identifier,
            "username": name,
            "email": f"{name}@example.org",
            "firstName": name.title(),
            "lastName": "Person",
            "enabled": True,
            "attributes": {"phone": ["1"]},
            **more,
        }
        return identifier

    def token(self, user: str, roles: tuple[str, ...] = (), key: Any = None, **more: Any) -> str:
        """Return an access token of a user; None takes a claim away."""
        it, key = self.users[user], key or self.keys[0]
        claims = {
            "iss": ISSUER,
            "aud": ["katonic-api", "account"],
            "sub": user,
            "typ": "Bearer",
            "iat": int(time.time()),
            "exp": int(time.time()) + 300,
            "preferred_username": it["username"],
            "email": it["email"],
            "name": f"{it['firstName']} {it['lastName']}",
            "realm_access": {"roles": ["offline_access", *roles]},
            **more,
        }
        algorithm = "Ed25519" if isinstance(key, OKPKey) else "RS256"
        header = {"alg": algorithm, "typ": "JWT", "kid": key.kid}
        said = {name: it for name, it in claims.items() if it is not None}
        return jwt.encode(header, said, key, algorithms=[algorithm])

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of the server's."""
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if not self.answers:
            raise httpx2.ConnectError("Connection refused")
        if path.endswith("/certs"):
            public = [it.as_dict(private=False) for it in self.keys]
            encrypting = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc", "alg": "RSA-OAEP"})
            return httpx2.Response(
                200, json={"keys": [encrypting.as_dict(private=False), *public]}
            )
        if path.endswith("/token"):
            assert parse_qs(request.content.decode()) == {"grant_type": ["client_credentials"]}
            assert request.headers["authorization"].startswith("Basic ")
            return httpx2.Response(200, json={"access_token": "t", "expires_in": 60})
        if request.headers["authorization"] != "Bearer t":
            return httpx2.Response(401)
        if not self.manages:
            return httpx2.Response(403)
        return self._administer(request, path.removeprefix(ADMIN).strip("/").split("/"))

    def _administer(self, request: httpx2.Request, path: list[str]) -> httpx2.Response:
        match request.method, path:
            case "GET", ["users"]:
                (key,) = {"username", "email"} & set(request.url.params)
                wanted = request.url.params[key].casefold()
                found = [it for it in self.users.values() if it[key].casefold() == wanted]
                return httpx2.Response(200, json=found)
            case _, ["users", user, *_] if user not in self.users:
                return httpx2.Response(404, json={"error": "User not found"})
            case "GET", ["users", user]:
                return httpx2.Response(200, json=self.users[user])
            case "PUT", ["users", user]:
                self.users[user] = {"id": user, **json.loads(request.content)}
                return httpx2.Response(204)
            case "POST", ["users", user, "logout"]:
                self.signed_out.append(user)
                return httpx2.Response(204)
        return httpx2.Response(405)
