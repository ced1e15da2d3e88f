"""All that answers are made of, opened and closed together, and what is done beside requests."""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx2

from . import leftovers, migrations
from .changes import Changes
from .experiments import Experiments
from .files import Files
from .freshness import Freshness
from .people import People
from .presence import Presence
from .problems import Problem
from .services import PERIOD, Services
from .settings import Settings
from .store import Store
from .tokens import Tokens

logger = logging.getLogger(__name__)

_MINUTE, _HOUR = 60, 3600


@dataclass(frozen=True)
class Backend:
    """The parts of the server."""

    settings: Settings
    store: Store
    changes: Changes
    freshness: Freshness
    tokens: Tokens
    people: People
    presence: Presence
    experiments: Experiments
    files: Files
    services: Services

    async def readiness(self) -> str:
        """Return why the server is not ready, nothing when it is."""
        if await migrations.version(self.store) < migrations.VERSION:
            return "waiting for the database's migration"
        return ""


@contextlib.asynccontextmanager
async def running(
    settings: Settings, outside: httpx2.AsyncBaseTransport | None = None
) -> AsyncIterator[Backend]:
    """Yield the server's parts while what is to be done beside requests is done."""
    store = Store(settings)
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=50)
    async with (
        httpx2.AsyncClient(
            verify=ssl.create_default_context(cafile=settings.authorities),
            limits=limits,
            trust_env=False,
            transport=outside,
        ) as client,
        contextlib.aclosing(Files(settings.bucket)) as files,
        store.client,
    ):
        backend = Backend(
            settings=settings,
            store=store,
            changes=Changes(store),
            freshness=Freshness(store.revision),
            tokens=Tokens(settings, client),
            people=People(settings, client),
            presence=Presence(store),
            experiments=Experiments(settings.experiments_url, client),
            files=files,
            services=Services(store, client),
        )
        tasks = [
            asyncio.create_task(_repeat(period, work))
            for period, work in (
                (PERIOD, backend.services.look),
                (PERIOD, backend.changes.heal),
                (_MINUTE, lambda: leftovers.clear(store, files, backend.experiments)),
                (_HOUR, lambda: store.expire(settings.audit_days)),
            )
        ]
        try:
            yield backend
        finally:
            for it in tasks:
                it.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(period: float, work: Callable[[], Awaitable[None]]) -> None:
    """Work, and again after each period, whatever goes wrong."""
    while True:
        try:
            await work()
        except Problem as reason:
            logger.warning("%s", reason)
        except Exception as error:
            logger.warning("%s: %r", getattr(work, "__qualname__", "background"), error)
        await asyncio.sleep(period)
