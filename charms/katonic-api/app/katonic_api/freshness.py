"""What has been read and is still true, on every server, at the price of a tiny read for many."""

import asyncio
import collections
from collections.abc import Callable, Coroutine, Hashable, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

Value = TypeVar("Value")

_USER = 1000
"""Bytes that a user is in memory, about."""

_PAUSE = 0.002
"""Seconds from one look at the revision to the next."""


@dataclass
class _Kept:
    revision: str
    task: asyncio.Task[Any]
    size: int = 0


class Freshness:
    """Keeps what was read for as long as the platform's revision is the same.

    Who changes something gives the platform another revision before they say so (`Store.touch`).
    So an answer is right if it was made at the revision that holds now; and one look at the
    revision that begins after several requests have come does for all of them.

    Args:
        look: Reads the revision.
        size: How much to keep; a value weighs what len() says, or as much as a user.
    """

    def __init__(
        self, look: Callable[[], Coroutine[Any, Any, str]], size: int = 32 * 2**20
    ) -> None:
        self._look, self._size, self._weight = look, size, 0
        self._looking: asyncio.Task[str] | None = None
        self._next: asyncio.Task[str] | None = None
        self._kept: collections.OrderedDict[Hashable, _Kept] = collections.OrderedDict()

    async def revision(self) -> str:
        """Return the revision as of a moment after this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_after(self._looking))
        return await asyncio.shield(self._next)

    async def _look_after(self, other: asyncio.Task[str] | None) -> str:
        if other and not other.done():
            await asyncio.wait([other])
            await asyncio.sleep(_PAUSE)
        self._looking, self._next = self._next, None
        return await self._look()

    async def get(
        self, key: Hashable, revision: str, make: Callable[[], Coroutine[Any, Any, Value]]
    ) -> Value:
        """Return what is kept under the key at this revision, made first if need be."""
        kept = self._kept.get(key)
        if kept is None or kept.revision != revision:
            kept = _Kept(revision, asyncio.create_task(make()))
            self._forget(key)
            self._kept[key] = kept
            kept.task.add_done_callback(lambda _: self._made(key, kept))
        if kept.task.done():
            self._kept.move_to_end(key)
            return kept.task.result()
        return await asyncio.shield(kept.task)

    def known(self, key: Hashable, revision: str) -> Any:
        """Return what is kept under the key at this revision, None when there is nothing."""
        kept = self._kept.get(key)
        if kept is None or kept.revision != revision or not kept.task.done():
            return None
        self._kept.move_to_end(key)
        return kept.task.result()

    def _made(self, key: Hashable, kept: _Kept) -> None:
        if self._kept.get(key) is not kept:
            return
        if kept.task.cancelled() or kept.task.exception():
            self._forget(key)
            return
        value = kept.task.result()
        kept.size = len(value) if isinstance(value, Sized) else _USER
        self._weight += kept.size
        while self._weight > self._size:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: Hashable) -> None:
        if kept := self._kept.pop(key, None):
            self._weight -= kept.size
