"""What would not fit elsewhere if a node went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .observed import Amount, Cluster, Node, Pod


class Move(msgspec.Struct, frozen=True):
    """A pod of the node, the node that has room for it, or why none has."""

    namespace: str
    name: str
    to: str | None
    reason: str | None = None


class Drain(msgspec.Struct, frozen=True):
    """What becomes of each pod of a node, those that do not fit first."""

    node: str
    message: str
    moves: tuple[Move, ...]


def drain(cluster: Cluster, name: str) -> Drain | None:
    """Return what becomes of the pods of a node if it goes; None where there is no such node.

    By requests, labels and taints; the largest pods choose first, as in a bin that is packed.
    Pods of DaemonSets go with the node. Volumes, ports and affinities between pods do not count.
    """
    if not any(it.name == name for it in cluster.nodes):
        return None
    alive = [it for it in cluster.pods if it.node and not it.over]
    free = {it.name: it.allocatable for it in cluster.nodes if it.name != name}
    for it in alive:
        if it.node in free:
            free[it.node] -= it.requests
    others = sorted(
        (it for it in cluster.nodes if it.name != name and it.ready and it.schedulable),
        key=lambda it: it.name,
    )
    moving = [it for it in alive if it.node == name and it.owner_kind not in ("DaemonSet", "Node")]
    moving.sort(
        key=lambda it: (it.requests.gpus, it.requests.memory, it.requests.cpu), reverse=True
    )
    moves = []
    for pod in moving:
        allowed = [it for it in others if _allows(it, pod)]
        place = max(
            (it for it in allowed if pod.requests <= free[it.name]),
            key=lambda it: (free[it.name].memory, free[it.name].cpu),
            default=None,
        )
        if place:
            free[place.name] -= pod.requests
            moves.append(Move(pod.namespace, pod.name, place.name))
        else:
            why = _why(pod, allowed, free)
            moves.append(Move(pod.namespace, pod.name, None, why))
    moves.sort(key=lambda it: (it.to is not None, it.namespace, it.name))
    stuck = [it.name for it in moves if it.to is None]
    message = f"{len(moves)} of {len(moves)} pods fit elsewhere"
    if stuck:
        message = f"{len(stuck)} of {len(moves)} pods would not fit elsewhere: {', '.join(stuck)}"
    return Drain(name, message, tuple(moves))


def _allows(node: Node, pod: Pod) -> bool:
    barred = [it for it in node.taints if it.effect != "PreferNoSchedule"]
    return pod.wish(node.labels) and all(
        any(_tolerates(said, it.key, it.value, it.effect) for said in pod.tolerations)
        for it in barred
    )


def _tolerates(said: Mapping[str, Any], key: str, value: str, effect: str) -> bool:
    """Return whether a toleration is one of the taint.

    Source: Kubernetes, api/core/v1/toleration.go.
    """
    if (said.get("effect") or effect) != effect or (said.get("key") or key) != key:
        return False
    if said.get("operator", "Equal") == "Exists":
        return True
    return said.get("value", "") == value


def _why(pod: Pod, allowed: list[Node], free: dict[str, Amount]) -> str:
    if not allowed:
        return "no other node takes it"
    asks = _shown(pod.requests)
    most = max((free[it.name] for it in allowed), key=lambda it: (it.memory, it.cpu))
    return f"asks for {asks}; the emptiest of {len(allowed)} has {_shown(most | Amount())}"


def _shown(amount: Amount) -> str:
    gpus = f", {amount.gpus} GPUs" if amount.gpus else ""
    return f"{amount.cpu / 1000:g} CPU, {amount.memory / 2**20:.0f}Mi{gpus}"
