"""Lists in parts: where one goes on is a cursor, which no change between two parts confuses."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from pymongo.asynchronous.collection import AsyncCollection

from .problems import Problem
from .store import Document

Item = TypeVar("Item")
MOST = 200
"""Items of a page at most."""


class Page(BaseModel, Generic[Item]):
    """A part of a list; `next` is the cursor of the next part, `total` None where nobody knows."""

    model_config = ConfigDict(frozen=True)

    items: list[Item]
    next: str | None = None
    total: int | None = None


@dataclass(frozen=True)
class Order:
    """By which field a list is sorted, the id deciding between equals.

    Attributes:
        field: The field.
        descending: Whether the greatest comes first.
    """

    field: str
    descending: bool = False

    @classmethod
    def parse(cls, text: str) -> "Order":
        """Return the order that "field" or "-field" means."""
        return cls(text.removeprefix("-"), text.startswith("-"))

    @property
    def keys(self) -> list[tuple[str, int]]:
        """Return it as MongoDB sorts."""
        way = -1 if self.descending else 1
        return [(self.field, way), ("_id", way)]

    def after(self, cursor: str) -> Document:
        """Return the query for what comes after the cursor.

        Raises:
            Problem: 422, it is none.
        """
        value, identifier = _decode(cursor, self)
        beyond = "$lt" if self.descending else "$gt"
        return {
            "$or": [
                {self.field: {beyond: value}},
                {self.field: value, "_id": {beyond: identifier}},
            ]
        }

    def cursor(self, last: Document) -> str:
        """Return the cursor of what comes after a document."""
        value = last[self.field]
        said = {"@": value.isoformat()} if isinstance(value, datetime) else value
        return _encode([self.field, self.descending, said, last["_id"]])


async def read(
    collection: AsyncCollection[Document],
    query: Document,
    order: Order,
    limit: int,
    cursor: str | None,
) -> tuple[list[Document], str | None, int]:
    """Return a part of what the query finds, the cursor of the next, and how much there is."""
    part = {"$and": [query, order.after(cursor)]} if cursor else query
    found = await collection.find(part).sort(order.keys).limit(limit + 1).to_list()
    total = len(found)
    if cursor or len(found) > limit:
        total = await collection.count_documents(query)
    following = order.cursor(found[limit - 1]) if len(found) > limit else None
    return found[:limit], following, total


def cut(items: Sequence[Item], limit: int, cursor: str | None) -> tuple[list[Item], str | None]:
    """Return a part of what is all at hand, and the cursor of the next.

    Raises:
        Problem: 422, the cursor is none.
    """
    if cursor and not (cursor.isdecimal() and len(cursor) < 10):
        raise _WRONG
    start = int(cursor or 0)
    end = start + limit
    return list(items[start:end]), str(end) if end < len(items) else None


def cursor_of(token: str | None) -> str | None:
    """Return the cursor for where another server's list goes on, by its own word for that."""
    return _encode([_ELSEWHERE, token]) if token else None


def token_of(cursor: str | None) -> str | None:
    """Return what the other server called it, None for the beginning.

    Raises:
        Problem: 422, the cursor is none.
    """
    if not cursor:
        return None
    try:
        where, token = _read(cursor)
    except (ValueError, TypeError, RecursionError):
        raise _WRONG from None
    if where != _ELSEWHERE or type(token) is not str:
        raise _WRONG
    return token


_ELSEWHERE = "elsewhere"


def _encode(said: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")


def _read(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def _decode(cursor: str, order: Order) -> tuple[Any, str]:
    try:
        field, descending, value, identifier = _read(cursor)
        if isinstance(value, dict):
            value = datetime.fromisoformat(value["@"])
        if [field, descending] != [order.field, order.descending] or type(identifier) is not str:
            raise _WRONG
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _WRONG from None
    return value, identifier


_WRONG = Problem(422, "This cursor is not of this list.")
