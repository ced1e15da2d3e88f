"""What runs in the unit's own pod: it follows istiod's watcher, and wakes the charm with news."""

import urllib.error
import urllib.request

import msgspec
from pods import ENVIRONMENT, PYTHON, Site

from katonic import Container, Service

PORT = 8080
DEFINITIONS = "/usr/share/istio-ingress/definitions"
_URL = f"http://localhost:{PORT}"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration that a gateway refused, and goes on without.

    Attributes:
        kind: What it was, such as Listener or Cluster.
        message: What Envoy said.
    """

    gateway: str
    kind: str
    message: str


class Istiod(msgspec.Struct, frozen=True, kw_only=True):
    """What istiod knows of its gateways: those that are connected, and what they refuse."""

    gateways: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What the follower says.

    Attributes:
        istiod: None while istiod does not answer.
        trouble: Why it does not.
    """

    istiod: Istiod | None = None
    trouble: str = ""


def container(site: Site) -> Container:
    """Return what runs."""
    follow = f"follow {site.istiod_url} --definitions {DEFINITIONS} --listen {PORT}"
    follower = Service(
        f"{PYTHON} -m watcher {follow}", environment=ENVIRONMENT, ready=f"{_URL}/ready"
    )
    return Container(services={"follower": follower})


def report() -> Report | None:
    """Return what the follower says; None before all kinds of objects are defined."""
    try:
        with urllib.request.urlopen(f"{_URL}/report", timeout=5) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read(), type=Report)
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (OSError, msgspec.MsgspecError):
        return None
