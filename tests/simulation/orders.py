"""Lets the bundle happen in many orders: on every core, beside whatever this process does else.

An order is a trunk and a branch: a trunk goes on until so many units are active, and from there
each of its branches goes on by itself. A run is told by its seed, which names all three:
"3.1.2" is layout 3, trunk 1, branch 2.
"""

import contextlib
import functools
import gc
import hashlib
import multiprocessing
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parent))
import platform_in_process as platform
import scenarios
from platform_in_process import Platform
from scenarios import Ran, Scenario

Result = TypeVar("Result")

ORDERS = 200
BRANCHES = 4
ROTATIONS, CHANGES = 4, 2
"""How often each layout has its credentials rotated, and its client's option changed."""
TRUNK_FAULTS, BRANCH_FAULTS = 2, 4
FORK = multiprocessing.get_context("fork")

_call: Callable[[], object]


@dataclass(frozen=True)
class Settled:
    """How a layout comes up when nothing goes wrong, and what was done to it from there."""

    undisturbed: Ran
    rotations: Sequence[Ran]
    changes: Sequence[Ran]


class Runs:
    """All the runs there are to be, begun at once."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(os.cpu_count(), FORK, _prepare)
        layouts = range(platform.layouts())
        trunks = range(-(-(ORDERS - len(layouts)) // (len(layouts) * BRANCHES)))
        self._settled = [self._pool.submit(settled, it) for it in layouts]
        self._orders = [
            self._pool.submit(orders, layout, trunk) for trunk in trunks for layout in layouts
        ]

    @property
    def settled(self) -> list[Settled]:
        """Return how each layout settled."""
        return [it.result() for it in self._settled]

    @property
    def orders(self) -> list[Ran]:
        """Return how each order amid faults ended."""
        return [run for it in self._orders for run in it.result()]

    def end(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def settled(layout: int) -> Settled:
    """Let a layout come up, and rotate and change it once it has settled."""
    with _somewhere(), platform.deployed(layout, str(layout)) as simulation:
        undisturbed = scenarios.run(simulation, functools.partial(scenarios.live, faults=0))
        rotations = _branches(simulation, scenarios.rotated, ROTATIONS, "rotation")
        changes = _branches(simulation, scenarios.emptied, CHANGES, "change")
    return Settled(undisturbed, rotations, changes)


def orders(layout: int, trunk: int) -> list[Ran]:
    """Let a layout come up amid faults, in as many orders as a trunk has branches."""
    with _somewhere(), platform.deployed(layout, f"{layout}.{trunk}") as simulation:
        scenarios.begin(simulation, TRUNK_FAULTS)
        amid_faults = functools.partial(scenarios.live, faults=BRANCH_FAULTS)
        return _branches(simulation, amid_faults, BRANCHES)


def _branches(simulation: Platform, scenario: Scenario, number: int, name: str = "") -> list[Ran]:
    seeds = [f"{simulation.seed}.{name}{it}" for it in range(number)]
    return [_apart(functools.partial(_branch, simulation, scenario, it)) for it in seeds]


def _branch(simulation: Platform, scenario: Scenario, seed: str) -> Ran:
    with _somewhere(Path.cwd()):
        simulation.seed = seed
        simulation.random.seed(seed)
        return scenarios.run(simulation, scenario)


def _apart(call: Callable[[], Result]) -> Result:
    """Return what a call returns in a fork of this process, which stays as it is."""
    global _call  # it is not sent to the fork, it is there
    _call = call
    with ProcessPoolExecutor(1, FORK) as pool:
        return pool.submit(_called).result()  # pyright: ignore[reportReturnType]


def _called() -> object:
    return _call()


@contextlib.contextmanager
def _somewhere(like: Path | None = None) -> Iterator[None]:
    """Work in an empty directory, or in a copy of another."""
    with tempfile.TemporaryDirectory() as folder:
        if like:
            shutil.copytree(like, folder, symlinks=True, dirs_exist_ok=True)
        with contextlib.chdir(folder):
            yield


def _prepare() -> None:
    """Make a process one that only simulates, after those that someone waits for."""
    os.nice(10)
    secrets.token_bytes = platform.token_bytes  # runs are compared: their secrets must not differ
    hashlib.pbkdf2_hmac = functools.cache(hashlib.pbkdf2_hmac)  # slow on purpose
    gc.freeze()  # what is there stays there
    gc.set_threshold(100_000, 20, 100)
