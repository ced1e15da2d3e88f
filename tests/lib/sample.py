"""A small charm with one of everything that the library offers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import ops

from katonic import (
    FILES,
    Config,
    Container,
    Databag,
    Effect,
    Endpoint,
    Plan,
    Reconciler,
    Secret,
    Seed,
    Service,
    Step,
    load_config,
)

META = {
    "name": "sample",
    "containers": {"box": {"resource": "box-image"}},
    "resources": {"box-image": {"type": "oci-image"}},
    "requires": {"database": {"interface": "sample", "limit": 1}},
    "provides": {"access": {"interface": "sample"}},
    "peers": {"peers": {"interface": "katonic_peers"}},
}
CONFIG = {
    "options": {
        "level": {"type": "int", "default": 1},
        "note": {"type": "string", "default": ""},
    }
}
ACTIONS = {"show-plan": {}, "restart": {}, "rotate": {}}

world: list[str] = []
"""What the effects have done to the world outside."""


class Options(Config, frozen=True):
    level: Annotated[int, msgspec.Meta(ge=1, le=9, description="1 to 9")]
    note: str


class Login(Secret, frozen=True):
    username: str
    password: str


class Requirer(Databag, frozen=True):
    database: str


class Provider(Databag, frozen=True):
    endpoint: str
    secret_user: Login
    weight: int | None = None


@dataclass(frozen=True)
class State:
    options: Options
    passwords: Mapping[int, str]
    database: Provider | None
    asked: Mapping[int, Requirer]


def tell_world(container: ops.Container, *words: str) -> list[str]:
    assert container.name == "box"
    if list(words) == world:
        return []
    world[:] = words
    return ["told the world"]


def plan(state: State) -> Plan:
    asks = {"database": Requirer(database="sample")}
    if not state.database:
        return Plan(asks=asks)
    box = Container(
        files={f"{FILES}/level": str(state.options.level)},
        steps=[
            Step("prepare", ["prepare"], environment={"KEY": state.database.secret_user.password}),
            Step("migrate", ["migrate"], key="1", leader_only=True),
        ],
        services={
            "server": Service(
                "serve --forever",
                environment={"ENDPOINT": state.database.endpoint},
                secrets={"PASSWORD": state.database.secret_user.password},
                ready=["answers"],
            )
        },
    )
    return Plan(
        {"box": box},
        ports=[7000 + state.options.level],
        resources=notes(state.options.note),
        asks=asks,
        effects=[Effect("tell the world", tell_world, sorted(state.passwords.values()), "box")],
        offers={
            "access": {
                key: Provider(
                    endpoint="sample:7001",
                    secret_user=Login(username=asked.database, password=state.passwords[key]),
                )
                for key, asked in state.asked.items()
            }
        },
    )


def notes(text: str) -> list[Any]:
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    return [ConfigMap(metadata=ObjectMeta(name="note"), data={"text": text})] if text else []


class SampleCharm(ops.CharmBase):
    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.database = Endpoint(self, "database", Provider)
        self.access = Endpoint(self, "access", Requirer)
        self.seed = Seed(self)
        framework.observe(self.on["rotate"].action, self._rotate)
        self.reconciler = Reconciler(self, self.gather, plan)

    def gather(self) -> State:
        asked = self.access.all
        return State(
            options=load_config(self, Options),
            passwords={key: self.seed.password("user", key) for key in asked}
            if self.seed.available
            else {},
            database=self.database.one,
            asked=asked if self.seed.available else {},
        )

    def _rotate(self, event: ops.ActionEvent) -> None:
        for key in self.access.all:
            self.seed.rotate("user", key)
