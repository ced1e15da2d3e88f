"""How it stands, in one line."""

from collections.abc import Sequence

import ops
from certificate import Identity
from follower import Refusal, Report
from routes import Served
from surroundings import Surroundings

from katonic import NotYet


def lack(host: str | None, report: Report) -> str:
    """Return what is waited for before anyone is told of a URL; nothing when all is there."""
    if host is None:
        return "waiting for the load balancer's address"
    if report.istiod is None:
        return "waiting for istiod"
    return "" if report.istiod.gateways else "waiting for the gateway"


def wait(lack: str) -> None:
    """Raise NotYet: nothing that comes after is done."""
    raise NotYet(lack)


def status(
    served: Served, report: Report, around: Surroundings, identity: Identity | None
) -> ops.StatusBase:
    """Return the status: first what is served wrongly, then what is not served."""
    istiod = report.istiod
    if istiod and istiod.refusals:
        return ops.BlockedStatus(refused(istiod.refusals, around.suspects))
    if served.conflicts:
        return ops.BlockedStatus(_first(served.conflicts))
    if served.unguarded:
        names = ", ".join(served.unguarded)
        return ops.BlockedStatus(f"integrate forward-auth, or set sign-in of {names} in routes")
    if identity and identity.refused:
        return ops.BlockedStatus(f"certificates: {identity.refused}")
    if served.awaited:
        return ops.WaitingStatus(f"waiting for forward-auth to guard {', '.join(served.awaited)}")
    connected, gateways = len(istiod.gateways) if istiod else 0, around.site.gateways
    if connected < gateways:
        return ops.WaitingStatus(f"{connected} of {gateways} gateways are connected")
    number = len(served.routes)
    return ops.ActiveStatus(f"{number} route{'' if number == 1 else 's'} on https://{around.host}")


def refused(refusals: Sequence[Refusal], suspects: Sequence[str]) -> str:
    """Return what is refused, and which objects of others are likely why."""
    first = refusals[0]
    said = first.message if len(first.message) <= 200 else f"{first.message[:199]}…"
    blame = f"; likely for {', '.join(suspects)}" if suspects else ""
    return f"{first.gateway}: Envoy refuses a {first.kind}{blame}: {said}{_more(refusals)}"


def _first(sentences: Sequence[str]) -> str:
    return f"{sentences[0]}{_more(sentences)}"


def _more(them: Sequence[object]) -> str:
    return f" (and {len(them) - 1} more)" if len(them) > 1 else ""
