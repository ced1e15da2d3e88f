# ruff: noqa: S106 - the passwords of EXAMPLES
"""A client of an OpenID Connect provider: charmlibs-interfaces-oauth's `oauth`."""

from typing import Literal

import msgspec

from katonic import Databag, Secret

GrantType = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
]


class ClientSecret(Secret):
    """What the client proves itself with."""

    secret: str


class Requirer(Databag, rename="lower"):
    """The client that is asked for.

    Attributes:
        scopes: The scopes it may ask for, separated by spaces.
        redirect_uri: Where a person comes back to after signing in; a list where there are more.
        audience: Whom its tokens are for, besides itself.
    """

    scopes: str = msgspec.field(name="scope")
    grant_types: tuple[GrantType, ...]
    redirect_uri: str | tuple[str, ...] | None = None
    audience: tuple[str, ...] = ()
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post"] = (
        "client_secret_basic"  # noqa: S105 - a method, no secret
    )

    @property
    def redirect_uris(self) -> tuple[str, ...]:
        """Return every redirect URI."""
        if isinstance(self.redirect_uri, str):
            return (self.redirect_uri,)
        return self.redirect_uri or ()


class Provider(Databag, rename="lower"):
    """The client that is given, and where its provider answers.

    Attributes:
        scopes: The scopes that the provider supports, separated by spaces.
        groups: The claim that names a person's groups.
        ca_chain: The certificates that signed the provider's, PEM.
        jwt_access_token: Whether its access tokens are JWTs: "True" or "False".
    """

    issuer_url: str
    authorization_endpoint: str
    token_endpoint: str
    introspection_endpoint: str
    userinfo_endpoint: str
    jwks_endpoint: str
    scopes: str = msgspec.field(name="scope")
    client_id: str
    client_secret_id: ClientSecret
    groups: str | None = None
    ca_chain: tuple[str, ...] | None = None
    jwt_access_token: str = "True"  # noqa: S105 - a flag, no secret

    @property
    def client_secret(self) -> str:
        """Return what the client proves itself with."""
        return self.client_secret_id.secret


_REALM = "https://mlops.example/auth/realms/katonic"
_ENDPOINTS = f"{_REALM}/protocol/openid-connect"

EXAMPLES = [
    Requirer(
        scopes="openid email profile",
        grant_types=("authorization_code", "refresh_token"),
        redirect_uri="https://mlops.example/mlflow/oauth2/callback",
    ),
    Provider(
        issuer_url=_REALM,
        authorization_endpoint=f"{_ENDPOINTS}/auth",
        token_endpoint=f"{_ENDPOINTS}/token",
        introspection_endpoint=f"{_ENDPOINTS}/token/introspect",
        userinfo_endpoint=f"{_ENDPOINTS}/userinfo",
        jwks_endpoint=f"{_ENDPOINTS}/certs",
        scopes="openid email profile",
        client_id="mlflow-11",
        client_secret_id=ClientSecret(secret="n0-0ne-kn0ws-this-secret"),
        groups="groups",
    ),
]
