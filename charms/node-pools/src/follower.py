"""What runs in the unit's own pod: it follows the controller, and wakes the charm with news."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

import msgspec
from controller.verdict import Verdict
from deployment import ENVIRONMENT, PORT, PYTHON, Controller

from interfaces.node_pools import Free, Pool, Provider, Toleration
from katonic import Container, NotYet, Service

_URL = f"http://localhost:{PORT}"
_VERDICT = msgspec.json.Decoder(Verdict)


def container(controller: Controller) -> Container:
    """Return what runs."""
    follower = Service(
        f"{PYTHON} -m controller follow {controller.url} --listen {PORT}",
        environment=ENVIRONMENT,
        ready=f"{_URL}/ready",
    )
    return Container(services={"follower": follower})


def verdict() -> Verdict | None:
    """Return what the controller says of the cluster; None while it says nothing.

    After a refresh, one of the version before speaks until the new one has been applied, perhaps
    in other words: that must not keep it from being applied.
    """
    try:
        return _VERDICT.decode(_ask("/verdict"))
    except (NotYet, msgspec.MsgspecError):
        return None


def drain(node: str) -> dict[str, Any]:
    """Return what would become of the pods of a node.

    Raises:
        NotYet: There is no answer, or none to this question; the message says why.
    """
    return json.loads(_ask(f"/drain?node={quote(node)}"))


def offer(verdict: Verdict) -> Provider:
    """Return the pools as those who make pods want them."""
    return Provider(
        pools=tuple(
            Pool(
                name=it.name,
                selector=it.selector,
                tolerations=msgspec.convert(
                    it.tolerations, tuple[Toleration, ...], from_attributes=True
                ),
                nodes=len(it.nodes),
                free=Free(cpu=int(it.free.cpu), memory=it.free.memory, gpus=it.free.gpus),
                gpu_type=it.gpu_type,
            )
            for it in verdict.pools
        )
    )


def _ask(path: str) -> bytes:
    try:
        with urllib.request.urlopen(f"{_URL}{path}", timeout=5) as answer:  # noqa: S310
            return answer.read()
    except urllib.error.HTTPError as error:
        with error:
            raise NotYet(error.read().decode().strip() or f"{error}") from None
    except OSError as error:
        raise NotYet(f"the follower does not answer: {error}") from None
