"""What is known of a cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from .observed import Budget, Cluster, Node, Pod, Template

Seen = Node | Pod | Template | Budget
Key = tuple[str, str]
"""A template's kind and name."""


class View:
    """The objects by their kind, namespace and name."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._rooms: dict[str, dict[tuple[str, str], Any]] = {}
        self._owned: dict[str, dict[str, Pod]] = {}
        self._gone: dict[str, int] = {}

    def cluster(self) -> Cluster:
        """Return all of it."""
        return Cluster(
            self.namespace,
            tuple(self._all("Node")),
            tuple(self._all("Pod")),
            (*self._all("StatefulSet"), *self._all("Deployment")),
            self.budgets,
        )

    def template(self, key: Key) -> Template | None:
        """Return a StatefulSet or a Deployment."""
        kind, name = key
        return self._rooms.get(kind, {}).get(("", name))

    def pods_of(self, uid: str) -> Collection[Pod]:
        """Return the pods that the object with the uid controls."""
        return tuple(self._owned.get(uid, {}).values())

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Return all budgets."""
        return tuple(self._all("PodDisruptionBudget"))

    def replace(self, kind: str, listed: Sequence[Any]) -> None:
        """Know that these are all there are of a kind, whatever was known before."""
        for it in tuple(self._all(kind)):
            self.lose(it)
        for it in listed:
            self.see(it)

    def see(self, it: Seen) -> bool:
        """Know what a watch says of an object; return whether that is anything new."""
        room, key = self._place(it)
        before = room.get(key)
        if before and _number(it.version) < _number(before.version):
            return False  # The answer to what was written came before the watch.
        room[key] = it
        if isinstance(it, Pod):
            if before:
                self._disown(before)
            self._owned.setdefault(it.owner, {})[it.name] = it
        return it != before

    def wrote(self, it: Seen) -> bool:
        """Know how an object answered to what was written; return whether that is anything new.

        What the watch has said to be gone stays gone. Budgets are made, so they may be new.
        """
        room, key = self._place(it)
        before = room.get(key)
        if isinstance(it, Pod | Template) and (before is None or before.uid != it.uid):
            return False
        if isinstance(it, Budget) and _number(it.version) < self._gone.get(it.name, 0):
            return False
        return self.see(it)

    def lose(self, it: Seen) -> bool:
        """Know that an object is gone; return whether that is anything new."""
        room, key = self._place(it)
        before = room.pop(key, None)
        if isinstance(it, Budget):
            self._gone[it.name] = max(_number(it.version), self._gone.get(it.name, 0))
        if isinstance(before, Pod):
            self._disown(before)
        return before is not None

    def _all(self, kind: str) -> Iterator[Any]:
        yield from self._rooms.get(kind, {}).values()

    def _disown(self, pod: Pod) -> None:
        owned = self._owned[pod.owner]
        del owned[pod.name]
        if not owned:
            del self._owned[pod.owner]

    def _place(self, it: Seen) -> tuple[dict[tuple[str, str], Any], tuple[str, str]]:
        kinds = {Node: "Node", Pod: "Pod", Budget: "PodDisruptionBudget"}
        kind = it.kind if isinstance(it, Template) else kinds[type(it)]
        namespace = it.namespace if isinstance(it, Pod) else ""
        return self._rooms.setdefault(kind, {}), (namespace, it.name)


def _number(version: str) -> int:
    """Return a resourceVersion as the number that it is in every Kubernetes there is."""
    return int(version) if version.isdigit() else 0
