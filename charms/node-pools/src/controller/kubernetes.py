"""Kubernetes' API as the watcher meets it: a client that counts, and the objects' few words."""

from __future__ import annotations

import collections
import socket
from collections.abc import Mapping
from pathlib import Path

import httpx2
from lightkube import AsyncClient, ConfigError, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.models import User
from lightkube.core.resource import GlobalResource, NamespacedResourceG
from lightkube.resources import apps_v1, core_v1, policy_v1

from . import observed

# A peer that is gone without a word is noticed in 60 seconds, by a watch that hears nothing too.
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class Node(GlobalResource, observed.NodeObject):
    """A node."""

    _api_info = core_v1.Node._api_info


class Pod(NamespacedResourceG, observed.PodObject):
    """A pod."""

    _api_info = core_v1.Pod._api_info


class StatefulSet(NamespacedResourceG, observed.TemplateObject):
    """A StatefulSet."""

    _api_info = apps_v1.StatefulSet._api_info


class Deployment(NamespacedResourceG, observed.TemplateObject):
    """A Deployment."""

    _api_info = apps_v1.Deployment._api_info


class ControllerRevision(NamespacedResourceG, observed.RevisionObject):
    """A ControllerRevision."""

    _api_info = apps_v1.ControllerRevision._api_info


class PodDisruptionBudget(NamespacedResourceG, observed.BudgetObject):
    """A PodDisruptionBudget."""

    _api_info = policy_v1.PodDisruptionBudget._api_info


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests, with the token that is in a file now, and counts them.

    lightkube reads the file once, and again when the token is refused; an empty one, read in the
    wrong moment, would stay for ever.

    Attributes:
        calls: How many there were, by the verb and the answer's code, 0 for none.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, token: Path | None = None) -> None:
        self.calls: collections.Counter[tuple[str, int]] = collections.Counter()
        self._inner = inner
        self._token = token

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
        watch = request.url.params.get("watch") == "true"
        verb, code = "watch" if watch else request.method.lower(), 0
        try:
            response = await self._inner.handle_async_request(request)
            code = response.status_code
            return response
        finally:
            self.calls[verb, code] += 1

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()


def connect(namespace: str) -> tuple[AsyncClient, Mapping[tuple[str, int], int]]:
    """Return a client of the cluster this runs in, or that KUBECONFIG names, and what it counts.

    Raises:
        lightkube.ConfigError: There is no such cluster.
    """
    config = KubeConfig.from_env().get()
    if config is None or config.user is None:
        raise ConfigError("the kubeconfig has no current context with a user")
    inner = httpx2.AsyncHTTPTransport(
        verify=verify_cluster(config.cluster, config.user, config.abs_file),
        socket_options=_KEEP_ALIVE,
    )
    token = config.user.token_file
    if token:
        config = config._replace(user=User())
    transport = Transport(inner, Path(token) if token else None)
    client = AsyncClient(
        config, namespace=namespace, field_manager=observed.MANAGER, transport=transport
    )
    return client, transport.calls
