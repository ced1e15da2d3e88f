"""Who is signed in: kept in MongoDB, so that every unit knows; the browser has the key."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pymongo.errors import DuplicateKeyError, PyMongoError

from katonic_ui.identity import Identity
from katonic_ui.openid import Grant, Provider
from katonic_ui.problems import Away, Refused, SessionsAway

AHEAD = 30
"""Seconds before its end at which an access token is refreshed."""
LEASE = 15
"""Seconds that a unit may take to refresh, after which another one tries."""
TOUCH = 60
"""Seconds of which use is not written down again."""


@dataclass(frozen=True)
class Session:
    """Somebody signed in, in one browser.

    Attributes:
        id: The digest of what the browser's cookie holds.
        csrf: What a form must bring along, which other sites cannot know.
    """

    id: str
    csrf: str
    grant: Grant
    created: float
    seen: float

    @property
    def identity(self) -> Identity:
        """Return who it is."""
        return self.grant.identity


class Sessions:
    """The sessions of all units.

    A document holds what is needed to find and to end it in the open; tokens and who it is are
    encrypted. There is no index that expires documents: not every server of MongoDB's wire obeys
    one, so that `sweep` deletes what is over, and `find` does not believe it before that.
    """

    def __init__(
        self,
        database: Any,
        keys: Sequence[str],
        idle: float,
        longest: float,
        provider: Provider,
        heard: Callable[[str], None] = lambda outcome: None,
    ) -> None:
        self._sessions, self._leases = database["sessions"], database["leases"]
        self._provider, self._heard = provider, heard
        self._idle, self._longest = idle, longest
        self._seal = sealer(keys)

    async def start(self, grant: Grant) -> str:
        """Keep a new session and return what goes to the browser's cookie."""
        cookie, now = secrets.token_urlsafe(32), time.time()
        document = {
            "_id": _digest(cookie),
            "user": grant.identity.id,
            "created": now,
            "sealed": self._sealed(grant),
            **self._used(now, now),
        }
        with _answering():
            await self._sessions.insert_one(document)
        return cookie

    async def find(self, cookie: str, used: bool = True) -> Session | None:
        """Return the session of a cookie, its tokens fresh, or None when there is none.

        `used` counts as a person's doing, which a page that asks by itself is not.

        Raises:
            Away: Sessions cannot be read, or stale tokens cannot be refreshed now.
        """
        session = await self._read(_digest(cookie), cookie)
        if session is None:
            return None
        now = time.time()
        if used and now - session.seen > TOUCH:
            change = {"$set": self._used(now, session.created)}
            with _answering():
                await self._sessions.update_one({"_id": session.id}, change)
        return await self._fresh(session, cookie)

    async def renew(self, session: Session, cookie: str) -> Session | None:
        """Return the session with other tokens than these, which somebody refused."""
        return await self._fresh(session, cookie, refused=session.grant.access_token)

    async def end(self, cookie: str) -> None:
        """Forget a session."""
        with _answering():
            await self._sessions.delete_one({"_id": _digest(cookie)})

    async def end_all(self, user: str) -> int:
        """Forget all of a person's sessions and return how many."""
        with _answering():
            return (await self._sessions.delete_many({"user": user})).deleted_count

    async def count(self, user: str) -> int:
        """Return how many sessions a person has."""
        query = {"user": user, "expires": {"$gt": time.time()}}
        with _answering():
            return await self._sessions.count_documents(query)

    async def sweep(self) -> int:
        """Delete what is over and return how many."""
        now = time.time()
        with _answering():
            await self._leases.delete_many({"until": {"$lte": now}})
            return (await self._sessions.delete_many({"expires": {"$lte": now}})).deleted_count

    async def index(self) -> None:
        """Have the server find a person's sessions, and those that are over, without a search."""
        with _answering():
            for name in ("user", "expires"):
                await self._sessions.create_index(name)

    async def _read(self, identifier: str, cookie: str) -> Session | None:
        with _answering():
            found = await self._sessions.find_one({"_id": identifier})
        if found is None or found["expires"] <= time.time():
            return None
        try:
            content = json.loads(self._seal.decrypt(found["sealed"]))
        except InvalidToken:  # closed with a key that has been forgotten
            return None
        person = content.pop("identity")
        for name in ("groups", "roles"):
            person[name] = tuple(person[name])
        grant = Grant(identity=Identity(**person), **content)
        csrf = _digest(f"csrf {cookie}")
        return Session(identifier, csrf, grant, found["created"], found["seen"])

    async def _fresh(
        self, session: Session, cookie: str, refused: str | None = None
    ) -> Session | None:
        """Return the session once its tokens hold; one unit at a time sees to that."""
        for _ in range(LEASE * 10):
            left = session.grant.expires - time.time()
            taken = session.grant.access_token != refused
            if taken and left > AHEAD:
                return session
            async with self._lease(session.id) as mine:
                found = await self._read(session.id, cookie) if mine else None
                if found is not None and found.grant == session.grant:
                    return await self._refresh(session, holds=taken and left > 0)
            if not mine:
                if taken and left > 0:
                    return session  # another is at it, and until then these will do
                await asyncio.sleep(0.1)
                found = await self._read(session.id, cookie)
            if found is None:
                return None
            session = found
        raise SessionsAway

    @contextlib.asynccontextmanager
    async def _lease(self, identifier: str) -> AsyncIterator[bool]:
        """Yield whether this unit is the one that refreshes a session's tokens.

        A lease is a document of its own: to insert and to delete one by its _id is atomic in every
        server of MongoDB's wire, and to update one is not.
        """
        mine = await self._take(identifier)
        try:
            yield mine
        finally:
            if mine:
                with _answering():
                    await self._leases.delete_one({"_id": identifier})

    async def _take(self, identifier: str) -> bool:
        with _answering():
            try:
                await self._leases.insert_one({"_id": identifier, "until": time.time() + LEASE})
            except DuplicateKeyError:
                held = await self._leases.find_one({"_id": identifier})
                if held is not None and held["until"] < time.time():  # of a unit that is no more
                    await self._leases.delete_one({"_id": identifier})
                return False
        return True

    async def _refresh(self, session: Session, holds: bool) -> Session | None:
        try:
            grant = await self._provider.refresh(session.grant)
        except Refused:
            self._heard("refused")
            with _answering():
                await self._sessions.delete_one({"_id": session.id})
            return None
        except Away:
            self._heard("away")
            if holds:
                return session
            raise
        self._heard("refreshed")
        with _answering():
            change = {"$set": {"sealed": self._sealed(grant)}}
            await self._sessions.update_one({"_id": session.id}, change)
        return dataclasses.replace(session, grant=grant)

    def _sealed(self, grant: Grant) -> bytes:
        return self._seal.encrypt(json.dumps(dataclasses.asdict(grant)).encode())

    def _used(self, now: float, created: float) -> dict[str, float]:
        return {"seen": now, "expires": min(now + self._idle, created + self._longest)}


def sealer(keys: Sequence[str]) -> MultiFernet:
    """Return what closes with the first key and opens with all."""
    return MultiFernet([Fernet(it) for it in keys])


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise SessionsAway from error


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
