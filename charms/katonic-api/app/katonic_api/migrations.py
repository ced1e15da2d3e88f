"""What the database must have, in versions, each made once and harmless when made again."""

import contextlib
from collections.abc import Awaitable, Callable, Sequence

from pymongo.errors import DuplicateKeyError

from .entities import DEFAULT, Organization
from .store import Store


async def _indexes(store: Store) -> None:
    wanted = {
        "organizations": [["name"]],
        "projects": [
            ["organization", "name"],
            ["members.user"],
            ["name", "_id"],
            ["updated", "_id"],
            ["created", "_id"],
        ],
        "users": [["username", "_id"], ["email"], ["organizations.id"]],
        "audit": [
            ["time", "_id"],
            ["organization", "time"],
            ["project", "time"],
            ["actor.id", "time"],
        ],
        "once": [["expires"]],
    }
    unique = [["name"], ["organization", "name"]]
    for collection, indexes in wanted.items():
        for fields in indexes:
            keys = [(it, 1) for it in fields]
            await store.database[collection].create_index(keys, unique=fields in unique)


async def _default_organization(store: Store) -> None:
    everyone = Organization(
        id=DEFAULT,
        name=DEFAULT,
        version=1,
        description="Everyone who signs in is a member of it.",
    )
    with contextlib.suppress(DuplicateKeyError):
        await store.of(Organization).insert_one(everyone.document())


MIGRATIONS: Sequence[Callable[[Store], Awaitable[None]]] = (_indexes, _default_organization)
"""In the order of the versions, of which the first is 1; who was released is never changed."""

VERSION = len(MIGRATIONS)


async def version(store: Store) -> int:
    """Return which version the database has."""
    found = await store.platform.find_one({"_id": "schema"})
    return found["version"] if found else 0


async def migrate(store: Store) -> list[int]:
    """Make the versions that lack, and return them."""
    made = []
    for number in range(await version(store) + 1, VERSION + 1):
        await MIGRATIONS[number - 1](store)
        await store.platform.replace_one({"_id": "schema"}, {"version": number}, upsert=True)
        made.append(number)
    return made
