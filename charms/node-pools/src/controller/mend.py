"""Writes what lacks: words into templates, tolerations into pods, budgets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from lightkube import AsyncClient
from lightkube.types import PatchType

from . import kubernetes, placement, rollout
from .observed import HELD, HOLD, MANAGED_BY, MANAGER, REVISION, Pod, Template
from .pools import Pool as NodePool
from .view import Key, View

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds for which a hold lasts at most once only pods are missing that do not come."""


class NotKeptError(Exception):
    """Kubernetes took what was applied and does not have it: something else takes it away."""


class Mender:
    """Does what is next about one template at a time.

    It writes to a template or a pod as it knows it: where that has changed, Kubernetes refuses
    (409), so that another writer, Juju or a second watcher, is never overwritten unseen.

    Attributes:
        mends: How often it has written.
        ending: It holds no further template, and goes on with those that are held.
    """

    def __init__(self, client: AsyncClient, namespace: str, pools: Sequence[NodePool], view: View):
        self.mends = 0
        self.ending = False
        self._client = client
        self._namespace = namespace
        self._pools = pools
        self._view = view
        self._different: dict[str, tuple[str, set[str]]] = {}
        self._missing: dict[str, tuple[int, float]] = {}

    async def advance(self, key: Key) -> float | None:
        """Do what is next; return in how many seconds to look again, None for not by itself.

        Raises:
            NotKeptError: What was written is not there.
            httpx2.HTTPError: Kubernetes does not answer, or refuses.
        """
        template = self._view.template(key)
        wanted = template and placement.words(template, self._pools)
        if not template or not wanted or (self.ending and template.held is None):
            return None
        pods = self._view.pods_of(template.uid)
        match rollout.next_step(template, wanted, pods, self._known_different(template)):
            case rollout.Apply(give_back):
                await self._apply(template, wanted, give_back)
            case rollout.Adopt(some):
                await self._adopt(template, some)
            case rollout.Release(hurry=False) if pause := self._pause(template):
                return pause
            case rollout.Release(partition):
                await self._release(template, partition)
            case _ if placement.budget_due(template, self._view.budgets):
                await self._apply_budget(template)
            case _ if placement.budget_left(template, self._view.budgets):
                await self._delete_budget(template.name)
            case _:
                return None
        self.mends += 1
        return 0

    def _pause(self, template: Template) -> float:
        """Return the seconds for which missing pods are still waited for, 0 for long enough."""
        now = asyncio.get_running_loop().time()
        generation, until = self._missing.get(template.uid, (0, 0.0))
        if generation != template.generation:
            until = now + _PATIENCE
            self._missing[template.uid] = template.generation, until
        return max(until - now, 0)

    def _known_different(self, template: Template) -> set[str]:
        """Return revisions of the template that differ from the newest in more than scheduling."""
        newest, different = self._different.get(template.uid, ("", set()))
        return different if newest == template.update else set()

    async def _apply(
        self, template: Template, wanted: placement.Words, give_back: int | None
    ) -> None:
        about: dict[str, Any] = {
            "name": template.name,
            "namespace": self._namespace,
            "uid": template.uid,
            "resourceVersion": template.version,
        }
        spec: dict[str, Any] = {"template": {"spec": _said(template, wanted)}}
        if give_back is not None:
            about["annotations"] = {HELD: str(give_back)}
            if template.rolling:
                spec["updateStrategy"] = {"rollingUpdate": {"partition": HOLD}}
        kind = _KINDS[template.kind]
        applied = await self._client.patch(
            kind,
            template.name,
            {"apiVersion": "apps/v1", "kind": template.kind, "metadata": about, "spec": spec},
            namespace=self._namespace,
            patch_type=PatchType.APPLY,
            force=True,
        )
        after = applied.parse(template.kind)
        self._view.wrote(after)
        asked = ", ".join(it.name for it in placement.asked(template.wish, self._pools))
        log.info("%s %s: applied for %s", template.kind, template.name, asked or "no pool")
        if placement.due(after, wanted):
            if give_back is not None:
                await self._release(after, give_back)
            raise NotKeptError("kubernetes does not keep what is written into the template")

    async def _adopt(self, template: Template, pods: Sequence[Pod]) -> None:
        revisions = {
            it.metadata.name: it.data
            async for it in self._client.list(
                kubernetes.ControllerRevision,
                namespace=self._namespace,
                labels=dict(template.selector),
            )
            if template.uid in {owner.uid for owner in it.metadata.owner_references}
        }
        names = {it.revision for it in pods} | self._known_different(template)
        different = rollout.different(revisions, template.update, names)
        self._different[template.uid] = template.update, different
        adopted = [it for it in pods if it.revision not in different]
        if not adopted:
            return
        tolerations = rollout.tolerations(revisions[template.update])
        results = await asyncio.gather(
            *(self._adopt_pod(it, template.update, tolerations) for it in adopted),
            return_exceptions=True,
        )
        failures = [it for it in results if isinstance(it, BaseException)]
        done = len(adopted) - len(failures)
        log.info("%s %s: adopted %d pods", template.kind, template.name, done)
        if failures:
            raise failures[0]

    async def _adopt_pod(
        self, pod: Pod, revision: str, tolerations: Sequence[Mapping[str, Any]]
    ) -> None:
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": pod.version, "labels": {REVISION: revision}}
        }
        lacking = [it for it in tolerations if it not in pod.tolerations]
        if lacking:
            patch["spec"] = {"tolerations": [*pod.tolerations, *lacking]}
        patched = await self._client.patch(
            kubernetes.Pod,
            pod.name,
            patch,
            namespace=self._namespace,
            patch_type=PatchType.MERGE,
        )
        self._view.wrote(patched.parse())

    async def _release(self, template: Template, partition: int) -> None:
        """Give back the partition; it belongs to no apply then, so that a later one leaves it."""
        patch: dict[str, Any] = {
            "metadata": {"resourceVersion": template.version, "annotations": {HELD: None}}
        }
        if template.rolling:
            patch["spec"] = {"updateStrategy": {"rollingUpdate": {"partition": partition}}}
        patched = await self._client.patch(
            kubernetes.StatefulSet,
            template.name,
            patch,
            namespace=self._namespace,
            patch_type=PatchType.MERGE,
        )
        self._different.pop(template.uid, None)
        self._missing.pop(template.uid, None)
        self._view.wrote(patched.parse(template.kind))
        log.info("%s %s: released", template.kind, template.name)

    async def _apply_budget(self, template: Template) -> None:
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": template.name}
        applied = await self._client.patch(
            kubernetes.PodDisruptionBudget,
            template.name,
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {
                    "name": template.name,
                    "namespace": self._namespace,
                    "labels": {MANAGED_BY: MANAGER},
                    "ownerReferences": [{**owner, "uid": template.uid}],
                },
                "spec": {
                    "maxUnavailable": 1,
                    "selector": {"matchLabels": dict(template.selector)},
                },
            },
            namespace=self._namespace,
            patch_type=PatchType.APPLY,
            force=True,
        )
        self._view.wrote(applied.parse())
        log.info("PodDisruptionBudget %s: applied", template.name)

    async def _delete_budget(self, name: str) -> None:
        resource = kubernetes.PodDisruptionBudget
        await self._client.delete(resource, name, namespace=self._namespace)
        for it in self._view.budgets:
            if it.name == name:
                self._view.lose(it)
        log.info("PodDisruptionBudget %s: deleted", name)


_KINDS = {"StatefulSet": kubernetes.StatefulSet, "Deployment": kubernetes.Deployment}


def _said(template: Template, wanted: placement.Words) -> dict[str, Any]:
    """Return the words as they are applied; an empty list takes away what there is."""
    said: dict[str, Any] = {}
    if wanted.tolerations or template.tolerations:
        said["tolerations"] = list(wanted.tolerations)
    if wanted.spreading:
        said["topologySpreadConstraints"] = list(wanted.spreading)
    return said
