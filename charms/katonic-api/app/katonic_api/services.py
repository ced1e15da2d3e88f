"""The services of the platform, and whether each is well."""

import asyncio
from datetime import datetime
from typing import Literal

import httpx2
from pydantic import BaseModel, ConfigDict, Field

from .entities import now
from .store import Store

PERIOD = 10
"""Seconds from one look at the services to the next."""

_TIMEOUT = 4


class Tile(BaseModel):
    """What an application says of itself; `health` is where it says that it is well."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    description: str
    icon: str
    url: str
    health: str | None = None


class Service(BaseModel):
    """A service, and how it was when it was last looked at."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    description: str
    icon: str
    url: str
    health: Literal["up", "down", "unknown"]
    detail: str
    checked: datetime | None


class Tiles(BaseModel):
    """All of the platform's services, as the charm tells them."""

    model_config = ConfigDict(frozen=True)

    items: list[Tile] = Field(max_length=200)


class Services:
    """The services that the charm told of, for all servers, looked at by each server."""

    def __init__(self, store: Store, client: httpx2.AsyncClient) -> None:
        self._store, self._client = store, client
        self.seen: list[Service] = []

    async def tell(self, tiles: Tiles) -> None:
        """Have these services, and no others."""
        told = tiles.model_dump()
        await self._store.platform.replace_one({"_id": "services"}, told, upsert=True)
        self.seen = await self._look(tiles)

    async def told(self) -> Tiles:
        """Return the services as they were told."""
        found = await self._store.platform.find_one({"_id": "services"})
        return Tiles.model_validate(found or {"items": []})

    async def look(self) -> None:
        """Look at each service."""
        self.seen = await self._look(await self.told())

    async def _look(self, tiles: Tiles) -> list[Service]:
        looks = (self._health(it) for it in tiles.items)
        found = await asyncio.gather(*looks)
        return sorted(found, key=lambda it: (it.title.casefold(), it.name))

    async def _health(self, tile: Tile) -> Service:
        health, detail = "unknown", "It does not say where to ask how it is."
        if tile.health:
            try:
                answer = await self._client.get(tile.health, timeout=_TIMEOUT)
                health = "up" if answer.status_code < 400 else "down"
                detail = "" if health == "up" else f"It answers {answer.status_code}."
            except httpx2.TimeoutException:
                health, detail = "down", f"It does not answer within {_TIMEOUT} seconds."
            except (httpx2.HTTPError, httpx2.InvalidURL):
                health, detail = "down", "It does not answer."
        return Service(
            **tile.model_dump(exclude={"health"}),
            health=health,
            detail=detail,
            checked=now() if tile.health else None,
        )
