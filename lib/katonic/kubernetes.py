"""Makes the Kubernetes objects of an application match its plan: applied, and pruned by label."""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from katonic.plan import Invalid, NotYet

if TYPE_CHECKING:
    import lightkube

APPLICATION, MODEL = "katonic.ai/application", "katonic.ai/model"


@contextlib.contextmanager
def client(application: str, model: str) -> Iterator["lightkube.Client"]:
    """Yield a client for an application, in its model's namespace.

    Raises:
        Invalid: Kubernetes refuses: the application has not been trusted.
        NotYet: Kubernetes does not answer, or not now (409, 429, 5xx).
    """
    import httpx2  # lightkube and httpx cost as much as ops: only who has objects pays for them
    import lightkube

    for name in ("httpcore2", "httpx2"):  # a dozen lines for each call, each a hook tool's run
        logging.getLogger(name).setLevel(logging.WARNING)
    manager = f"katonic-{application}"
    try:
        with lightkube.Client(namespace=model, field_manager=manager) as it:
            yield it
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


def kinds(objects: Iterable[Any]) -> set[str]:
    """Return the kinds of objects, such as "apps/v1/Deployment"."""
    return {f"{it.api_version}/{it.kind}" for it in map(_definition, objects)}


def apply(
    application: str, model: str, objects: Sequence[Any], before: Iterable[str] = ()
) -> list[str]:
    """Apply the objects by server-side apply, delete those no longer wanted, return what changed.

    `before` are the kinds that it had, which are looked at too, and no others. Its own is what is
    labelled with the application and its model; that belongs to the ClusterRole which Juju makes
    of each application, and Kubernetes deletes it when Juju removes that.

    Raises:
        Invalid: Kubernetes refuses: the application has not been trusted.
        NotYet: Kubernetes does not answer, or not now (409, 429, 5xx).
    """
    with client(application, model) as cluster:
        labels = {APPLICATION: application, MODEL: model}
        there = _list(cluster, kinds(objects).union(before), labels)
        owner = _owner(cluster, application, model) if objects else None
        changes = []
        for wanted in objects:
            _check_name(wanted, f"{model}.{application}.")
            wanted.metadata.labels = {**(wanted.metadata.labels or {}), **labels}
            wanted.metadata.ownerReferences = [owner]
            old, new = there.pop(_identity(wanted), None), cluster.apply(wanted, force=True)
            if old is None or _content(old) != _content(new):
                changes.append(f"applied {_shown(wanted)}")
        for it in there.values():
            _delete(cluster, it)
            changes.append(f"deleted {_shown(it)}")
        return changes


def _list(
    cluster: "lightkube.Client", wanted: Iterable[str], labels: dict[str, Any]
) -> dict[tuple[str, str], Any]:
    from lightkube.codecs import resource_registry

    there = {}
    for version, _, kind in (it.rpartition("/") for it in sorted(wanted)):
        resource: Any = resource_registry.load(version, kind)
        for it in cluster.list(resource, labels=labels):
            there[_identity(it)] = it
    return there


def _owner(cluster: "lightkube.Client", application: str, model: str) -> Any:
    """Return the reference to what Kubernetes may call the owner of any kind of object.

    Only what is in no namespace can own what is in none. Source: Kubernetes, "Owners and
    Dependents".
    """
    from lightkube.models.meta_v1 import OwnerReference
    from lightkube.resources.rbac_authorization_v1 import ClusterRole

    meta = cluster.get(ClusterRole, f"{model}-{application}").metadata
    return OwnerReference(
        apiVersion=_definition(ClusterRole).api_version,
        kind="ClusterRole",
        name=str(meta and meta.name),
        uid=str(meta and meta.uid),
    )


def _check_name(wanted: Any, prefix: str) -> None:
    from lightkube.core.resource import GlobalResource

    named = wanted.metadata.name.startswith(prefix)
    if isinstance(wanted, GlobalResource) and not named:
        raise ValueError(f"{_shown(wanted)}: in no namespace, so its name begins with {prefix}")


def _delete(cluster: "lightkube.Client", it: Any) -> None:
    import lightkube

    try:
        cluster.delete(type(it), it.metadata.name)
    except lightkube.ApiError as error:
        if error.status.code != 404:
            raise


def _content(it: Any) -> dict[str, Any]:
    """Return what an object says, without what Kubernetes writes by itself."""
    content = it.to_dict()
    own = {"resourceVersion", "managedFields", "generation"}
    metadata = {key: value for key, value in content["metadata"].items() if key not in own}
    rest = content.keys() - {"apiVersion", "kind", "status"}
    return {key: content[key] for key in rest} | {"metadata": metadata}


def _definition(it: Any) -> Any:
    from lightkube.core.resource import api_info

    return api_info(it).resource


def _identity(it: Any) -> tuple[str, str]:
    return _definition(it).kind, it.metadata.name


def _shown(it: Any) -> str:
    return " ".join(_identity(it))
