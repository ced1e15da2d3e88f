"""Work on keys: one at a time for each, again after a failure, never more than needed."""

from __future__ import annotations

import asyncio
import collections
import logging
from collections.abc import Awaitable, Callable

from . import failures
from .view import Key

log = logging.getLogger(__name__)

_WORKERS = 8
_LOOK_AGAIN = (404, 409)
_PATIENCE = 5
_STEPS, _SECONDS = 30, 60.0
"""Steps that a key may take in so many seconds before it has a rest."""


class RestlessError(Exception):
    """What is mended is changed back, again and again."""


class Work:
    """Advances each key that is added, until there is nothing more to do about it.

    What advances a key returns in how many seconds to do so again: 0 for at once, None for never.
    A key that is added while it is worked on is worked on again; one whose work failed has a rest.
    That an object has changed or gone since it was seen (409, 404) is no failure, unless it does
    not end.

    Attributes:
        refused: Why the last work on a key failed.
        errors: How often any work has failed.
    """

    def __init__(
        self, advance: Callable[[Key], Awaitable[float | None]], changed: Callable[[], None]
    ) -> None:
        self.refused: dict[Key, str] = {}
        self.errors = 0
        self._advance = advance
        self._changed = changed
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._busy: set[Key] = set()
        self._again: set[Key] = set()
        self._failed: dict[Key, int] = {}
        self._resting: set[Key] = set()
        self._steps: dict[Key, collections.deque[float]] = {}

    def add(self, key: Key) -> None:
        """Have a key worked on soon."""
        if key in self._busy:
            self._again.add(key)
        elif key not in self._queued and key not in self._resting:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def hurry(self) -> None:
        """Have everything that rests worked on soon: the reason may be gone."""
        for key in tuple(self._resting):
            self._wake(key)

    @property
    def idle(self) -> bool:
        """Return whether nothing is being worked on, or about to be."""
        return not self._busy and not self._queued

    async def run(self) -> None:
        """Work, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._busy.add(key)
            try:
                pause = await self._advance(key)
                if pause == 0:
                    self._count(key)
            except Exception as error:  # A bug in the work on one key must not end that on others.
                self._fail(key, error)
            else:
                if pause == 0:
                    self._again.add(key)  # After the others: the first step is what pods wait for.
                elif pause:
                    asyncio.get_running_loop().call_later(pause, self.add, key)
                self._failed.pop(key, None)
                if self.refused.pop(key, None):
                    self._changed()
            self._busy.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _count(self, key: Key) -> None:
        now = asyncio.get_running_loop().time()
        steps = self._steps.setdefault(key, collections.deque(maxlen=_STEPS))
        if len(steps) == _STEPS and now - steps[0] < _SECONDS:
            steps.clear()
            raise RestlessError("what is mended is changed back again and again")
        steps.append(now)

    def _fail(self, key: Key, error: Exception) -> None:
        count = self._failed[key] = self._failed.get(key, 0) + 1
        if failures.code(error) not in _LOOK_AGAIN or count > _PATIENCE:
            self.errors += 1
            self.refused[key] = failures.line(error)
            self._resting.add(key)
            self._changed()
            log.warning("%s %s: %s", *key, self.refused[key])
        asyncio.get_running_loop().call_later(failures.delay(count), self._wake, key)

    def _wake(self, key: Key) -> None:
        self._resting.discard(key)
        self.add(key)
