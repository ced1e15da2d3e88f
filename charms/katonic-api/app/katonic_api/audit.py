"""The audit log: who did what, when; changes of entities write theirs in changes.py."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from . import changes
from .changes import Change
from .store import Document, Store


class Actor(BaseModel):
    """Who did it."""

    model_config = ConfigDict(frozen=True)

    id: str
    username: str


class Thing(BaseModel):
    """What it was done to."""

    model_config = ConfigDict(frozen=True)

    kind: str
    id: str
    name: str


class Entry(BaseModel):
    """One thing that somebody did."""

    model_config = ConfigDict(frozen=True)

    id: str
    time: datetime
    actor: Actor
    action: str
    entity: Thing
    organization: str | None
    project: str | None
    details: dict[str, Any]


def read(document: Document) -> Entry:
    """Return an entry from its document."""
    return Entry.model_validate({**document, "id": document["_id"]})


async def write(store: Store, change: Change[Any]) -> str:
    """Write an entry about what changes no entity, such as a file's coming, and return its id."""
    document = changes.entry(change)
    await store.audit.insert_one(document)
    return document["_id"]


async def take_back(store: Store, identifier: str) -> None:
    """Delete an entry about what then did not come to be."""
    await store.audit.delete_one({"_id": identifier})
