"""All that the pages share: what they were told, whom they ask, and how they look."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from pymongo import AsyncMongoClient

from katonic_ui import metrics
from katonic_ui.assets import Assets
from katonic_ui.openid import Provider
from katonic_ui.problems import Away, NoApi, NoSignIn, SessionsAway
from katonic_ui.rendering import environment
from katonic_ui.sessions import Sessions, sealer
from katonic_ui.settings import Settings

logger = logging.getLogger(__name__)
_SWEEP = 60


class Site:
    """The pages of one platform.

    `transport` and `database` are what leads outside: to the API and to who signs people in, and
    to where the sessions are.
    """

    def __init__(
        self,
        settings: Settings,
        transport: httpx2.AsyncBaseTransport | None = None,
        database: Any = None,
    ) -> None:
        self.settings = settings
        self.assets = Assets()
        self.seal = sealer(settings.session_keys)
        self.templates = environment(settings, self.assets)
        self.draining = False
        transport = transport or httpx2.AsyncHTTPTransport(
            limits=httpx2.Limits(max_connections=200, max_keepalive_connections=50), retries=1
        )
        api = settings.api
        self._api = httpx2.AsyncClient(
            base_url=api.url if api else "", transport=transport, timeout=20
        )
        self._provider = (
            Provider(settings.openid, settings.url, api and api.audience, transport)
            if settings.openid
            else None
        )
        self._mongo: AsyncMongoClient[Any] | None = None
        if database is None and settings.database:
            self._mongo = AsyncMongoClient(
                settings.database, serverSelectionTimeoutMS=3000, connectTimeoutMS=3000
            )
            database = self._mongo.get_default_database()
        self._sessions = (
            Sessions(
                database,
                settings.session_keys,
                settings.session_idle,
                settings.session_max,
                self._provider,
                lambda outcome: metrics.REFRESHES.labels(outcome).inc(),
            )
            if database is not None and self._provider
            else None
        )

    @property
    def provider(self) -> Provider:
        """Return who signs people in.

        Raises:
            Away: Nobody does.
        """
        if self._provider is None:
            raise NoSignIn
        return self._provider

    @property
    def sessions(self) -> Sessions:
        """Return who is signed in.

        Raises:
            Away: Nobody can be.
        """
        if self._sessions is None:
            raise NoSignIn if self._provider is None else SessionsAway
        return self._sessions

    @property
    def api(self) -> httpx2.AsyncClient:
        """Return the way to the API.

        Raises:
            Away: There is none.
        """
        if self.settings.api is None:
            raise NoApi
        return self._api

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Delete what is over of the sessions now and then, for as long as the context lasts."""
        sweeper = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeper
            await self._api.aclose()
            if self._mongo is not None:
                await self._mongo.close()

    async def _sweep(self) -> None:
        while self._sessions is not None:
            try:
                await self._sessions.index()
                await self._sessions.sweep()
            except Away as reason:
                logger.warning("old sessions are not deleted: %s", reason.detail)
            await asyncio.sleep(_SWEEP * random.uniform(0.5, 1.5))  # noqa: S311 - units apart
