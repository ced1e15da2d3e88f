"""Changes an entity, all or nothing, and writes who did it, without transactions.

A change is first an entry of the journal, under the id of its entity, so that there is one at a
time; it holds all that is still to be done. Whoever finds an old one, since its server went away
half-way, does that. No step needs more of the database than that of two inserts under one key one
is refused: FerretDB has no more to give, its updates are not atomic.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic

from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from . import metrics
from .entities import Project, User, now
from .problems import Problem, Unavailable, not_found
from .store import KINDS, Document, Entity, Store

logger = logging.getLogger(__name__)

_SECONDS = 10
"""After which a server has given up on a change of its own."""

_ABANDONED = timedelta(seconds=15)
"""After which an entry of the journal is somebody else's to finish, clocks not quite the same."""

_BUSY = "Somebody else is changing this. Try again soon."
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)


class Stale(Exception):  # noqa: N818 - an answer to who asks, not an error
    """The entity is not what it was when it was read."""


@dataclass(frozen=True)
class Change(Generic[Entity]):
    """What a person does to an entity.

    Attributes:
        before: What it was; None when it is made.
        after: What it is to be; None when it is deleted.
        actor: Who does it; None for the platform itself.
        action: Such as "project.create".
        details: What there is to say besides; never a secret.
        organization: In which, where the entity does not tell.
    """

    before: Entity | None
    after: Entity | None
    actor: User | None
    action: str
    details: Mapping[str, Any] = field(default_factory=dict)
    organization: str | None = None

    @property
    def about(self) -> Entity:
        """Return the entity as it is best known."""
        about = self.after or self.before
        assert about
        return about


def entry(change: Change[Any]) -> Document:
    """Return what the audit log says of a change; its _id is the change's."""
    about = change.about
    organization = about.organization if isinstance(about, Project) else change.organization
    return {
        "_id": uuid.uuid4().hex,
        "time": now(),
        "actor": {
            "id": change.actor.id if change.actor else "",
            "username": change.actor.username if change.actor else "katonic-api",
        },
        "action": change.action,
        "entity": {"kind": about.kind, "id": about.id, "name": about.title},
        "organization": about.id if about.kind == "organization" else organization,
        "project": about.id if about.kind == "project" else None,
        "details": dict(change.details),
    }


class Changes:
    """Makes changes of the entities in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def make(self, change: Change[Entity]) -> Entity:
        """Make a change and return the entity; once this returns, every server sees it.

        Raises:
            Stale: The entity is another than `before`, or is there already.
            Problem: 409, another entity has the name.
            Unavailable: Somebody else is changing it, and does not come to an end.
        """
        audit = entry(change)
        version = (change.before.version if change.before else 0) + 1
        made = {"version": version, "change": audit["_id"], "updated": audit["time"]}
        state = change.about.having(**made)
        document = {
            "_id": state.id,
            "kind": state.kind,
            "version": version,
            "state": state.document() if change.after else None,
            "entry": audit,
        }
        async with asyncio.timeout(2 * _SECONDS):
            await self._begin(document)
        async with asyncio.timeout(_SECONDS):
            await self._finish(document)
        return state

    async def revise(
        self,
        kind: type[Entity],
        identifier: str,
        revise: Callable[[Entity], Change[Entity] | None],
    ) -> Entity:
        """Change an entity whatever it is by then, and return it; None changes nothing.

        Raises:
            Problem: 404, there is none; 409, as `make` says.
            Unavailable: Others change it all the time.
        """
        for _ in range(10):
            entity = await self._store.find(kind, identifier)
            if entity is None:
                raise not_found(kind.kind)
            change = revise(entity)
            if change is None:
                return entity
            with contextlib.suppress(Stale):
                return await self.make(change)
        raise Unavailable(_BUSY)

    async def heal(self) -> None:
        """Finish what servers that went away have begun."""
        async for it in self._store.journal.find({}):
            await self._heal(it)

    async def _begin(self, document: Document) -> None:
        """Insert the entry into the journal, once there is no other about its entity."""
        key, entities = {"_id": document["_id"]}, self._store.of(KINDS[document["kind"]])
        for pause in _PAUSES:
            try:
                await self._store.journal.insert_one(document)
                return
            except DuplicateKeyError:
                other = await self._store.journal.find_one(key)
            if other and not await self._heal(other):
                await asyncio.sleep(pause)
            found = await entities.find_one(key)
            if (found["version"] if found else 0) != document["version"] - 1:
                raise Stale
        raise Unavailable(_BUSY)

    async def _heal(self, document: Document) -> bool:
        """Finish an entry of the journal, if it is old enough, and return whether it was."""
        if document["entry"]["time"] > now() - _ABANDONED:
            return False
        with contextlib.suppress(Stale, Problem):
            await self._finish(document, begun=True)
        metrics.HEALED.inc()
        logger.warning("finished %s of %s", document["entry"]["action"], document["_id"])
        return True

    async def _finish(self, document: Document, begun: bool = False) -> None:
        """Do what the entry of the journal says; when it was `begun`, what is done of it is."""
        try:
            await self._apply(document, begun)
        except (Stale, Problem):
            await self._end(document)
            raise
        with contextlib.suppress(DuplicateKeyError):
            await self._store.audit.insert_one(document["entry"])
        await self._store.touch()
        await self._end(document)

    async def _apply(self, document: Document, begun: bool) -> None:
        collection = self._store.of(KINDS[document["kind"]])
        key, version, state = document["_id"], document["version"], document["state"]
        found = await collection.find_one({"_id": key})
        if found and found["change"] == document["entry"]["_id"]:
            return
        if found is None and state is None and begun:
            return
        if (found["version"] if found else 0) != version - 1:
            raise Stale
        try:
            if state is None:
                await collection.delete_one({"_id": key})
            elif version == 1:
                await collection.insert_one(state)
            else:
                # MongoDB holds this against whoever else may be finishing the same entry.
                await collection.replace_one({"_id": key, "version": version - 1}, state)
        except OperationFailure as error:
            if not _name_taken(error):
                raise
            raise Problem(
                409, f"The name {document['entry']['entity']['name']} is taken."
            ) from None

    async def _end(self, document: Document) -> None:
        """Take the entry out of the journal; if that fails, whoever finds it does no harm."""
        mine = {"_id": document["_id"], "entry._id": document["entry"]["_id"]}
        with contextlib.suppress(PyMongoError):
            await self._store.journal.delete_one(mine)


def _name_taken(error: OperationFailure) -> bool:
    """Return whether a unique index refuses; FerretDB says so of an insert alone by its code."""
    return isinstance(error, DuplicateKeyError) or "UNIQUE constraint" in str(error)
