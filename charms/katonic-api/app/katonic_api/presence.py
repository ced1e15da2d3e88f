"""When each user was last here; none of it is worth a request's waiting."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime

from pymongo.errors import PyMongoError

from .entities import now
from .store import Store

_PERIOD = 60.0
"""Seconds in which it is written at most once that somebody is here."""

_REMEMBERED = 10_000


class Presence:
    """When users were last here. It is kept apart from them, as no change of theirs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, user: str) -> None:
        """Note that a user is here now."""
        clock = time.monotonic()
        if clock - self._noted.get(user, -_PERIOD) < _PERIOD:
            return
        self._noted[user] = clock
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)
        task = asyncio.create_task(self._write(user))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def of(self, users: Collection[str]) -> dict[str, datetime]:
        """Return when these users were last here, by id."""
        found = self._store.seen.find({"_id": {"$in": sorted(users)}})
        return {it["_id"]: it["time"] async for it in found}

    async def _write(self, user: str) -> None:
        with contextlib.suppress(PyMongoError):
            await self._store.seen.replace_one({"_id": user}, {"time": now()}, upsert=True)
