"""Makes the Kubernetes objects of an application match its plan: applied, and pruned by label."""

from collections.abc import Sequence
from typing import Any

from katonic.plan import Invalid, NotYet

LABEL = "katonic.ai/application"


def apply(application: str, namespace: str, objects: Sequence[Any]) -> list[str]:
    """Apply the objects by server-side apply, delete those no longer wanted, return what changed.

    An application that runs twice in one namespace owns only what carries its own name.

    Raises:
        Invalid: Kubernetes refuses: the application has not been trusted.
        NotYet: Kubernetes does not answer, or not now (409, 429, 5xx).
    """
    import httpx2  # lightkube and httpx cost as much as ops: only who has objects pays for them
    import lightkube

    try:
        client = lightkube.Client(namespace=namespace, field_manager=f"katonic-{application}")
        return _apply(client, application, objects)
    except lightkube.ApiError as error:
        raise refusal(error, application) from error
    except httpx2.HTTPError as error:
        raise NotYet(f"kubernetes does not answer: {error!r}") from error


def refusal(error: Any, application: str) -> Exception:
    """Return what an ApiError means to a user; any but those known to heal is a bug, and itself.

    Source of the codes: Kubernetes API conventions, "Response status kind".
    """
    code = error.status.code or 0
    if code == 403:
        return Invalid(f"run: juju trust {application} --scope=cluster")
    if code in (409, 429) or code >= 500:
        return NotYet(f"kubernetes answers {code}: {error.status.message}")
    return error


def _apply(client: Any, application: str, objects: Sequence[Any]) -> list[str]:
    there = {}
    for kind in _kinds():
        for it in client.list(kind, labels={LABEL: application}):
            there[_identity(it)] = it
    changes = []
    for wanted in objects:
        wanted.metadata.labels = {**(wanted.metadata.labels or {}), LABEL: application}
        before = there.pop(_identity(wanted), None)
        after = client.apply(wanted, force=True)
        if before is None or before.metadata.resourceVersion != after.metadata.resourceVersion:
            changes.append(f"applied {_shown(wanted)}")
    for it in there.values():
        client.delete(type(it), it.metadata.name)
        changes.append(f"deleted {_shown(it)}")
    return changes


def _kinds() -> Sequence[type[Any]]:
    """Return the kinds that may be pruned; a kind joins when a charm applies it."""
    from lightkube.resources.core_v1 import ConfigMap, Service
    from lightkube.resources.policy_v1 import PodDisruptionBudget

    return ConfigMap, Service, PodDisruptionBudget


def _identity(it: Any) -> tuple[str, str]:
    return type(it).__name__, it.metadata.name


def _shown(it: Any) -> str:
    return " ".join(_identity(it))
