"""Hooks run in process are answered as in a pod, and end the same from any order."""

import collections
import gc
import logging
import urllib.request
from pathlib import Path

import ops
import pytest
from lab import PROBE
from ops import testing

from sandbox.charm import read_charm
from sandbox.events import hook_name
from sandbox.model import ModelError
from sandbox.simulated import Simulation, World

STORE, READER = (read_charm(PROBE.parent / name) for name in ("store", "reader"))


class Shelf(World):
    """A store that remembers who used it, and breaks when it is told to."""

    def __init__(self, application: str) -> None:
        super().__init__(application)
        self.users: set[str] = set()
        self.asked = 0
        self.broken = False

    def execute(self, unit: str, container: str, args: testing.ExecArgs) -> testing.ExecResult:
        self.users.add(args.command[1])
        return testing.ExecResult(1 if self.broken else 0)

    def answer(self, unit: str, request: urllib.request.Request) -> tuple[int, bytes]:
        self.asked += 1
        return 200, b""


def simulation(folder: Path, seed: int = 0) -> Simulation:
    folder.mkdir(exist_ok=True)
    simulation = Simulation(folder, seed, {"store": Shelf})
    simulation.model.deploy("store", STORE, 2)
    simulation.model.deploy("reader", READER, 2)
    simulation.model.integrate("store:words", "reader:words")
    return simulation


def end(simulation: Simulation) -> dict[str, object]:
    """Return what is to be the same from any order: statuses, databags' secrets, plans, ports."""
    model = simulation.model
    secrets = {s.id: s.revisions[s.latest].content for s in model.secrets.values()}
    units = {u.name: (model.unit_status(u).current, u.workload.message) for u in model.units()}
    bag = model.relations[1].bags["store"]
    plans = {
        f"{unit} {name}": pebble.get_plan().to_dict()
        for unit, pebbles in simulation.pods.items()
        for name, pebble in pebbles.items()
    }
    return {
        "units": units,
        "word": secrets[bag["secret"].rpartition("/")[2]],
        "plans": plans,
        "ports": {u.name: u.ports for u in model.units()},
    }


def test_two_charms_settle_to_the_same_from_any_order(tmp_path: Path) -> None:
    ends = []
    for seed in range(20):
        run = simulation(tmp_path / str(seed), seed)
        run.settle()
        assert not run.failures, run.failures[0].traceback
        ends.append(end(run))
    assert all(it == ends[0] for it in ends)
    active = ("active", "word-reader")
    assert ends[0]["units"] == {
        "store/0": ("active", ""),
        "store/1": ("active", ""),
        "reader/0": active,
        "reader/1": active,
    }


def test_one_seed_is_one_order(tmp_path: Path) -> None:
    runs = [simulation(tmp_path / name, 3) for name in ("one", "other")]
    for run in runs:
        run.settle()
    assert runs[0].told == runs[1].told


def test_a_dispatch_leaves_nothing_of_ops_in_this_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # what pytest keeps of the log holds what is logged
    gc.collect()
    before = sum(isinstance(it, ops.Framework) for it in gc.get_objects())
    assert simulation(tmp_path / "x").settle() > 10
    gc.collect()
    assert sum(isinstance(it, ops.Framework) for it in gc.get_objects()) <= before


def test_a_service_does_not_answer_before_it_is_up(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    told = [hook for unit, hook in run.told if unit == "store/0"]
    assert "store-pebble-custom-notice" in told, "the charm met a service that was starting"
    world = run.outside["store"]
    assert isinstance(world, Shelf)
    assert world.users == {"store/0", "store/1"}


def test_a_rotated_secret_reaches_who_reads_it_and_its_old_revision_goes(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    leader = run.model.applications["store"].leader
    task = run.model.run_action(f"store/{leader}", "rotate", {})
    run.settle()
    assert task.results == {"rotated": "1", "return-code": 0}
    assert {u.workload.message for u in run.model.applications["reader"].units.values()} == {
        "word-reader!"
    }
    (secret,) = run.model.secrets.values()
    assert list(secret.revisions) == [2]
    assert (f"store/{leader}", "INFO", f"rotated {secret.label}") in run.log


def test_a_dispatch_that_dies_loses_its_writes_and_is_run_again(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    leader = run.model.applications["store"].leader
    run.model.deploy("late", READER)
    run.model.integrate("store:words", "late:words")
    event = run.model.next_event(f"store/{leader}", run.now)
    assert event is not None
    assert event.kind == "relation-created"
    run.crashes = 1.0
    run.run(f"store/{leader}", event)
    assert len(run.model.secrets) == 1
    run.crashes = 0.0
    run.settle()
    assert len(run.model.secrets) == 2
    assert run.model.find("late/0").workload.message == "word-late"
    assert not run.failures


def test_an_error_of_the_charm_is_kept_with_its_traceback(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    world = run.outside["store"]
    assert isinstance(world, Shelf)
    world.broken = True
    run.model.set_config("store", {"prefix": "new"})
    with pytest.raises(RuntimeError, match="no end after"):
        run.settle(40)
    failed = run.model.find("store/0").failed
    assert failed is not None
    assert ("store/0", hook_name(failed)) in {(it.unit, it.hook) for it in run.failures}
    assert "ExecError" in run.failures[0].traceback


def test_a_pod_that_is_deleted_comes_back_with_its_storage(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    run.pods["store/1"]["store"].push("/data/kept", "x")
    run.pods["store/1"]["store"].push("/gone", "x")
    before = end(run)
    run.pod_down("store/1")
    run.settle()
    pebble = run.pods["store/1"]["store"]
    assert pebble.pull("/data/kept").read() == "x"
    assert not pebble.list_files("/", pattern="gone")
    assert end(run) == before
    assert not run.failures


def test_a_container_that_restarts_has_lost_its_plan_and_gets_it_again(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    before = end(run)
    run.restart_container("store/0", "store")
    told = len(run.told)
    run.settle()
    assert collections.Counter(run.told[told:])["store/0", "store-pebble-ready"] == 1
    assert end(run) == before


def test_units_that_are_scaled_away_are_gone(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    run.settle()
    run.model.scale("store", 1)
    run.model.scale("reader", 0)
    run.settle()
    assert set(run.pods) == {"store/0"}
    with pytest.raises(ModelError):
        run.model.find("reader/0")
    assert not run.failures


def test_an_endless_charm_is_found_out(tmp_path: Path) -> None:
    run = simulation(tmp_path)
    with pytest.raises(RuntimeError, match="no end after 5 hooks"):
        run.settle(5)
