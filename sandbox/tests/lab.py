"""A model whose charms do nothing but what a test tells them to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from sandbox.charm import Charm, read_charm
from sandbox.events import Event, hook_name
from sandbox.hooktools import HookContext, Result
from sandbox.model import Model

PROBE = Path(__file__).parent / "probe"
Hook = Callable[[HookContext], int]


class Lab:
    """Delivers every event that is due, unit by unit in turn, and remembers what it delivered."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.charm: Charm = read_charm(PROBE)
        self.model = Model("lab", "7e887193-bc97-4760-8eda-15a7422a2b9d")
        self.model.clock = lambda: self.now
        self.model.random = Random(1)
        self.log: list[str] = []
        self.model.write_log = lambda who, level, _, text: self.log.append(f"{who} {level} {text}")
        self.told: list[tuple[str, Event]] = []
        self.hooks: dict[tuple[str, str], Hook] = {}
        self.environments: list[dict[str, str]] = []

    def deploy(self, name: str, scale: int = 1, **more: Any) -> None:
        """Deploy the probe and tell its units all that pods tell."""
        self.model.deploy(name, self.charm, scale, **more)
        self.model.service_up(name, f"10.0.0.{len(self.model.applications)}")
        self.up(name)
        self.settle()

    def up(self, name: str) -> None:
        """Let the pods of an application come up where they are not."""
        for unit in self.model.applications[name].units.values():
            if not unit.up:
                self.pod(unit.name, f"pod-{unit.name}")

    def pod(self, unit: str, uid: str) -> None:
        """Let a unit's agent start in a pod, its storage and its Pebbles come after."""
        self.model.pod_up(unit, "10.1.0.9", uid)
        self.model.storage_ready(unit)
        for container in self.charm.containers:
            self.model.pebble_ready(unit, container)

    def hook(self, unit: str, name: str, *commands: str, code: int = 0) -> list[Result]:
        """Say which hook tools a hook calls the next times it runs, and how it exits."""
        results: list[Result] = []

        def run(context: HookContext) -> int:
            results.extend(context.run(command.split(" ")) for command in commands)
            return code

        self.hooks[unit, name] = run
        return results

    def settle(self) -> list[str]:
        """Deliver what is due until nothing is; return it, as `words` shows it."""
        before = len(self.told)
        while any(self.step(unit.name) for unit in list(self.model.units())):
            pass
        return [words(unit, event) for unit, event in self.told[before:]]

    def step(self, unit: str) -> bool:
        """Deliver one event to a unit, update-status aside."""
        if unit not in {it.name for it in self.model.units()}:
            return False
        event = self.model.next_event(unit)
        if event is None or event.kind == "update-status":
            return False
        self.told.append((unit, event))
        context = HookContext(self.model, unit, event)
        self.environments.append(context.environment)
        hook = self.hooks.get((unit, hook_name(event)), lambda _: 0)
        context.finish(hook(context))
        return True

    def exec(self, unit: str, *commands: str) -> list[Result]:
        """Run hook tools on a unit in one `juju exec`; raises AssertionError if it fails."""
        task = self.model.exec(unit, "; ".join(commands))
        event = self.model.next_event(unit)
        assert event is not None
        assert event.task == task.id
        context = HookContext(self.model, unit, event)
        results = [context.run(command.split(" ")) for command in commands]
        refused = context.finish(0)
        assert not refused, refused
        return results

    def out(self, unit: str, command: str) -> str:
        """Return what one hook tool prints, its error if it fails."""
        (result,) = self.exec(unit, command)
        return (result.stderr or result.stdout).removesuffix("\n")


def words(unit: str, event: Event) -> str:
    """Show an event: unit, hook, remote unit, and who departs when it is another."""
    shown = [unit, hook_name(event), event.remote_unit]
    if event.departing_unit not in ("", event.remote_unit):
        shown.append(f"({event.departing_unit})")
    return " ".join(filter(None, shown))


def of(unit: str, told: list[str]) -> list[str]:
    """Return what one unit was told."""
    return [it.removeprefix(f"{unit} ") for it in told if it.startswith(f"{unit} ")]
