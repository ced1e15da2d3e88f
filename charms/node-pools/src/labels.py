"""Makes nodes a pool's: their labels and taints, by the charm's own rights."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from controller.pools import Pool, Taint

from katonic import Invalid

if TYPE_CHECKING:
    import lightkube
    from lightkube.resources.core_v1 import Node

_SELECTOR = re.compile(r"[\w./-]+(=[\w.-]*)?(,[\w./-]+(=[\w.-]*)?)*")


@dataclass(frozen=True)
class Change:
    """What is to change of a node.

    Attributes:
        version: The `resourceVersion` of the node that was looked at.
        labels: Labels that it gets, and with None those that it loses.
        taints: All that it is to have.
        words: What that changes, in words; none when nothing does.
    """

    node: str
    version: str
    labels: Mapping[str, str | None]
    taints: Sequence[Taint]
    words: Sequence[str]

    def __str__(self) -> str:
        return f"{self.node}: {', '.join(self.words) or 'nothing to change'}"


def change(node: "Node", pool: Pool, pools: Iterable[Pool]) -> Change:
    """Return what makes a node one of a pool, and of no other."""
    metadata, taints = _read(node)
    labels, words, others = metadata.labels or {}, [], [it for it in pools if it != pool]
    wanted: dict[str, str | None] = {}
    for it in others:
        if it.key != pool.key and labels.get(it.key) == it.value:
            wanted[it.key] = None
            words.append(f"loses label {it.label}")
    before = labels.get(pool.key)
    if before != pool.value:
        wanted[pool.key] = pool.value
        words.append(f"gets label {pool.label}" + (f", was {before}" if before else ""))
    gone = [it for it in taints if it != pool.taint and any(it == p.taint for p in others)]
    kept = [it for it in taints if it not in gone]
    words += [f"loses taint {it}" for it in gone]
    if pool.taint and pool.taint not in kept:
        # A node has one taint of a key and effect.
        kept = [it for it in kept if (it.key, it.effect) != (pool.taint.key, pool.taint.effect)]
        kept.append(pool.taint)
        words.append(f"gets taint {pool.taint}")
    return Change(str(metadata.name), str(metadata.resourceVersion), wanted, kept, words)


def changes(
    cluster: "lightkube.Client", pools: Sequence[Pool], words: Mapping[str, Any]
) -> list[Change]:
    """Return what the words of the action ask for.

    Raises:
        Invalid: They name what there is not.
    """
    from lightkube.resources.core_v1 import Node

    name, node, selector = (words.get(it, "") for it in ("pool", "node", "selector"))
    pool = next((it for it in pools if it.name == name), None)
    if pool is None:
        known = ", ".join(it.name for it in pools)
        raise Invalid(f"pool={name}: no such pool; allowed: {known}")
    if bool(node) == bool(selector):
        raise Invalid(f"node={node} selector={selector}: give one of them")
    if selector and not _SELECTOR.fullmatch(selector):
        raise Invalid(f"selector={selector}: expected KEY=VALUE or KEY, separated by commas")
    parts = (it.partition("=") for it in selector.split(",") if it)
    labels = {key: value if equals else None for key, equals, value in parts}
    there = list(cluster.list(Node, labels=labels))
    found = [it for it in there if not node or _read(it)[0].name == node]
    if not found:
        known = ", ".join(sorted(str(_read(it)[0].name) for it in there))
        raise Invalid(
            f"node={node}: no such node; there are: {known}"
            if node
            else f"selector={selector}: no node has these labels"
        )
    return [change(it, pool, pools) for it in found]


def apply(cluster: "lightkube.Client", wanted: Iterable[Change]) -> None:
    """Change the nodes; one that has been changed in between is a 409 of Kubernetes'."""
    from lightkube.resources.core_v1 import Node
    from lightkube.types import PatchType

    for it in wanted:
        if it.words:
            metadata = {"labels": it.labels, "resourceVersion": it.version}
            spec = {"taints": msgspec.to_builtins(it.taints)}
            patch = {"metadata": metadata, "spec": spec}
            cluster.patch(Node, it.node, patch, patch_type=PatchType.MERGE)


def _read(node: "Node") -> tuple[Any, list[Taint]]:
    taints = (node.spec and node.spec.taints) or []
    return node.metadata, [Taint(str(it.key), str(it.effect), it.value or "") for it in taints]
