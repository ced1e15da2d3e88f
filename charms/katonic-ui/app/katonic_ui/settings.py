"""What the pages are told by their charm, in their environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class OpenId:
    """Who signs people in, and the client that these pages are there.

    Attributes:
        issuer: The claim `iss` of its tokens; browsers find it there.
        authentication: How the client proves itself at the token endpoint.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_endpoint: str
    client_id: str
    client_secret: str
    authentication: str = "client_secret_basic"

    @property
    def origin(self) -> str:
        """Return the origin to which a browser is sent."""
        url = urlsplit(self.issuer)
        return f"{url.scheme}://{url.netloc}"

    @property
    def account_url(self) -> str:
        """Return Keycloak's page where a person changes what is theirs."""
        return f"{self.issuer}/account"


@dataclass(frozen=True)
class Backend:
    """The platform's API: where it is, and what `aud` its tokens have."""

    url: str
    audience: str


@dataclass(frozen=True)
class Settings:
    """All of it; what is None is not there yet, and the pages say so to whom they miss it.

    Attributes:
        url: Where a browser finds the pages, without a slash at its end.
        support: A link to those who help, or "".
        session_idle: Seconds after which a session ends that nobody uses.
        session_max: Seconds after which any session ends.
        session_keys: Fernet keys: the first closes, all open.
        database: The URI of the MongoDB that keeps the sessions.
    """

    url: str
    title: str
    support: str
    session_idle: int
    session_max: int
    session_keys: tuple[str, ...]
    database: str | None = None
    api: Backend | None = None
    openid: OpenId | None = None

    @property
    def origin(self) -> str:
        """Return the origin of the pages, as a browser writes it."""
        url = urlsplit(self.url)
        return f"{url.scheme}://{url.netloc}"

    @property
    def secure(self) -> bool:
        """Return whether browsers come by https: only then they take a cookie that says so."""
        return self.url.startswith("https:")


def read(environment: Mapping[str, str]) -> Settings:
    """Return the settings that an environment holds.

    Raises:
        KeyError: One lacks that must be there.
    """
    openid = None
    if issuer := environment.get("OPENID_ISSUER"):
        openid = OpenId(
            issuer=issuer,
            authorization_endpoint=environment["OPENID_AUTHORIZATION_ENDPOINT"],
            token_endpoint=environment["OPENID_TOKEN_ENDPOINT"],
            jwks_endpoint=environment["OPENID_JWKS_ENDPOINT"],
            client_id=environment["OPENID_CLIENT_ID"],
            client_secret=environment["OPENID_CLIENT_SECRET"],
        )
    api = None
    if url := environment.get("API_URL"):
        api = Backend(url, environment["API_AUDIENCE"])
    return Settings(
        url=environment["PUBLIC_URL"].rstrip("/"),
        title=environment["TITLE"],
        support=environment.get("SUPPORT_LINK", ""),
        session_idle=60 * int(environment["SESSION_IDLE"]),
        session_max=60 * int(environment["SESSION_MAX"]),
        session_keys=tuple(environment["SESSION_KEYS"].split()),
        database=environment.get("DATABASE_URI"),
        api=api,
        openid=openid,
    )
