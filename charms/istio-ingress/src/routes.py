"""Where each application is served, and which of them cannot be: nothing here does anything."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import ops
import yaml

from interfaces import forward_auth, ingress
from katonic import Endpoint, Invalid, wire

_Path = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^/$|^(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$",
        description="/ or /word, with letters, digits and ._~-, without a slash at its end",
    ),
]
_Host = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="a DNS name in lower case",
    ),
]
SignIn = Literal["edge", "own", "none"]


class Wish(msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """Where the user wants an application; what is None is as by default."""

    path: _Path | None = None
    host: _Host | None = None
    sign_in: SignIn = "edge"


@dataclass(frozen=True)
class Application:
    """An application as it asked.

    Attributes:
        relation: The id of its relation.
        model: Its model.
        scheme: What it speaks at its port: http, https or h2c.
        hosts: The names of its units, one each.
    """

    relation: int
    name: str
    model: str
    port: int
    scheme: str
    strip_prefix: bool
    hosts: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """Where an application is served; a host of its own, or None for that of all."""

    application: Application
    path: str
    host: str | None
    sign_in: SignIn

    @property
    def name(self) -> str:
        """Return a name that no other route of the model has."""
        return f"{self.application.name}-{self.application.relation}"


@dataclass(frozen=True)
class Served:
    """Which routes are served, and why others are not.

    Attributes:
        conflicts: Of each application whose place is taken, a sentence that says so.
        unguarded: The applications whose sign-in nobody asks for, as there is no forward-auth.
        awaited: The applications that the forward-auth there is does not guard yet.
    """

    routes: tuple[Route, ...] = ()
    conflicts: tuple[str, ...] = ()
    unguarded: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()


def parse(text: str) -> Mapping[str, Wish]:
    """Return what the option `routes` says, by application.

    Raises:
        Invalid: It is no YAML, or says what is not allowed; the message names both.
    """
    try:
        said = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f"line {where.line + 1}: " if where else ""
        raise Invalid(f"config routes: {line}{getattr(error, 'problem', error)}") from None
    if not isinstance(said, dict):
        raise Invalid("config routes: expected a mapping; allowed: APPLICATION: {path: /PATH}")
    return {str(name): _wish(str(name), it or {}) for name, it in said.items()}


def _wish(name: str, said: object) -> Wish:
    known = ", ".join(it.encode_name for it in msgspec.structs.fields(Wish))
    if not isinstance(said, dict):
        raise Invalid(f"config routes: {name}={said}: expected a mapping; allowed: {known}")
    if unknown := sorted(map(str, said.keys() - set(known.split(", ")))):
        raise Invalid(f"config routes: {name}: {', '.join(unknown)}; allowed: {known}")
    try:
        return wire.parse(said, Wish)
    except wire.WrongValueError as reason:
        raise Invalid(f"config routes: {name}: {reason}") from None


def place(
    applications: Sequence[Application],
    wishes: Mapping[str, Wish],
    sign_in: forward_auth.Provider | None,
) -> Served:
    """Return where the applications are served.

    Who came first keeps its place: a relation's id grows.
    """
    owners: dict[tuple[str | None, str], Application] = {}
    routes, conflicts, unguarded, awaited = [], [], [], []
    for it in sorted(applications, key=lambda it: it.relation):
        wish = wishes.get(it.name, Wish())
        path = wish.path or f"/{it.model}-{it.name}"
        owner = owners.setdefault((wish.host, path), it)
        if owner is not it:
            where = f"{wish.host or ''}{path}"
            conflicts.append(f"{it.name}: {where} is {owner.name}'s; give it another in routes")
        elif wish.sign_in == "edge" and sign_in is None:
            unguarded.append(it.name)
        elif wish.sign_in == "edge" and sign_in and it.name not in sign_in.app_names:
            awaited.append(it.name)
        else:
            routes.append(Route(it, path, wish.host, wish.sign_in))
    return Served(tuple(routes), tuple(conflicts), tuple(unguarded), tuple(awaited))


def guarded(applications: Sequence[Application], wishes: Mapping[str, Wish]) -> tuple[str, ...]:
    """Return the applications whose sign-in is asked for at the edge."""
    names = {it.name for it in applications}
    return tuple(sorted(it for it in names if wishes.get(it, Wish()).sign_in == "edge"))


def url(route: Route, host: str) -> str:
    """Return where a browser finds it; `host` is a name or an address."""
    return f"https://{route.host or _in_url(host)}{route.path}"


def _in_url(host: str) -> str:
    return f"[{host}]" if is_address(host) and ":" in host else host


def is_address(host: str) -> bool:
    """Return whether a host is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def pods(application: str, model: str, hosts: Sequence[str]) -> bool:
    """Return whether the hosts are the names that Juju gives an application of the model.

    Then its pods are known by their label, and which of them is ready is known at once.
    """
    name, domain = re.escape(application), re.escape(f"{model}.svc.cluster.local")
    juju = re.compile(rf"{name}\.{domain}|{name}-\d+\.{name}-endpoints\.{domain}")
    return bool(hosts) and all(juju.fullmatch(it) for it in hosts)


def applications(charm: ops.CharmBase, endpoint: Endpoint[ingress.Requirer]) -> list[Application]:
    """Return who asks for a URL, as far as they have said all of it.

    Raises:
        Invalid: One of them says what the interface does not allow.
    """
    found = []
    for relation in charm.model.relations[endpoint.name]:
        asked = endpoint.all.get(relation.id)
        hosts = [it for unit in relation.units if (it := _host(relation, unit))]
        if asked and hosts:
            found.append(
                Application(
                    relation=relation.id,
                    name=asked.name,
                    model=asked.model,
                    port=asked.port,
                    scheme=asked.scheme or "http",
                    strip_prefix=bool(asked.strip_prefix),
                    hosts=tuple(sorted(hosts)),
                )
            )
    return sorted(found, key=lambda it: it.relation)


def _host(relation: ops.Relation, unit: ops.Unit) -> str | None:
    try:
        said = wire.decode(ingress.RequirerUnit, relation.data[unit], lambda _: {})
    except wire.WrongValueError as reason:
        raise Invalid(f"{relation.name} from {unit.name}: {reason}") from None
    return said.host if said else None
