"""Reads the far side of each endpoint, and writes ours, its secrets sealed."""

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import ops

from katonic import secrets, wire
from katonic.plan import Invalid, NotYet
from katonic.wire import Databag

Far = TypeVar("Far", bound=Databag)


class Endpoint(Generic[Far]):
    """One endpoint of charmcraft.yaml: what the far side says there, read once a dispatch."""

    def __init__(self, charm: ops.CharmBase, name: str, far: type[Far]) -> None:
        self.name = name
        self._charm = charm
        self._far = far
        self._all: dict[int, Far] | None = None

    @property
    def all(self) -> dict[int, Far]:
        """Return the complete data of every far application, by relation id.

        Raises:
            Invalid: A far application says what the interface does not allow.
            NotYet: A secret cannot be read now.
        """
        if self._all is None:
            read = {relation.id: self._read(relation) for relation in self._relations()}
            self._all = {key: data for key, data in read.items() if data is not None}
        return self._all

    @property
    def one(self) -> Far | None:
        """Return the data of the only far application, or None while there is none.

        Raises:
            Invalid: The far application says what the interface does not allow.
            NotYet: A secret cannot be read now.
        """
        return next(iter(self.all.values()), None)

    @property
    def apps(self) -> dict[int, str]:
        """Return the name of the far application, by relation id."""
        return {relation.id: relation.app.name for relation in self._relations()}

    def named(self, client: str) -> list[int]:
        """Return the relations of an application or of a relation's id; all of them for ""."""
        return [it for it, app in self.apps.items() if client in ("", app, str(it))]

    def _relations(self) -> list[ops.Relation]:
        return sorted(self._charm.model.relations[self.name], key=lambda it: it.id)

    def _read(self, relation: ops.Relation) -> Far | None:
        try:
            return wire.decode(self._far, relation.data[relation.app], self._open)
        except wire.WrongValueError as reason:
            raise Invalid(f"{self.name} from {relation.app.name}: {reason}") from None

    def _open(self, uri: str) -> dict[str, str]:
        try:
            return secrets.handle(self._charm, uri).get_content(refresh=True)
        except ops.ModelError as error:  # "cannot read" is not "not there": hold what runs
            raise NotYet(f"waiting for the secret of {self.name}: {error!r}") from error


def write(charm: ops.CharmBase, relation: ops.Relation, wanted: Sequence[Databag]) -> list[str]:
    """Make our side of a relation say exactly this, and return what changed.

    Each unit writes its own databag; the application's is the leader's.
    """
    here = f"{relation.name}:{relation.id}"
    changed = _write_unit(charm, relation, [bag for bag in wanted if bag.scope == "unit"])
    if charm.unit.is_leader():
        changed += _write_app(charm, relation, [bag for bag in wanted if bag.scope == "app"])
    return [f"{here} {key}" for key in changed]


def forget(charm: ops.CharmBase, relation: ops.Relation) -> list[str]:
    """Remove the secrets that our databag of an ended relation names, and return what is gone."""
    gone = wire.secrets_in(relation.data[charm.app])
    _remove(charm, gone)
    return [f"removed {uri} of {relation.name}:{relation.id}" for uri in sorted(gone)]


def _write_unit(
    charm: ops.CharmBase, relation: ops.Relation, bags: Sequence[Databag]
) -> list[str]:
    # Juju's own keys stand in this bag too, so none that is not ours is touched.
    wanted: dict[str, str] = {}
    for bag in bags:
        wanted |= wire.encode(bag, _refuse)
    return _set(relation.data[charm.unit], wanted) if wanted else []


def _write_app(charm: ops.CharmBase, relation: ops.Relation, bags: Sequence[Databag]) -> list[str]:
    mine = dict(relation.data[charm.app])
    resealed: list[str] = []

    def seal(place: str, content: dict[str, str]) -> str:
        uri, changed = _seal(charm, relation, place, content, wire.secret_at(mine, place))
        resealed.extend([f"{place} (content)"] if changed else [])
        return uri

    wanted: dict[str, str] = {}
    for bag in bags:
        wanted |= wire.encode(bag, seal)
    _remove(charm, wire.secrets_in(mine) - wire.secrets_in(wanted))
    gone = dict.fromkeys(mine.keys() - wanted.keys(), "")
    return _set(relation.data[charm.app], wanted | gone) + resealed


def _refuse(place: str, content: dict[str, str]) -> str:
    raise TypeError(f"{place}: a unit's databag holds no secret")


def _set(bag: ops.RelationDataContent, wanted: dict[str, str]) -> list[str]:
    changed = sorted(key for key, value in wanted.items() if bag.get(key, "") != value)
    for key in changed:
        bag[key] = wanted[key]
    return changed


def _seal(
    charm: ops.CharmBase, relation: ops.Relation, place: str, content: dict[str, str], uri: str
) -> tuple[str, bool]:
    """Return the URI of the secret that holds the content, and whether its content changed."""
    digest = secrets.digest(content)
    if uri:
        secret = secrets.handle(charm, uri)
        # Reading the content costs ten times as much as its description (findings, A13).
        if secret.get_info().description == digest:
            return uri, False
        secret.set_content(content)
        secret.set_info(description=digest)
        return uri, True
    label = f"{relation.name}.{relation.id}.{place}"
    secret = charm.app.add_secret(content, label=label, description=digest)
    secret.grant(relation)
    return secret.id or "", False


def _remove(charm: ops.CharmBase, uris: Iterable[str]) -> None:
    for uri in uris:
        secrets.handle(charm, uri).remove_all_revisions()
