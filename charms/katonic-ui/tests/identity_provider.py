"""Who signs people in, as Keycloak does it: the code flow with PKCE, refresh, keys, sign-out."""

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from joserfc import jwk, jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

ISSUER = "https://mlops.example/auth/realms/platform"
INTERNAL = "http://keycloak.lab.svc.cluster.local:8080/realms/platform"
CLIENT, SECRET = "katonic-ui-7", "n0-0ne-kn0ws-this"
AUDIENCE = "katonic-api"


def _key() -> jwk.RSAKey:
    return jwk.RSAKey.generate_key(2048, {"kid": secrets.token_hex(4)})


_FIRST_KEY = _key()


def person(username: str, name: str, *roles: str) -> dict[str, Any]:
    return {
        "sub": f"id-of-{username}",
        "preferred_username": username,
        "name": name,
        "email": f"{username}@mlops.example",
        "groups": ["/research"],
        "realm_access": {"roles": [*roles]},
    }


@dataclass
class IdentityProvider:
    """A realm.

    Attributes:
        signs_in: Who the next one at its door is.
        lifetime: Seconds for which access tokens are said to hold.
        locked: Those whose refresh tokens are refused.
        silent: Whether it does not answer.
        refreshes: How often tokens have been refreshed.
    """

    people: dict[str, dict[str, Any]]
    signs_in: str
    lifetime: int = 300
    locked: set[str] = field(default_factory=set)
    silent: bool = False
    refreshes: int = 0
    seen: dict[str, str] = field(default_factory=dict)
    codes: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    key: jwk.RSAKey = field(default_factory=lambda: _FIRST_KEY)

    def token(self, username: str, **claims: Any) -> str:
        """Return an access token, as it would be or with other claims."""
        now = int(time.time())
        content = {
            "iss": ISSUER,
            "aud": [AUDIENCE],
            "azp": CLIENT,
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_hex(8),
            **self.people[username],
            **claims,
        }
        return jwt.encode({"alg": "RS256", "kid": self.key.kid}, content, self.key)

    def rotate(self) -> None:
        """Sign with another key from now on."""
        self.key = _key()

    @property
    def application(self) -> Starlette:
        """Return what answers below the realm's address, for browsers and for pods."""
        base = "/{_:path}protocol/openid-connect"
        return Starlette(
            routes=[
                Route(f"{base}/auth", self._authorize),
                Route(f"{base}/token", self._token, methods=["POST"]),
                Route(f"{base}/certs", self._certs),
                Route(f"{base}/logout", self._logout),
            ]
        )

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self.codes[code] = (self.signs_in, asked)
        query = urlencode({"state": asked["state"], "code": code})
        return RedirectResponse(f"{asked['redirect_uri']}?{query}", 302)

    async def _token(self, request: Request) -> Response:
        if self.silent:
            return Response(status_code=503)
        form = dict(parse_qsl((await request.body()).decode()))
        if form["grant_type"] == "refresh_token":
            username = form["refresh_token"].partition(" ")[0]
            if username in self.locked or username not in self.people:
                return JSONResponse({"error": "invalid_grant"}, 400)
            self.refreshes += 1
            return self._tokens(username, {})
        username, asked = self.codes.pop(form["code"], ("", {}))
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = urlsafe_b64encode(digest).decode().rstrip("=")
        if not username or asked["code_challenge"] != challenge or username in self.locked:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return self._tokens(username, {"nonce": asked["nonce"], "aud": [CLIENT]})

    def _tokens(self, username: str, of_id: dict[str, Any]) -> Response:
        body = {
            "access_token": self.token(username),
            "expires_in": self.lifetime,
            "refresh_token": f"{username} {secrets.token_hex(8)}",
            "token_type": "Bearer",
            **({"id_token": self.token(username, **of_id)} if of_id else {}),
        }
        return JSONResponse(body)

    async def _certs(self, request: Request) -> Response:
        if self.silent:
            return Response(status_code=503)
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def _logout(self, request: Request) -> Response:
        self.seen = dict(request.query_params)
        return RedirectResponse(self.seen["post_logout_redirect_uri"], 302)
