"""What a realm is to be: the options and the relations, in the words of Keycloak's admin API."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from interfaces import catalogue, oauth
from katonic import Config, Invalid, Seed

Minutes = Annotated[int, msgspec.Meta(ge=1, le=525600, description="minutes, 1 to 525600")]
MARK = "katonic.relation"
"""The attribute that tells the clients of this charm from those that people made."""

PLATFORM_ADMIN = "platform-admin"
"""The realm's role whose holders administer the platform."""

PROGRAMS = "programs"
"""The client of programs that people run: a person lets one in by a browser (RFC 8628)."""

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
    user_managers: Annotated[
        str,
        msgspec.Meta(
            pattern="^([a-z][a-z0-9-]*( *, *|$))*$",
            description="applications, separated by commas",
        ),
    ]
    database_connections: Annotated[int, msgspec.Meta(ge=5, le=1000, description="5 to 1000")]
    java_options: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^(-[\w:+=.,/-]+( +|$))*$",
            description="words that begin with a hyphen, without quotes",
        ),
    ]

    @property
    def managers(self) -> Collection[str]:
        """Return the applications that may manage people."""
        return {it.strip() for it in self.user_managers.split(",")}


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
        manages_users: Whether its own account may manage the realm's people.
    """

    identifier: str
    wanted: Mapping[str, Any]
    audience: Sequence[str]
    manages_users: bool


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


def client(
    application: str,
    relation: int,
    asked: oauth.Requirer,
    secret: str,
    managers: Collection[str] = (),
) -> Client:
    """Return the client that a relation asks for; those of the `managers` manage people."""
    grants, manages_users = asked.grant_types, application in managers
    device = "urn:ietf:params:oauth:grant-type:device_code" in grants
    wanted = {
        "publicClient": False,
        "secret": secret,
        "webOrigins": ["+"],  # those of the redirect URIs
        "redirectUris": sorted(asked.redirect_uris),
        "standardFlowEnabled": "authorization_code" in grants,
        "serviceAccountsEnabled": "client_credentials" in grants or manages_users,
        "attributes": {
            MARK: f"{application}:{relation}",
            "use.refresh.tokens": _word("refresh_token" in grants),
            "oauth2.device.authorization.grant.enabled": _word(device),
            "post.logout.redirect.uris": "+",  # the redirect URIs
        },
    }
    return Client(f"{application}-{relation}", wanted, sorted(asked.audience), manages_users)


def with_programs(clients: Collection[Client]) -> list[Client]:
    """Return the clients, and that by which people's own programs get a token for themselves.

    Whoever any of the clients' tokens are for takes such a token too.
    """
    wanted = {
        "name": "a program of yours",  # as the person reads it who lets one in
        "publicClient": True,
        "standardFlowEnabled": False,
        "directAccessGrantsEnabled": False,
        "serviceAccountsEnabled": False,
        "attributes": {MARK: PROGRAMS, "oauth2.device.authorization.grant.enabled": "true"},
    }
    audience = sorted({it for client in clients for it in client.audience})
    return [*clients, Client(PROGRAMS, wanted, audience, manages_users=False)]


def clients(
    asked: Mapping[int, oauth.Requirer],
    applications: Mapping[int, str],
    seed: Seed,
    managers: Collection[str],
) -> dict[int, Client]:
    """Return the client of each relation, with the secret that the seed has for it now."""
    return {
        key: client(applications[key], key, it, seed.password("oauth", key), managers)
        for key, it in asked.items()
    }


def providers(
    url: str, service: str, realm: str, clients: Mapping[int, Client]
) -> dict[int, oauth.Provider]:
    """Return what the application of each relation is told.

    Browsers find Keycloak at `url`, and that is what the issuer in tokens says; pods find it at
    `service`, which needs neither the gateway nor its certificate.
    """
    return {key: _provider(url, service, realm, it) for key, it in clients.items()}


def _provider(url: str, service: str, realm: str, client: Client) -> oauth.Provider:
    issuer = f"{url}/realms/{realm}"
    connect = f"{service}/realms/{realm}/protocol/openid-connect"
    return oauth.Provider(
        issuer_url=issuer,
        authorization_endpoint=f"{issuer}/protocol/openid-connect/auth",
        token_endpoint=f"{connect}/token",
        introspection_endpoint=f"{connect}/token/introspect",
        userinfo_endpoint=f"{connect}/userinfo",
        jwks_endpoint=f"{connect}/certs",
        scopes=SCOPES,
        client_id=client.identifier,
        client_secret_id=oauth.ClientSecret(secret=client.wanted["secret"]),
        groups="groups",
    )


def tile(url: str, service: str, realm: str) -> catalogue.Requirer:
    """Return the tile that leads people to their own account."""
    return catalogue.Requirer(
        name="Identities",
        description="Your password, your second factor, and where you are signed in.",
        url=f"{url}/realms/{realm}/account",
        icon="account-key",
        health=f"{service}/realms/{realm}",
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
