"""The database: its collections, and what is read from them."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection

from .entities import Organization, Project, Stored, User, now
from .settings import Settings

Document = dict[str, Any]
Entity = TypeVar("Entity", bound=Stored)

_COLLECTIONS: Mapping[type[Stored], str] = {
    Organization: "organizations",
    Project: "projects",
    User: "users",
}
KINDS: Mapping[str, type[Stored]] = {it.kind: it for it in _COLLECTIONS}

SECONDS = 5
"""After which an operation of the database is given up."""


class Store:
    """The platform's database.

    A write is done once most of the replica set has it on disk. Filters are of one key where that
    is enough: FerretDB, which stands for MongoDB in the sandbox, finds nothing else by an index.
    """

    def __init__(self, settings: Settings) -> None:
        options: dict[str, Any] = {"timeoutMS": SECONDS * 1000}
        if settings.database_authorities:
            options["tlsCAFile"] = settings.database_authorities
        self.client: AsyncMongoClient[Document] = AsyncMongoClient(
            settings.database_url, appname="katonic-api", **options
        )
        self.database = self.client.get_database(
            settings.database,
            CodecOptions(tz_aware=True),
            ReadPreference.PRIMARY,
            WriteConcern("majority", j=True),
        )
        self.audit = self.database["audit"]
        self.journal = self.database["journal"]
        self.leftovers = self.database["leftovers"]
        self.once = self.database["once"]
        self.platform = self.database["platform"]
        self.seen = self.database["seen"]

    def of(self, kind: type[Stored]) -> AsyncCollection[Document]:
        """Return the collection of a kind of entity."""
        return self.database[_COLLECTIONS[kind]]

    async def find(self, kind: type[Entity], identifier: str) -> Entity | None:
        """Return an entity, None when there is none."""
        found = await self.of(kind).find_one({"_id": identifier})
        return kind.model_validate(found) if found else None

    async def search(self, kind: type[Entity], query: Document) -> list[Entity]:
        """Return the entities that the query finds."""
        return [kind.model_validate(it) async for it in self.of(kind).find(query)]

    async def named(self, kind: type[Entity], identifiers: set[str]) -> dict[str, Entity]:
        """Return the entities that have these ids, by id."""
        found = await self.search(kind, {"_id": {"$in": sorted(identifiers)}})
        return {it.id: it for it in found}

    async def revision(self) -> str:
        """Return what is another after every change of an entity."""
        found = await self.platform.find_one({"_id": "revision"})
        return found["token"] if found else ""

    async def touch(self) -> None:
        """Say that an entity has changed."""
        token = {"token": uuid.uuid4().hex}
        await self.platform.replace_one({"_id": "revision"}, token, upsert=True)

    async def expire(self, audit_days: int) -> None:
        """Delete audit entries older than this, and answers kept for requests that come again."""
        await self.audit.delete_many({"time": {"$lt": now() - timedelta(days=audit_days)}})
        await self.once.delete_many({"expires": {"$lt": now()}})
