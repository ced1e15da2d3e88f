"""Which pools a pod asks for, in its own words, and what its template lacks for that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from .observed import Budget, Selector, Template
from .pools import Pool

_SPREAD_OVER = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")


@dataclass(frozen=True)
class Words:
    """What a template should say: all its tolerations, and how its pods are spread."""

    tolerations: Sequence[Mapping[str, Any]]
    spreading: Sequence[Mapping[str, Any]]


def asked(wish: Selector, pools: Sequence[Pool]) -> tuple[Pool, ...]:
    """Return the pools that a pod asks for."""
    named = set(wish.named)
    return tuple(it for it in pools if (it.key, it.value) in named)


def unknown(wish: Selector, pools: Sequence[Pool]) -> tuple[str, ...]:
    """Return the labels that a pod asks for, of a key that pools have, which no pool has."""
    keys, labels = {it.key for it in pools}, {(it.key, it.value) for it in pools}
    return tuple(f"{it[0]}={it[1]}" for it in wish.named if it[0] in keys and it not in labels)


def words(template: Template, pools: Sequence[Pool]) -> Words | None:
    """Return what the template should say; None where that is nobody's business here.

    Tolerations of others stay; those of pools that it does not ask for go.
    """
    here = asked(template.wish, pools)
    if template.leaving or not (template.juju or template.mended or here):
        return None
    ours = [msgspec.to_builtins(it) for pool in here for it in pool.tolerations]
    pruned = [msgspec.to_builtins(it) for pool in pools for it in pool.tolerations]
    kept = [it for it in template.tolerations if _plain(it) in ours or _plain(it) not in pruned]
    there = [_plain(it) for it in kept]
    lacking = [it for number, it in enumerate(ours) if it not in there + ours[:number]]
    return Words([*kept, *lacking], _spreading(template) if template.juju else [])


def due(template: Template, wanted: Words) -> bool:
    """Return whether the template does not say so yet."""
    return list(template.tolerations) != list(wanted.tolerations) or not all(
        any(_within(it, there) for there in template.spreading) for it in wanted.spreading
    )


def budget_wanted(template: Template, budgets: Sequence[Budget]) -> bool:
    """Return whether the template's pods get a budget: several, of Juju's, that have no other.

    Kubernetes evicts no pod that two budgets select.
    """
    several = template.juju and not template.leaving and template.replicas > 1
    others = [it.selector for it in budgets if not it.ours and it.selector]
    return several and not any(selects(template.labels) for selects in others)


def budget_due(template: Template, budgets: Sequence[Budget]) -> bool:
    """Return whether the budget has to be made, or made right; one of another's name stays."""
    if not budget_wanted(template, budgets):
        return False
    for it in budgets:
        if it.name == template.name:
            right = (1, Selector(template.selector), frozenset({template.uid}))
            return it.ours and (it.maximum_unavailable, it.selector, it.owners) != right
    return True


def budget_left(template: Template, budgets: Sequence[Budget]) -> bool:
    """Return whether there is a budget of ours that the template does not need any more."""
    left = any(it.ours and it.name == template.name for it in budgets)
    return left and not budget_wanted(template, budgets)


def _spreading(template: Template) -> list[dict[str, Any]]:
    return [
        {
            "maxSkew": 1,
            "topologyKey": key,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(template.selector)},
        }
        for key in _SPREAD_OVER
    ]


def _plain(toleration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a toleration with the operator that it has if it names none."""
    return {"operator": "Equal", **toleration}


def _within(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    return all(there.get(key) == value for key, value in wanted.items())
