"""The bundle settles, from any order of events, with faults thrown in."""

import collections
import functools
import gc
import json
import multiprocessing
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox.model import LOST_AFTER
from sandbox.simulated import Simulation

sys.path.insert(0, str(Path(__file__).parent))
import platform_in_process as platform

RUNS = 200
ROTATIONS = 30
CHANGES = 10
FAULTS = 6
"""How many faults a run has at most, and it ends after the last of them."""


@pytest.fixture(autouse=True)
def _rubbish_that_waits() -> Iterator[None]:
    """Each dispatch leaves classes behind; to look for them less saves a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    yield
    gc.set_threshold(*before)


@pytest.fixture(autouse=True)
def _secrets_that_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs can be compared only where their random secrets are the same."""
    monkeypatch.setattr(secrets, "token_bytes", platform.token_bytes)


def fault(simulation: Simulation) -> str:
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


def check(simulation: Simulation, unit: str) -> None:
    """Check what is true of a unit after each of its hooks: that active means that all answers."""
    pebbles = simulation.pods.get(unit, {})
    if not pebbles or simulation.model.find(unit).workload.current != "active":
        return
    for name, pebble in pebbles.items():
        silent = set(pebble.get_plan().checks) - pebble.up if pebble.connected else set()
        assert not silent, f"{unit} is active, but {silent} of {name} does not answer"


def live(simulation: Simulation, faults: int, limit: int = 3000) -> collections.Counter[str]:
    """Let everything happen, with faults here and there, and return those."""
    happened: collections.Counter[str] = collections.Counter()
    scales = {name: it.scale for name, it in simulation.model.applications.items()}
    simulation.crashes = 0.03 if faults else 0.0
    told = len(simulation.told)
    while simulation.step() or _restored(simulation, scales):
        if happened.total() < faults and simulation.random.random() < 0.05:
            happened[fault(simulation)] += 1
        if len(simulation.told) > told:
            check(simulation, simulation.told[-1][0])
            told = len(simulation.told)
        assert told < limit, simulation.told[-20:]
        assert not simulation.failures, simulation.failures[0].traceback
    return happened


def _restored(simulation: Simulation, scales: Mapping[str, int]) -> bool:
    """Give each application its units again, and return whether any had others."""
    model = simulation.model
    other = [name for name, it in model.applications.items() if it.scale != scales[name]]
    for name in other:
        model.scale(name, scales[name])
    return bool(other)


NAMES = {"access-key", "endpoints", "generations", "username"}
"""What a secret holds beside what is secret."""


def in_the_open(simulation: Simulation, found: Mapping[str, str]) -> str:
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


def differences(found: Mapping[str, str], expected: Mapping[str, str]) -> str:
    """Return what is not as expected, a few lines of it."""
    keys = sorted(k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k))
    return "".join(f"\n{k}:\n  {expected.get(k)}\n  {found.get(k)}" for k in keys[:4])


def active(found: Mapping[str, str]) -> bool:
    """Return whether every unit is active."""
    said = [json.loads(it) for key, it in found.items() if key.endswith("status")]
    return {status for status, _ in said} == {"active"}


@dataclass(frozen=True)
class Ran:
    """How a run ended: with what state, after how many hooks, through which faults."""

    found: Mapping[str, str]
    hooks: int
    faults: collections.Counter[str]


def ran(scenario: Callable[[Simulation], collections.Counter[str]], at: tuple[int, Path]) -> Ran:
    """Run a scenario in a folder of its own, and return how it ended: all active, none told."""
    seed, folder = at
    folder.mkdir()
    with platform.deployed(folder, seed) as simulation:
        faults = scenario(simulation)
    faults["dispatch"] += sum("failed: exit status" in text for *_, text in simulation.log)
    found = platform.end(simulation)
    assert active(found), f"seed {seed}: {found}"
    assert not in_the_open(simulation, found), f"seed {seed}"
    shutil.rmtree(folder)
    return Ran(found, len(simulation.told), faults)


def ran_all(
    scenario: Callable[[Simulation], collections.Counter[str]], runs: int, folder: Path
) -> list[Ran]:
    """Run a scenario from so many orders of events, on every core, and return how each ended."""
    # Forked, so that each process has what the fixtures have changed.
    processes = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("fork"))
    with processes as pool:
        places = [(seed, folder / str(seed)) for seed in range(runs)]
        return list(pool.map(functools.partial(ran, scenario), places, chunksize=5))


def test_the_bundle_settles_to_the_same_state_from_200_event_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    all_runs = ran_all(amid_faults, RUNS, tmp_path)
    for seed, run in enumerate(all_runs):
        assert run.found == all_runs[0].found, (
            f"seed {seed}: {differences(run.found, all_runs[0].found)}"
        )
    hooks = sorted(run.hooks for run in all_runs)
    faults = sum((run.faults for run in all_runs), collections.Counter())
    assert all(faults[it] for it in KINDS), f"not every fault happened: {faults}"
    with capsys.disabled():
        print(
            f"\n{RUNS} orders, {sum(hooks)} events; per run {hooks[0]} to {hooks[-1]}, "
            f"median {hooks[RUNS // 2]}; faults: {dict(faults)}"
        )


def amid_faults(simulation: Simulation) -> collections.Counter[str]:
    """Let the bundle come up; the first run, which the others are compared to, without faults."""
    return live(simulation, FAULTS if simulation.seed else 0)


def test_credentials_are_rotated_amid_faults_and_every_client_follows(tmp_path: Path) -> None:
    all_runs = ran_all(rotated, ROTATIONS, tmp_path)
    for seed, run in enumerate(all_runs):
        assert run.found == all_runs[0].found, (
            f"seed {seed}: {differences(run.found, all_runs[0].found)}"
        )


def rotated(simulation: Simulation) -> collections.Counter[str]:
    """Rotate every credential of the settled bundle, and check that the old ones are gone."""
    simulation.settle()
    before = platform.end(simulation)
    faults = rotate(simulation)
    assert platform.end(simulation) != before, "the rotation changed nothing"
    for secret in simulation.model.secrets.values():
        tracked = {consumer.revision for consumer in secret.consumers.values()}
        assert tracked <= {secret.latest}, f"{secret.label} is read as it was"
        assert list(secret.revisions) == [secret.latest], "an old revision is left"
    return faults


def test_what_an_option_no_longer_asks_for_is_deleted_amid_faults(tmp_path: Path) -> None:
    ran_all(emptied, CHANGES, tmp_path)


def emptied(simulation: Simulation) -> collections.Counter[str]:
    """Take the client's note away, and check that its object goes, and no other."""
    simulation.settle()
    before = platform.end(simulation)
    simulation.model.set_config("client", {"note": ""})
    faults = live(simulation, 3)
    found = platform.end(simulation)
    gone = {key for key in before.keys() - found.keys() if key.startswith("kubernetes")}
    assert gone == {"kubernetes ConfigMap client-note"}
    return faults


def rotate(simulation: Simulation) -> collections.Counter[str]:
    """Run each action that rotates something on its leader, again if the dispatch dies."""
    model, faults = simulation.model, collections.Counter()
    for application in list(model.applications.values()):
        for action in [it for it in application.charm.actions if it.startswith("rotate")]:
            task = None
            while task is None or task.message == "exit status 1":
                faults += live(simulation, 1)
                task = model.run_action(f"{application.name}/{application.leader}", action, {})
                simulation.crashes = 0.1
                while task.status in ("pending", "running"):
                    simulation.step()
    return faults + live(simulation, 2)
