"""A browser, without its picture: it follows, keeps cookies and fills in the forms of a page."""

from typing import Any
from urllib.parse import urljoin, urlsplit

import database_in_memory
import httpx2
import identity_provider
import lxml.html
import platform_api
from cryptography.fernet import Fernet
from identity_provider import AUDIENCE, CLIENT, INTERNAL, ISSUER, SECRET, IdentityProvider
from katonic_ui.application import application
from katonic_ui.settings import Backend, OpenId, Settings

URL = "https://mlops.example"
API = "http://katonic-api.lab.svc.cluster.local:8080"
KEYS = (Fernet.generate_key().decode(),)
_REALM = f"{INTERNAL}/protocol/openid-connect"
OPENID = OpenId(
    issuer=ISSUER,
    authorization_endpoint=f"{ISSUER}/protocol/openid-connect/auth",
    token_endpoint=f"{_REALM}/token",
    jwks_endpoint=f"{_REALM}/certs",
    client_id=CLIENT,
    client_secret=SECRET,
)
SETTINGS = Settings(
    url=URL,
    title="Katonic",
    support="mailto:help@mlops.example",
    session_idle=1800,
    session_max=36000,
    session_keys=KEYS,
    database="mongodb://played",
    api=Backend(API, AUDIENCE),
    openid=OPENID,
)
NAMES = {
    "root": "Rosa Rooth",
    "olga": "Olga Ladyzhenskaya",
    "ada": "Ada Lovelace",
    "carl": "Carl Gauss",
    "vera": "Vera Rubin",
    "nina": "Nina Bari",
}


class Wires(httpx2.AsyncBaseTransport):
    """Leads each request to who plays its host."""

    def __init__(self, hosts: dict[str, Any]) -> None:
        self._hosts = {host: httpx2.ASGITransport(app) for host, app in hosts.items()}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.host not in self._hosts:
            raise httpx2.ConnectError(f"nobody plays {request.url.host}")
        return await self._hosts[request.url.host].handle_async_request(request)


class Platform:
    """The pages, and what is outside of them."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        people = {it: identity_provider.person(it, name) for it, name in NAMES.items()}
        self.identity = IdentityProvider(people, "ada")
        self.api = platform_api.furnished()
        self.database = database_in_memory.Database()
        self.pages = self.unit(settings)

    def unit(self, settings: Settings = SETTINGS) -> Any:
        """Return one more unit of the pages."""
        wires = Wires(
            {
                urlsplit(API).hostname or "": self.api.application,
                urlsplit(INTERNAL).hostname or "": self.identity.application,
            }
        )
        return application(settings, transport=wires, database=self.database)

    def browser(self, pages: Any = None) -> "Browser":
        """Return a browser in which nobody is signed in."""
        return Browser(self, pages or self.pages)

    async def signed_in(self, username: str) -> "Browser":
        """Return a browser in which somebody is."""
        self.identity.signs_in = username
        browser = self.browser()
        assert (await browser.get("/")).status_code == 200
        return browser


class Browser:
    """A browser of the platform's one host, the gateway in front of it included."""

    def __init__(self, platform: Platform, pages: Any) -> None:
        self.platform = platform
        self.turn_to(pages)
        self.cookies = httpx2.Cookies()

    def turn_to(self, pages: Any) -> None:
        """Have the gateway ask another unit."""
        auth = httpx2.ASGITransport(self.platform.identity.application)
        self._pages, self._auth = httpx2.ASGITransport(pages), auth

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """Return the page that one sees in the end."""
        answer = await self.ask("GET", path, headers)
        while answer.is_redirect:
            answer = await self.ask("GET", urljoin(str(answer.url), answer.headers["location"]))
        return answer

    async def post(self, path: str, form: dict[str, str] | None = None, **headers: str) -> Any:
        """Return what comes of a form that this site's own page sends."""
        token = await self.token()
        answer = await self.ask("POST", path, headers, {"csrf": token, **(form or {})})
        if answer.is_redirect:
            return await self.get(urljoin(str(answer.url), answer.headers["location"]))
        return answer

    async def token(self) -> str:
        """Return what the forms of these pages bring along."""
        page = lxml.html.fromstring((await self.get("/account")).text)
        return page.xpath("string(//input[@name='csrf']/@value)")

    async def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx2.Response:
        """Return the one answer to a request, and keep its cookies."""
        url = urljoin(URL, path)
        transport = self._auth if urlsplit(url).path.startswith("/auth/") else self._pages
        async with httpx2.AsyncClient(transport=transport, cookies=self.cookies) as client:
            named = {key.replace("_", "-"): it for key, it in (headers or {}).items()}
            if method != "GET":
                named.setdefault("origin", URL)
            answer = await client.request(
                method, url, headers=named, data=form, content=content, follow_redirects=False
            )
            self.cookies = client.cookies
        return answer
