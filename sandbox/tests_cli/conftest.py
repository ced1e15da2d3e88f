"""A controller of the tests' own, beside the user's, on the sandbox's cluster."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import jubilant
import pytest

from sandbox import controller

ROOT = Path(__file__).resolve().parents[2]
PROBE = str(ROOT / "tests/charms/probe")
HOOK = r"seen (\S+) (\{.*\})"


@dataclass(frozen=True)
class Seen:
    """One event as the probe charm saw it."""

    hook: str
    about: dict[str, str] = field(compare=False)


@dataclass
class Lab:
    """A model under test: Juju's commands, and what the probe's units have seen."""

    juju: jubilant.Juju
    image: str

    def deploy(self, application: str, units: int = 1, **more: object) -> None:
        images = {"one-image": self.image, "two-image": self.image}
        self.juju.deploy(PROBE, application, num_units=units, resources=images, **more)  # type: ignore[arg-type]

    def seen(self, unit: str, since: int = 0) -> list[Seen]:
        """Return what a unit has seen, in order; `since` is a number of events to leave out."""
        log = self.juju.cli("debug-log", "--limit", "0", "--include", unit)
        found = []
        for line in log.splitlines():
            before, mark, rest = line.partition("juju-log seen ")
            if mark:
                hook, _, about = rest.partition(" ")
                found.append(Seen(hook, json.loads(about)))
        return found[since:]

    def hooks(self, unit: str, since: int = 0) -> list[str]:
        return [event.hook for event in self.seen(unit, since)]

    def count(self, unit: str) -> int:
        return len(self.seen(unit))

    def until(self, done: Callable[[], bool], seconds: float = 90) -> None:
        """Wait until something holds; show the model when it never does."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                shown = self.juju.cli("status", "--relations")
                raise AssertionError(f"it never came to that:\n{shown}\n{self.juju.debug_log()[-6000:]}")
            time.sleep(0.2)

    def until_seen(self, unit: str, hook: str, since: int) -> list[str]:
        """Wait until a unit has seen a hook; return all hooks since."""
        self.until(lambda: hook in self.hooks(unit, since))
        return self.hooks(unit, since)

    def settle(self) -> None:
        """Wait until every agent is idle and every workload active."""
        self.juju.wait(lambda s: jubilant.all_agents_idle(s) and jubilant.all_active(s), timeout=180)

    def kubectl(self, *words: str) -> str:
        record = controller.read_record()
        assert record
        about = ["--kubeconfig", record.kubeconfig, "--namespace", str(self.juju.model)]
        done = subprocess.run([record.kubectl, *about, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("state")
    os.environ["KATONIC_STATE"] = str(folder)
    controller.ensure(lambda text: print(text, file=sys.stderr))
    yield folder
    controller.stop()
    del os.environ["KATONIC_STATE"]


@pytest.fixture(scope="module")
def lab(state: Path) -> Iterator[Lab]:
    record = controller.read_record()
    assert record
    juju = jubilant.Juju(cli_binary=str(ROOT / "sandbox/juju"))
    juju.add_model(f"probe-{os.getpid()}-{time.monotonic_ns() % 10000}")
    yield Lab(juju, record.charm_image)
    juju.destroy_model(str(juju.model), destroy_storage=True, force=True)
