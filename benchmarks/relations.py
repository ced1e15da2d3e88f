"""What one hook of a provider costs with 1, 10 and 50 clients: hook tools, secrets read, time.

The charm is dispatched by ops itself, and the sandbox's own hook tools answer it, in process. So
calls are counted as Juju would see them, and the time is that of charm and ops alone: on Juju each
call costs 2 to 17 ms more, and one that reads a secret 40 to 98 ms.

It fails when a hook reads a secret twice, when calls do not grow linearly, or when a hook that
changes nothing writes something.
"""

import argparse
import collections
import functools
import gc
import inspect
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sandbox.charm import read_charm
from sandbox.events import Event
from sandbox.hooktools import HookContext, Result
from sandbox.simulated import Simulation

ROOT = Path(__file__).parents[1]
CLIENTS = (1, 10, 50)
UNIT = "postgresql/0"
WRITES = {
    *("application-version-set", "close-port", "open-port", "relation-set", "secret-add"),
    *("secret-grant", "secret-remove", "secret-revoke", "secret-set", "state-delete", "state-set"),
}


@dataclass(frozen=True)
class Cost:
    """What one hook cost."""

    hook: str
    clients: int
    calls: Sequence[Sequence[str]]
    milliseconds: float

    @property
    def secrets(self) -> list[str]:
        """Return which secret each read was for."""
        return [_secret(it) for it in self.calls if it[0] == "secret-get"]

    @property
    def writes(self) -> list[str]:
        """Return the calls that change something."""
        return [it[0] for it in self.calls if it[0] in WRITES]


def _secret(call: Sequence[str]) -> str:
    return " ".join(it for it in call[1:] if not it.startswith(("--format", "--refresh")))


class Recorder(Simulation):
    """A simulation that writes down what the last hook asked and said."""

    calls: list[list[str]]
    seconds: float

    def dispatch(self, context: HookContext) -> int:
        """Run the charm for an event, and return its exit code."""
        self.calls = []
        answer = context.run

        def run(argv: list[str], stdin: str = "") -> Result:
            self.calls.append(argv)
            return answer(argv, stdin)

        context.run = run
        begun = time.process_time()
        code = super().dispatch(context)
        self.seconds = time.process_time() - begun
        if self.failures:
            raise RuntimeError(self.failures[0].traceback)
        return code


def forget() -> None:
    """Empty what the project's functions remember: on Juju each hook is a process of its own."""
    for it in gc.get_objects():
        if isinstance(it, functools._lru_cache_wrapper):
            code = getattr(inspect.unwrap(it), "__code__", None)  # what C has made has none
            source = code.co_filename if code else "/"
            if Path(source).is_relative_to(ROOT) and ".venv" not in source:
                it.cache_clear()


def provider_with(clients: int, folder: Path) -> Recorder:
    """Return a model that has settled, with so many clients of one PostgreSQL."""
    simulation = Recorder(folder)
    model = simulation.model
    provider = read_charm(ROOT / "charms/postgresql")
    client = read_charm(ROOT / "tests/charms/client")
    model.deploy("postgresql", provider, resources=dict.fromkeys(provider.resources, "image"))
    for number in range(clients):
        name = f"client{number}"
        resources = dict.fromkeys(client.resources, "image")
        model.deploy(name, client, config={"database": name}, resources=resources)
        model.integrate(f"{name}:database", "postgresql:database")
    simulation.settle(limit=100 * (clients + 1))
    status = model.unit_status(model.find(UNIT))
    if status.current != "active":
        raise RuntimeError(f"{UNIT} is {status.current}: {status.message}")
    return simulation


def costs(clients: int) -> list[Cost]:
    """Return what a hook costs that changes nothing, and one that rotates every password."""
    with tempfile.TemporaryDirectory() as folder:
        simulation = provider_with(clients, Path(folder))
        forget()
        simulation.run(UNIT, Event("update-status"))
        quiet = Cost("update-status", clients, simulation.calls, simulation.seconds * 1000)
        simulation.model.run_action(UNIT, "rotate-password", {})
        event = simulation.model.next_event(UNIT, simulation.now)
        if event is None or event.kind != "action":
            raise RuntimeError(f"the action is not due, but {event}")
        forget()
        simulation.run(UNIT, event)
        busy = Cost("rotate-password", clients, simulation.calls, simulation.seconds * 1000)
        return [quiet, busy]


def faults(seen: Sequence[Cost]) -> list[str]:
    """Return what must not be, in words."""
    found = []
    for it in seen:
        counted = collections.Counter(it.secrets)
        twice = [secret for secret, times in counted.items() if times > 1]
        found += [f"{it.hook} with {it.clients}: reads twice {secret}" for secret in twice]
        if it.hook == "update-status" and it.writes:
            found.append(f"{it.hook} with {it.clients}: writes {', '.join(it.writes)}")
    for hook in {it.hook for it in seen}:
        few, some, many = (len(it.calls) for it in seen if it.hook == hook)
        first = (some - few) / (CLIENTS[1] - CLIENTS[0])
        then = (many - some) / (CLIENTS[2] - CLIENTS[1])
        if then > first * 1.01:
            found.append(f"{hook}: {first:.1f} calls for each client, then {then:.1f}")
    return found


def main() -> int:
    """Measure, tell, and return 1 if something is as it must not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    given = parser.parse_args()
    seen = [cost for clients in CLIENTS for cost in costs(clients)]
    seen.sort(key=lambda it: (it.hook != "update-status", it.clients))
    rows = [
        {
            "hook": it.hook,
            "clients": it.clients,
            "calls": len(it.calls),
            "secrets read": len(it.secrets),
            "secret-info-get": sum(call[0] == "secret-info-get" for call in it.calls),
            "writes": len(it.writes),
            "CPU ms": round(it.milliseconds, 1),
        }
        for it in seen
    ]
    wrong = faults(seen)
    if given.format == "json":
        print(json.dumps({"hooks": rows, "faults": wrong}))
    else:
        table = Table(*rows[0], box=None, pad_edge=False)
        for it in rows:
            table.add_row(*map(str, it.values()))
        Console().print(table)
        for it in wrong:
            print(f"FAULT {it}")
        if not wrong:
            print("no secret read twice, calls grow linearly, a quiet hook writes nothing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
