"""The bundle settles, from any order of events, with faults thrown in."""

import collections
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox.model import LOST_AFTER
from sandbox.simulated import Simulation

sys.path.insert(0, str(Path(__file__).parent))
import platform_in_process as platform

RUNS = 200
FAULTS = 6
"""How many faults a run has at most, and it ends after the last of them."""


@pytest.fixture(autouse=True)
def _secrets_that_do_not_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs can be compared only where their random secrets are the same."""
    monkeypatch.setattr(secrets, "token_bytes", platform.token_bytes)


def fault(simulation: Simulation) -> str:
    """Let something go wrong in a place that lives, and return what it was."""
    model, random = simulation.model, simulation.random
    alive = [unit for unit in model.units() if unit.up]
    if not alive:
        return "nothing was there yet"
    unit = random.choice(alive)
    application = model.applications[unit.application]
    kind = random.choice(("container", "charm container", "pod", "leader", "config", "scale"))
    if kind == "container" and unit.connected:
        simulation.restart_container(unit.name, random.choice(unit.connected))
    elif kind == "charm container":
        simulation.restart_charm(unit.name)
    elif kind == "pod":
        simulation.pod_down(unit.name)
    elif kind == "leader" and unit.number == application.leader:
        model.pod_down(unit.name)
        simulation.now += LOST_AFTER
        model.tick(simulation.now)
    elif kind == "config":
        application.config_version += 1
    elif kind == "scale" and not application.charm.storage:
        model.scale(application.name, random.randint(0, 3))
    else:
        return "it passed"
    return kind


def live(simulation: Simulation, faults: int, limit: int = 3000) -> collections.Counter[str]:
    """Let everything happen, with faults here and there, and return those."""
    happened: collections.Counter[str] = collections.Counter()
    scales = {name: it.scale for name, it in simulation.model.applications.items()}
    simulation.crashes = 0.03 if faults else 0.0
    while simulation.step() or _restored(simulation, scales):
        if happened.total() < faults and simulation.random.random() < 0.05:
            happened[fault(simulation)] += 1
        assert len(simulation.told) < limit, simulation.told[-20:]
        if simulation.failures:
            pytest.fail(f"seed {simulation.seed}: {simulation.failures[0].traceback}")
    return happened


def _restored(simulation: Simulation, scales: Mapping[str, int]) -> bool:
    """Give each application its units again, and return whether any had others."""
    model = simulation.model
    other = [name for name, it in model.applications.items() if it.scale != scales[name]]
    for name in other:
        model.scale(name, scales[name])
    return bool(other)


def test_the_bundle_settles_to_the_same_state_from_200_event_orders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected: dict[str, str] = {}
    hooks: list[int] = []
    faults: collections.Counter[str] = collections.Counter()
    for seed in range(RUNS):
        folder = tmp_path / str(seed)
        folder.mkdir()
        with platform.deployed(folder, seed) as simulation:
            faults += live(simulation, FAULTS if seed else 0)
        faults["crash"] += sum(
            1 for _, level, text in simulation.log if level == "ERROR" and "failed:" in text
        )
        hooks.append(len(simulation.told))
        found = platform.end(simulation)
        expected = expected or found
        unlike = {k for k in found.keys() | expected.keys() if found.get(k) != expected.get(k)}
        for key in unlike:
            print(f"seed {seed}, {key}:\n  {expected.get(key)}\n  {found.get(key)}")
        assert not unlike, f"seed {seed} ends otherwise"
        waiting = {k: it for k, it in found.items() if k.endswith("status")}
        assert set(waiting.values()) == {'["active", ""]'}, waiting
        shutil.rmtree(folder)
    with capsys.disabled():
        each = sorted(hooks)
        print(
            f"\n{RUNS} orders, {sum(hooks)} events; per run {each[0]} to {each[-1]}, "
            f"median {each[RUNS // 2]}; faults: {dict(faults)}"
        )
