"""Sees a cluster by list and watch, has what lacks mended, and tells the verdict."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx2
import lightkube
import msgspec
from lightkube import ALL_NS, AsyncClient

from . import failures, kubernetes
from .mend import Mender
from .observed import Budget, Pod, Template
from .pools import Pool
from .verdict import Verdict, judge
from .view import View
from .work import Work

log = logging.getLogger(__name__)

_FAILURES = (httpx2.HTTPError, lightkube.ConfigError, msgspec.MsgspecError, OSError, ValueError)
_GONE = 410
_PAUSE = 0.1
"""Seconds for which changes gather before the next verdict."""
_SHARE = 10
"""How many times as long as a verdict takes is waited before the next one at least."""
_STEADY = 30
"""Seconds after which a watch that breaks counts as one that held."""
_LONGEST = 15
"""Seconds between two tries to watch at most."""
_GRACE = 10
"""Seconds that an ending watcher takes at most to release what it holds."""

_KINDS: Mapping[str, tuple[type[Any], Callable[[Any], Any]]] = {
    "Node": (kubernetes.Node, lambda it: it.parse()),
    "Pod": (kubernetes.Pod, lambda it: it.parse()),
    "StatefulSet": (kubernetes.StatefulSet, lambda it: it.parse("StatefulSet")),
    "Deployment": (kubernetes.Deployment, lambda it: it.parse("Deployment")),
    "PodDisruptionBudget": (kubernetes.PodDisruptionBudget, lambda it: it.parse()),
}


class Watcher:
    """Watches a cluster and keeps the pods of one namespace on their pools.

    Attributes:
        verdict: What is to be said; None until all has been seen once.
        restarts: How often a watch broke.
    """

    def __init__(self, client: AsyncClient, namespace: str, pools: Sequence[Pool]) -> None:
        self.verdict: Verdict | None = None
        self.restarts = 0
        self.view = View(namespace)
        self.mender = Mender(client, namespace, pools, self.view)
        self.work = Work(self.mender.advance, self._changed)
        self._client = client
        self._pools = pools
        self._unseen = set(_KINDS)
        self._silent: dict[str, str] = {}
        self._dirty = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def silent(self) -> str:
        """Return why Kubernetes does not answer; "" while it does."""
        return next(iter(self._silent.values()), "")

    async def run(self) -> None:
        """Watch, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in _KINDS:
                group.create_task(self._watch(kind))
            group.create_task(self.work.run())
            group.create_task(self._judge())

    async def end(self) -> None:
        """Hold nothing more, and return when what is held is released, or after a while."""
        self.mender.ending = True
        for _ in range(int(_GRACE / _PAUSE)):
            held = any(it.held is not None for it in self.view.cluster().templates)
            if self.work.idle and not held:
                return
            await asyncio.sleep(_PAUSE)

    async def wait(self, after: str, seconds: float) -> Verdict | None:
        """Return a verdict of another digest, or the same one after some seconds."""
        try:
            async with asyncio.timeout(seconds):
                while self.verdict is None or self.verdict.digest == after:
                    await self._news.wait()
        except TimeoutError:
            pass
        return self.verdict

    async def _watch(self, kind: str) -> None:
        """List a kind and watch it, for ever; what breaks is begun anew."""
        failed, loop = 0, asyncio.get_running_loop()
        while True:
            listed = loop.time()
            try:
                version = await self._list(kind)
                listed = loop.time()
                await self._follow(kind, version)
            except _FAILURES as error:
                self.restarts += 1
                if failures.code(error) == _GONE or loop.time() - listed > _STEADY:
                    failed = 0
                failed += 1
                said = failures.line(error)
                log.warning("watch of %s: %s", kind, said)
                # Once is how every watch ends some day; twice is a silence.
                if failed > 1 or kind in self._unseen:
                    self._silent[kind] = f"{kind}: {said}" if failures.code(error) else said
                    self._changed()
            await asyncio.sleep(failures.delay(failed, _LONGEST))

    async def _list(self, kind: str) -> str:
        resource, parse = _KINDS[kind]
        listing = self._client.list(resource, namespace=self._where(kind))
        self.view.replace(kind, [parse(it) async for it in listing])
        self._unseen.discard(kind)
        if self._silent.pop(kind, None):
            log.info("watch of %s: goes on", kind)
            self.work.hurry()
        for it in self.view.cluster().templates:
            self.work.add((it.kind, it.name))
        self._changed()
        return listing.resourceVersion

    async def _follow(self, kind: str, version: str) -> None:
        resource, parse = _KINDS[kind]
        events = self._client.watch(
            resource, namespace=self._where(kind), resource_version=version
        )
        async for event, raw in events:
            it = parse(raw)
            if self.view.lose(it) if event == "DELETED" else self.view.see(it):
                self._changed()
            match it:
                case Template():
                    self.work.add((it.kind, it.name))
                case Pod() if it.owner_kind == "StatefulSet":
                    if it.namespace == self.view.namespace:
                        self.work.add((it.owner_kind, it.owner_name))
                case Budget():
                    self.work.add(("StatefulSet", it.name))

    def _where(self, kind: str) -> str | None:
        if kind == "Node":
            return None
        return ALL_NS if kind == "Pod" else self.view.namespace

    def _changed(self) -> None:
        self._dirty.set()

    async def _judge(self) -> None:
        """Keep the verdict true."""
        loop, took = asyncio.get_running_loop(), 0.0
        while True:
            await self._dirty.wait()
            # A verdict on many pods takes its time: the mending comes first.
            await asyncio.sleep(max(_PAUSE, _SHARE * took))
            self._dirty.clear()
            began = loop.time()
            if self._unseen:
                continue
            refused = {name: said for (_, name), said in self.work.refused.items()}
            before = self.verdict
            self.verdict = judge(self.view.cluster(), self._pools, refused, self.silent)
            took = loop.time() - began
            if before is None or before.message != self.verdict.message:
                log.info("%s: %s", self.verdict.level, self.verdict.message)
            if before is None or before.digest != self.verdict.digest:
                self._news.set()
                self._news = asyncio.Event()
