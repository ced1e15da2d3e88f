"""What a realm is to be: the options and the relations, in the words of Keycloak's admin API."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from interfaces import oauth
from katonic import Config, Invalid

Minutes = Annotated[int, msgspec.Meta(ge=1, le=525600, description="minutes, 1 to 525600")]
MARK = "katonic.relation"
"""The attribute that tells the clients of this charm from those that people made."""

SCOPES = "openid profile email address phone offline_access groups"


class Options(Config):
    """The charm's options."""

    realm: Annotated[
        str,
        msgspec.Meta(
            pattern="^(?!master$)[a-z][a-z0-9-]*$",
            description="lower-case letters, digits and hyphens, and not master",
        ),
    ]
    password_policy: str
    mfa: Literal["off", "optional", "required"]
    self_registration: bool
    session_idle: Minutes
    session_max: Minutes
    token_lifetime: Minutes
    login_failures: Annotated[int, msgspec.Meta(ge=0, le=1000, description="0 to 1000")]
    database_connections: Annotated[int, msgspec.Meta(ge=5, le=1000, description="5 to 1000")]
    java_options: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(-[\w:+=.,/-]+( +|$))*$",
            description="words that begin with a hyphen, without quotes",
        ),
    ]


@dataclass(frozen=True)
class Realm:
    """A realm: `settings` are those fields of its representation that the options decide."""

    name: str
    settings: Mapping[str, Any]
    mfa: Literal["off", "optional", "required"]


@dataclass(frozen=True)
class Client:
    """The OIDC client of one relation.

    Attributes:
        identifier: The client_id.
        wanted: Those fields of its representation that the relation decides.
        audience: Whom its tokens are for, besides itself.
    """

    identifier: str
    wanted: Mapping[str, Any]
    audience: Sequence[str]


def realm(options: Options) -> Realm:
    """Return the realm that the options describe.

    Raises:
        Invalid: The policy is none, or the times contradict each other.
    """
    if options.session_idle > options.session_max:
        raise Invalid(
            f"config session-idle={options.session_idle}: longer than a session lasts;"
            f" allowed: 1 to session-max ({options.session_max})"
        )
    if options.token_lifetime > options.session_idle:
        raise Invalid(
            f"config token-lifetime={options.token_lifetime}: longer than an idle session lasts;"
            f" allowed: 1 to session-idle ({options.session_idle})"
        )
    locks = {"failureFactor": options.login_failures} if options.login_failures else {}
    settings = {
        "passwordPolicy": password_policy(options.password_policy),
        "registrationAllowed": options.self_registration,
        "ssoSessionIdleTimeout": 60 * options.session_idle,
        "ssoSessionMaxLifespan": 60 * options.session_max,
        "accessTokenLifespan": 60 * options.token_lifetime,
        "bruteForceProtected": bool(options.login_failures),
        **locks,
    }
    return Realm(options.realm, settings, options.mfa)


def client(application: str, relation: int, asked: oauth.Requirer, secret: str) -> Client:
    """Return the client that a relation asks for."""
    grants = asked.grant_types
    device = "urn:ietf:params:oauth:grant-type:device_code" in grants
    wanted = {
        "secret": secret,
        "webOrigins": ["+"],  # those of the redirect URIs
        "redirectUris": sorted(asked.redirect_uris),
        "standardFlowEnabled": "authorization_code" in grants,
        "serviceAccountsEnabled": "client_credentials" in grants,
        "attributes": {
            MARK: f"{application}:{relation}",
            "use.refresh.tokens": _word("refresh_token" in grants),
            "oauth2.device.authorization.grant.enabled": _word(device),
        },
    }
    return Client(f"{application}-{relation}", wanted, sorted(asked.audience))


def provider(url: str, realm: str, client: Client) -> oauth.Provider:
    """Return what the client's application is told; `url` is Keycloak's."""
    issuer = f"{url}/realms/{realm}"
    connect = f"{issuer}/protocol/openid-connect"
    return oauth.Provider(
        issuer_url=issuer,
        authorization_endpoint=f"{connect}/auth",
        token_endpoint=f"{connect}/token",
        introspection_endpoint=f"{connect}/token/introspect",
        userinfo_endpoint=f"{connect}/userinfo",
        jwks_endpoint=f"{connect}/certs",
        scopes=SCOPES,
        client_id=client.identifier,
        client_secret_id=oauth.ClientSecret(secret=client.wanted["secret"]),
        groups="groups",
    )


def _word(value: bool) -> str:
    return str(value).lower()


_NUMBER = r"\d+"
_POLICY: Mapping[str, str] = {
    "length": _NUMBER,
    "maxLength": _NUMBER,
    "digits": _NUMBER,
    "lowerCase": _NUMBER,
    "upperCase": _NUMBER,
    "specialChars": _NUMBER,
    "passwordHistory": _NUMBER,
    "passwordAge": _NUMBER,
    "forceExpiredPasswordChange": _NUMBER,
    "maxAuthAge": _NUMBER,
    "recoveryCodesWarningThreshold": _NUMBER,
    "hashIterations": _NUMBER,
    "hashAlgorithm": "argon2|pbkdf2|pbkdf2-sha256|pbkdf2-sha512",
    "regexPattern": ".+",
    "notUsername": "",
    "notContainsUsername": "",
    "notEmail": "",
}
"""A password policy's words and what may stand in their parentheses: /admin/serverinfo of Keycloak
26.4. passwordBlacklist is left out: it needs a file on every unit."""


def password_policy(text: str) -> str:
    """Return the policy as Keycloak takes it.

    Raises:
        Invalid: It has an unknown word, or one with a value that is not allowed.
    """
    words = []
    for part in filter(None, map(str.strip, text.split(" and "))):
        found = re.fullmatch(r"(\w+)(?:\((.*)\))?", part)
        name, value = (found[1], found[2] or "") if found else (part, "")
        if name not in _POLICY:
            allowed = ", ".join(sorted(_POLICY))
            raise Invalid(f"config password-policy={text}: unknown {name!r}; allowed: {allowed}")
        if not re.fullmatch(_POLICY[name] or "(undefined)?", value):
            allowed = {"": "nothing", _NUMBER: "a number"}.get(_POLICY[name], _POLICY[name])
            raise Invalid(
                f"config password-policy={text}: {part!r}; allowed in its parentheses: {allowed}"
            )
        words.append(part)
    return " and ".join(words)
