"""A small MongoDB in memory, by MongoDB's wire: as much of it as the server uses."""

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from typing import Any

import bson
from bson.codec_options import CodecOptions

Document = dict[str, Any]
_OP_MSG, _OP_QUERY, _OP_REPLY = 2013, 2004, 1
_CODEC: CodecOptions[Document] = CodecOptions(tz_aware=True)
HELLO = {
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "ok": 1.0,
}


class Gone(Exception):  # noqa: N818 - no error: the connection ends
    """What a test raises to have the database go away in the middle of a command."""


class MongoDB:
    """Databases of one server.

    Attributes:
        commands: What was asked, such as "insert projects".
        before: Called with each of them before it is done; it may raise Gone.
        after: Called with each of them once it is done, but not answered; it may raise Gone.
    """

    def __init__(self) -> None:
        self.collections: dict[str, dict[Any, Document]] = {}
        self.unique: dict[str, list[list[str]]] = {}
        self.commands: list[str] = []
        self.before: Callable[[str], None] = lambda command: None
        self.after: Callable[[str], None] = lambda command: None

    def documents(self, collection: str) -> list[Document]:
        """Return what is in a collection."""
        return list(self.collections.get(collection, {}).values())

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Yield the URL at which it answers for as long as the context lasts."""
        tasks: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            try:
                while True:
                    await self._exchange(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError, Gone):
                writer.close()
            finally:
                writer.transport.abort()
                tasks.discard(task)

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"mongodb://127.0.0.1:{port}/katonic-api"
        finally:
            server.close()
            for it in tasks:
                it.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(16)
        length, request, _, operation = struct.unpack("<iiii", header)
        body = await reader.readexactly(length - 16)
        if operation == _OP_QUERY:  # how a client of any version says hello
            answer = bson.encode(HELLO)
            said = struct.pack("<iqii", 8, 0, 0, 1) + answer
            writer.write(struct.pack("<iiii", 16 + len(said), 1, request, _OP_REPLY) + said)
            return
        assert operation == _OP_MSG
        command = _command(body)
        said = struct.pack("<i", 0) + b"\0" + bson.encode(self._answer(command))
        writer.write(struct.pack("<iiii", 16 + len(said), 1, request, _OP_MSG) + said)
        await writer.drain()

    def _answer(self, command: Document) -> Document:
        name = next(iter(command))
        if name in ("hello", "isMaster", "ismaster"):
            return HELLO
        if name in ("ping", "endSessions", "killCursors"):
            return {"ok": 1.0}
        collection = command[name]
        words = f"{name} {collection}"
        self.commands.append(words)
        self.before(words)
        documents = self.collections.setdefault(collection, {})
        handler = getattr(self, f"_{name}")
        answer = handler(collection, documents, command)
        self.after(words)
        return {**answer, "ok": 1.0}

    def _insert(
        self, collection: str, documents: dict[Any, Document], command: Document
    ) -> Document:
        for it in command["documents"]:
            if it["_id"] in documents or self._collides(collection, it):
                error = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error"}
                return {"n": 0, "writeErrors": [error]}
            documents[it["_id"]] = it
        return {"n": len(command["documents"])}

    def _collides(self, collection: str, document: Document) -> bool:
        return any(
            other["_id"] != document["_id"]
            and all(other.get(field) == document.get(field) for field in fields)
            for other in self.documents(collection)
            for fields in self.unique.get(collection, [])
        )

    def _find(
        self, collection: str, documents: dict[Any, Document], command: Document
    ) -> Document:
        found = [it for it in documents.values() if matches(it, command.get("filter", {}))]
        for field, way in reversed(list(command.get("sort", {}).items())):
            found.sort(key=lambda it: it[field], reverse=way < 0)
        if limit := command.get("limit"):
            found = found[:limit]
        return _cursor(collection, found)

    def _update(
        self, collection: str, documents: dict[Any, Document], command: Document
    ) -> Document:
        (update,) = command["updates"]
        query, state = update["q"], update["u"]
        for key, it in documents.items():
            if matches(it, query):
                if self._collides(collection, {"_id": key, **state}):
                    error = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key error"}
                    return {"n": 0, "nModified": 0, "writeErrors": [error]}
                documents[key] = {"_id": key, **state}
                return {"n": 1, "nModified": 1}
        if update.get("upsert"):
            documents[query["_id"]] = {"_id": query["_id"], **state}
            upserted = [{"index": 0, "_id": query["_id"]}]
            return {"n": 1, "nModified": 0, "upserted": upserted}
        return {"n": 0, "nModified": 0}

    def _delete(
        self, collection: str, documents: dict[Any, Document], command: Document
    ) -> Document:
        (delete,) = command["deletes"]
        gone = [key for key, it in documents.items() if matches(it, delete["q"])]
        gone = gone[: delete["limit"] or None]
        for key in gone:
            del documents[key]
        return {"n": len(gone)}

    def _aggregate(
        self, collection: str, documents: dict[Any, Document], command: Document
    ) -> Document:
        found: list[Document] = list(documents.values())
        for stage in command["pipeline"]:
            ((kind, words),) = stage.items()
            if kind == "$match":
                found = [it for it in found if matches(it, words)]
            elif kind == "$unwind":
                field = words.removeprefix("$")
                found = [{**it, field: part} for it in found for part in it[field]]
            else:
                assert kind == "$group"
                found = _group(found, words)
        return _cursor(collection, found)

    def _createIndexes(  # noqa: N802 - MongoDB's word
        self, collection: str, documents: dict[Any, Document], command: Document
    ) -> Document:
        for it in command["indexes"]:
            if it.get("unique"):
                self.unique.setdefault(collection, []).append(list(it["key"]))
        return {}


def _command(body: bytes) -> Document:
    """Return the command of an OP_MSG, its sequences of documents in their places."""
    command: Document = {}
    place = 4
    while place < len(body):
        kind, place = body[place], place + 1
        (size,) = struct.unpack_from("<i", body, place)
        part = body[place : place + size]
        if kind == 0:
            command = {**bson.decode(part, _CODEC), **command}
        else:
            name, _, rest = part[4:].partition(b"\0")
            command[name.decode()] = bson.decode_all(rest, _CODEC)
        place += size
    first = next(it for it in command if it not in ("documents", "updates", "deletes"))
    return {first: command.pop(first), **command}


def _cursor(collection: str, found: list[Document]) -> Document:
    return {"cursor": {"id": 0, "ns": f"katonic-api.{collection}", "firstBatch": found}}


def _group(found: Iterable[Document], words: Document) -> list[Document]:
    """Return how many there are of each value; {"_id": 1, "n": {"$sum": 1}} counts them all."""
    (name,) = words.keys() - {"_id"}
    counts: dict[Any, int] = {}
    for it in found:
        by = words["_id"]
        keys = list(_values(it, by[1:])) if isinstance(by, str) else [by]
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
    return [{"_id": key, name: count} for key, count in counts.items()]


def matches(document: Document, query: Document) -> bool:
    """Return whether a query finds the document."""
    for key, wanted in query.items():
        if key == "$and":
            good = all(matches(document, it) for it in wanted)
        elif key == "$or":
            good = any(matches(document, it) for it in wanted)
        else:
            values = list(_values(document, key))
            operators = isinstance(wanted, dict) and all(it.startswith("$") for it in wanted)
            good = (
                all(_holds(values, key, it, wanted) for key, it in wanted.items())
                if operators
                else wanted in values
            )
        if not good:
            return False
    return True


def _values(document: Any, path: str) -> Iterable[Any]:
    name, _, rest = path.partition(".")
    parts = document if isinstance(document, list) else [document]
    for it in parts:
        if isinstance(it, dict) and name in it:
            yield from _values(it[name], rest) if rest else [it[name]]


def _holds(values: list[Any], operator: str, operand: Any, words: Document) -> bool:
    match operator:
        case "$in":
            return any(it in operand for it in values)
        case "$gt":
            return any(_comparable(it, operand) and it > operand for it in values)
        case "$lt":
            return any(_comparable(it, operand) and it < operand for it in values)
        case "$regex":
            flags = re.IGNORECASE if "i" in words.get("$options", "") else 0
            return any(re.search(operand, it, flags) for it in values if isinstance(it, str))
        case "$options":
            return True
    raise NotImplementedError(operator)


def _comparable(one: Any, other: Any) -> bool:
    return isinstance(one, type(other)) or {type(one), type(other)} <= {int, float, datetime}
