"""Reads the far side of each endpoint, and writes ours, its secrets sealed."""

from collections.abc import Sequence
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
    return [
        f"removed secret {relation.name}:{relation.id} {key}"
        for key, uri in relation.data[charm.app].items()
        if _remove(charm, uri)
    ]


def _write_unit(
    charm: ops.CharmBase, relation: ops.Relation, bags: Sequence[Databag]
) -> list[str]:
    # Juju's own keys stand in this bag too, so none that is not ours is touched.
    wanted = {key: value for bag in bags for key, value in wire.encode(bag)[0].items()}
    return _set(relation.data[charm.unit], wanted) if wanted else []


def _write_app(charm: ops.CharmBase, relation: ops.Relation, bags: Sequence[Databag]) -> list[str]:
    mine = relation.data[charm.app]
    wanted: dict[str, str] = {}
    resealed: list[str] = []
    for bag in bags:
        values, contents = wire.encode(bag)
        for key, content in contents.items():
            uri, sealed = _seal(charm, relation, key, content, mine.get(key, ""))
            values[key] = wire.to_wire(bag, uri)
            resealed += [f"{key} (content)"] if sealed else []
        wanted |= values
    gone = {key: mine[key] for key in mine if key not in wanted}
    for uri in gone.values():
        _remove(charm, uri)
    return _set(mine, wanted | dict.fromkeys(gone, "")) + resealed


def _set(bag: ops.RelationDataContent, wanted: dict[str, str]) -> list[str]:
    changed = sorted(key for key, value in wanted.items() if bag.get(key, "") != value)
    for key in changed:
        bag[key] = wanted[key]
    return changed


def _seal(
    charm: ops.CharmBase, relation: ops.Relation, key: str, content: dict[str, str], uri: str
) -> tuple[str, bool]:
    """Return the URI of the secret that holds the content, and whether its content changed."""
    digest = secrets.digest(content)
    if uri:
        secret = secrets.handle(charm, uri.strip('"'))
        # Reading the content costs ten times as much as its description (findings, A13).
        if secret.get_info().description == digest:
            return uri.strip('"'), False
        secret.set_content(content)
        secret.set_info(description=digest)
        return uri.strip('"'), True
    label = f"{relation.name}.{relation.id}.{key}"
    secret = charm.app.add_secret(content, label=label, description=digest)
    secret.grant(relation)
    return secret.id or "", False


def _remove(charm: ops.CharmBase, uri: str) -> bool:
    if not uri.strip('"').startswith("secret:"):
        return False
    secrets.handle(charm, uri.strip('"')).remove_all_revisions()
    return True
