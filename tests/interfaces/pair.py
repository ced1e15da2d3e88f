"""Two applications of one model, related: what one publishes the other reads, till they settle."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import ops
from ops import testing

RELATION = 1


class Side:
    """One unit of one application, the leader, at its end of the relation."""

    def __init__(
        self, charm: type[ops.CharmBase], role: str, endpoint: str, interface: str, **options: Any
    ) -> None:
        self.app = charm.__name__.lower()
        meta = {"name": self.app, role: {endpoint: {"interface": interface}}}
        actions = {"show-plan": {}, "restart": {}}
        types = {bool: "boolean", str: "string", int: "int"}
        config = {"options": {key: {"type": types[type(it)]} for key, it in options.items()}}
        self.context = testing.Context(charm, meta=meta, actions=actions, config=config)
        self._told: set[str] = set()
        self.state = testing.State(
            leader=True,
            model=testing.Model("lab", uuid="2e1f2c0e-7d9a-4b3a-8f65-0d2b6a4c9e11"),
            config=options,
            relations={testing.Relation(endpoint, interface, id=RELATION)},
        )

    @property
    def relation(self) -> testing.Relation:
        relation = self.state.get_relation(RELATION)
        assert isinstance(relation, testing.Relation)
        return relation

    @property
    def said(self) -> Mapping[str, str]:
        """Return the application's databag."""
        return self.relation.local_app_data

    @property
    def status(self) -> ops.StatusBase:
        return self.state.unit_status  # pyright: ignore[reportReturnType]

    def learns(self, news: str) -> bool:
        """Return whether this is new here: Juju says each thing once."""
        known = news in self._told
        self._told.add(news)
        return not known

    def run(self, event: Any) -> None:
        self.state = self.context.run(event, self.state)

    def see(self, look: Callable[[Any], Any]) -> Any:
        """Return what the charm sees now."""
        with self.context(self.context.on.update_status(), self.state) as manager:
            seen = look(manager.charm)
            self.state = manager.run()
        return seen

    def hears(self, databag: Mapping[str, str]) -> None:
        """Have an application at the far end say this."""
        self.relate(remote_app_name="far", remote_app_data=dict(databag))
        self.run(self.context.on.relation_changed(self.relation, remote_unit=0))

    def relate(self, **changes: Any) -> None:
        relation = dataclasses.replace(self.relation, **changes)
        self.state = dataclasses.replace(self.state, relations={relation})

    @property
    def in_the_open(self) -> str:
        """Return all that is written where everyone may read."""
        return repr((self.relation.local_app_data, self.relation.local_unit_data))

    def hold(self, secrets: set[testing.Secret]) -> None:
        self.state = dataclasses.replace(self.state, secrets=secrets)


class Pair:
    """A provider and a requirer, and Juju's part between them: databags, secrets, events."""

    def __init__(self, provider: Side, requirer: Side) -> None:
        self.provider, self.requirer = self.sides = (provider, requirer)
        for side, far in (self.sides, self.sides[::-1]):
            side.relate(remote_app_name=far.app)

    def join(self) -> None:
        """Relate the two and let them talk."""
        for kind in ("created", "joined", "changed"):
            for side in self.sides:
                unit = {} if kind == "created" else {"remote_unit": 0}
                event = getattr(side.context.on, f"relation_{kind}")(side.relation, **unit)
                side.run(event)
                self._carry(side)
        self._settle()

    def configure(self, side: Side, **options: Any) -> None:
        """Change options of one side and let them talk."""
        config = {**side.state.config, **options}
        side.state = dataclasses.replace(side.state, config=config)
        side.run(side.context.on.config_changed())
        self._carry(side)
        self._settle()

    def part(self) -> None:
        """End the relation."""
        for side in self.sides:
            side.run(side.context.on.relation_broken(side.relation))
            self._carry_secrets(side)
            side.state = dataclasses.replace(side.state, relations=frozenset())

    def _settle(self) -> None:
        for _ in range(20):
            pending = [(side, event) for side in self.sides for event in self._news(side)]
            if not pending:
                return
            for side, event in pending:
                side.run(event())
                self._carry(side)
        raise AssertionError("they never settle")

    def _news(self, side: Side) -> list[Callable[[], Any]]:
        """Return the events that Juju would send, now that the far side has written."""
        on, relation = side.context.on, side.relation
        news: list[Callable[[], Any]] = []
        if side.learns(repr((relation.remote_app_data, relation.remote_units_data))):
            news.append(lambda: on.relation_changed(side.relation, remote_unit=0))
        news += [
            functools.partial(self._secret_changed, side, it.id)
            for it in side.state.secrets
            if not it.owner
            and it.tracked_content != it.latest_content
            and side.learns(f"{it.id} {it.latest_content}")
        ]
        return news

    def _secret_changed(self, side: Side, identifier: str) -> Any:
        return side.context.on.secret_changed(side.state.get_secret(id=identifier))

    def _carry(self, side: Side) -> None:
        far = self.sides[1 - self.sides.index(side)]
        far.relate(
            remote_app_data=dict(side.relation.local_app_data),
            remote_units_data={0: dict(side.relation.local_unit_data)},
        )
        self._carry_secrets(side)

    def _carry_secrets(self, side: Side) -> None:
        """Give the far side the secrets that it was granted, and those alone."""
        far = self.sides[1 - self.sides.index(side)]
        held = {it.id: it for it in far.state.secrets}
        granted = {
            it
            for it in side.state.secrets
            if it.owner and far.app in it.remote_grants.get(RELATION, ())
        }
        own = {it for it in far.state.secrets if it.owner}
        theirs = {
            dataclasses.replace(held[it.id], latest_content=it.latest_content)
            if it.id in held
            else testing.Secret(it.latest_content or {}, id=it.id)
            for it in granted
        }
        far.hold(own | theirs)


def holding(state: testing.State, content: dict[str, str]) -> testing.State:
    """Return the state with one more secret that another application owns."""
    return dataclasses.replace(state, secrets={*state.secrets, testing.Secret(content)})


def following(state: testing.State) -> testing.State:
    """Return the state of a unit that does not lead."""
    return dataclasses.replace(state, leader=False)
