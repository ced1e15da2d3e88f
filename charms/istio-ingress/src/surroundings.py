"""What Juju and Kubernetes say of where the charm is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import images
import ops
import traffic
from follower import Report
from options import Options
from pods import Site

from katonic import kubernetes

if TYPE_CHECKING:
    import lightkube


@dataclass(frozen=True)
class Surroundings:
    """Where the charm is.

    Attributes:
        host: The name or the address of the gateway; None while it has none.
        suspects: The objects of others that may be why the gateway refuses something.
    """

    site: Site
    host: str | None
    suspects: tuple[str, ...] = ()


def look(charm: ops.CharmBase, options: Options, report: Report | None) -> Surroundings:
    """Return where the charm is.

    Raises:
        Invalid: Kubernetes refuses: the application has not been trusted.
        NotYet: Kubernetes does not answer, or Juju gives no image.
    """
    pilot, proxy = (images.fetch(charm.model, f"{it}-image") for it in ("pilot", "proxy"))
    with kubernetes.client(charm.app.name, charm.model.name) as cluster:
        pod = _pod(cluster, charm.unit.name)
        (watcher,) = (it.image for it in pod.containers if it.name == "istio-ingress")
        site = Site(
            application=charm.app.name,
            model=charm.model.name,
            watcher=watcher,
            pilot=pilot,
            proxy=proxy,
            pull_secrets=tuple(it.name for it in pod.imagePullSecrets or ()),
            nodes=pod.affinity.nodeAffinity if pod.affinity else None,
            gateways=charm.app.planned_units(),
        )
        host = options.external_hostname or _address(cluster, site.gateway)
        refusals = report.istiod.refusals if report and report.istiod else ()
        suspects = traffic.suspects(cluster, site.application) if refusals else []
    return Surroundings(site, host, tuple(suspects))


def _pod(cluster: "lightkube.Client", unit: str) -> Any:
    from lightkube.resources.core_v1 import Pod

    return cluster.get(Pod, unit.replace("/", "-")).spec


def _address(cluster: "lightkube.Client", service: str) -> str | None:
    """Return what the load balancer gave a service; None while there is none."""
    import lightkube
    from lightkube.resources.core_v1 import Service

    try:
        status: Any = cluster.get(Service, service).status
    except lightkube.ApiError as error:
        if error.status.code == 404:
            return None
        raise
    balancer = status and status.loadBalancer
    found = (balancer and balancer.ingress) or ()
    return next((it.hostname or it.ip for it in found), None)
