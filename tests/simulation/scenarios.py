"""What happens to the bundle, and what is to be true of it while and after it happens."""

import collections
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.model import LOST_AFTER

sys.path.insert(0, str(Path(__file__).parent))
import platform_in_process as platform
from platform_in_process import Platform

Scenario = Callable[[Platform], None]


@dataclass(frozen=True)
class Ran:
    """How a run ended: with what state, after which hooks, through which faults."""

    seed: str
    found: Mapping[str, str]
    told: tuple[tuple[str, str], ...]
    faults: collections.Counter[str]


def run(simulation: Platform, scenario: Scenario) -> Ran:
    """Run a scenario, and return how it ended: all active, nothing secret told."""
    try:
        scenario(simulation)
        found = platform.end(simulation)
        assert active(found), found
        assert not in_the_open(simulation, found)
    except Exception as error:
        error.add_note(f"in the run {simulation.seed}")
        raise
    failed = sum("failed: exit status" in text for *_, text in simulation.log)
    faults = simulation.faults + collections.Counter(dispatch=failed)
    return Ran(str(simulation.seed), found, tuple(simulation.told), faults)


def fault(simulation: Platform) -> str:
    """Let something go wrong in a place that lives, and return what it was."""
    model, random = simulation.model, simulation.random
    unit = random.choice(list(model.units()))
    application, world = (
        model.applications[unit.application],
        simulation.outside.get(unit.application),
    )
    kind = random.choice(KINDS)
    if kind == "config changed again":
        application.config_version += 1
    elif kind == "scaled" and not application.charm.storage:
        model.scale(application.name, random.randint(0, 3))
    elif kind == "outage" and isinstance(world, platform.Played):
        world.refusals = random.randint(1, 5)
    elif kind == "outage of Kubernetes" and isinstance(simulation.kubernetes, platform.Unreliable):
        simulation.kubernetes.refusals = random.randint(1, 10)
    elif kind == "container restarted" and unit.connected and unit.name in simulation.pods:
        simulation.restart_container(unit.name, random.choice(unit.connected))
    elif kind == "charm restarted" and unit.up:
        simulation.restart_charm(unit.name)
    elif kind == "pod deleted" and unit.up:
        simulation.pod_down(unit.name)
    elif kind == "leader lost" and unit.up and unit.number == application.leader:
        model.pod_down(unit.name)
        simulation.now += LOST_AFTER
        model.tick(simulation.now)
    else:
        return "passed by"
    return kind


KINDS = (
    "charm restarted",
    "config changed again",
    "container restarted",
    "leader lost",
    "outage",
    "outage of Kubernetes",
    "pod deleted",
    "scaled",
)


def check(simulation: Platform, unit: str) -> None:
    """Check what is true of a unit after each of its hooks: that active means that all answers."""
    pebbles = simulation.pods.get(unit, {})
    if not pebbles or simulation.model.find(unit).workload.current != "active":
        return
    for name, pebble in pebbles.items():
        silent = set(pebble.get_plan().checks) - pebble.up if pebble.connected else set()
        assert not silent, f"{unit} is active, but {silent} of {name} does not answer"


def begin(simulation: Platform, faults: int) -> None:
    """Let things happen until so many units are active, with faults here and there."""
    units = list(simulation.model.units())
    wanted = simulation.random.randrange(len(units))

    def enough() -> bool:
        return sum(it.workload.current == "active" for it in simulation.model.units()) >= wanted

    live(simulation, faults, until=enough)


def live(
    simulation: Platform,
    faults: int,
    limit: int = 3000,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Let everything happen, with so many faults here and there at most."""
    simulation.crashes = 0.03 if faults else 0.0
    most = simulation.faults.total() + faults
    told = len(simulation.told)
    while not until() and (simulation.step() or _restored(simulation)):
        if simulation.faults.total() < most and simulation.random.random() < 0.05:
            simulation.faults[fault(simulation)] += 1
        if len(simulation.told) > told:
            check(simulation, simulation.told[-1][0])
            told = len(simulation.told)
        assert told < limit, simulation.told[-20:]
        assert not simulation.failures, simulation.failures[0].traceback


def _restored(simulation: Platform) -> bool:
    """Give each application its units again, and return whether any had others."""
    model = simulation.model
    other = [
        it for it, scale in simulation.scales.items() if model.applications[it].scale != scale
    ]
    for name in other:
        model.scale(name, simulation.scales[name])
    return bool(other)


NAMES = {"access-key", "endpoints", "generations", "username"}
"""What a secret holds beside what is secret."""


def in_the_open(simulation: Platform, found: Mapping[str, str]) -> str:
    """Return where the value of a secret can be read that is not the secret itself, or ""."""
    contents = [it.revisions[it.latest].content for it in simulation.model.secrets.values()]
    values = {
        value
        for content in contents
        for key, value in content.items()
        if key not in NAMES and len(value) > 15
    }
    places = {key: it for key, it in found.items() if not key.startswith("secret ")}
    places["debug-log"] = "\n".join(text for *_, text in simulation.log)
    return ", ".join(k for k, it in places.items() if any(value in it for value in values))


def active(found: Mapping[str, str]) -> bool:
    """Return whether every unit is active."""
    said = [json.loads(it) for key, it in found.items() if key.endswith("status")]
    return {status for status, _ in said} == {"active"}


def rotated(simulation: Platform) -> None:
    """Rotate every credential of the settled bundle, and check that the old ones are gone."""
    before = platform.end(simulation)
    rotate(simulation)
    assert platform.end(simulation) != before, "the rotation changed nothing"
    for secret in simulation.model.secrets.values():
        tracked = {consumer.revision for consumer in secret.consumers.values()}
        assert tracked <= {secret.latest}, f"{secret.label} is read as it was"
        assert list(secret.revisions) == [secret.latest], "an old revision is left"


def rotate(simulation: Platform) -> None:
    """Run each action that rotates something on its leader, again if the dispatch dies."""
    model = simulation.model
    for application in list(model.applications.values()):
        for action in [it for it in application.charm.actions if it.startswith("rotate")]:
            task = None
            while task is None or task.message == "exit status 1":
                live(simulation, 1)
                task = model.run_action(f"{application.name}/{application.leader}", action, {})
                simulation.crashes = 0.1
                while task.status in ("pending", "running"):
                    simulation.step()
    live(simulation, 2)


def emptied(simulation: Platform) -> None:
    """Take the client's note away, and check that its object goes, and no other."""
    before = platform.end(simulation)
    simulation.model.set_config(platform.CLIENT, {"note": ""})
    live(simulation, 3)
    found = platform.end(simulation)
    gone = {key for key in before.keys() - found.keys() if key.startswith("kubernetes")}
    assert gone == {"kubernetes ConfigMap client-note"}
