"""Follows a watcher from the charm's own pod: keeps what it says, and wakes the charm."""

import json
import logging
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

from watcher.definitions import Keeper
from watcher.serve import Answer, Answers
from watcher.watch import ask

log = logging.getLogger(__name__)

BELL = ("/charm/bin/pebble", "notify", "katonic.dev/report")
_WAIT = 30
"""Seconds that the watcher may take to say that there is no news."""
_PAUSE = 1.0
"""Seconds between two tries to reach the watcher, or to ring."""


class Follower:
    """Follows the watcher at a URL, and has the kinds of objects defined that all of it needs.

    /ready       200 once the kinds are defined, else why not
    /report      what the watcher said last, nothing while it does not answer
    /metrics     the watcher's own
    """

    def __init__(self, url: str, keeper: Keeper) -> None:
        self._url, self._keeper = url, keeper
        self._said: dict[str, Any] | None = None
        self._trouble = "the watcher has not answered yet"
        self._ring, self._pause = threading.Event(), threading.Event()

    @property
    def jobs(self) -> list[Callable[[], None]]:
        """Return what runs for ever."""
        return [self._define, self._follow, self._wake]

    @property
    def answers(self) -> Answers:
        """Return what it answers, by path."""
        return {"/ready": self.ready, "/report": self.report, "/metrics": self.metrics}

    def ready(self, _: Mapping[str, str]) -> Answer:
        """Answer whether the kinds are defined."""
        trouble = self._keeper.trouble
        return (503, f"{trouble}\n") if trouble else (200, "ok\n")

    def report(self, _: Mapping[str, str]) -> Answer:
        """Answer with what is known."""
        if self._keeper.trouble:
            return 503, f"{self._keeper.trouble}\n"
        return 200, {"istiod": self._said, "trouble": self._trouble}

    def metrics(self, _: Mapping[str, str]) -> Answer:
        """Pass on the watcher's metrics."""
        try:
            return 200, ask(f"{self._url}/metrics")
        except OSError as error:
            return 503, f"the watcher does not answer: {error}\n"

    def _define(self) -> None:
        while True:
            if self._keeper.keep():
                self._ring.set()
            self._pause.wait(_PAUSE if self._keeper.trouble else 60)

    def _follow(self) -> None:
        while True:
            after = f"?after={self._said['digest']}&wait={_WAIT}" if self._said else ""
            try:
                said = json.loads(ask(f"{self._url}/state{after}", _WAIT + 10))
            except (OSError, ValueError) as error:
                self._hear(None, f"istiod does not answer: {error}")
                self._pause.wait(_PAUSE)
            else:
                self._hear(said, "")

    def _hear(self, said: dict[str, Any] | None, trouble: str) -> None:
        if trouble != self._trouble:
            log.info("%s", trouble or "istiod answers")
        self._trouble = trouble
        if said != self._said:
            self._said = said
            self._ring.set()

    def _wake(self) -> None:
        """Ring for each thing that is new; what comes while it rings is rung for once."""
        while True:
            self._ring.wait()
            self._ring.clear()
            try:
                subprocess.run(BELL, check=True, capture_output=True, text=True, timeout=30)
            except (OSError, subprocess.SubprocessError) as error:
                log.warning("%s: %s", BELL[0], getattr(error, "stderr", None) or error)
                self._ring.set()
                self._pause.wait(_PAUSE)
