"""How a StatefulSet's template changes and no pod is restarted for it: hold, adopt, release.

A StatefulSet replaces its pods when its template changes. Tolerations and spreading matter to the
scheduler alone, and Kubernetes lets tolerations be added to a pod that is there. So the change
comes with a partition above every ordinal, which holds the pods; those of a revision that differs
in nothing else get the tolerations and the label of the new revision; then the partition goes back
to what it was, and what differs in more rolls as its writer meant.

What is next is found from what is there, so it does not matter who began, or died in between. The
one danger is to release before the StatefulSet's controller has seen the pods' new labels: it
reads pods and StatefulSets from two streams, and would replace a pod that it knows by the old one.
It tells what it has seen in the status: how many pods there are, and how many of the revisions
`current` and `update`. (Source: Kubernetes 1.34, pkg/controller/statefulset.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import placement
from .observed import HOLD, Pod, Template

_SCHEDULING = ("tolerations", "topologySpreadConstraints")


@dataclass(frozen=True)
class Apply:
    """Write the words into the template, with a hold that will give back the partition."""

    give_back: int | None


@dataclass(frozen=True)
class Adopt:
    """Make pods of an earlier revision ones of the new, as far as nothing else is different."""

    pods: Sequence[Pod]


@dataclass(frozen=True)
class Release:
    """Give back the partition.

    Attributes:
        hurry: All pods are there. Otherwise some may have been made from the earlier revision, and
            neither seen here nor by the controller: it is to wait a little, but not for ever.
    """

    partition: int
    hurry: bool = True


def next_step(
    template: Template,
    wanted: placement.Words,
    pods: Collection[Pod],
    different: Collection[str] = (),
) -> Apply | Adopt | Release | None:
    """Return what is to be done next; None for nothing, or nothing before something changes.

    Args:
        template: The template; its pods are `pods`, all of them.
        wanted: What it should say.
        pods: Its pods, those that are leaving too.
        different: Revisions that are known to differ from the newest in more than scheduling.
    """
    late = placement.due(template, wanted)
    if template.kind != "StatefulSet":
        return Apply(None) if late else None
    if template.held is None and not late:
        return None
    given = template.held if template.partition == HOLD else None
    give_back = int(given) if given and given.isdigit() else template.partition
    if late or (template.rolling and template.partition != HOLD):
        return Apply(give_back)
    if template.observed < template.generation or not template.update:
        return None
    staying = [it for it in pods if not it.leaving]
    others = [it for it in staying if it.revision not in (template.update, *different)]
    if others:
        return Adopt(others)
    current = sum(it.revision == template.current for it in staying)
    updated = sum(it.revision == template.update for it in staying)
    if template.counts != (len(pods), current, updated):
        return None
    return Release(give_back, len(staying) >= template.replicas)


def different(revisions: Mapping[str, Any], update: str, names: Collection[str]) -> set[str]:
    """Return those of the names whose revision differs from the newest in more than scheduling.

    `revisions` has the data of each ControllerRevision by its name; one that is gone differs.
    """
    newest = _essence(revisions.get(update))
    found = {it: _essence(revisions.get(it)) for it in names}
    return {name for name, it in found.items() if it is None or it != newest}


def tolerations(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tolerations of the template that a ControllerRevision stands for."""
    return data["spec"]["template"]["spec"].get("tolerations", [])


def _essence(data: Mapping[str, Any] | None) -> Any:
    """Return a revision's template without scheduling and without what Kubernetes adds."""
    if data is None:
        return None
    template = {key: it for key, it in data["spec"]["template"].items() if key != "$patch"}
    about = {key: it for key, it in template.get("metadata", {}).items() if it is not None}
    spec = {key: it for key, it in template["spec"].items() if key not in _SCHEDULING}
    return {**template, "metadata": about, "spec": spec}
