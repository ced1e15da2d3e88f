"""All Kubernetes objects of the ingress."""

from collections.abc import Sequence
from typing import Any

import control_plane
import gateway
import images
import kinds
import traffic
from certificate import Identity
from options import Options
from routes import Route
from surroundings import Surroundings

from interfaces import forward_auth


def objects(
    around: Surroundings,
    options: Options,
    identity: Identity | None,
    routes: Sequence[Route],
    sign_in: forward_auth.Provider | None,
) -> list[Any]:
    """Return them all; what is served has to wait for a host."""
    kinds.learn()
    site, host = around.site, around.host
    found = [
        *images.logins(site.logins, [site.pilot, site.proxy]),
        *control_plane.objects(site, control_plane.Mesh(sign_in, options.access_log)),
        *gateway.objects(site, options.service_type, options.tls),
    ]
    if host is None:
        return found
    shown = identity.certificate if identity else None
    edge = traffic.Edge(host, shown, options.upload_limit, options.request_timeout)
    return [*found, *traffic.objects(site, edge, routes, sign_in)]
