"""As much of MongoDB as the pages use, each call of it atomic, as one document's is there."""

import copy
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import AutoReconnect, DuplicateKeyError


@dataclass
class Deleted:
    """What a deletion says."""

    deleted_count: int


@dataclass
class Database:
    """Collections by their names; while it is `silent`, nothing of it answers."""

    silent: bool = False
    collections: dict[str, "Collection"] = field(default_factory=dict)

    def __getitem__(self, name: str) -> "Collection":
        return self.collections.setdefault(name, Collection(self))


@dataclass
class Collection:
    """Documents by their _id."""

    database: Database
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def insert_one(self, document: dict[str, Any]) -> None:
        self._answer()
        if document["_id"] in self.documents:
            raise DuplicateKeyError("E11000")
        self.documents[document["_id"]] = copy.deepcopy(document)

    async def find_one(self, query: dict[str, Any]) -> dict[str, Any] | None:
        return copy.deepcopy(next(iter(self._found(query)), None))

    async def update_one(self, query: dict[str, Any], change: dict[str, Any]) -> None:
        assert change.keys() == {"$set"}
        for it in self._found(query)[:1]:
            it.update(change["$set"])

    async def delete_one(self, query: dict[str, Any]) -> Deleted:
        return self._delete(self._found(query)[:1])

    async def delete_many(self, query: dict[str, Any]) -> Deleted:
        return self._delete(self._found(query))

    async def count_documents(self, query: dict[str, Any]) -> int:
        return len(self._found(query))

    async def create_index(self, name: str) -> None:
        self._answer()

    def _delete(self, found: list[dict[str, Any]]) -> Deleted:
        for it in found:
            del self.documents[it["_id"]]
        return Deleted(len(found))

    def _found(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        self._answer()
        return [it for it in self.documents.values() if _fits(it, query)]

    def _answer(self) -> None:
        if self.database.silent:
            raise AutoReconnect("connection refused")


def _fits(document: dict[str, Any], query: dict[str, Any]) -> bool:
    tests = {"$gt": lambda a, b: a > b, "$lte": lambda a, b: a <= b}
    for name, wanted in query.items():
        value = document[name]
        if isinstance(wanted, dict):
            if not all(tests[key](value, it) for key, it in wanted.items()):
                return False
        elif value != wanted:
            return False
    return True
