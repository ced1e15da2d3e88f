"""POST once: a request with an Idempotency-Key that comes again is answered as the first was."""

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.routing import APIRoute
from pymongo.errors import DuplicateKeyError, PyMongoError
from starlette.responses import Response

from .callers import caller_of
from .entities import now
from .problems import Problem
from .store import Document, Store

_KEPT = timedelta(hours=24)
_LEASE = timedelta(seconds=60)
"""For how long the first request is thought to be under way: by then its server has given up."""

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="For 24 hours, the same request with this key is answered as the first was.",
    ),
]
"""The header, for the signature of what answers a POST; Once reads it."""


class Once(APIRoute):
    """A route that heeds the header Idempotency-Key.

    The first request of a person with a key inserts a document under it, so that of several at
    once, on any servers, one goes on. What it makes gets an id that follows from the key: should
    its server go away half-way, the next does not make a second one.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if key is None or request.method != "POST" or not 0 < len(key) < 256:
                return await handle(request)
            caller = await caller_of(request)
            store: Store = request.app.state.backend.store
            words = f"{caller.user.id} {request.url.path} {key}"
            identifier = uuid.uuid5(uuid.NAMESPACE_URL, words).hex
            digest = hashlib.sha256(await request.body()).hexdigest()
            first = await _begin(store, identifier, digest)
            if first is not None:
                return first
            request.state.identifier = identifier
            try:
                answer = await handle(request)
            except BaseException:
                await asyncio.shield(store.once.delete_one({"_id": identifier}))
                raise
            with contextlib.suppress(PyMongoError):  # it is done, whether that is noted or not
                await _end(store, identifier, digest, answer)
            return answer

        return once


def identifier(request: Request) -> str:
    """Return the id of what a request makes."""
    return getattr(request.state, "identifier", None) or uuid.uuid4().hex


async def _begin(store: Store, identifier: str, digest: str) -> Response | None:
    """Return the first answer, or None when this request is the first.

    Raises:
        Problem: 409, it is not the same request, or the first is still under way.
    """
    document = {"_id": identifier, "digest": digest, "answer": None, "expires": now() + _LEASE}
    for _ in range(3):
        try:
            await store.once.insert_one(document)
            return None
        except DuplicateKeyError:
            found = await store.once.find_one({"_id": identifier})
        if found is None:
            continue
        if found["expires"] < now():
            await store.once.delete_one({"_id": identifier, "expires": found["expires"]})
            continue
        if found["digest"] != digest:
            raise Problem(409, "This Idempotency-Key was used for another request.")
        if found["answer"]:
            return _replay(found["answer"])
        break
    again = {"Retry-After": "1"}
    raise Problem(409, "The first request with this Idempotency-Key is still under way.", again)


async def _end(store: Store, identifier: str, digest: str, answer: Response) -> None:
    names = ("content-type", "etag", "location")
    kept = {
        "status": answer.status_code,
        "headers": {it: answer.headers[it] for it in names if it in answer.headers},
        "body": bytes(answer.body),
    }
    done = {"digest": digest, "answer": kept, "expires": now() + _KEPT}
    await store.once.replace_one({"_id": identifier}, done)


def _replay(kept: Document) -> Response:
    headers = {**kept["headers"], "Idempotency-Replayed": "true"}
    return Response(kept["body"], kept["status"], headers)
