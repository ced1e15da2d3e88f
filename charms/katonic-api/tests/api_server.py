"""A server of the application for a test, with the world around it played."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from katonic_api import migrations
from katonic_api.app import create
from katonic_api.backend import Backend
from katonic_api.settings import Settings
from played_keycloak import BASE, ISSUER, Keycloak
from played_mlflow import MLflow
from played_mongodb import MongoDB


@dataclass
class World:
    """What is around the servers."""

    mongodb: MongoDB = field(default_factory=MongoDB)
    keycloak: Keycloak = field(default_factory=Keycloak)
    mlflow: MLflow = field(default_factory=MLflow)
    healthy: dict[str, int] = field(default_factory=dict)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """Answer a request of a server's."""
        if request.url.host == "keycloak":
            return self.keycloak.answer(request)
        if request.url.host == "mlflow":
            return self.mlflow.answer(request)
        if status := self.healthy.get(request.url.host):
            return httpx2.Response(status)
        raise httpx2.ConnectError("Connection refused")


class Client:
    """A person, or nobody, with a server."""

    def __init__(self, http: httpx2.AsyncClient, token: str = "") -> None:
        self._http, self._token = http, token

    async def __call__(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        headers |= more.pop("headers", {})
        return await self._http.request(method, path, headers=headers, **more)


@dataclass
class Server:
    """One server, and the world around it."""

    world: World
    backend: Backend
    http: httpx2.AsyncClient

    def client(self, user: str, **more: Any) -> Client:
        """Return a client of the user with this id."""
        return Client(self.http, self.world.keycloak.token(user, **more))

    def person(self, name: str, **more: Any) -> Client:
        """Return a client of a new person."""
        return self.client(self.world.keycloak.person(name), **more)

    def admin(self) -> Client:
        """Return a client of a new platform admin."""
        return self.person("root", roles=("platform-admin",))


def settings(url: str, **more: Any) -> Settings:
    """Return settings for a test."""
    return Settings(
        database_url=url,
        database="katonic-api",
        issuer=ISSUER,
        jwks_url=f"{BASE}/certs",
        token_url=f"{BASE}/token",
        client_id="katonic-api-3",
        client_secret="s3cret",
        operator_token="0perator",
        **{"experiments_url": "http://mlflow:5000", **more},
    )


@contextlib.asynccontextmanager
async def serving(
    world: World | None = None, url: str | None = None, **more: Any
) -> AsyncIterator[Server]:
    """Yield a server; several may have one world, and the `url` of its database."""
    world = world or World()
    async with contextlib.AsyncExitStack() as stack:
        url = url or await stack.enter_async_context(world.mongodb.serve())
        app = create(settings(url, **more), outside=httpx2.MockTransport(world.answer))
        await stack.enter_async_context(app.router.lifespan_context(app))
        await migrations.migrate(app.state.backend.store)
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        http = httpx2.AsyncClient(transport=transport, base_url="http://api")
        yield Server(world, app.state.backend, await stack.enter_async_context(http))
