"""What the pages are to their charm: how they start, and what they are told."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from interfaces import forward_auth, katonic_api, mongodb_client, oauth
from katonic import FILES, Config, Container, Invalid, Service

PORT, METRICS_PORT = 8080, 9090
HEADERS = (
    "x-katonic-user",
    "x-katonic-user-id",
    "x-katonic-email",
    "x-katonic-groups",
    "x-katonic-roles",
)
_PYTHON = "/opt/katonic-ui/bin/python"
_AUTHORITIES = f"{FILES}/oauth-authorities.pem"
_OLD_KEYS = 3


Minutes = Annotated[int, msgspec.Meta(ge=1, le=10080, description="minutes, 1 to 10080")]


class Options(Config):
    """The charm's options."""

    title: Annotated[
        str, msgspec.Meta(pattern=r"^.{1,40}$", description="one line of 1 to 40 characters")
    ]
    support_link: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^((https://|mailto:)\S+)?$",
            description="https://... or mailto:..., or nothing",
        ),
    ]
    session_idle: Minutes
    session_max: Minutes


@dataclass(frozen=True)
class Pages:
    """How the pages are to run; what is None is not there, and they say so to people.

    Attributes:
        url: Where a browser finds them.
        keys: What encrypts sessions: the first key encrypts, all decrypt.
    """

    url: str
    options: Options
    keys: tuple[str, ...]
    sessions: mongodb_client.Provider | None
    oauth: oauth.Provider | None
    api: katonic_api.Provider | None


def checked(options: Options) -> Options:
    """Return the options, should they go together.

    Raises:
        Invalid: A session would be idle for longer than it lasts.
    """
    if options.session_idle > options.session_max:
        raise Invalid(
            f"config session-idle={options.session_idle}: longer than a session lasts;"
            f" allowed: 1 to session-max ({options.session_max})"
        )
    return options


def client(url: str, api: katonic_api.Provider | None) -> oauth.Requirer:
    """Return the client that the pages need: people come back to them signed in, or signed out."""
    return oauth.Requirer(
        scopes="openid profile email groups",
        grant_types=("authorization_code", "refresh_token"),
        redirect_uri=(f"{url}/session/callback", f"{url}/signed-out"),
        audience=(api.audience,) if api else (),
    )


def container(pages: Pages) -> Container:
    """Return what serves the pages, whatever is there of what they need."""
    authorities = "\n".join((pages.oauth and pages.oauth.ca_chain) or ())
    trusted = {"SSL_CERT_FILE": _AUTHORITIES} if authorities else {}
    server = Service(
        f"{_PYTHON} -m katonic_ui",
        environment={**_environment(pages), **trusted},
        secrets=_secrets(pages),
        ready=f"http://localhost:{PORT}/ready",
        kill_delay=25,
    )
    return Container(
        services={"katonic-ui": server}, files={_AUTHORITIES: authorities} if authorities else {}
    )


def decisions(url: str, applications: Sequence[str]) -> forward_auth.Provider:
    """Return where a gateway asks, and for which of its applications it may: for all of them."""
    return forward_auth.Provider(
        decisions_address=f"{url}/forward-auth",
        app_names=tuple(applications),
        headers=HEADERS,
    )


def new_key() -> str:
    """Return a key of Fernet's."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def keys(content: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys that a secret holds, the newest first."""
    return (content["value"], *content.get("older", "").split())


def rotated(content: Mapping[str, str]) -> dict[str, str]:
    """Return the secret's content with one more key, and no more old ones than are needed."""
    return {"value": new_key(), "older": " ".join(keys(content)[:_OLD_KEYS])}


def _environment(pages: Pages) -> dict[str, str]:
    values = {
        "PYTHONPATH": "/opt/katonic-ui/app",
        "PUBLIC_URL": pages.url,
        "TITLE": pages.options.title,
        "SUPPORT_LINK": pages.options.support_link,
        "SESSION_IDLE": str(pages.options.session_idle),
        "SESSION_MAX": str(pages.options.session_max),
    }
    if pages.api:
        values |= {"API_URL": pages.api.url, "API_AUDIENCE": pages.api.audience}
    if pages.oauth:
        values |= {
            "OPENID_ISSUER": pages.oauth.issuer_url,
            "OPENID_AUTHORIZATION_ENDPOINT": pages.oauth.authorization_endpoint,
            "OPENID_TOKEN_ENDPOINT": pages.oauth.token_endpoint,
            "OPENID_JWKS_ENDPOINT": pages.oauth.jwks_endpoint,
            "OPENID_CLIENT_ID": pages.oauth.client_id,
        }
    return values


def _secrets(pages: Pages) -> dict[str, str]:
    values = {"SESSION_KEYS": " ".join(pages.keys)}
    if pages.sessions:
        values["DATABASE_URI"] = pages.sessions.url
    if pages.oauth:
        values["OPENID_CLIENT_SECRET"] = pages.oauth.client_secret
    return values
